//! The comparison on the CPU.

use std::borrow::Cow;
use std::io;
use std::ops::Range;

use rayon::prelude::*;

use super::CHUNK;
use super::candidates::{CandidateSums, NeuronMajor};
use super::engine::{Engine, LayerPair, LayerSums, Side, StoredCandidates, StoredCross, SumSource};
use super::layer_similarity::{gram_norm, squared_covariances};
use super::pair::PairResult;
use super::plan::ComparisonPlan;
use super::rotation::{RotatedLayer, Rotation, rotation_stream};
use super::rows::{RowStatistics, correlate, keep_best, scale};
use super::sums::{CrossSums, GramSums, Layout, ModelSums, NeuronSums, layer_of};
use super::surrogate::SurrogateId;
use crate::backend::matmul::Product;
use crate::backend::pack::{MatrixView, PackedMatrices, PackedMatrix};
use crate::checkpoint::{State, Visit};
use crate::error::Result;

/// The arithmetic of a comparison on the CPU: products in f32, added to sums in f64.
#[derive(Debug, Clone, Copy)]
pub struct HostEngine {
    product: Product,
}

/// Buffers for two layers.
pub struct HostRoom {
    /// Sums of products, then ρ, `[d_x, d_y]`.
    cross: Vec<f64>,
    /// ρ multiplied by the spread of y, `[d_x, d_y]`; empty without a rotation.
    scaled: Vec<f32>,
    /// Products with a rotation, `[d_x, d_y]`; empty without one.
    rotated: Vec<f32>,
}

impl HostEngine {
    /// Returns the arithmetic of a plan.
    pub fn of(plan: &ComparisonPlan) -> Self {
        Self { product: plan.product() }
    }

    /// Writes Σ x_i y_j of a block, `[d_x, d_y]`, to `out`.
    fn cross(&self, block: &LayerPair<Self>, out: &mut [f64]) {
        let ((_, x_layer), (_, y_layer)) = (block.x, block.y);
        match block.sums.source {
            SumSource::Sums { cross, transposed: false, .. } => {
                cross.sums.copy(x_layer, y_layer, out);
            }
            SumSource::Sums { cross, transposed: true, .. } => {
                cross.sums.copy_transposed(y_layer, x_layer, out);
            }
            SumSource::Tokens { rows, .. } => {
                out.fill(0.0);
                self.product.add_packed(rows[x_layer].get(0), block.sums.packed(), out);
            }
        }
    }

    /// Returns Σ y_j y_k of a layer, `[d_y, d_y]`, valid for k ≤ j.
    fn gram<'s>(&self, sums: LayerSums<'s, Self>, layout: Layout, layer: usize) -> Cow<'s, [f64]> {
        match sums.source {
            SumSource::Sums { grams, .. } => {
                Cow::Borrowed(grams.map_or(&[][..], |grams| grams.layer(layer)))
            }
            SumSource::Tokens { y, .. } => {
                let mut gram = vec![0.0; layout.d_mlp * layout.d_mlp];
                let tokens = layer_of(y, layout, layer);
                self.product.add_symmetric(tokens, sums.packed(), &mut gram);
                Cow::Owned(gram)
            }
        }
    }
}

impl<'s> LayerSums<'s, HostEngine> {
    /// Returns the activations of the layer, which are there if there are no sums.
    fn packed(self) -> PackedMatrix<'s> {
        self.columns.unwrap_or_else(|| unreachable!("columns of kept tokens")).get(0)
    }
}

impl Side<'_, HostEngine> {
    fn model(&self) -> ModelSums<'_> {
        ModelSums { layout: self.layout, sums: self.sums }
    }
}

impl Engine for HostEngine {
    /// Row-major, `[tokens, n_neurons]`.
    type Tokens = [f32];
    type OwnTokens = Vec<f32>;
    type Rows = PackedMatrices;
    type Columns = PackedMatrices;
    type Cross = CrossSums;
    type Grams = GramSums;
    type Candidates = CandidateSums;
    type PlacedSums = ();
    type Rotated = RotatedLayer;
    type Room = HostRoom;

