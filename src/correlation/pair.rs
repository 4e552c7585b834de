//! What comparing a model with one partner finds, filled layer by layer.

use std::ops::Range;

use rayon::prelude::*;

use super::rotation::RotatedLayer;
use super::source::SumSource;
use super::sums::{ModelSums, NeuronSums};
use crate::backend::device::ops::BlockMatches;
use crate::backend::wide::widened;
use crate::checkpoint::{Part, State, Visit};
use crate::stats::PowerSums;

/// A partner neuron and its correlation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NeuronMatch {
    /// Pearson's ρ.
    pub rho: f64,
    /// The partner neuron, counted over all layers.
    pub neuron: usize,
}

/// Bins of the histogram of ρ, of equal width from −1 to 1.
pub const BINS: usize = 100;

/// What comparing with one partner found, per neuron of the model judged.
#[derive(Debug, Clone, PartialEq)]
pub struct PairResult {
    /// Partners kept for each neuron.
    k: usize,
    /// `[neuron][k]`, largest first; NaN where there are not so many.
    rho: Vec<f64>,
    /// `[neuron][k]`: whose ρ it is, counted over all layers.
    partner: Vec<u32>,
    /// `[draw][neuron]`: best correlation with chance neurons; NaN where undefined.
    pub baseline: Vec<Vec<f64>>,
    /// How many ρ of all pairs of neurons lie in each bin.
    pub histogram: Vec<f64>,
    /// Power sums of all ρ.
    pub moments: PowerSums,
}

/// Somebody asked to stop; what was found so far is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// Called whenever two layers have been compared; says whether to go on.
pub type Watch<'a> = &'a dyn Fn() -> Result<(), Stopped>;

/// Makes the chance neurons of a layer of y from its Gram sums.
pub type MakeRotatedLayer<'a> = &'a dyn Fn(usize, &[f64]) -> RotatedLayer;

impl PairResult {
    /// Nothing compared yet; the best `k` partners of each neuron will be kept.
    pub fn new(neurons: usize, k: usize, draws: usize) -> Self {
        Self {
            k,
            rho: vec![f64::NAN; neurons * k],
            partner: vec![0; neurons * k],
            baseline: vec![vec![f64::NAN; neurons]; draws],
            histogram: vec![0.0; BINS],
            moments: PowerSums::around(0.0),
        }
    }

    /// Neurons of the model judged.
    pub fn neurons(&self) -> usize {
        self.rho.len() / self.k
    }

    /// The best partner of a neuron; None where it has no correlation with anything.
    pub fn best(&self, neuron: usize) -> Option<NeuronMatch> {
        self.top(neuron).next()
    }

    /// The best partners of a neuron, best first, the first of equals before the others.
    pub fn top(&self, neuron: usize) -> impl Iterator<Item = NeuronMatch> {
        let slots = neuron * self.k..(neuron + 1) * self.k;
        let found = self.rho[slots.clone()].iter().zip(&self.partner[slots]);
        let found = found.take_while(|(rho, _)| !rho.is_nan());
        found.map(|(&rho, &partner)| NeuronMatch { rho, neuron: partner as usize })
    }

    /// Whether as many partners were found as are kept, so that there may be more.
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

    /// Takes a neuron over from another comparison with the same partner.
    pub fn copy_neuron(&mut self, neuron: usize, other: &Self, theirs: usize) {
        self.set_top(neuron, &other.top(theirs).collect::<Vec<_>>());
        for (draw, other) in self.baseline.iter_mut().zip(&other.baseline) {
            draw[neuron] = other[theirs];
        }
    }

    /// Compares x with y over all layers that the source has; `chance` makes the
    /// rotated neurons of a layer of y from its Gram sums, where they are asked for.
    ///
    /// # Errors
    /// If `watch` does not let it go on.
    pub fn compare(
        &mut self,
        source: &dyn SumSource,
        (x, y): (ModelSums, ModelSums),
        chance: Option<MakeRotatedLayer>,
        watch: Watch,
    ) -> Result<(), Stopped> {
        let size = x.layout.d_mlp * y.layout.d_mlp;
        let (mut cross, mut scaled, mut rotated) = (vec![0.0; size], Vec::new(), Vec::new());
        for y_layer in source.y_layers() {
            let columns = PartnerLayer::of(y, y_layer);
            let chance = chance.map(|chance| chance(y_layer, &source.gram(y_layer)));
            if chance.is_some() {
                scaled.resize(size, 0.0);
                rotated.resize(size, 0.0);
            }
            for x_layer in source.x_layers() {
                source.cross(x_layer, y_layer, &mut cross);
                self.take(&mut cross, (x, x_layer), &columns, &mut scaled);
                if let Some(chance) = &chance {
                    let neurons = x.layout.neurons(x_layer);
                    let best = self.baseline.iter_mut().map(|draw| &mut draw[neurons.clone()]);
                    chance.raise(&scaled, &mut rotated, best);
                }
                watch()?;
            }
        }
        Ok(())
    }

