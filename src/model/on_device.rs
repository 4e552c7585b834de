//! The forward pass of GPT-2 on a device. Weights are copied once, token ids for every batch;
//! activations stay on the device.

use super::Transformer;
use super::weights::{Linear, Norm};
use crate::backend::device::Device;
use crate::backend::device::array::{Array, HalfFormat, HalfMatrix};
use crate::backend::device::ops::{
    self, ACTIVATION_CHUNK, ACTIVATION_SUMS, ActivationBatch, Gelu, ProductTarget, Sequences,
};
use crate::error::Result;

/// Gain and bias of a LayerNorm, in device memory.
#[derive(Debug)]
struct DeviceNorm<D: Device> {
    gain: Array<D, f32>,
    bias: Array<D, f32>,
}

impl<D: Device> DeviceNorm<D> {
    fn of(device: &D, norm: &Norm) -> Result<Self> {
        Ok(Self { gain: Array::of(device, &norm.gain)?, bias: Array::of(device, &norm.bias)? })
    }
}

/// Wᵀ `[d_out, d_in]`, so that products run along the rows of both operands, and the bias
/// `[d_out]`.
#[derive(Debug)]
struct DeviceLinear<D: Device> {
    weight: HalfMatrix<D>,
    bias: Array<D, f32>,
}

impl<D: Device> DeviceLinear<D> {
    fn of(device: &D, linear: &Linear, form: HalfFormat) -> Result<Self> {
        let d_out = linear.bias.len();
        let shape = (d_out, linear.weight.len() / d_out);
        let value = |row: usize, col: usize| linear.weight[col * d_out + row];
        let weight = HalfMatrix::of(device, shape, form, value)?;
        Ok(Self { weight, bias: Array::of(device, &linear.bias)? })
    }
}

#[derive(Debug)]
struct DeviceBlock<D: Device> {
    ln_1: DeviceNorm<D>,
    qkv: DeviceLinear<D>,
    attn_out: DeviceLinear<D>,
    ln_2: DeviceNorm<D>,
    mlp_in: DeviceLinear<D>,
    mlp_out: DeviceLinear<D>,
}

/// A GPT-2 with its weights in device memory.
#[derive(Debug)]
pub struct DeviceGpt2<D: Device> {
    config: super::Config,
    form: HalfFormat,
    embed: Array<D, f32>,
    pos_embed: Array<D, f32>,
    blocks: Vec<DeviceBlock<D>>,
    /// `[layer][d_mlp][4]`: bias, centre of the moments, pilot, scale.
    neurons: Vec<Array<D, f32>>,
}

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

/// What to capture of the neurons of a batch.
#[derive(Debug)]
pub struct DeviceCapture<'a, D: Device> {
    /// Whether each token is kept.
    pub keep: &'a [bool],
    /// Receives the post-activations, `[n_neurons, …]`: that of the `i`th kept token, shifted and
    /// scaled by the pilots, becomes column `first + i`.
    pub kept: &'a mut HalfMatrix<D>,
    /// Column of the first kept token.
    pub first: usize,
    /// Pre-activations above this value are counted.
    pub edge: f32,
    /// Post-activations below this value are counted.
    pub low: f32,
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

impl<D: Device> DeviceGpt2<D> {
    /// Copies the weights to the device.
    ///
    /// # Errors
    ///
    /// Returns an error if the device has too little memory.
    pub fn of(device: &D, model: &Transformer, form: HalfFormat) -> Result<Self> {
        let block = |block: &super::weights::Block| -> Result<DeviceBlock<D>> {
            Ok(DeviceBlock {
                ln_1: DeviceNorm::of(device, &block.ln_1)?,
                qkv: DeviceLinear::of(device, &block.qkv, form)?,
                attn_out: DeviceLinear::of(device, &block.attn_out, form)?,
                ln_2: DeviceNorm::of(device, &block.ln_2)?,
                mlp_in: DeviceLinear::of(device, &block.mlp_in, form)?,
                mlp_out: DeviceLinear::of(device, &block.mlp_out, form)?,
            })
        };
        let blocks = model.weights.blocks.iter().map(block).collect::<Result<_>>()?;
        let mut on_device = Self {
            config: model.config.clone(),
            form,
            embed: Array::of(device, &model.weights.embed)?,
            pos_embed: Array::of(device, &model.weights.pos_embed)?,
            blocks,
            neurons: Vec::new(),
        };
        let n_neurons = model.config.n_layers * model.config.d_mlp();
        on_device.set_pilots(device, model, &vec![NeuronPilot::NONE; n_neurons])?;
        Ok(on_device)
    }