    const TRANSPOSES: bool = true;

    fn neuron_sums(&self, n_neurons: usize) -> NeuronSums {
        NeuronSums::new(n_neurons)
    }

    fn take_pilot(&self, own: &mut NeuronSums, tokens: &[f32]) {
        own.take_pilot(tokens);
    }

    fn absorb(&self, own: &mut NeuronSums, tokens: &mut [f32], again: bool) {
        if again { own.shift(tokens) } else { own.absorb(tokens) }
    }

    fn no_tokens(&self, _: Layout) -> Result<Vec<f32>> {
        Ok(Vec::new())
    }

    fn keep(&self, kept: &mut Vec<f32>, tokens: &mut [f32]) {
        kept.extend_from_slice(tokens);
    }

    fn count(&self, tokens: &[f32], layout: Layout) -> Option<u64> {
        let width = layout.n_neurons();
        tokens.len().is_multiple_of(width).then(|| (tokens.len() / width) as u64)
    }

    fn new_cross(&self, x: Layout, layers: Range<usize>, y: Layout) -> Result<CrossSums> {
        Ok(CrossSums::new(x, layers, y))
    }

    fn rows(&self, tokens: &[f32], layout: Layout, layer: usize) -> PackedMatrices {
        self.product.rows(layer_of(tokens, layout, layer))
    }

    fn columns(&self, tokens: &[f32], layout: Layout, layer: usize) -> PackedMatrices {
        self.product.columns(&[layer_of(tokens, layout, layer)])
    }

    /// Packs y once, for all products that it has a part in.
    fn add_products(
        &self,
        sums: Vec<&mut StoredCross<Self>>,
        grams: Option<&mut GramSums>,
        x: &[&[f32]],
        (y, layout): (&[f32], Layout),
    ) -> Result<()> {
        if sums.is_empty() && grams.is_none() {
            return Ok(());
        }
        let layers = 0..layout.n_layers;
        let layers: Vec<MatrixView> = layers.map(|layer| layer_of(y, layout, layer)).collect();
        let columns = self.product.columns(&layers);
        for StoredCross { x: model, sums, .. } in sums {
            sums.absorb(self.product, x[*model], &columns);
        }
        if let Some(grams) = grams {
            grams.absorb(self.product, y, &columns);
        }
        Ok(())
    }

    fn new_grams(&self, layout: Layout) -> Result<GramSums> {
        Ok(GramSums::new(layout))
    }

    fn surrogate(
        &self,
        plan: &ComparisonPlan,
        id: SurrogateId,
        tokens: &[f32],
        first: u64,
    ) -> Result<Vec<f32>> {
        Ok(id.surrogate(plan, tokens, first))
    }

    fn pick(&self, layout: Layout, tokens: &[f32], neurons: Option<&[usize]>) -> Result<Vec<f32>> {
        let Some(neurons) = neurons else { return Ok(tokens.to_vec()) };
        let row = |row: &[f32]| neurons.iter().map(|&i| row[i]).collect::<Vec<f32>>();
        Ok(tokens.chunks_exact(layout.n_neurons()).flat_map(row).collect())
    }

    fn gram_norms(&self, grams: &GramSums, side: Side<Self>) -> Result<Vec<f64>> {
        let of = |layer| gram_norm(grams.layer(layer), side.sums, side.layout.neurons(layer));
        Ok((0..side.layout.n_layers).map(of).collect())
    }

    fn new_candidates(&self, sample: &PairResult) -> Result<CandidateSums> {
        Ok(CandidateSums::new(sample))
    }

    fn add_candidates(
        &self,
        candidates: &mut [StoredCandidates<Self>],
        tokens: &[&mut [f32]],
        models: &[Layout],
    ) -> Result<()> {
        let count = tokens[0].len() / models[0].n_neurons();
        for start in (0..count).step_by(CHUNK) {
            let end = (start + CHUNK).min(count);
            let columns = |(tokens, layout): (&&mut [f32], &Layout)| {
                let width = layout.n_neurons();
                NeuronMajor::of(&tokens[start * width..end * width], *layout)
            };
            let columns: Vec<NeuronMajor> = tokens.iter().zip(models).map(columns).collect();
            for StoredCandidates { x, y, sums } in &mut *candidates {
                sums.absorb(&columns[*x], &columns[*y]);
            }
        }
        Ok(())
    }