    /// Compares x with a surrogate of its partner, for one draw of the baseline.
    ///
    /// # Errors
    /// If `watch` does not let it go on.
    pub fn compare_surrogate(
        &mut self,
        draw: usize,
        source: &dyn SumSource,
        (x, y): (ModelSums, ModelSums),
        watch: Watch,
    ) -> Result<(), Stopped> {
        let mut cross = vec![0.0; x.layout.d_mlp * y.layout.d_mlp];
        for y_layer in source.y_layers() {
            let columns = PartnerLayer::of(y, y_layer);
            for x_layer in source.x_layers() {
                source.cross(x_layer, y_layer, &mut cross);
                let neurons = x.layout.neurons(x_layer);
                let best = self.baseline[draw][neurons.clone()].par_iter_mut();
                let rows = cross.par_chunks_exact_mut(columns.len());
                best.zip(rows).zip(neurons).for_each(|((best, row), neuron)| {
                    columns.correlate(row, x.sums, neuron);
                    // `max` returns the other operand where one is NaN.
                    *best = row.iter().copied().fold(*best, f64::max);
                });
                watch()?;
            }
        }
        Ok(())
    }

    /// Takes what a device found of some neurons in some columns of the partner, the
    /// first of which is `first`.
    pub fn enter(&mut self, neurons: Range<usize>, first: usize, found: &BlockMatches) {
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

    /// Raises the best chance correlation of some neurons in a draw.
    pub fn raise_baseline(&mut self, draw: usize, neurons: Range<usize>, best: &[f32]) {
        // `max` returns the other operand where one is NaN.
        let all = self.baseline[draw][neurons].iter_mut().zip(best);
        all.for_each(|(all, &best)| *all = all.max(best.into()));
    }

    /// Takes the sums of products of one layer of each, which become correlations,
    /// and where there is room for them, scaled by the spread of y.
    fn take(
        &mut self,
        cross: &mut [f64],
        (x, layer): (ModelSums, usize),
        columns: &PartnerLayer,
        scaled: &mut [f32],
    ) {
        let neurons = x.layout.neurons(layer);
        let slots = neurons.start * self.k..neurons.end * self.k;
        let top = self.rho[slots.clone()].par_chunks_mut(self.k);
        let top = top.zip(self.partner[slots].par_chunks_mut(self.k));
        let rows = cross.par_chunks_exact_mut(columns.len()).zip(neurons).zip(top);
        let one = |(((row, neuron), (top, partner)), scaled): (_, &mut [f32])| {
            let row: &mut [f64] = row;
            columns.correlate(row, x.sums, neuron);
            keep_best(row, columns.first, top, partner);
            columns.scale(row, scaled);
            RowStatistics::of(row)
        };
        let spreads: Vec<RowStatistics> = if scaled.is_empty() {
            rows.map(|row| one((row, &mut []))).collect()
        } else {
            rows.zip(scaled.par_chunks_exact_mut(columns.len())).map(one).collect()
        };
        for spread in &spreads {
            self.moments.merge(&spread.moments);
            self.histogram.iter_mut().zip(&spread.bins).for_each(|(all, n)| *all += f64::from(*n));
        }
    }
}

/// One layer of a partner.
struct PartnerLayer {
    /// Its first neuron, counted over all layers.
    first: usize,
    sums: Vec<f64>,
    /// `1 / spread`; NaN where the neuron has no correlation.
    inverse: Vec<f64>,
}

impl PartnerLayer {
    fn of(y: ModelSums, layer: usize) -> Self {
        let neurons = y.layout.neurons(layer);
        Self {
            first: neurons.start,
            sums: neurons.clone().map(|j| y.sums.sum(j)).collect(),
            inverse: neurons.map(|j| y.sums.inverse_spread(j).unwrap_or(f64::NAN)).collect(),
        }
    }

    fn len(&self) -> usize {
        self.sums.len()
    }

