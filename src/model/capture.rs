//! Hooks that copy the activations of selected tokens into the caller's buffers.

use super::hook_point::{HookPoint, Site};
use super::hooks::Hooks;

/// Activations of one hook site over all layers: `[tokens, n_neurons]`, row-major, neurons of layer
/// 0 first.
#[derive(Debug, Default, Clone)]
pub struct Activations {
    /// Neurons per token, over all layers.
    pub n_neurons: usize,
    /// The values, `[tokens, n_neurons]`.
    pub values: Vec<f32>,
}

impl Activations {
    /// Creates an empty buffer for `n_neurons` neurons.
    pub fn new(n_neurons: usize) -> Self {
        Self { n_neurons, values: Vec::new() }
    }

    /// Returns the number of tokens in the buffer.
    pub fn tokens(&self) -> usize {
        self.values.len() / self.n_neurons
    }

    /// Removes the first `tokens` tokens.
    pub fn discard(&mut self, tokens: usize) {
        self.values.drain(..tokens * self.n_neurons);
    }
}

/// Appends the activations of the tokens marked in `keep` to one buffer per site.
pub struct Capture<'a> {
    keep: &'a [bool],
    targets: Vec<(Site, &'a mut Activations, usize)>,
}

impl<'a> Capture<'a> {
    /// Prepares to capture a batch; `keep` has one entry for each of its tokens, in order.
    pub fn new(keep: &'a [bool], targets: Vec<(Site, &'a mut Activations)>) -> Self {
        let kept = keep.iter().filter(|&&k| k).count();
        let make_room = |(site, buffer): (Site, &'a mut Activations)| {
            let start = buffer.values.len();
            buffer.values.resize(start + kept * buffer.n_neurons, 0.0);
            (site, buffer, start)
        };
        Self { keep, targets: targets.into_iter().map(make_room).collect() }
    }
}

impl Hooks for Capture<'_> {
    fn wants(&self, point: HookPoint) -> bool {
        self.targets.iter().any(|(site, ..)| *site == point.site)
    }

    fn at(&mut self, point: HookPoint, values: &mut [f32], width: usize) {
        for (site, buffer, start) in &mut self.targets {
            if *site != point.site {
                continue;
            }
            let kept = values.chunks_exact(width).zip(self.keep).filter(|(_, keep)| **keep);
            let room = buffer.values[*start..].chunks_exact_mut(buffer.n_neurons);
            let columns = point.layer * width..(point.layer + 1) * width;
            for ((row, _), out) in kept.zip(room) {
                out[columns.clone()].copy_from_slice(row);
            }
        }
    }
}

/// Appends the activations of some neurons at every token.
#[derive(Debug, Clone)]
pub struct NeuronColumns {
    /// Layer and index of each neuron.
    of: Vec<(usize, usize)>,
    /// For each neuron, its pre- and post-activation at every token.
    pub columns: Vec<Vec<[f32; 2]>>,
}

impl NeuronColumns {
    /// Creates empty columns for neurons, each given by its layer and index.
    pub fn new(of: Vec<(usize, usize)>) -> Self {
        let columns = vec![Vec::new(); of.len()];
        Self { of, columns }
    }
}

impl Hooks for NeuronColumns {
    fn wants(&self, point: HookPoint) -> bool {
        let here = |(layer, _): &(usize, usize)| *layer == point.layer;
        matches!(point.site, Site::MlpPre | Site::MlpPost) && self.of.iter().any(here)
    }

    fn at(&mut self, point: HookPoint, values: &mut [f32], width: usize) {
        if !self.wants(point) {
            return;
        }
        let (own, tokens) = (self.of.iter().zip(&mut self.columns), values.len() / width);
        for (&(_, neuron), column) in own.filter(|((layer, _), _)| *layer == point.layer) {
            let values = values.iter().skip(neuron).step_by(width);
            // A block's pre-activations come before its post-activations.
            if point.site == Site::MlpPre {
                column.extend(values.map(|&pre| [pre, f32::NAN]));
            } else {
                let start = column.len() - tokens;
                column[start..].iter_mut().zip(values).for_each(|(at, &post)| at[1] = post);
            }
        }
    }
}
