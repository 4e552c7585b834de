//! The comparison on a device. Activations, or sums of their products, stay in device memory; two
//! layers at a time are multiplied and searched for best partners there. Only the best partners
//! come back to the host.

use std::borrow::Cow;
use std::io;
use std::ops::Range;

use super::candidates::CandidateSums;
use super::engine::{Engine, LayerPair, LayerSums, Side, StoredCandidates, StoredCross, SumSource};
use super::half_tokens::{HalfTokens, failed};
use super::layer_similarity::gram_norm;
use super::pair::PairResult;
use super::plan::ComparisonPlan;
use super::product_sums::ProductSums;
use super::rotation::{RotatedLayer, Rotation, random_rotation, rotation_stream};
use super::sums::{Layout, ModelSums, NeuronSums};
use super::surrogate::SurrogateId;
use crate::backend::device::Device;
use crate::backend::device::array::{Array, HalfFormat, HalfMatrix};
use crate::backend::device::ops::{self, OperandSums, ProductTarget, StoredSums};
use crate::checkpoint::{Part, Visit};
use crate::error::Result;
use crate::spec::BaselineKind;

/// The arithmetic of a comparison on a device: products on tensor cores, added in f32.
#[derive(Debug)]
pub struct DeviceEngine<'a, D: Device> {
    device: &'a D,
    form: HalfFormat,
    /// The factor that the activations of each neuron were multiplied by, `[model][neuron]`.
    scales: Vec<Vec<f32>>,
}

impl<D: Device> Clone for DeviceEngine<'_, D> {
    fn clone(&self) -> Self {
        Self { scales: self.scales.clone(), ..*self }
    }
}

/// Σx and 1 / spread of all neurons of a model, in device memory.
pub struct DeviceNeuronSums<D: Device> {
    sum: Array<D, f32>,
    inverse: Array<D, f32>,
}

impl<D: Device> DeviceNeuronSums<D> {
    fn from(&self, neuron: usize) -> OperandSums<'_, D> {
        OperandSums { sum: &self.sum, inverse: &self.inverse, at: neuron }
    }
}

/// Sums of products of chosen pairs of neurons in device memory.
pub struct DeviceCandidates<D: Device> {
    /// The candidates, with sums of zero.
    lists: CandidateSums,
    x: Array<D, u32>,
    y: Array<D, u32>,
    sums: Array<D, f64>,
}

/// A rotation, and 1 / spread of each rotated neuron, multiplied by √tokens.
pub struct DeviceRotation<D: Device> {
    rotation: HalfMatrix<D>,
    inverse: Array<D, f32>,
}

/// Buffers for two layers.
pub struct DeviceRoom<D: Device> {
    cross: Array<D, f32>,
    scaled: HalfMatrix<D>,
    zeros: Array<D, f32>,
    ones: Array<D, f32>,
}

impl<'a, D: Device> DeviceEngine<'a, D> {
    /// Returns the arithmetic on a device with factors in a format. `scales` are the factors (powers
    /// of two) that the activations of each neuron are multiplied by, `[model][neuron]`.
    /// Correlations do not depend on them; a rotation mixes unscaled activations, so they are
    /// divided out there.
    pub fn new(device: &'a D, form: HalfFormat, scales: Vec<Vec<f32>>) -> Self {
        Self { device, form, scales }
    }

    /// Replaces the scales of a model.
    pub fn set_scales(&mut self, model: usize, scales: Vec<f32>) {
        self.scales[model] = scales;
    }

    /// Returns the factors (at most 1) that bring the neurons of a layer to one common scale.
    fn relative_scales(&self, model: usize, neurons: Range<usize>) -> Vec<f64> {
        let scales = &self.scales[model][neurons];
        let least = scales.iter().copied().fold(f32::INFINITY, f32::min);
        scales.iter().map(|&scale| f64::from(least / scale)).collect()
    }

    /// Returns the factors that undo the scales of some neurons.
    fn inverse_scales(&self, model: usize, neurons: Range<usize>) -> Vec<f64> {
        self.scales[model][neurons].iter().map(|&scale| 1.0 / f64::from(scale)).collect()
    }

