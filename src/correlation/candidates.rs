//! Exact sums over all tokens for chosen pairs of neurons only.

use std::io;
use std::sync::Arc;

use rayon::prelude::*;

use super::CHUNK;
use super::pair::{NeuronMatch, PairResult};
use super::sums::{Layout, NeuronSums};
use crate::backend::parts::add_in_parts;
use crate::backend::wide::widened;
use crate::checkpoint::{Part, State, Visit};

/// Σ x_i y_c over tokens, for every neuron i of the reference and its few candidate neurons c in
/// the partner.
#[derive(Clone)]
pub struct CandidateSums {
    k: usize,
    /// `[neuron][k]`: the candidates of each neuron, as indices over all layers of the partner.
    lists: Arc<Vec<Vec<u32>>>,
    /// `[neuron][k]`: the sum of products with each candidate.
    sums: Vec<f64>,
}

impl CandidateSums {
    /// Creates zero sums; the candidates of a neuron are its best partners in a sample.
    pub fn new(sample: &PairResult) -> Self {
        let list = |i| sample.top(i).map(|best| best.neuron as u32).collect();
        Self::of_lists(Arc::new((0..sample.neurons()).map(list).collect()))
    }

    /// Creates zero sums for the candidates of each neuron.
    pub fn of_lists(lists: Arc<Vec<Vec<u32>>>) -> Self {
        let k = lists.iter().map(Vec::len).max().unwrap_or(0).max(1);
        Self { k, sums: vec![0.0; lists.len() * k], lists }
    }

    /// Adds the products of pilot-shifted activations of the same tokens, stored neuron by neuron:
    /// `[n_neurons][tokens]`.
    pub fn absorb(&mut self, x: &NeuronMajor, y: &NeuronMajor) {
        let rows = self.sums.par_chunks_mut(self.k).zip(self.lists.par_iter()).enumerate();
        rows.for_each(|(i, (sums, list))| {
            let x = x.neuron(i);
            for (sum, &candidate) in sums.iter_mut().zip(list) {
                add_dot(x, y.neuron(candidate as usize), sum);
            }
        });
    }

    /// Returns the candidates of neuron `i`, each with its sum.
    pub fn of(&self, i: usize) -> impl Iterator<Item = (usize, f64)> {
        let sums = &self.sums[i * self.k..];
        self.lists[i].iter().zip(sums).map(|(&candidate, &sum)| (candidate as usize, sum))
    }

    /// Returns the neurons and candidates of all sums, in order. A neuron with fewer candidates than
    /// others has pairs with neuron 0 in place of those that it lacks.
    pub fn pairs(&self) -> impl Iterator<Item = (u32, u32)> {
        let k = self.k;
        let of = move |(i, list): (usize, &Vec<u32>)| {
            let list = list.clone();
            (0..k).map(move |slot| (i as u32, list.get(slot).copied().unwrap_or(0)))
        };
        self.lists.iter().enumerate().flat_map(of)
    }

    /// Returns the same candidates with other sums, in the order of [`Self::pairs`].
    pub fn with_sums(&self, sums: Vec<f64>) -> Self {
        Self { sums, ..self.clone() }
    }

    /// Returns the candidates of neuron `i` with their exact correlations, best first. Empty if the
    /// neuron has no correlation.
    pub fn best(&self, i: usize, x: &NeuronSums, y: &NeuronSums) -> Vec<NeuronMatch> {
        let Some(inverse_x) = x.inverse_spread(i) else {
            return Vec::new();
        };
        let mean_x = x.sum(i) / x.n as f64;
        let one = |(neuron, sum): (usize, f64)| {
            let cov = sum - mean_x * y.sum(neuron);
            Some(NeuronMatch { rho: cov * inverse_x * y.inverse_spread(neuron)?, neuron })
        };
        let mut best: Vec<NeuronMatch> = self.of(i).filter_map(one).collect();
        best.sort_by(|a, b| b.rho.total_cmp(&a.rho).then(a.neuron.cmp(&b.neuron)));
        best
    }
}

impl State for CandidateSums {
    fn parts(&mut self, visit: Visit) -> io::Result<()> {
        visit(Part::Numbers(&mut self.sums))
    }
}

/// The activations of at most [`CHUNK`] tokens, stored neuron by neuron: `[n_neurons][tokens]`.
pub struct NeuronMajor {
    tokens: usize,
    values: Vec<f32>,
}

impl NeuronMajor {
    /// Transposes activations `[tokens, n_neurons]`.
    pub fn of(tokens: &[f32], layout: Layout) -> Self {
        let width = layout.n_neurons();
        let n = tokens.len() / width;
        assert!(n <= CHUNK, "a chunk at a time");
        let mut values = vec![0.0; tokens.len()];
        // Sixteen neurons and tokens at a time, so that every cache line of the input and of the
        // output is used whole.
        values.par_chunks_mut(16 * n).enumerate().for_each(|(block, out)| {
            for (part, rows) in tokens.chunks(16 * width).enumerate() {
                for (i, out) in out.chunks_exact_mut(n).enumerate() {
                    let values = rows[block * 16 + i..].iter().step_by(width);
                    out[part * 16..].iter_mut().zip(values).for_each(|(out, v)| *out = *v);
                }
            }
        });
        Self { tokens: n, values }
    }

    fn neuron(&self, i: usize) -> &[f32] {
        &self.values[i * self.tokens..(i + 1) * self.tokens]
    }
}

widened! {
    /// `sum ← sum + x · y` in f64, in sixteen interleaved parts.
    fn add_dot(x: &[f32], y: &[f32], sum: &mut f64) {
        let mut parts = [0.0_f64; 16];
        add_in_parts(x, y, &mut parts, |x, y| f64::from(x) * f64::from(y));
        *sum += parts.iter().sum::<f64>();
    }
}
