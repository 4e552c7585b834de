//! Statistics of a neuron's weights and of its direct effect on the vocabulary, computed from
//! preprocessed weights (paper A.1).

use rayon::prelude::*;

use super::moments::Moments;
use crate::backend::matmul::matmul;
use crate::backend::pack::MatrixView;
use crate::model::Config;
use crate::model::weights::{Block, Weights};

/// Statistics of the weights of one neuron.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeightStatistics {
    /// ‖w_in‖
    pub w_in_norm: f64,
    /// b_in
    pub input_bias: f64,
    /// ‖w_out‖
    pub w_out_norm: f64,
    /// cos(w_in, w_out); 0 if either vector is zero.
    pub in_out_sim: f64,
    /// Moments over the vocabulary of cos(W_U\[:, t\], w_out).
    pub vocab: Moments,
}

impl WeightStatistics {
    /// The statistics of a neuron whose weights are not known: all NaN.
    pub const MISSING: Self = Self {
        w_in_norm: f64::NAN,
        input_bias: f64::NAN,
        w_out_norm: f64::NAN,
        in_out_sim: f64::NAN,
        vocab: Moments::MISSING,
    };

    /// Returns ‖w_in‖² + ‖w_out‖².
    pub fn l2_penalty(&self) -> f64 {
        self.w_in_norm.powi(2) + self.w_out_norm.powi(2)
    }
}

/// Returns the statistics of all neurons, layer by layer.
pub fn weight_statistics(weights: &Weights, config: &Config) -> Vec<WeightStatistics> {
    let unembed = unit_rows(weights.unembedding(), config.d_model);
    weights.blocks.iter().flat_map(|block| layer_statistics(block, config, &unembed)).collect()
}

/// Returns cos(W_U\[:, t\], w_out) for every token t. The neuron is counted over all layers.
pub fn vocabulary_effects(weights: &Weights, config: &Config, neuron: usize) -> Vec<f64> {
    let d = config.d_model;
    let w_out = output(weights, config, neuron);
    let cosine = |row: &[f32]| ratio(dot(row, w_out), (dot(row, row) * dot(w_out, w_out)).sqrt());
    weights.unembedding().par_chunks_exact(d).map(cosine).collect()
}

/// Returns the cosine of the output weights of two neurons, counted over all layers.
pub fn output_cosine(weights: &Weights, config: &Config, a: usize, b: usize) -> f64 {
    let (a, b) = (output(weights, config, a), output(weights, config, b));
    ratio(dot(a, b), (dot(a, a) * dot(b, b)).sqrt())
}

fn output<'a>(weights: &'a Weights, config: &Config, neuron: usize) -> &'a [f32] {
    let (layer, place) = (neuron / config.d_mlp(), neuron % config.d_mlp());
    &weights.blocks[layer].mlp_out.weight[place * config.d_model..][..config.d_model]
}

/// Number of neurons handled by one task, whose products with the vocabulary are in memory at the
/// same time.
const NEURONS: usize = 256;

fn layer_statistics(block: &Block, config: &Config, unembed: &[f32]) -> Vec<WeightStatistics> {
    let (d, d_mlp) = (config.d_model, config.d_mlp());
    let w_in = transposed(&block.mlp_in.weight, d, d_mlp);
    let w_out = &block.mlp_out.weight;
    let vocab = vocab_moments(&unit_rows(w_out, d), unembed, d);
    let neuron = |j: usize| {
        let (w_in, w_out) = (&w_in[j * d..(j + 1) * d], &w_out[j * d..(j + 1) * d]);
        let (w_in_norm, w_out_norm) = (dot(w_in, w_in).sqrt(), dot(w_out, w_out).sqrt());
        WeightStatistics {
            w_in_norm,
            input_bias: block.mlp_in.bias[j].into(),
            w_out_norm,
            in_out_sim: ratio(dot(w_in, w_out), w_in_norm * w_out_norm),
            vocab: vocab[j],
        }
    };
    (0..d_mlp).map(neuron).collect()
}

/// Returns, for each row of `w_out`, the moments of its products with all rows of `unembed`. All rows
/// have unit norm and width d.
fn vocab_moments(w_out: &[f32], unembed: &[f32], d: usize) -> Vec<Moments> {
    let d_vocab = unembed.len() / d;
    let of_block = |block: &[f32]| {
        let mut cosines = vec![0.0; block.len() / d * d_vocab];
        let (block, unembed) =
            (MatrixView::new(block, block.len() / d, d), MatrixView::new(unembed, d_vocab, d));
        matmul(block, unembed.t(), &mut cosines, d_vocab);
        let moments = |row: &[f32]| Moments::of(row.iter().map(|&c| f64::from(c)));
        cosines.chunks_exact(d_vocab).map(moments).collect::<Vec<_>>()
    };
    w_out.par_chunks(NEURONS * d).flat_map(of_block).collect()
}

/// Divides each row of width d by its norm; a zero row stays zero.
pub(super) fn unit_rows(matrix: &[f32], d: usize) -> Vec<f32> {
    let unit = |row: &[f32]| {
        let norm = dot(row, row).sqrt();
        row.iter().map(|&v| ratio(v.into(), norm) as f32).collect::<Vec<_>>()
    };
    matrix.chunks_exact(d).flat_map(unit).collect()
}

/// Returns the transpose of a matrix `[rows, cols]`.
pub(super) fn transposed(matrix: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..rows * cols).map(|e| matrix[e % rows * cols + e / rows]).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Returns 0 where `whole` is 0, and NaN where either is NaN.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}