    /// Returns the sum of squared covariances of the neurons of two layers. The sums are copied to the
    /// host.
    fn squared_covariances(&self, sums: &StoredSums<D>, block: &LayerPair<Self>) -> Result<f64> {
        let (rows, cols) = neurons(block);
        let ((x, _), (y, _)) = (block.x, block.y);
        let unscaled_x = self.inverse_scales(x.model, rows.clone());
        let unscaled_y = self.inverse_scales(y.model, cols.clone());
        let (of_x, of_y) = (x.sums.layer(rows, &unscaled_x), y.sums.layer(cols, &unscaled_y));
        let lives = |own: &NeuronSums, i: usize| own.inverse_spread(i).is_some();
        let mut total = 0.0;
        for i in (0..sums.shape.0).filter(|&i| lives(&of_x, i)) {
            let at = sums.at + i * sums.ld;
            let row = sums.values.read(self.device, at..at + sums.shape.1)?;
            let mean = of_x.sum(i) / of_x.n as f64;
            let square = |(j, v): (usize, f32)| {
                (f64::from(v) * unscaled_x[i] * unscaled_y[j] - mean * of_y.sum(j)).powi(2)
            };
            let row = row.into_iter().enumerate().filter(|(j, _)| lives(&of_y, *j));
            total += row.map(square).sum::<f64>();
        }
        Ok(total)
    }

    /// Returns the sums of products of a block: the stored ones, or, if activations are kept, their
    /// product written to `room`.
    fn cross<'s>(
        &self,
        block: &'s LayerPair<Self>,
        room: &'s mut Array<D, f32>,
    ) -> Result<StoredSums<'s, D>> {
        let (rows, cols) = neurons(block);
        let shape = (rows.len(), cols.len());
        match block.sums.source {
            SumSource::Sums { cross, .. } => {
                let ProductSums { ld, first, values, .. } = &cross.sums;
                Ok(StoredSums {
                    values,
                    at: (rows.start - first) * ld + cols.start,
                    ld: *ld,
                    shape,
                })
            }
            SumSource::Tokens { x, y, .. } => {
                let operands = (&x.values.rows(rows), &y.values.rows(cols), x.tokens);
                let ld = shape.1;
                let into = ProductTarget { values: &mut *room, at: 0, ld, add: false };
                ops::product(self.device, operands, into, None)?;
                Ok(StoredSums { values: room, at: 0, ld, shape })
            }
        }
    }

    /// Returns the Gram sums of a layer of y, `[d_mlp, d_mlp]`.
    fn gram(&self, source: &SumSource<Self>, layout: Layout, layer: usize) -> Result<Vec<f32>> {
        let d = layout.d_mlp;
        match source {
            SumSource::Sums { grams, .. } => {
                let grams = grams.unwrap_or_else(|| unreachable!("Gram sums of every partner"));
                grams.values.read(self.device, layer * d * d..(layer + 1) * d * d)
            }
            SumSource::Tokens { y, .. } => {
                let mut gram = Array::zeros(self.device, d * d)?;
                let rows = y.values.rows(layout.neurons(layer));
                ops::gram(self.device, &rows, y.tokens, &mut gram, 0)?;
                gram.to_vec(self.device)
            }
        }
    }
}

/// Returns Gram sums `[d, d]` as if the activations of each neuron had been multiplied by a factor.
fn scaled_gram(gram: Vec<f32>, factors: &[f64]) -> Vec<f64> {
    let d = factors.len();
    let scaled = |(e, v): (usize, f32)| f64::from(v) * factors[e / d] * factors[e % d];
    gram.into_iter().enumerate().map(scaled).collect()
}

/// Returns the neurons of both layers of a block, as indices over all layers.
fn neurons<E: Engine>(block: &LayerPair<E>) -> (Range<usize>, Range<usize>) {
    let of = |(side, layer): (Side<E>, usize)| side.layout.neurons(layer);
    (of(block.x), of(block.y))
}

impl<'a, D: Device> Engine for DeviceEngine<'a, D> {
    type Tokens = HalfTokens<'a, D>;
    type OwnTokens = HalfTokens<'a, D>;
    type Rows = ();
    type Columns = ();
    type Cross = ProductSums<'a, D>;
    type Grams = ProductSums<'a, D>;
    type Candidates = DeviceCandidates<D>;
    type PlacedSums = DeviceNeuronSums<D>;
    type Rotated = Vec<DeviceRotation<D>>;
    type Room = DeviceRoom<D>;

