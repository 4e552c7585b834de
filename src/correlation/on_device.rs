//! The comparison on a device. Activations, or sums of their products, stay in device memory; two
//! layers at a time are multiplied and searched for best partners there. Only the best partners
//! come back to the host.

use super::compare::Watch;
use super::pair::PairResult;
use super::plan::ComparisonPlan;
use super::rotation::{RotatedLayer, Rotation, random_rotation, rotation_stream};
use super::sums::{Layout, ModelSums, NeuronSums};
use crate::backend::device::Device;
use crate::backend::device::array::{Array, HalfFormat, HalfMatrix};
use crate::backend::device::ops::{self, ProductTarget, StoredSums};
use crate::error::Result;

/// What the device keeps of the tokens that were read.
#[derive(Debug)]
pub(super) enum DeviceAccumulated<D: Device> {
    /// The activations of all tokens.
    Tokens,
    /// Sums of products. The activations of tokens that are not summed yet are kept too.
    Sums {
        /// Reference, partner, and their `[n_x, n_y]` sums of products.
        cross: Vec<(usize, usize, Array<D, f32>)>,
        /// Gram sums of every partner model, `[layer][d_mlp, d_mlp]`.
        grams: Vec<Option<Array<D, f32>>>,
    },
}

/// A family of models compared on a device.
#[derive(Debug)]
pub struct DeviceCorrelator<'a, D: Device> {
    pub(super) device: &'a D,
    plan: ComparisonPlan,
    form: HalfFormat,
    /// Activations of every model, `[n_neurons, capacity]`, in the format of
    /// `kernels/activation.cu`.
    pub kept: Vec<HalfMatrix<D>>,
    /// Number of tokens in `kept`.
    pub(super) filled: usize,
    pub(super) sums: DeviceAccumulated<D>,
    pub(super) own: Vec<NeuronSums>,
    /// The factor that the activations of each neuron were multiplied by, `[model][neuron]`.
    scales: Vec<Vec<f32>>,
}

/// Σx and 1 / spread of all neurons of a model, in device memory.
struct DeviceNeuronSums<D: Device> {
    sum: Array<D, f32>,
    inverse: Array<D, f32>,
}

impl<D: Device> DeviceNeuronSums<D> {
    fn of(device: &D, sums: &NeuronSums) -> Result<Self> {
        let n = sums.neurons();
        let sum: Vec<f32> = (0..n).map(|i| sums.sum(i) as f32).collect();
        let inverse = |i: usize| sums.inverse_spread(i).map_or(f32::NAN, |v| v as f32);
        let inverse: Vec<f32> = (0..n).map(inverse).collect();
        Ok(Self { sum: Array::of(device, &sum)?, inverse: Array::of(device, &inverse)? })
    }

    fn side(&self, at: usize) -> ops::OperandSums<'_, D> {
        ops::OperandSums { sum: &self.sum, inverse: &self.inverse, at }
    }
}

impl<'a, D: Device> DeviceCorrelator<'a, D> {
    /// Creates a comparison without tokens, with buffers for `capacity` tokens. If `all` is true,
    /// the buffers hold every token of the run and no sums of products are kept.
    ///
    /// # Errors
    ///
    /// Returns an error if the device has too little memory.
    pub fn new(
        device: &'a D,
        plan: ComparisonPlan,
        form: HalfFormat,
        (capacity, all): (usize, bool),
    ) -> Result<Self> {
        let kept =
            plan.models.iter().map(|m| HalfMatrix::new(device, m.n_neurons(), capacity, form));
        let kept = kept.collect::<Result<Vec<_>>>()?;
        let sums =
            if all { DeviceAccumulated::Tokens } else { DeviceAccumulated::sums(device, &plan)? };
        let own = plan.models.iter().map(|m| NeuronSums::around_zero(m.n_neurons())).collect();
        let scales = plan.models.iter().map(|m| vec![1.0; m.n_neurons()]).collect();
        Ok(Self { device, plan, form, kept, filled: 0, sums, own, scales })
    }

