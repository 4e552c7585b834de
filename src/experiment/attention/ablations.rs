//! Ablations of a neuron from what the query of an attention head reads.

use super::choice::Pair;
use super::readings::{BatchReadings, places};
use crate::model::Transformer;
use crate::roles::heads::{Attends, AttentionHead};

/// Sums over the destination tokens of an ablation.
pub struct PairSums {
    /// The neuron and the head.
    pub pair: Pair,
    /// Change of the attention to the first token and of the output norm when the neuron is
    /// removed from the query, summed over destination tokens.
    change: [f64; 2],
    /// Number of destination tokens.
    pub tokens: f64,
    /// Power sums of the activation a: n, Σa, Σa²; then Σq, Σq², Σaq for each quantity q,
    /// attention to the first token and output norm.
    with: [f64; 9],
    /// Some of the destination tokens: one of [`Self::every`].
    pub recorded: Vec<Destination>,
    every: usize,
}

/// A destination token of an ablation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Destination {
    /// The neuron's activation.
    pub activation: f64,
    /// What the head does in the clean run, and without the neuron.
    pub attends: [Attends; 2],
}

impl PairSums {
    /// Creates sums without tokens, which record one of `every` destination tokens.
    pub fn new(pair: Pair, every: usize) -> Self {
        let (change, with) = ([0.0; 2], [0.0; 9]);
        Self { pair, change, tokens: 0.0, with, recorded: Vec::new(), every }
    }

    /// Removes the neuron, which has these activations `[token]`, from the query of the head at the
    /// destination tokens of some rows. Tokens `bos` do not count.
    pub fn absorb(
        &mut self,
        model: &Transformer,
        rows: &[&[u32]],
        seen: &BatchReadings,
        (activations, bos): (&[f32], Option<u32>),
    ) {
        let d = model.config.d_model;
        let Pair { neuron, head: id, .. } = self.pair;
        let head = AttentionHead { model, layer: id.layer, head: id.head };
        let w_out = &model.weights.blocks[neuron.layer].mlp_out.weight[neuron.neuron * d..][..d];
        for (row, (start, len)) in rows.iter().zip(places(rows)) {
            let resid = seen.row(id.layer, start, len, d);
            let activation = |t: usize| f64::from(activations[start + t]);
            let removed = |t: usize| w_out.iter().map(|&w| f64::from(w) * activation(t)).collect();
            // Only destinations in the second half of the row count, as in the paper.
            let attends = head.attends(&resid, len / 2..len, removed);
            let counted = (len / 2..len).zip(attends).filter(|(t, _)| Some(row[*t]) != bos);
            counted.for_each(|(t, attends)| {
                self.add(Destination { activation: activation(t), attends })
            });
        }
    }

    /// Adds a destination token.
    fn add(&mut self, token: Destination) {
        let [clean, without] = token.attends;
        if (self.tokens as usize).is_multiple_of(self.every) {
            self.recorded.push(token);
        }
        self.relate(token.activation, [clean.first, clean.norm]);
        self.change[0] += without.first - clean.first;
        self.change[1] += without.norm - clean.norm;
        self.tokens += 1.0;
    }

    fn relate(&mut self, a: f64, quantities: [f64; 2]) {
        let [n, sum, square, rest @ ..] = &mut self.with;
        (*n, *sum, *square) = (*n + 1.0, *sum + a, *square + a * a);
        for (sums, q) in rest.chunks_exact_mut(3).zip(quantities) {
            (sums[0], sums[1], sums[2]) = (sums[0] + q, sums[1] + q * q, sums[2] + a * q);
        }
    }

    /// Returns the mean change of a quantity: of the attention to the first token (0), or of the output
    /// norm (1).
    pub fn change(&self, quantity: usize) -> f64 {
        self.change[quantity] / self.tokens
    }

    /// Returns the correlation of a quantity with the activation, and its slope.
    pub fn relation(&self, quantity: usize) -> [f64; 2] {
        let [n, sum, square, rest @ ..] = self.with;
        let [q, qq, aq] = [0, 1, 2].map(|i| rest[quantity * 3 + i]);
        let covariance = aq - sum * q / n;
        let (of_a, of_q) = (square - sum * sum / n, qq - q * q / n);
        [covariance / (of_a * of_q).sqrt(), covariance / of_a]
    }
}