    const TRANSPOSES: bool = false;

    fn neuron_sums(&self, n_neurons: usize) -> NeuronSums {
        NeuronSums::around_zero(n_neurons)
    }

    fn take_pilot(&self, _: &mut NeuronSums, _: &Self::Tokens) {
        // Activations were shifted when they were stored.
    }

    fn absorb(&self, own: &mut NeuronSums, tokens: &mut Self::Tokens, again: bool) {
        if !again {
            own.add(tokens.tokens as u64, &tokens.sum, &tokens.square);
        }
    }

    fn no_tokens(&self, layout: Layout) -> Result<Self::OwnTokens> {
        HalfTokens::new(self.device, layout.n_neurons(), 0, self.form)
    }

    fn keep(&self, kept: &mut Self::OwnTokens, tokens: &mut Self::Tokens) {
        assert_eq!(kept.tokens, 0, "all tokens are kept at once");
        std::mem::swap(kept, tokens);
    }

    fn count(&self, tokens: &Self::Tokens, _: Layout) -> Option<u64> {
        Some(tokens.tokens as u64)
    }

    fn new_cross(&self, x: Layout, layers: Range<usize>, y: Layout) -> Result<Self::Cross> {
        let rows = layers.start * x.d_mlp..layers.end * x.d_mlp;
        ProductSums::zeros(self.device, rows, y.n_neurons())
    }

    fn rows(&self, _: &Self::Tokens, _: Layout, _: usize) {}

    fn columns(&self, _: &Self::Tokens, _: Layout, _: usize) {}

    fn add_products(
        &self,
        sums: Vec<&mut StoredCross<Self>>,
        grams: Option<&mut Self::Grams>,
        x: &[&Self::Tokens],
        (y, layout): (&Self::Tokens, Layout),
    ) -> Result<()> {
        for StoredCross { x: model, sums, .. } in sums {
            let ProductSums { ld, first, values, .. } = sums;
            let rows = *first..*first + values.len() / *ld;
            let operands = (&x[*model].values.rows(rows), &y.values.all(), y.tokens);
            let into = ProductTarget { values, at: 0, ld: *ld, add: true };
            ops::product(self.device, operands, into, None)?;
        }
        let Some(grams) = grams else { return Ok(()) };
        for layer in 0..layout.n_layers {
            let neurons = layout.neurons(layer);
            let at = neurons.start * layout.d_mlp;
            let rows = y.values.rows(neurons);
            ops::gram(self.device, &rows, y.tokens, &mut grams.values, at)?;
        }
        Ok(())
    }

    fn new_grams(&self, layout: Layout) -> Result<Self::Grams> {
        ProductSums::zeros(self.device, 0..layout.n_neurons(), layout.d_mlp)
    }

    fn surrogate(
        &self,
        plan: &ComparisonPlan,
        id: SurrogateId,
        of: &Self::Tokens,
        first: u64,
    ) -> Result<Self::OwnTokens> {
        let (n_neurons, tokens) = (of.values.rows, of.tokens);
        if plan.baseline.kind == BaselineKind::Permutation {
            let order: Vec<u32> =
                id.order(plan, first, tokens).into_iter().map(|t| t as u32).collect();
            let order = Array::of(self.device, &order)?;
            let mut fake = HalfTokens::new(self.device, n_neurons, tokens, self.form)?;
            ops::gather(self.device, &of.values, None, Some(&order), &mut fake.values)?;
            fake.count(tokens, &of.sum, &of.square);
            return Ok(fake);
        }
        let noise = id.noise(plan, first, tokens);
        let value = |neuron: usize, token: usize| noise[token * n_neurons + neuron];
        let values = HalfMatrix::of(self.device, (n_neurons, tokens), self.form, value)?;
        let rounded = values.to_vec(self.device, tokens)?;
        let sum = |power: i32| -> Vec<f64> {
            let of = |row: &[f32]| row.iter().map(|&v| f64::from(v).powi(power)).sum();
            rounded.chunks_exact(tokens).map(of).collect()
        };
        let mut fake = HalfTokens::around(self.device, values);
        fake.count(tokens, &sum(1), &sum(2));
        Ok(fake)
    }