    /// Sets the per-neuron scale (a power of two) applied to the activations in `kept`.
    /// Correlations do not depend on the scale; a rotation mixes unscaled activations, so it is
    /// divided out there.
    pub fn set_scales(&mut self, model: usize, scales: Vec<f32>) {
        self.scales[model] = scales;
    }

    /// Returns the column of `kept` where the next tokens start.
    pub fn next(&self) -> usize {
        self.filled
    }

    /// Returns whether `tokens` more tokens fit in the buffers.
    pub fn has_room(&self, tokens: usize) -> bool {
        self.kept.iter().all(|kept| self.filled + tokens <= kept.cols)
    }

    /// Records that `tokens` tokens were written to `kept`, with Σx and Σx² of the neurons of every
    /// model.
    pub fn count(&mut self, tokens: usize, sums: &[[&[f64]; 2]]) {
        self.filled += tokens;
        for (own, [sum, square]) in self.own.iter_mut().zip(sums) {
            own.add(tokens as u64, sum, square);
        }
    }

    /// Returns the sums over the neurons of a model, of the values stored in `kept`.
    pub fn neuron_sums(&self, model: usize) -> &NeuronSums {
        &self.own[model]
    }

    /// Checks that what was read from a file is what a pass holds that has absorbed `held` tokens.
    ///
    /// # Errors
    ///
    /// Returns what does not fit.
    pub fn check(&self, held: u64) -> Result<(), String> {
        if !self.own.iter().all(|own| own.is_of(held)) {
            return Err(format!("its sums over neurons are not of {held} tokens"));
        }
        let all = matches!(self.sums, DeviceAccumulated::Tokens);
        match all && self.filled as u64 != held {
            true => Err(format!("it does not hold {held} tokens")),
            false => Ok(()),
        }
    }

    /// Adds the products of the tokens in `kept` to the sums and empties the buffers. Does nothing
    /// if the buffers hold all tokens.
    ///
    /// # Errors
    ///
    /// Returns an error if a launch fails.
    pub fn flush(&mut self) -> Result<()> {
        let DeviceAccumulated::Sums { cross, grams } = &mut self.sums else { return Ok(()) };
        let (device, k) = (self.device, self.filled);
        for (x, y, sums) in cross {
            let ld = self.plan.models[*y].n_neurons();
            let operands = (&self.kept[*x].all(), &self.kept[*y].all(), k);
            ops::product(
                device,
                operands,
                ProductTarget { values: sums, at: 0, ld, add: true },
                None,
            )?;
        }
        for (model, gram) in grams.iter_mut().enumerate() {
            let Some(gram) = gram else { continue };
            let layout = self.plan.models[model];
            for layer in 0..layout.n_layers {
                let rows = self.kept[model].rows(layout.neurons(layer));
                ops::gram(device, &rows, k, gram, layer * layout.d_mlp * layout.d_mlp)?;
            }
        }
        self.filled = 0;
        Ok(())
    }

    /// Compares every reference model with its partners. Returns `[reference][partner]`.
    ///
    /// # Errors
    ///
    /// Returns an error if the device fails, or the error of `watch` if it asks to stop.
    pub fn compare(&mut self, watch: Watch) -> Result<Vec<Vec<PairResult>>> {
        self.flush()?;
        let own = self.own.iter().map(|own| DeviceNeuronSums::of(self.device, own));
        let own = own.collect::<Result<Vec<_>>>()?;
        let mut found = Vec::new();
        for &x in &self.plan.references {
            let mut pairs = Vec::new();
            for y in self.plan.partners(x) {
                let (n, draws) = (self.plan.models[x].n_neurons(), self.plan.baseline.draws);
                let mut pair = PairResult::new(n, self.plan.top, draws);
                self.compare_two((x, y), &own, &mut pair, watch)?;
                pairs.push(pair);
            }
            found.push(pairs);
        }
        Ok(found)
    }

