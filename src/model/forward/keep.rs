//! Keeps the activations of a study on a device, and sums them, in one pass with the activation
//! function.

use super::super::hook_point::HookPoint;
use super::super::{Activation, Config};
use super::gpu::{Gpu, GpuValues};
use super::tap::Tap;
use crate::backend::device::Device;
use crate::backend::device::array::{Array, HalfMatrix};
use crate::backend::device::ops::{self, ACTIVATION_CHUNK, ACTIVATION_SUMS, ActivationBatch, Gelu};
use crate::error::Result;

/// The shift and scale applied to the stored activations of a neuron. They change no correlation
/// and no moment, but preserve precision for a large mean or a small spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NeuronPilot {
    /// Mean of the pre-activation, around which moments are taken.
    pub pre: f32,
    /// Mean of the post-activation, which is subtracted.
    pub post: f32,
    /// Power of two by which the difference is multiplied.
    pub scale: f32,
}

impl NeuronPilot {
    /// No shift, and a scale of 1.
    pub const NONE: Self = Self { pre: 0.0, post: 0.0, scale: 1.0 };
}

/// The pilots of all neurons of a model, in device memory: `[layer][d_mlp][4]`, a bias of 0 and the
/// members of [`NeuronPilot`].
#[derive(Debug)]
pub struct NeuronPilots<D: Device>(Vec<Array<D, f32>>);

impl<D: Device> NeuronPilots<D> {
    /// Copies the pilots of neurons, as indices over all layers, to the device.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn of(device: &D, config: &Config, pilots: &[NeuronPilot]) -> Result<Self> {
        let layer = |pilots: &[NeuronPilot]| {
            let of = |p: &NeuronPilot| [0.0, p.pre, p.post, p.scale];
            Array::of(device, &pilots.iter().flat_map(of).collect::<Vec<f32>>())
        };
        pilots.chunks_exact(config.d_mlp()).map(layer).collect::<Result<_>>().map(Self)
    }
}

/// Sums over the kept tokens of a batch, for one model.
#[derive(Debug, Clone)]
pub struct BatchSums {
    /// Number of kept tokens.
    pub tokens: usize,
    /// `[ACTIVATION_SUMS][n_neurons]`, in the order given in `kernels/activation.cu`.
    pub sums: Vec<Vec<f64>>,
}

impl BatchSums {
    /// Adds the sums over other tokens.
    pub fn add(&mut self, other: &Self) {
        self.tokens += other.tokens;
        for (all, other) in self.sums.iter_mut().zip(&other.sums) {
            all.iter_mut().zip(other).for_each(|(all, v)| *all += v);
        }
    }
}

/// Applies the activation function to a batch, keeps the post-activations of some tokens, and sums
/// both.
pub struct KeepNeurons<'a, D: Device> {
    activation: Activation,
    pilots: &'a NeuronPilots<D>,
    /// Column of each kept token, and −1 for the other tokens.
    slot: Array<D, i32>,
    /// `[n_neurons, …]`.
    kept: &'a mut HalfMatrix<D>,
    /// Counts of pre-activations by bin, `[n_neurons, HISTOGRAM_BINS]`, if they are wanted.
    bins: Option<&'a mut Array<D, u32>>,
    edge: f32,
    low: f32,
    /// `[chunks][ACTIVATION_SUMS][d_mlp]` of a layer.
    partial: Array<D, f32>,
    sums: BatchSums,
}

impl<'a, D: Device> KeepNeurons<'a, D> {
    /// Prepares to keep the tokens of a batch that `keep` marks. The post-activation of the `i`th
    /// of them, shifted and scaled by the pilots, becomes column `first + i` of `kept`,
    /// `[n_neurons, …]`. Pre-activations above `edge` and post-activations below `low` are
    /// counted.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    ///
    /// # Panics
    /// Panics if `kept` has too few columns.
    pub fn new(
        device: &D,
        config: &Config,
        keep: &[bool],
        (kept, first): (&'a mut HalfMatrix<D>, usize),
        pilots: &'a NeuronPilots<D>,
        (edge, low): (f32, f32),
    ) -> Result<Self> {
        let tokens = keep.iter().filter(|&&k| k).count();
        assert!(first + tokens <= kept.cols, "{tokens} tokens from column {first} on");
        let chunks = keep.len().div_ceil(ACTIVATION_CHUNK);
        Ok(Self {
            activation: config.activation,
            pilots,
            slot: Array::of(device, &slots(keep, first))?,
            kept,
            bins: None,
            edge,
            low,
            partial: Array::new(device, chunks * ACTIVATION_SUMS * config.d_mlp())?,
            sums: BatchSums { tokens, sums: vec![Vec::new(); ACTIVATION_SUMS] },
        })
    }

    /// Counts the pre-activations of kept tokens in `bins`, `[n_neurons, HISTOGRAM_BINS]`, too.
    #[must_use]
    pub fn counting(self, bins: Option<&'a mut Array<D, u32>>) -> Self {
        Self { bins, ..self }
    }

    /// Returns the sums over the kept tokens.
    pub fn finish(self) -> BatchSums {
        self.sums
    }
}

impl<'d, D: Device> Tap<Gpu<'d, D>> for KeepNeurons<'_, D> {
    fn residual(&mut self, _: &Gpu<'d, D>, _: HookPoint, _: &mut GpuValues<D>) -> Result<()> {
        Ok(())
    }

    fn neurons(
        &mut self,
        gpu: &Gpu<'d, D>,
        layer: usize,
        pre: &mut GpuValues<D>,
        post: &mut HalfMatrix<D>,
    ) -> Result<()> {
        let (tokens, width) = (post.rows, post.cols);
        let batch = ActivationBatch {
            tokens,
            width,
            neurons: &self.pilots.0[layer],
            slot: &self.slot,
            gelu: self.activation.into(),
            edge: self.edge,
            low: self.low,
        };
        if let Some(bins) = &mut self.bins {
            let bins = (&mut **bins, layer * width);
            ops::histogram(gpu.device, &pre.array, (tokens, width), &self.slot, bins)?;
        }
        let kept = (&mut *self.kept, layer * width);
        ops::activation(gpu.device, &pre.array, &batch, post, kept, &mut self.partial)?;
        add_chunks(&self.partial.to_vec(gpu.device)?, width, &mut self.sums.sums);
        Ok(())
    }
}

impl From<Activation> for Gelu {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::GeluNew => Self::Tanh,
            Activation::Gelu => Self::Erf,
        }
    }
}

/// Returns the column of each kept token, and −1 for the other tokens.
fn slots(keep: &[bool], first: usize) -> Vec<i32> {
    let mut next = first as i32;
    let slot = |&keep: &bool| {
        next += i32::from(keep);
        if keep { next - 1 } else { -1 }
    };
    keep.iter().map(slot).collect()
}

/// Sums the chunks of a layer, in order, and appends them to the sums of earlier layers.
fn add_chunks(partial: &[f32], d_mlp: usize, sums: &mut [Vec<f64>]) {
    for (q, sums) in sums.iter_mut().enumerate() {
        let first = sums.len();
        sums.resize(first + d_mlp, 0.0);
        for chunk in partial.chunks_exact(ACTIVATION_SUMS * d_mlp) {
            let values = &chunk[q * d_mlp..(q + 1) * d_mlp];
            sums[first..].iter_mut().zip(values).for_each(|(s, &v)| *s += f64::from(v));
        }
    }
}