    fn pick(
        &self,
        _: Layout,
        tokens: &Self::Tokens,
        neurons: Option<&[usize]>,
    ) -> Result<Self::OwnTokens> {
        let device = self.device;
        let rows = neurons.map_or(tokens.values.rows, <[usize]>::len);
        let mut picked = HalfTokens::new(device, rows, tokens.tokens, self.form)?;
        let index = |neurons: &[usize]| neurons.iter().map(|&i| i as u32).collect::<Vec<_>>();
        let index = neurons.map(|neurons| Array::of(device, &index(neurons))).transpose()?;
        ops::gather(device, &tokens.values, index.as_ref(), None, &mut picked.values)?;
        let of = |sums: &[f64]| match neurons {
            Some(neurons) => neurons.iter().map(|&i| sums[i]).collect(),
            None => sums.to_vec(),
        };
        picked.count(tokens.tokens, &of(&tokens.sum), &of(&tokens.square));
        Ok(picked)
    }

    fn gram_norms(&self, grams: &Self::Grams, side: Side<Self>) -> Result<Vec<f64>> {
        let d = side.layout.d_mlp;
        let of = |layer| {
            let neurons = side.layout.neurons(layer);
            let unscaled = self.inverse_scales(side.model, neurons.clone());
            let gram = grams.values.read(self.device, layer * d * d..(layer + 1) * d * d)?;
            let gram = scaled_gram(gram, &unscaled);
            Ok(gram_norm(&gram, &side.sums.layer(neurons, &unscaled), 0..d))
        };
        (0..side.layout.n_layers).map(of).collect()
    }

    fn new_candidates(&self, sample: &PairResult) -> Result<Self::Candidates> {
        let lists = CandidateSums::new(sample);
        let (x, y): (Vec<u32>, Vec<u32>) = lists.pairs().unzip();
        Ok(DeviceCandidates {
            x: Array::of(self.device, &x)?,
            y: Array::of(self.device, &y)?,
            sums: Array::zeros(self.device, x.len())?,
            lists,
        })
    }

    fn add_candidates(
        &self,
        candidates: &mut [StoredCandidates<Self>],
        tokens: &[&mut Self::Tokens],
        _: &[Layout],
    ) -> Result<()> {
        for StoredCandidates { x, y, sums } in candidates {
            let operands = (&tokens[*x].values, &tokens[*y].values, tokens[*x].tokens);
            ops::candidates(self.device, operands, (&sums.x, &sums.y), &mut sums.sums)?;
        }
        Ok(())
    }