    fn compare_two(
        &self,
        (x, y): (usize, usize),
        own: &[DeviceNeuronSums<D>],
        pair: &mut PairResult,
        watch: Watch,
    ) -> Result<()> {
        let (of_x, of_y) = (self.plan.models[x], self.plan.models[y]);
        let (m, n) = (of_x.d_mlp, of_y.d_mlp);
        let mut room = ComparisonBuffers::new(self.device, (m, n), self.form)?;
        for y_layer in 0..of_y.n_layers {
            let chance = self.chance(y, y_layer)?;
            for x_layer in 0..of_x.n_layers {
                let (rows, cols) = (of_x.neurons(x_layer), of_y.neurons(y_layer));
                let sides = (&own[x].side(rows.start), &own[y].side(cols.start));
                let tokens = self.own[x].n as f64;
                let ComparisonBuffers { cross, scaled, .. } = &mut room;
                let sums = self.sums((x, rows.clone()), (y, cols.clone()), cross)?;
                let matches = ops::judge_sums(self.device, &sums, sides, tokens, self.plan.top)?;
                pair.add_block_matches(rows.clone(), cols.start, &matches);
                // ρ times the spread of y grows with √tokens; the unit keeps it in the range of
                // f16.
                let scale = (tokens, (1.0 / tokens.sqrt()) as f32);
                ops::scale_sums(self.device, &sums, sides, scale, scaled)?;
                for (draw, chance) in chance.iter().enumerate() {
                    let best = room.rotated(self.device, chance)?;
                    pair.raise_baseline(draw, rows.clone(), &best);
                }
                watch()?;
            }
        }
        Ok(())
    }

    /// Returns the sums of products of some neurons of x with some of y: the stored ones, or, if
    /// activations are kept, their product written to `room`.
    fn sums<'s>(
        &'s self,
        (x, rows): (usize, std::ops::Range<usize>),
        (y, cols): (usize, std::ops::Range<usize>),
        room: &'s mut Array<D, f32>,
    ) -> Result<StoredSums<'s, D>> {
        let shape = (rows.len(), cols.len());
        if let DeviceAccumulated::Sums { cross, .. } = &self.sums {
            let ld = self.plan.models[y].n_neurons();
            let at = rows.start * ld + cols.start;
            let (_, _, values) = cross
                .iter()
                .find(|(a, b, _)| (*a, *b) == (x, y))
                .unwrap_or_else(|| unreachable!("sums of every direction"));
            return Ok(StoredSums { values, at, ld, shape });
        }
        let operands = (&self.kept[x].rows(rows), &self.kept[y].rows(cols), self.filled);
        let ld = shape.1;
        let into = ProductTarget { values: &mut *room, at: 0, ld, add: false };
        ops::product(self.device, operands, into, None)?;
        Ok(StoredSums { values: room, at: 0, ld, shape })
    }

    /// Returns the rotated neurons of a layer of a partner, one entry per draw.
    fn chance(&self, y: usize, layer: usize) -> Result<Vec<DeviceRotation<D>>> {
        let (device, layout) = (self.device, self.plan.models[y]);
        let d = layout.d_mlp;
        let gram = match &self.sums {
            DeviceAccumulated::Sums { grams, .. } => match &grams[y] {
                Some(grams) => grams.read(device, layer * d * d..(layer + 1) * d * d)?,
                None => unreachable!("Gram sums of every partner"),
            },
            DeviceAccumulated::Tokens => {
                let mut gram = Array::zeros(device, d * d)?;
                let rows = self.kept[y].rows(layout.neurons(layer));
                ops::gram(device, &rows, self.filled, &mut gram, 0)?;
                gram.to_vec(device)?
            }
        };
        let relative = self.relative_scales(y, layer);
        let gram: Vec<f64> = gram
            .into_iter()
            .enumerate()
            .map(|(i, v)| f64::from(v) * relative[i / d] * relative[i % d])
            .collect();
        let own = self.own[y].layer(layout.neurons(layer), &relative);
        let baseline = &self.plan.baseline;
        let one = |draw| {
            let stream = rotation_stream(baseline.seed, draw, y, layer);
            Rotation::Dense(random_rotation(baseline.kind, stream, d))
        };
        let side = ModelSums { layout: Layout { n_layers: 1, ..layout }, sums: &own };
        let rotations = (0..baseline.draws).map(one);
        let chance = RotatedLayer::new(self.plan.product(), side, 0, &gram, rotations);
        let spread = (self.own[y].n as f64).sqrt();
        let upload = |(r, inverse): (&Rotation, &[f64])| -> Result<DeviceRotation<D>> {
            let Rotation::Dense(r) = r else { unreachable!("drawn above") };
            let inverse: Vec<f32> = inverse.iter().map(|v| (v * spread) as f32).collect();
            Ok(DeviceRotation {
                rotation: HalfMatrix::of(device, (d, d), self.form, |row, col| {
                    r[row * d + col] * relative[col] as f32
                })?,
                inverse: Array::of(device, &inverse)?,
            })
        };
        chance.draws().map(upload).collect()
    }

    /// Returns the factors (at most 1) that bring all neurons of a layer to one common scale.
    fn relative_scales(&self, model: usize, layer: usize) -> Vec<f64> {
        let scales = &self.scales[model][self.plan.models[model].neurons(layer)];
        let least = scales.iter().copied().fold(f32::INFINITY, f32::min);
        scales.iter().map(|&scale| f64::from(least / scale)).collect()
    }
}

