//! The result of comparing a reference model with one partner model.

use std::ops::Range;

use super::rows::keep_if_best;
use super::sums::Layout;
use crate::backend::device::ops::{BINS, BlockMatches};
use crate::checkpoint::{Part, State, Visit};
use crate::stats::PowerSums;

/// A neuron of the partner and its correlation with a neuron of the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NeuronMatch {
    /// Pearson's ρ.
    pub rho: f64,
    /// Index of the partner neuron over all layers.
    pub neuron: usize,
}

/// The result for one partner model: per neuron of the reference, its best partners and its chance
/// level; and the distribution of ρ over all pairs of neurons.
#[derive(Debug, Clone, PartialEq)]
pub struct PairResult {
    /// Number of partners kept for each neuron.
    pub(super) k: usize,
    /// `[neuron][k]`, largest first; NaN in unused slots.
    pub(super) rho: Vec<f64>,
    /// `[neuron][k]`: the partner neuron, as an index over all layers.
    pub(super) partner: Vec<u32>,
    /// `[draw][neuron]`: best correlation with the neurons of the chance baseline; NaN if
    /// undefined.
    pub baseline: Vec<Vec<f64>>,
    /// Number of correlations in each bin of width 2 / `BINS` from −1 to 1.
    pub histogram: Vec<f64>,
    /// Power sums of the correlations of all pairs of neurons.
    pub moments: PowerSums,
    /// Sums of squared covariances over the pairs of neurons of two layers, `[layer of the
    /// reference][layer of the partner]` in one list; empty if layers are not compared.
    pub(super) covariances: Vec<f64>,
    /// Linear CKA of every pair of layers in the same order; empty if layers are not compared.
    pub cka: Vec<f64>,
}

impl PairResult {
    /// Creates an empty result that keeps the best `k` partners of each neuron.
    pub fn new(neurons: usize, k: usize, draws: usize) -> Self {
        Self {
            k,
            rho: vec![f64::NAN; neurons * k],
            partner: vec![0; neurons * k],
            baseline: vec![vec![f64::NAN; neurons]; draws],
            histogram: vec![0.0; BINS],
            moments: PowerSums::around(0.0),
            covariances: Vec::new(),
            cka: Vec::new(),
        }
    }

    /// Compares so many pairs of layers too.
    #[must_use]
    pub fn with_pairs_of_layers(self, pairs: usize) -> Self {
        Self { covariances: vec![0.0; pairs], ..self }
    }

    /// Returns the place of a layer of the reference, which is of `layout`, and one of the partner among
    /// the pairs of layers; `None` if layers are not compared.
    pub(super) fn pair_of_layers(&self, layout: Layout, x: usize, y: usize) -> Option<usize> {
        let layers_of_y = self.covariances.len() / layout.n_layers;
        (layers_of_y > 0).then(|| x * layers_of_y + y)
    }

    /// Returns the number of neurons of the reference.
    pub fn neurons(&self) -> usize {
        self.rho.len() / self.k
    }

    /// Returns whether every partner is one of `n` neurons.
    pub fn names_within(&self, n: usize) -> bool {
        self.partner.iter().all(|&partner| (partner as usize) < n.max(1))
    }

    /// Returns the best partner of a neuron, or `None` if the neuron has no correlation.
    pub fn best(&self, neuron: usize) -> Option<NeuronMatch> {
        self.top(neuron).next()
    }

    /// Returns the best partners of a neuron, best first. Of equal correlations, the one found
    /// first comes first.
    pub fn top(&self, neuron: usize) -> impl Iterator<Item = NeuronMatch> {
        let slots = neuron * self.k..(neuron + 1) * self.k;
        let found = self.rho[slots.clone()].iter().zip(&self.partner[slots]);
        let found = found.take_while(|(rho, _)| !rho.is_nan());
        found.map(|(&rho, &partner)| NeuronMatch { rho, neuron: partner as usize })
    }

    /// Returns whether all `k` slots of a neuron are used, so that further partners may exist.
    pub fn is_full(&self, neuron: usize) -> bool {
        !self.rho[(neuron + 1) * self.k - 1].is_nan()
    }

    /// Replaces the best partners of a neuron.
    pub fn set_top(&mut self, neuron: usize, best: &[NeuronMatch]) {
        for slot in 0..self.k {
            let place = neuron * self.k + slot;
            self.rho[place] = best.get(slot).map_or(f64::NAN, |b| b.rho);
            self.partner[place] = best.get(slot).map_or(0, |b| b.neuron as u32);
        }
    }

    /// Copies neuron `theirs` of another comparison with the same partner to `neuron`.
    pub fn copy_neuron(&mut self, neuron: usize, other: &Self, theirs: usize) {
        self.set_top(neuron, &other.top(theirs).collect::<Vec<_>>());
        for (draw, other) in self.baseline.iter_mut().zip(&other.baseline) {
            draw[neuron] = other[theirs];
        }
    }

    /// Adds the matches that a device found for the reference neurons `neurons` in consecutive
    /// partner neurons, the first of which is `first`.
    pub fn add_block_matches(&mut self, neurons: Range<usize>, first: usize, found: &BlockMatches) {
        let rows = neurons.len();
        for (row, neuron) in neurons.enumerate() {
            let slots = neuron * self.k..(neuron + 1) * self.k;
            let (top, partner) = (&mut self.rho[slots.clone()], &mut self.partner[slots]);
            for slot in (row..found.rho.len()).step_by(rows) {
                let column = first + found.partner[slot] as usize;
                keep_if_best(found.rho[slot].into(), column, top, partner);
            }
        }
        let counts = self.histogram.iter_mut().zip(&found.histogram);
        counts.for_each(|(all, &count)| *all += count as f64);
        let [n, sums @ ..] = found.powers;
        self.moments.merge(&PowerSums::of(0.0, n, sums));
    }
}

impl State for PairResult {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        visit(Part::Numbers(&mut self.rho))?;
        visit(Part::Counts(&mut self.partner))?;
        self.baseline.iter_mut().try_for_each(|draw| visit(Part::Numbers(draw)))?;
        visit(Part::Numbers(&mut self.histogram))?;
        visit(Part::Numbers(&mut self.covariances))?;
        self.moments.parts(visit)
    }
}
