//! Launches of the kernels that are not products: `kernels/activation.cu` and `kernels/forward.cu`.

use super::super::array::{Array, HalfMatrix, Scalar};
use super::super::{Device, DeviceKernel, KernelArg};
use super::{u32_of, whole, whole_mut};
use crate::error::Result;

/// Tokens summed by one block of `activation`.
pub const ACTIVATION_CHUNK: usize = 256;

/// Number of sums per neuron computed by `activation`; listed in `kernels/activation.cu`.
pub const ACTIVATION_SUMS: usize = 9;

/// Largest number of dimensions of a head in `attention`.
pub const MAX_D_HEAD: usize = 128;

/// Number of bins per neuron that `histogram` counts.
pub const HISTOGRAM_BINS: usize = 257;

/// The form of GELU used by an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gelu {
    /// `gelu_new`, the approximation by tanh.
    Tanh,
    /// The exact form by the error function.
    Erf,
}

/// The inputs of `activation` for one layer of a batch.
#[derive(Debug)]
pub struct ActivationBatch<'a, D: Device> {
    /// Number of tokens.
    pub tokens: usize,
    /// Neurons of the layer.
    pub width: usize,
    /// `[width][4]`: bias, centre of the moments, pilot, scale.
    pub neurons: &'a Array<D, f32>,
    /// Column of each token in `kept`; −1 for tokens that are not kept.
    pub slot: &'a Array<D, i32>,
    /// The form of GELU.
    pub gelu: Gelu,
    /// Pre-activations above this value are counted.
    pub edge: f32,
    /// Post-activations below this value are counted.
    pub low: f32,
}

/// Adds the bias to pre-activations `x` `[tokens, width]` and applies GELU. Writes `next` `[tokens,
/// width]`, `kept` `[width, kept tokens]` from row `row`, and sums
/// `[chunks][ACTIVATION_SUMS][width]`.
///
/// # Errors
///
/// Returns an error if the launch fails.
///
/// # Panics
///
/// Panics if the shapes do not fit.
pub fn activation<D: Device>(
    device: &D,
    x: &Array<D, f32>,
    batch: &ActivationBatch<D>,
    next: &mut HalfMatrix<D>,
    (kept, row): (&mut HalfMatrix<D>, usize),
    sums: &mut Array<D, f32>,
) -> Result<()> {
    let ActivationBatch { tokens, width, .. } = *batch;
    let chunks = tokens.div_ceil(ACTIVATION_CHUNK);
    assert!(next.rows >= tokens && next.cols == width, "`next` is not {tokens} x {width}");
    assert!(kept.rows >= row + width, "`kept` has no rows {row} to {}", row + width);
    assert_eq!(next.form.number, kept.form.number, "two kinds of number");
    let (next_plane, kept_plane, ld) = (next.plane(), kept.plane(), kept.ld());
    let number = next.form.number;
    let mut args = [
        whole(x, tokens * width),
        u32_of(tokens),
        u32_of(width),
        whole(batch.neurons, width * 4),
        whole(batch.slot, tokens),
        KernelArg::U32((batch.gelu == Gelu::Erf).into()),
        KernelArg::F32(batch.edge),
        KernelArg::F32(batch.low),
        KernelArg::Out(&mut next.values.memory, 0),
        KernelArg::U64(next_plane),
        KernelArg::Out(&mut kept.values.memory, row * ld * u16::BYTES),
        u32_of(ld),
        KernelArg::U64(kept_plane),
        whole_mut(sums, chunks * ACTIVATION_SUMS * width),
    ];
    device.launch(DeviceKernel::Activation(number), [width.div_ceil(32), chunks, 1], &mut args)
}

/// Counts the pre-activations `x` `[tokens, width]` of the tokens that are kept (`slot` of 0 or
/// more) in bins: `counts[(first + neuron) * HISTOGRAM_BINS + bin]`, with the edges given in
/// `kernels/activation.cu`.
///
/// # Errors
///
/// Returns an error if the launch fails.
///
/// # Panics
///
/// Panics if the shapes do not fit.
pub fn histogram<D: Device>(
    device: &D,
    x: &Array<D, f32>,
    (tokens, width): (usize, usize),
    slot: &Array<D, i32>,
    (counts, first): (&mut Array<D, u32>, usize),
) -> Result<()> {
    let end = (first + width) * HISTOGRAM_BINS;
    assert!(counts.len() >= end, "no room for the bins of {width} neurons from {first} on");
    let mut args = [
        whole(x, tokens * width),
        u32_of(tokens),
        u32_of(width),
        whole(slot, tokens),
        KernelArg::Out(&mut counts.memory, first * HISTOGRAM_BINS * u32::BYTES),
    ];
    let grid = [width.div_ceil(32), tokens.div_ceil(ACTIVATION_CHUNK), 1];
    device.launch(DeviceKernel::Histogram, grid, &mut args)
}

