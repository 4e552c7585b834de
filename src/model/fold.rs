//! Weight preprocessing (paper A.1), which makes weight statistics comparable.
//!
//! A LayerNorm's gain and bias can be moved into the linear layer that reads
//! it. A constant added to all of d_model does not change the output of a LayerNorm,
//! and a constant added to all logits does not change that of the softmax. Removing these
//! degrees of freedom leaves activations and log-probabilities unchanged.

use super::Config;
use super::weights::{Block, Linear, Norm, Unembed, Weights};
use crate::spec::WeightOptions;

/// Returns the weights with the chosen degrees of freedom removed. The unembedding becomes separate
/// from the embedding, since a tied one cannot hold the final gain.
pub fn preprocess(weights: &Weights, config: &Config, options: &WeightOptions) -> Weights {
    let d = config.d_model;
    let mut w = weights.clone();
    let unembed = Unembed { weight: w.unembedding().to_vec(), bias: vec![0.0; config.d_vocab] };
    let mut unembed = w.unembed.take().unwrap_or(unembed);
    if options.fold_ln {
        w.blocks.iter_mut().for_each(|b| fold_block(b, d));
        fold_unembed(&mut unembed, &mut w.ln_final);
    }
    if options.center_writing {
        center_rows(&mut w.embed, d);
        center_rows(&mut w.pos_embed, d);
        w.blocks.iter_mut().for_each(|b| center_writing(b, d));
    }
    if options.center_unembed {
        center_columns(&mut unembed.weight, d);
        center_rows(&mut unembed.bias, config.d_vocab);
    }
    w.unembed = Some(unembed);
    w
}

fn fold_block(block: &mut Block, d: usize) {
    fold_linear(&mut block.qkv, &mut block.ln_1, d);
    fold_linear(&mut block.mlp_in, &mut block.ln_2, d);
}

/// Computes `W_eff = diag(γ) W` and `b_eff = b + β W`, then centres each output's weights over
/// d_model. This changes no output, because a normalised input has mean zero.
fn fold_linear(linear: &mut Linear, norm: &mut Norm, d: usize) {
    let d_out = linear.bias.len();
    for j in 0..d_out {
        let column = |i: usize| i * d_out + j;
        let shift: f64 = (0..d).map(|i| product(norm.bias[i], linear.weight[column(i)])).sum();
        linear.bias[j] = (f64::from(linear.bias[j]) + shift) as f32;
        let scaled = |i: usize| product(norm.gain[i], linear.weight[column(i)]);
        let mean = (0..d).map(scaled).sum::<f64>() / d as f64;
        for i in 0..d {
            linear.weight[column(i)] =
                (product(norm.gain[i], linear.weight[column(i)]) - mean) as f32;
        }
    }
    neutralise(norm);
}

/// Does the same as [`fold_linear`] for the unembedding, whose rows are the outputs.
fn fold_unembed(unembed: &mut Unembed, norm: &mut Norm) {
    let d = norm.gain.len();
    for (row, bias) in unembed.weight.chunks_exact_mut(d).zip(&mut unembed.bias) {
        let shift: f64 = row.iter().zip(&norm.bias).map(|(w, b)| product(*w, *b)).sum();
        *bias = (f64::from(*bias) + shift) as f32;
        row.iter_mut().zip(&norm.gain).for_each(|(w, g)| *w *= g);
    }
    center_rows(&mut unembed.weight, d);
    neutralise(norm);
}

fn neutralise(norm: &mut Norm) {
    norm.gain.fill(1.0);
    norm.bias.fill(0.0);
}

fn center_writing(block: &mut Block, d: usize) {
    for linear in [&mut block.attn_out, &mut block.mlp_out] {
        center_rows(&mut linear.weight, d);
        center_rows(&mut linear.bias, d);
    }
}

/// Subtracts from each row of width `d` its mean.
fn center_rows(matrix: &mut [f32], d: usize) {
    for row in matrix.chunks_exact_mut(d) {
        let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / d as f64;
        row.iter_mut().for_each(|v| *v = (f64::from(*v) - mean) as f32);
    }
}

/// Subtracts from each of `d` columns its mean.
fn center_columns(matrix: &mut [f32], d: usize) {
    let rows = matrix.len() / d;
    for j in 0..d {
        let mean = (0..rows).map(|i| f64::from(matrix[i * d + j])).sum::<f64>() / rows as f64;
        (0..rows).for_each(|i| matrix[i * d + j] = (f64::from(matrix[i * d + j]) - mean) as f32);
    }
}

fn product(a: f32, b: f32) -> f64 {
    f64::from(a) * f64::from(b)
}
