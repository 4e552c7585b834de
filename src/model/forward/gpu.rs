//! The operations of the forward pass on a device.

use super::super::change::{Changes, Intervention};
use super::super::rotary::RotaryAngles;
use super::super::weights::{Block, Linear, Norm, Weights};
use super::super::{Activation, Config};
use super::backend::{Backend, HeadShape};
use crate::backend::device::Device;
use crate::backend::device::array::{Array, HalfFormat, HalfMatrix};
use crate::backend::device::ops::{
    self, ACTIVATION_CHUNK, ACTIVATION_SUMS, ActivationBatch, PlacedChange, ProductTarget,
    Sequences,
};
use crate::error::{Error, Result};

/// A device, and the format of the factors of its products.
#[derive(Debug)]
pub struct Gpu<'d, D: Device> {
    /// The device.
    pub device: &'d D,
    /// The format of factors.
    pub form: HalfFormat,
}

/// Gain and bias of a LayerNorm, in device memory.
#[derive(Debug)]
pub struct GpuNorm<D: Device> {
    gain: Array<D, f32>,
    bias: Array<D, f32>,
}

/// Wᵀ `[d_out, d_in]`, so that products run along the rows of both operands, and the bias
/// `[d_out]`.
#[derive(Debug)]
pub struct GpuLinear<D: Device> {
    weight: HalfMatrix<D>,
    bias: Array<D, f32>,
}

/// Embeddings in device memory.
#[derive(Debug)]
pub struct GpuEmbeddings<D: Device> {
    /// W_E, `[d_vocab, d_model]`.
    embed: Array<D, f32>,
    /// W_pos, `[n_ctx, d_model]`; a row of zeros if positions are rotary.
    pos_embed: Array<D, f32>,
}

/// Values in device memory. The array may be longer than what is in use.
#[derive(Debug)]
pub struct GpuValues<D: Device> {
    pub(super) array: Array<D, f32>,
    len: usize,
}

impl<D: Device> GpuValues<D> {
    /// Copies the values to the host.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn to_vec(&self, device: &D) -> Result<Vec<f32>> {
        self.array.read(device, 0..self.len)
    }
}

/// The rows of a batch, in device memory.
pub struct GpuRows<D: Device> {
    ids: Array<D, u32>,
    /// Position of each token in its row.
    positions: Array<D, u32>,
    sequences: Sequences<D>,
    /// Number of rotated pairs of dimensions, and `[position][pair]`: cosine and sine.
    turns: Option<(usize, Array<D, f32>)>,
}