impl<D: Device> DeviceAccumulated<D> {
    fn sums(device: &D, plan: &ComparisonPlan) -> Result<Self> {
        let n = |model: usize| plan.models[model].n_neurons();
        let cross = |(x, y): (usize, usize)| Ok((x, y, Array::zeros(device, n(x) * n(y))?));
        let cross = plan.directed_pairs().map(cross).collect::<Result<_>>()?;
        let gram = |model: usize| -> Result<Option<Array<D, f32>>> {
            let needed = plan.partner_models().contains(&model);
            let len = n(model) * plan.models[model].d_mlp;
            needed.then(|| Array::zeros(device, len)).transpose()
        };
        let grams = (0..plan.models.len()).map(gram).collect::<Result<_>>()?;
        Ok(Self::Sums { cross, grams })
    }
}

/// A rotation, and 1 / spread of each rotated neuron, multiplied by √tokens.
struct DeviceRotation<D: Device> {
    rotation: HalfMatrix<D>,
    inverse: Array<D, f32>,
}

/// Device buffers reused for every pair of layers.
struct ComparisonBuffers<D: Device> {
    cross: Array<D, f32>,
    scaled: HalfMatrix<D>,
    zeros: Array<D, f32>,
    ones: Array<D, f32>,
}

impl<D: Device> ComparisonBuffers<D> {
    fn new(device: &D, (m, n): (usize, usize), form: HalfFormat) -> Result<Self> {
        Ok(Self {
            cross: Array::new(device, m * n)?,
            scaled: HalfMatrix::new(device, m, n, form)?,
            zeros: Array::zeros(device, m.max(n))?,
            ones: Array::of(device, &vec![1.0; m])?,
        })
    }

    /// Returns the best correlation of each row of `scaled` with the rotated neurons.
    fn rotated(&self, device: &D, chance: &DeviceRotation<D>) -> Result<Vec<f32>> {
        let rows = ops::OperandSums { sum: &self.zeros, inverse: &self.ones, at: 0 };
        let cols = ops::OperandSums { sum: &self.zeros, inverse: &chance.inverse, at: 0 };
        let operands = (&self.scaled.all(), &chance.rotation.all(), chance.rotation.cols);
        Ok(ops::correlate(device, operands, (&rows, &cols), 1.0, 1)?.rho)
    }
}