    /// Turns `Σxy` of a neuron of x into ρ (eq. 2), in place:
    /// `(Σxy − Σx Σy / n) / (spread_x spread_y)`. NaN where there is none.
    fn correlate(&self, row: &mut [f64], x: &NeuronSums, neuron: usize) {
        let inverse_x = x.inverse_spread(neuron).unwrap_or(f64::NAN);
        let mean_x = x.sum(neuron) / x.n as f64;
        correlate(row, &self.sums, &self.inverse, mean_x, inverse_x);
    }

    /// `ρ spread_y` in f32, where there is room; 0 for a neuron of y without
    /// correlation, which so contributes nothing to any combination.
    fn scale(&self, row: &[f64], scaled: &mut [f32]) {
        scale(row, &self.inverse, scaled);
    }
}

widened! {
    fn correlate(row: &mut [f64], sums: &[f64], inverse: &[f64], mean_x: f64, inverse_x: f64) {
        for ((value, sum_y), inverse_y) in row.iter_mut().zip(sums).zip(inverse) {
            *value = (*value - mean_x * sum_y) * inverse_x * inverse_y;
        }
    }
}

widened! {
    fn scale(row: &[f64], inverse: &[f64], scaled: &mut [f32]) {
        for ((out, value), inverse) in scaled.iter_mut().zip(row).zip(inverse) {
            *out = if inverse.is_nan() { 0.0 } else { (value * (1.0 / inverse)) as f32 };
        }
    }
}

impl State for PairResult {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        visit(Part::Numbers(&mut self.rho))?;
        visit(Part::Counts(&mut self.partner))?;
        self.baseline.iter_mut().try_for_each(|draw| visit(Part::Numbers(draw)))?;
        visit(Part::Numbers(&mut self.histogram))?;
        self.moments.parts(visit)
    }
}

/// Enters the values of a row into a list of the largest; the first of equals comes first.
fn keep_best(row: &[f64], first: usize, top: &mut [f64], partner: &mut [u32]) {
    for (i, &rho) in row.iter().enumerate() {
        keep_if_best(rho, first + i, top, partner);
    }
}

#[inline(always)]
fn keep_if_best(rho: f64, neuron: usize, top: &mut [f64], partner: &mut [u32]) {
    let last = top.len() - 1;
    // False for a NaN on the left, true for one on the right, which is an empty place.
    if rho > top[last] || (top[last].is_nan() && !rho.is_nan()) {
        let place = top.iter().position(|&t| t.is_nan() || rho > t).unwrap_or(last);
        top[place..].rotate_right(1);
        partner[place..].rotate_right(1);
        (top[place], partner[place]) = (rho, neuron as u32);
    }
}

/// How the correlations of a row are spread; what is no correlation is left out.
struct RowStatistics {
    moments: PowerSums,
    bins: [u32; BINS],
}

impl RowStatistics {
    fn of(row: &[f64]) -> Self {
        let mut spread = Self { moments: PowerSums::around(0.0), bins: [0; BINS] };
        for &rho in row.iter().filter(|rho| !rho.is_nan()) {
            spread.moments.add(rho);
            let bin = (rho + 1.0) * (BINS as f64 / 2.0);
            // A cast keeps what rounding has put beyond either end at that end.
            spread.bins[(bin as usize).min(BINS - 1)] += 1;
        }
        spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_wins_and_nan_never_does() {
        let best = |row: &[f64], k: usize| {
            let (mut top, mut partner) = (vec![f64::NAN; k], vec![0; k]);
            // In two parts, as layers come.
            let (first, second) = row.split_at(row.len() / 2);
            keep_best(first, 0, &mut top, &mut partner);
            keep_best(second, first.len(), &mut top, &mut partner);
            let found = top.into_iter().zip(partner).filter(|(rho, _)| !rho.is_nan());
            found.collect::<Vec<_>>()
        };
        let row = [f64::NAN, 0.25, 0.5, 0.5, -1.0];
        assert_eq!(best(&row, 1), [(0.5, 2)]);
        assert_eq!(best(&row, 3), [(0.5, 2), (0.5, 3), (0.25, 1)]);
        assert_eq!(best(&row, 9).len(), 4);
        assert_eq!(best(&[f64::NAN; 3], 2), []);
        assert_eq!(best(&[-0.5], 1), [(-0.5, 0)]);
    }

    #[test]
    fn every_correlation_falls_into_a_bin() {
        let spread = RowStatistics::of(&[-1.0, -1.0 - 1e-9, 0.0, 0.999, 1.0, 1.0 + 1e-9, f64::NAN]);
        assert_eq!((spread.bins[0], spread.bins[50], spread.bins[99]), (2, 1, 3));
        assert_eq!(spread.bins.iter().sum::<u32>(), 6);
    }
}
