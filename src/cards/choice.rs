//! Chooses the neurons that get a card.

use super::activations::ModelNeuron;
use crate::correlation::Layout;

/// A neuron of the reference model that gets a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardRequest {
    /// Index of the neuron over all layers.
    pub neuron: usize,
    /// Its best matches in partner models, in the order of the family.
    pub matches: Vec<ModelNeuron>,
}

/// Number of neurons of each layer that get a card, universal or not.
const OF_EACH_LAYER: usize = 3;

/// Returns the neurons that get a card, as ascending indices over all layers. They are chosen by
/// their excess correlation: at most `most` universal neurons, and the best few of each layer.
pub fn choose(excess: &[f64], threshold: f64, layout: Layout, most: usize) -> Vec<usize> {
    let best = |neurons: &mut dyn Iterator<Item = usize>, most: usize| {
        let mut best: Vec<usize> = neurons.filter(|&i| excess[i].is_finite()).collect();
        best.sort_by(|&a, &b| excess[b].total_cmp(&excess[a]));
        best.truncate(most);
        best
    };
    let mut chosen = best(&mut (0..excess.len()).filter(|&i| excess[i] > threshold), most);
    let few = OF_EACH_LAYER.min(most);
    chosen.extend((0..layout.n_layers).flat_map(|l| best(&mut layout.neurons(l), few)));
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn universal_neurons_and_the_best_of_each_layer_are_chosen() {
        let layout = Layout { n_layers: 2, d_mlp: 5 };
        let excess = [0.6, 0.1, 0.9, 0.7, 0.8, f64::NAN, 0.2, 0.1, 0.4, 0.3];
        assert_eq!(choose(&excess, 0.5, layout, 100), [0, 2, 3, 4, 6, 8, 9]);
        assert_eq!(choose(&excess, 0.5, layout, 2), [2, 4, 8, 9]);
        assert!(choose(&excess, 0.5, layout, 0).is_empty());
    }
}