    fn read_candidates<'s>(&self, sums: &'s CandidateSums) -> Result<Cow<'s, CandidateSums>> {
        Ok(Cow::Borrowed(sums))
    }

    fn visit_candidates(&self, sums: &mut CandidateSums, visit: Visit) -> io::Result<()> {
        sums.parts(visit)
    }

    fn place(&self, _: &NeuronSums) -> Result<()> {
        Ok(())
    }

    fn room(&self, x: Layout, y: Layout) -> Result<HostRoom> {
        let cross = vec![0.0; x.d_mlp * y.d_mlp];
        Ok(HostRoom { cross, scaled: Vec::new(), rotated: Vec::new() })
    }

    fn rotate(
        &self,
        plan: &ComparisonPlan,
        (model, layer): (usize, usize),
        y: Side<Self>,
        sums: LayerSums<Self>,
    ) -> Result<RotatedLayer> {
        let baseline = &plan.baseline;
        let draw = |draw| {
            let stream = rotation_stream(baseline.seed, draw, model, layer);
            Rotation::draw(baseline.kind, stream, y.layout.d_mlp)
        };
        let gram = self.gram(sums, y.layout, layer);
        let draws = (0..baseline.draws).map(draw);
        Ok(RotatedLayer::new(self.product, y.model(), layer, &gram, draws))
    }

    fn judge(
        &self,
        block: &LayerPair<Self>,
        rotated: Option<&RotatedLayer>,
        room: &mut HostRoom,
        pair: &mut PairResult,
    ) -> Result<()> {
        if rotated.is_some() {
            room.scaled.resize(room.cross.len(), 0.0);
            room.rotated.resize(room.cross.len(), 0.0);
        }
        self.cross(block, &mut room.cross);
        let (x, layer) = block.x;
        let columns = PartnerLayer::of(block.y.0.model(), block.y.1);
        pair.add_layers(&mut room.cross, (x.model(), layer), &columns, &mut room.scaled);
        if let Some(rotated) = rotated {
            let neurons = x.layout.neurons(layer);
            let best = pair.baseline.iter_mut().map(|draw| &mut draw[neurons.clone()]);
            rotated.raise(&room.scaled, &mut room.rotated, best);
        }
        Ok(())
    }

    fn judge_surrogate(
        &self,
        block: &LayerPair<Self>,
        room: &mut HostRoom,
        best: &mut [f64],
    ) -> Result<()> {
        self.cross(block, &mut room.cross);
        let (x, layer) = block.x;
        let columns = PartnerLayer::of(block.y.0.model(), block.y.1);
        let rows = room.cross.par_chunks_exact_mut(columns.len());
        let rows = best.par_iter_mut().zip(rows).zip(x.layout.neurons(layer));
        rows.for_each(|((best, row), neuron)| {
            columns.correlate(row, x.sums, neuron);
            // `max` returns the other operand if one is NaN.
            *best = row.iter().copied().fold(*best, f64::max);
        });
        Ok(())
    }
}

impl PairResult {
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
        let pair_of_layers = self.pair_of_layers(x.layout, layer, columns.first / columns.len());
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
            let inverse_x = x.sums.inverse_spread(neuron).unwrap_or(f64::NAN);
            let squares =
                pair_of_layers.map(|_| squared_covariances(row, &columns.inverse, inverse_x));
            (RowStatistics::of(row), squares)
        };
        let rows: Vec<(RowStatistics, Option<f64>)> = if scaled.is_empty() {
            rows.map(|row| one((row, &mut []))).collect()
        } else {
            rows.zip(scaled.par_chunks_exact_mut(columns.len())).map(one).collect()
        };
        for (spread, squares) in &rows {
            if let Some((pair, squares)) = pair_of_layers.zip(*squares) {
                self.covariances[pair] += squares;
            }
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