    /// Sets the pilots of all neurons, as indices over all layers.
    ///
    /// # Errors
    ///
    /// Returns an error if the device fails.
    pub fn set_pilots(
        &mut self,
        device: &D,
        model: &Transformer,
        pilots: &[NeuronPilot],
    ) -> Result<()> {
        let d_mlp = self.config.d_mlp();
        let layers = model.weights.blocks.iter().zip(pilots.chunks_exact(d_mlp));
        let of = |(bias, p): (&f32, &NeuronPilot)| [*bias, p.pre, p.post, p.scale];
        let array = |(block, pilots): (&super::weights::Block, &[NeuronPilot])| {
            let values: Vec<f32> = block.mlp_in.bias.iter().zip(pilots).flat_map(of).collect();
            Array::of(device, &values)
        };
        self.neurons = layers.map(array).collect::<Result<_>>()?;
        Ok(())
    }

    /// Runs rows of token ids through all blocks. Returns the sums over kept tokens, and the
    /// residual stream after the last block, `[tokens, d_model]`.
    ///
    /// # Errors
    ///
    /// Returns an error if the device fails.
    ///
    /// # Panics
    ///
    /// Panics if `capture.keep` does not have one value per token, or `capture.kept` has too few
    /// columns.
    pub fn forward(
        &self,
        device: &D,
        rows: &[&[u32]],
        capture: DeviceCapture<D>,
    ) -> Result<(BatchSums, Array<D, f32>)> {
        let DeviceCapture { keep, kept, first, edge, low } = capture;
        let (d, d_mlp) = (self.config.d_model, self.config.d_mlp());
        let sequences = sequences(device, rows)?;
        let tokens = sequences.tokens;
        assert_eq!(keep.len(), tokens, "what is kept of every token");
        let count = keep.iter().filter(|&&k| k).count();
        assert!(first + count <= kept.cols, "{count} tokens from column {first} on");
        let slot = Array::of(device, &slots(keep, first))?;
        let mut resid = self.embed(device, rows, tokens)?;
        let mut room = ForwardBuffers::new(device, tokens, (d, d_mlp), self.form)?;
        let mut sums = vec![Vec::new(); ACTIVATION_SUMS];
        for (layer, block) in self.blocks.iter().enumerate() {
            self.attention(device, (block, layer), &sequences, &mut resid, &mut room)?;
            self.pre_activations(device, block, &resid, tokens, &mut room)?;
            let batch = ActivationBatch {
                tokens,
                width: d_mlp,
                neurons: &self.neurons[layer],
                slot: &slot,
                gelu: Gelu::Tanh,
                edge,
                low,
            };
            let ForwardBuffers { wide, next, partial, .. } = &mut room;
            ops::activation(device, wide, &batch, next, (kept, layer * d_mlp), partial)?;
            add_linear(device, (next, tokens, d_mlp), &block.mlp_out, &mut resid)?;
            gather(&partial.to_vec(device)?, d_mlp, &mut sums);
        }
        Ok((BatchSums { tokens: count, sums }, resid))
    }

    fn embed(&self, device: &D, rows: &[&[u32]], tokens: usize) -> Result<Array<D, f32>> {
        let ids: Vec<u32> = rows.iter().flat_map(|row| row.iter().copied()).collect();
        let positions: Vec<u32> = rows.iter().flat_map(|row| 0..row.len() as u32).collect();
        let inside = ids.iter().all(|&id| (id as usize) < self.config.d_vocab);
        assert!(inside, "an id outside of the vocabulary");
        let at = (&Array::of(device, &ids)?, &Array::of(device, &positions)?);
        let d = self.config.d_model;
        let mut resid = Array::new(device, tokens * d)?;
        ops::embed(device, (&self.embed, &self.pos_embed), at, d, &mut resid)?;
        Ok(resid)
    }

    /// Computes `resid += Attn(LN1(resid))`.
    fn attention(
        &self,
        device: &D,
        (block, layer): (&DeviceBlock<D>, usize),
        sequences: &Sequences<D>,
        resid: &mut Array<D, f32>,
        room: &mut ForwardBuffers<D>,
    ) -> Result<()> {
        let (d, tokens) = (self.config.d_model, sequences.tokens);
        let ForwardBuffers { normed, wide, .. } = room;
        self.norm(device, &block.ln_1, resid, tokens, normed)?;
        let operands = (&normed.rows(0..tokens), &block.qkv.weight.all(), d);
        let into = ProductTarget { values: wide, at: 0, ld: 3 * d, add: false };
        ops::product(device, operands, into, Some(&block.qkv.bias))?;
        let head = (d, self.config.d_head(), self.config.attention_scale(layer));
        ops::attention(device, wide, sequences, head, normed)?;
        add_linear(device, (normed, tokens, d), &block.attn_out, resid)
    }