/// Computes `resid[t] = embed[id[t]] + pos_embed[position[t]]`, rows of `d` values.
///
/// # Errors
///
/// Returns an error if the launch fails.
///
/// # Panics
///
/// Panics if the shapes do not fit.
pub fn embed<D: Device>(
    device: &D,
    (embed, pos_embed): (&Array<D, f32>, &Array<D, f32>),
    (id, position): (&Array<D, u32>, &Array<D, u32>),
    d: usize,
    resid: &mut Array<D, f32>,
) -> Result<()> {
    let tokens = id.len();
    let mut args = [
        KernelArg::In(&embed.memory, 0),
        KernelArg::In(&pos_embed.memory, 0),
        whole(id, tokens),
        whole(position, tokens),
        u32_of(d),
        whole_mut(resid, tokens * d),
    ];
    device.launch(DeviceKernel::Embed, [tokens, 1, 1], &mut args)
}

/// Applies LayerNorm to the first `rows` rows of x `[rows, d]`.
///
/// # Errors
///
/// Returns an error if the launch fails.
///
/// # Panics
///
/// Panics if the shapes do not fit.
pub fn layer_norm<D: Device>(
    device: &D,
    (x, rows): (&Array<D, f32>, usize),
    (gain, bias, eps): (&Array<D, f32>, &Array<D, f32>, f32),
    out: &mut HalfMatrix<D>,
) -> Result<()> {
    let d = gain.len();
    assert!(out.rows >= rows && out.cols == d, "`out` is not {rows} x {d}");
    let (plane, number) = (out.plane(), out.form.number);
    let mut args = [
        whole(x, rows * d),
        u32_of(rows),
        u32_of(d),
        whole(gain, d),
        whole(bias, d),
        KernelArg::F32(eps),
        KernelArg::Out(&mut out.values.memory, 0),
        KernelArg::U64(plane),
    ];
    device.launch(DeviceKernel::LayerNorm(number), [rows.div_ceil(8), 1, 1], &mut args)
}

/// Sequences stored one after the other.
#[derive(Debug)]
pub struct Sequences<D: Device> {
    /// Index of the first token of each sequence.
    pub start: Array<D, u32>,
    /// Number of tokens of each sequence.
    pub length: Array<D, u32>,
    /// Number of tokens of the longest sequence.
    pub longest: usize,
    /// Number of tokens of all sequences.
    pub tokens: usize,
}

/// Computes causal attention of every head, from `qkv` `[tokens, 3 d]` to `out` `[tokens, d]`.
///
/// # Errors
///
/// Returns an error if the launch fails.
///
/// # Panics
///
/// Panics if the shapes do not fit, or if a head has more than 128 dimensions.
pub fn attention<D: Device>(
    device: &D,
    qkv: &Array<D, f32>,
    sequences: &Sequences<D>,
    (d, d_head, scale): (usize, usize, f32),
    out: &mut HalfMatrix<D>,
) -> Result<()> {
    assert!(d_head <= MAX_D_HEAD, "a head of {d_head} dimensions");
    assert!(
        out.rows >= sequences.tokens && out.cols == d,
        "`out` is not {} x {d}",
        sequences.tokens
    );
    let (plane, number, count) = (out.plane(), out.form.number, sequences.start.len());
    let mut args = [
        whole(qkv, sequences.tokens * 3 * d),
        whole(&sequences.start, count),
        whole(&sequences.length, count),
        u32_of(d),
        u32_of(d_head),
        KernelArg::F32(scale),
        KernelArg::Out(&mut out.values.memory, 0),
        KernelArg::U64(plane),
    ];
    let grid = [sequences.longest.div_ceil(8), d / d_head, count];
    device.launch(DeviceKernel::Attention(number), grid, &mut args)
}

/// Rotates the queries and keys of `qkv` `[tokens, 3 d]` by the angles of their positions: `turns`
/// `[position][pairs][2]` holds a cosine and a sine. Dimension i of a head is paired with dimension
/// i + `pairs`.
///
/// # Errors
///
/// Returns an error if the launch fails.
///
/// # Panics
///
/// Panics if the shapes do not fit.
pub fn rotate<D: Device>(
    device: &D,
    qkv: &mut Array<D, f32>,
    positions: &Array<D, u32>,
    (turns, pairs): (&Array<D, f32>, usize),
    (d, d_head): (usize, usize),
) -> Result<()> {
    assert!(2 * pairs <= d_head, "{pairs} pairs in a head of {d_head} dimensions");
    let tokens = positions.len();
    let mut args = [
        whole_mut(qkv, tokens * 3 * d),
        whole(positions, tokens),
        KernelArg::In(&turns.memory, 0),
        u32_of(pairs),
        u32_of(d),
        u32_of(d_head),
    ];
    device.launch(DeviceKernel::Rotate, [tokens, 1, 1], &mut args)
}