impl<D: Device> Gpu<'_, D> {
    /// Copies a LayerNorm to the device.
    pub(super) fn place_norm(&self, norm: &Norm) -> Result<GpuNorm<D>> {
        let of = |values: &[f32]| Array::of(self.device, values);
        Ok(GpuNorm { gain: of(&norm.gain)?, bias: of(&norm.bias)? })
    }

    fn place_linear(&self, linear: &Linear) -> Result<GpuLinear<D>> {
        let d_out = linear.bias.len();
        let shape = (d_out, linear.weight.len() / d_out);
        let value = |row: usize, col: usize| linear.weight[col * d_out + row];
        let weight = HalfMatrix::of(self.device, shape, self.form, value)?;
        Ok(GpuLinear { weight, bias: Array::of(self.device, &linear.bias)? })
    }

    /// Copies the layers of a block to the device.
    pub(super) fn place_block(&self, block: &Block) -> Result<Block<GpuLinear<D>, GpuNorm<D>>> {
        Ok(Block {
            ln_1: self.place_norm(&block.ln_1)?,
            qkv: self.place_linear(&block.qkv)?,
            attn_out: self.place_linear(&block.attn_out)?,
            ln_2: self.place_norm(&block.ln_2)?,
            mlp_in: self.place_linear(&block.mlp_in)?,
            mlp_out: self.place_linear(&block.mlp_out)?,
        })
    }

    /// Copies the embeddings to the device.
    pub(super) fn place_embeddings(
        &self,
        config: &Config,
        weights: &Weights,
    ) -> Result<GpuEmbeddings<D>> {
        let pos_embed = match config.rotary {
            Some(_) => Array::zeros(self.device, config.d_model)?,
            None => Array::of(self.device, &weights.pos_embed)?,
        };
        Ok(GpuEmbeddings { embed: Array::of(self.device, &weights.embed)?, pos_embed })
    }

    /// Copies the unembedding to the device, as a linear layer.
    pub(super) fn place_unembedding(
        &self,
        config: &Config,
        weights: &Weights,
    ) -> Result<GpuLinear<D>> {
        let Config { d_model, d_vocab, .. } = *config;
        let unembedding = weights.unembedding();
        let value = |row: usize, col: usize| unembedding[row * d_model + col];
        let weight = HalfMatrix::of(self.device, (d_vocab, d_model), self.form, value)?;
        let bias = match &weights.unembed {
            Some(unembed) => Array::of(self.device, &unembed.bias)?,
            None => Array::zeros(self.device, d_vocab)?,
        };
        Ok(GpuLinear { weight, bias })
    }

    /// Copies values to the device.
    pub(super) fn place_values(&self, values: &[f32]) -> Result<GpuValues<D>> {
        Ok(GpuValues { array: Array::of(self.device, values)?, len: values.len() })
    }

    fn place_change(
        &self,
        intervention: &Intervention,
        tokens: Option<&[bool]>,
    ) -> Result<PlacedChange<D>> {
        PlacedChange::of(self.device, &intervention.columns, &intervention.rules(), tokens)
    }

    fn multiply(
        &self,
        x: &HalfMatrix<D>,
        layer: &GpuLinear<D>,
        out: &mut GpuValues<D>,
        add: bool,
    ) -> Result<()> {
        let d_out = layer.weight.rows;
        let operands = (&x.all(), &layer.weight.all(), x.cols);
        out.len = x.rows * d_out;
        let into = ProductTarget { values: &mut out.array, at: 0, ld: d_out, add };
        ops::product(self.device, operands, into, Some(&layer.bias))
    }
}