    /// Computes LN2(resid) W_in. The bias is added by the activation kernel.
    fn pre_activations(
        &self,
        device: &D,
        block: &DeviceBlock<D>,
        resid: &Array<D, f32>,
        tokens: usize,
        room: &mut ForwardBuffers<D>,
    ) -> Result<()> {
        let ForwardBuffers { normed, wide, .. } = room;
        self.norm(device, &block.ln_2, resid, tokens, normed)?;
        let (d, d_mlp) = (self.config.d_model, self.config.d_mlp());
        let operands = (&normed.rows(0..tokens), &block.mlp_in.weight.all(), d);
        let into = ProductTarget { values: wide, at: 0, ld: d_mlp, add: false };
        ops::product(device, operands, into, None)
    }

    fn norm(
        &self,
        device: &D,
        norm: &DeviceNorm<D>,
        x: &Array<D, f32>,
        tokens: usize,
        out: &mut HalfMatrix<D>,
    ) -> Result<()> {
        let by = (&norm.gain, &norm.bias, self.config.layer_norm_eps);
        ops::layer_norm(device, (x, tokens), by, out)
    }
}

/// Device buffers that the blocks of a batch share.
struct ForwardBuffers<D: Device> {
    /// `[tokens, d_model]`
    normed: HalfMatrix<D>,
    /// `[tokens, 3 d_model]` or `[tokens, d_mlp]`
    wide: Array<D, f32>,
    /// `[tokens, d_mlp]`
    next: HalfMatrix<D>,
    /// `[chunks][ACTIVATION_SUMS][d_mlp]`
    partial: Array<D, f32>,
}

impl<D: Device> ForwardBuffers<D> {
    fn new(
        device: &D,
        tokens: usize,
        (d, d_mlp): (usize, usize),
        form: HalfFormat,
    ) -> Result<Self> {
        let chunks = tokens.div_ceil(ACTIVATION_CHUNK);
        Ok(Self {
            normed: HalfMatrix::new(device, tokens, d, form)?,
            wide: Array::new(device, tokens * d_mlp.max(3 * d))?,
            next: HalfMatrix::new(device, tokens, d_mlp, form)?,
            partial: Array::new(device, chunks * ACTIVATION_SUMS * d_mlp)?,
        })
    }
}

/// Computes `out += x W + b` for the first `tokens` rows of x.
fn add_linear<D: Device>(
    device: &D,
    (x, tokens, d_in): (&HalfMatrix<D>, usize, usize),
    layer: &DeviceLinear<D>,
    out: &mut Array<D, f32>,
) -> Result<()> {
    let ld = layer.weight.rows;
    let operands = (&x.rows(0..tokens), &layer.weight.all(), d_in);
    ops::product(
        device,
        operands,
        ProductTarget { values: out, at: 0, ld, add: true },
        Some(&layer.bias),
    )
}

fn sequences<D: Device>(device: &D, rows: &[&[u32]]) -> Result<Sequences<D>> {
    let length: Vec<u32> = rows.iter().map(|row| row.len() as u32).collect();
    let mut tokens = 0;
    let begin = |length: &u32| {
        tokens += length;
        tokens - length
    };
    let start: Vec<u32> = length.iter().map(begin).collect();
    Ok(Sequences {
        start: Array::of(device, &start)?,
        longest: length.iter().copied().max().unwrap_or(0) as usize,
        length: Array::of(device, &length)?,
        tokens: tokens as usize,
    })
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
fn gather(partial: &[f32], d_mlp: usize, sums: &mut [Vec<f64>]) {
    for (q, sums) in sums.iter_mut().enumerate() {
        let first = sums.len();
        sums.resize(first + d_mlp, 0.0);
        for chunk in partial.chunks_exact(ACTIVATION_SUMS * d_mlp) {
            let values = &chunk[q * d_mlp..(q + 1) * d_mlp];
            sums[first..].iter_mut().zip(values).for_each(|(s, &v)| *s += f64::from(v));
        }
    }
}
