//! Compares a reference model with one partner model, two layers at a time.

use rayon::prelude::*;

use super::pair::PairResult;
use super::rotation::RotatedLayer;
use super::rows::{RowStatistics, correlate, keep_best, scale};
use super::source::SumSource;
use super::sums::{ModelSums, NeuronSums};
use crate::error::Result;

/// Called after every pair of layers. An error (the run was interrupted) ends the
/// comparison, whose results so far are incomplete and must not be used.
pub type Watch<'a> = &'a dyn Fn() -> Result<()>;

/// A function that makes the rotated neurons of a layer of the partner from the layer's Gram sums.
pub type MakeRotatedLayer<'a> = &'a dyn Fn(usize, &[f64]) -> RotatedLayer;

impl PairResult {
    /// Compares the reference x with the partner y over all layers that the source has. If `chance`
    /// is given, it makes the rotated neurons of each layer of y for the baseline.
    ///
    /// # Errors
    ///
    /// Returns the error of `watch` if it asks to stop.
    pub fn compare(
        &mut self,
        source: &dyn SumSource,
        (x, y): (ModelSums, ModelSums),
        chance: Option<MakeRotatedLayer>,
        watch: Watch,
    ) -> Result<()> {
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
                self.add_layers(&mut cross, (x, x_layer), &columns, &mut scaled);
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
    ///
    /// Returns the error of `watch` if it asks to stop.
    pub fn compare_surrogate(
        &mut self,
        draw: usize,
        source: &dyn SumSource,
        (x, y): (ModelSums, ModelSums),
        watch: Watch,
    ) -> Result<()> {
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
                    // `max` returns the other operand if one is NaN.
                    *best = row.iter().copied().fold(*best, f64::max);
                });
                watch()?;
            }
        }
        Ok(())
    }

    /// Turns the sums of products of one layer of each model into correlations, in place, and adds
    /// them to the result. Unless `scaled` is empty, it receives ρ multiplied by the spread of y,
    /// `[neurons of the layer of x, d_y]`.
    fn add_layers(
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

/// Σy and 1 / spread of the neurons of one layer of the partner.
struct PartnerLayer {
    /// Index over all layers of the first neuron.
    first: usize,
    sums: Vec<f64>,
    /// `1 / spread`; NaN if the neuron has no correlation.
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

    /// Turns Σxy of one neuron of x with every neuron of the layer into ρ (eq. 2), in place: `(Σxy
    /// − Σx Σy / n) / (spread_x spread_y)`. NaN if either neuron has no correlation.
    fn correlate(&self, row: &mut [f64], x: &NeuronSums, neuron: usize) {
        let inverse_x = x.inverse_spread(neuron).unwrap_or(f64::NAN);
        let mean_x = x.sum(neuron) / x.n as f64;
        correlate(row, &self.sums, &self.inverse, mean_x, inverse_x);
    }

    /// Writes `ρ spread_y` to `scaled` unless it is empty. The value is 0 for a neuron of y without
    /// correlation, so that the neuron contributes nothing to any rotated one.
    fn scale(&self, row: &[f64], scaled: &mut [f32]) {
        scale(row, &self.inverse, scaled);
    }
}