impl<D: Device> Backend for Gpu<'_, D> {
    type Error = Error;
    type Values = GpuValues<D>;
    type Factor = HalfMatrix<D>;
    type Norm = GpuNorm<D>;
    type Linear = GpuLinear<D>;
    type Embeddings = GpuEmbeddings<D>;
    type Rows = GpuRows<D>;

    fn rows(&self, config: &Config, rows: &[&[u32]]) -> Result<GpuRows<D>> {
        let ids: Vec<u32> = rows.iter().flat_map(|row| row.iter().copied()).collect();
        let positions: Vec<u32> = rows.iter().flat_map(|row| 0..row.len() as u32).collect();
        let sequences = sequences(self.device, rows)?;
        let turns = config.rotary.map(|rotary| {
            let turns = RotaryAngles::new(rotary, sequences.longest).turns();
            Ok::<_, Error>((rotary.dims / 2, Array::of(self.device, &turns)?))
        });
        Ok(GpuRows {
            ids: Array::of(self.device, &ids)?,
            positions: Array::of(self.device, &positions)?,
            sequences,
            turns: turns.transpose()?,
        })
    }

    fn values(&self, len: usize) -> Result<GpuValues<D>> {
        Ok(GpuValues { array: Array::new(self.device, len)?, len })
    }

    fn factor(&self, tokens: usize, width: usize) -> Result<HalfMatrix<D>> {
        HalfMatrix::new(self.device, tokens, width, self.form)
    }

    fn embed(
        &self,
        embeddings: &GpuEmbeddings<D>,
        rows: &GpuRows<D>,
        d_model: usize,
    ) -> Result<GpuValues<D>> {
        let mut resid = self.values(rows.ids.len() * d_model)?;
        let tables = (&embeddings.embed, &embeddings.pos_embed);
        let zeros = match rows.turns {
            Some(_) => Some(Array::zeros(self.device, rows.ids.len())?),
            None => None,
        };
        let at = (&rows.ids, zeros.as_ref().unwrap_or(&rows.positions));
        ops::embed(self.device, tables, at, d_model, &mut resid.array)?;
        Ok(resid)
    }

    fn norm(
        &self,
        x: &GpuValues<D>,
        norm: &GpuNorm<D>,
        eps: f32,
        out: &mut HalfMatrix<D>,
    ) -> Result<()> {
        let by = (&norm.gain, &norm.bias, eps);
        ops::layer_norm(self.device, (&x.array, out.rows), by, out)
    }

    fn linear(
        &self,
        x: &HalfMatrix<D>,
        layer: &GpuLinear<D>,
        out: &mut GpuValues<D>,
    ) -> Result<()> {
        self.multiply(x, layer, out, false)
    }

    fn add_linear(
        &self,
        x: &HalfMatrix<D>,
        layer: &GpuLinear<D>,
        out: &mut GpuValues<D>,
    ) -> Result<()> {
        self.multiply(x, layer, out, true)
    }

    fn attention(
        &self,
        qkv: &mut GpuValues<D>,
        rows: &GpuRows<D>,
        heads: HeadShape,
        out: &mut HalfMatrix<D>,
    ) -> Result<()> {
        let HeadShape { d_model, d_head, scale } = heads;
        if let Some((pairs, turns)) = &rows.turns {
            let by = (turns, *pairs);
            ops::rotate(self.device, &mut qkv.array, &rows.positions, by, (d_model, d_head))?;
        }
        ops::attention(self.device, &qkv.array, &rows.sequences, (d_model, d_head, scale), out)
    }

    fn activate(
        &self,
        function: Activation,
        pre: &mut GpuValues<D>,
        post: &mut HalfMatrix<D>,
    ) -> Result<()> {
        let (tokens, width) = (post.rows, post.cols);
        let device = self.device;
        // Neither bias nor kept activations: the pre-activations are complete.
        let neurons = Array::of(device, &[0.0, 0.0, 0.0, 1.0].repeat(width))?;
        let slot = Array::of(device, &vec![-1; tokens])?;
        let mut kept = HalfMatrix::new(device, width, 8, self.form)?;
        let chunks = tokens.div_ceil(ACTIVATION_CHUNK);
        let mut sums = Array::new(device, chunks * ACTIVATION_SUMS * width)?;
        let batch = ActivationBatch {
            tokens,
            width,
            neurons: &neurons,
            slot: &slot,
            gelu: function.into(),
            edge: 0.0,
            low: 0.0,
        };
        ops::activation(device, &pre.array, &batch, post, (&mut kept, 0), &mut sums)
    }

    fn change(&self, values: &mut GpuValues<D>, width: usize, changes: Changes<'_>) -> Result<()> {
        let tokens = values.len / width;
        changes.here().try_for_each(|intervention| {
            let change = self.place_change(intervention, changes.tokens)?;
            ops::change_values(self.device, &mut values.array, (tokens, width), &change)
        })
    }

    fn change_factor(
        &self,
        factor: &mut HalfMatrix<D>,
        _: usize,
        changes: Changes<'_>,
    ) -> Result<()> {
        changes.here().try_for_each(|intervention| {
            let change = self.place_change(intervention, changes.tokens)?;
            ops::change_operand(self.device, factor, &change)
        })
    }

    fn visit(&self, values: &mut GpuValues<D>, see: &mut dyn FnMut(&mut [f32])) -> Result<()> {
        let before = values.to_vec(self.device)?;
        let mut after = before.clone();
        see(&mut after);
        if is_changed(&before, &after) {
            values.array.write(self.device, &after)?;
        }
        Ok(())
    }

    fn visit_factor(
        &self,
        factor: &mut HalfMatrix<D>,
        see: &mut dyn FnMut(&mut [f32]),
    ) -> Result<()> {
        let before = factor.to_vec(self.device, factor.cols)?;
        let mut after = before.clone();
        see(&mut after);
        if is_changed(&before, &after) {
            factor.write(self.device, &after)?;
        }
        Ok(())
    }
}

fn is_changed(before: &[f32], after: &[f32]) -> bool {
    before.iter().zip(after).any(|(a, b)| a.to_bits() != b.to_bits())
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