    fn read_candidates<'s>(&self, sums: &'s Self::Candidates) -> Result<Cow<'s, CandidateSums>> {
        Ok(Cow::Owned(sums.lists.with_sums(sums.sums.to_vec(self.device)?)))
    }

    fn visit_candidates(&self, sums: &mut Self::Candidates, visit: Visit) -> io::Result<()> {
        let before = sums.sums.to_vec(self.device).map_err(failed)?;
        let mut numbers = before.clone();
        visit(Part::Numbers(&mut numbers))?;
        match numbers == before {
            true => Ok(()),
            false => sums.sums.write_at(self.device, 0, &numbers).map_err(failed),
        }
    }

    fn place(&self, sums: &NeuronSums) -> Result<Self::PlacedSums> {
        let n = sums.neurons();
        let sum: Vec<f32> = (0..n).map(|i| sums.sum(i) as f32).collect();
        let inverse = |i: usize| sums.inverse_spread(i).map_or(f32::NAN, |v| v as f32);
        let inverse: Vec<f32> = (0..n).map(inverse).collect();
        Ok(DeviceNeuronSums {
            sum: Array::of(self.device, &sum)?,
            inverse: Array::of(self.device, &inverse)?,
        })
    }

    fn room(&self, x: Layout, y: Layout) -> Result<Self::Room> {
        let (device, m, n) = (self.device, x.d_mlp, y.d_mlp);
        Ok(DeviceRoom {
            cross: Array::new(device, m * n)?,
            scaled: HalfMatrix::new(device, m, n, self.form)?,
            zeros: Array::zeros(device, m.max(n))?,
            ones: Array::of(device, &vec![1.0; m])?,
        })
    }

    fn rotate(
        &self,
        plan: &ComparisonPlan,
        (model, layer): (usize, usize),
        y: Side<Self>,
        sums: LayerSums<Self>,
    ) -> Result<Self::Rotated> {
        let (d, neurons) = (y.layout.d_mlp, y.layout.neurons(layer));
        let relative = self.relative_scales(model, neurons.clone());
        let gram = scaled_gram(self.gram(sums.source, y.layout, layer)?, &relative);
        let own = y.sums.layer(neurons, &relative);
        let side = ModelSums { layout: Layout { n_layers: 1, ..y.layout }, sums: &own };
        let baseline = &plan.baseline;
        let draw = |draw| {
            let stream = rotation_stream(baseline.seed, draw, model, layer);
            Rotation::Dense(random_rotation(baseline.kind, stream, d))
        };
        let draws = (0..baseline.draws).map(draw);
        let rotated = RotatedLayer::new(plan.product(), side, 0, &gram, draws);
        let spread = (y.sums.n as f64).sqrt();
        let upload = |(r, inverse): (&Rotation, &[f64])| -> Result<DeviceRotation<D>> {
            let Rotation::Dense(r) = r else { unreachable!("drawn above") };
            let inverse: Vec<f32> = inverse.iter().map(|v| (v * spread) as f32).collect();
            let value = |row: usize, col: usize| r[row * d + col] * relative[col] as f32;
            Ok(DeviceRotation {
                rotation: HalfMatrix::of(self.device, (d, d), self.form, value)?,
                inverse: Array::of(self.device, &inverse)?,
            })
        };
        rotated.draws().map(upload).collect()
    }

    fn judge(
        &self,
        block: &LayerPair<Self>,
        rotated: Option<&Self::Rotated>,
        room: &mut Self::Room,
        pair: &mut PairResult,
    ) -> Result<()> {
        let DeviceRoom { cross, scaled, zeros, ones } = room;
        let (rows, cols) = neurons(block);
        let ((x, _), (y, _)) = (block.x, block.y);
        let sides = (&x.placed.from(rows.start), &y.placed.from(cols.start));
        let tokens = x.sums.n as f64;
        let sums = self.cross(block, cross)?;
        let matches = ops::judge_sums(self.device, &sums, sides, tokens, pair.k)?;
        pair.add_block_matches(rows.clone(), cols.start, &matches);
        if let Some(layers) = pair.pair_of_layers(x.layout, block.x.1, block.y.1) {
            pair.covariances[layers] += self.squared_covariances(&sums, block)?;
        }
        let Some(rotated) = rotated else { return Ok(()) };
        // ρ times the spread of y grows with √tokens; the unit keeps it in the range of f16.
        let scale = (tokens, (1.0 / tokens.sqrt()) as f32);
        ops::scale_sums(self.device, &sums, sides, scale, scaled)?;
        for (draw, rotated) in rotated.iter().enumerate() {
            let rows_of = OperandSums { sum: zeros, inverse: ones, at: 0 };
            let cols_of = OperandSums { sum: zeros, inverse: &rotated.inverse, at: 0 };
            let operands = (&scaled.all(), &rotated.rotation.all(), rotated.rotation.cols);
            let best = ops::correlate(self.device, operands, (&rows_of, &cols_of), 1.0, 1)?.rho;
            raise_to(&mut pair.baseline[draw][rows.clone()], &best);
        }
        Ok(())
    }

    fn judge_surrogate(
        &self,
        block: &LayerPair<Self>,
        room: &mut Self::Room,
        best: &mut [f64],
    ) -> Result<()> {
        let (rows, cols) = neurons(block);
        let ((x, _), (y, _)) = (block.x, block.y);
        let sides = (&x.placed.from(rows.start), &y.placed.from(cols.start));
        let sums = self.cross(block, &mut room.cross)?;
        let matches = ops::judge_sums(self.device, &sums, sides, x.sums.n as f64, 1)?;
        raise_to(best, &matches.rho);
        Ok(())
    }
}

/// Raises each value to `best` where that is larger.
fn raise_to(all: &mut [f64], best: &[f32]) {
    // `max` returns the other operand if one is NaN.
    all.iter_mut().zip(best).for_each(|(all, &best)| *all = all.max(best.into()));
}
