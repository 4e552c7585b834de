//! The forward pass of a decoder: LayerNorm before attention and MLP, causal attention with learned
//! or rotary positions, GELU. All in f32.

use std::path::Path;

use rayon::prelude::*;

use super::hooks::{HookPoint, Hooks, Site};
use super::ops::{causal_softmax, gelu_all, gelu_new_all, layer_norm};
use super::rotary::RotaryAngles;
use super::weights::{Block, Linear, Norm, Weights};
use super::{Activation, Config, snapshot};
use crate::backend::matmul::{add_affine, affine, matmul, matmul_all_cores};
use crate::backend::pack::MatrixView;
use crate::error::Result;

/// Number of values handled by one task of an elementwise loop.
const VALUES_PER_TASK: usize = 1 << 15;

/// Number of queries of a row whose attention is computed together.
const QUERIES: usize = 96;

/// A model with its weights, ready to run.
///
/// # Examples
///
/// Takes the post-activations of all MLP neurons of a bundled model on three tokens.
///
/// ```
/// use universal_neurons::Transformer;
/// use universal_neurons::model::Site;
/// use universal_neurons::model::capture::{Activations, Capture};
///
/// let model = Transformer::load("experiments/desk/a".as_ref())?;
/// let mut post = Activations::new(model.config.n_layers * model.config.d_mlp());
/// let mut hooks = Capture::new(&[true; 3], vec![(Site::MlpPost, &mut post)]);
/// model.forward(&[&[15, 7, 300]], &mut hooks);
/// assert_eq!(post.tokens(), 3);
/// assert!(post.values.iter().all(|v| *v > -0.2), "GELU is never far below zero");
/// # Ok::<(), universal_neurons::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Transformer {
    /// Shape and options of the model.
    pub config: Config,
    /// Weights in f32.
    pub weights: Weights,
}

impl Transformer {
    /// Loads `config.json` and the weights from a folder in Hugging Face form.
    ///
    /// # Errors
    ///
    /// Returns an error if either file is missing, malformed, or does not fit the other.
    pub fn load(folder: &Path) -> Result<Self> {
        let folder = snapshot::resolve(folder)?;
        let config = Config::load(&folder.join("config.json"))?;
        let weights = Weights::load(&folder, &config)?;
        Ok(Self { config, weights })
    }

    /// Runs rows of token ids through all blocks. Returns the residual stream after the last block,
    /// `[tokens, d_model]`, with the tokens of all rows one after another. Rows may differ in
    /// length and need no padding; rows do not see each other.
    ///
    /// # Panics
    ///
    /// Panics if a row is longer than the context or an id lies outside the vocabulary.
    pub fn forward(&self, rows: &[&[u32]], hooks: &mut dyn Hooks) -> Vec<f32> {
        let mut resid = self.embed(rows);
        let lengths: Vec<usize> = rows.iter().map(|r| r.len()).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let angles = self.config.rotary.map(|rotary| RotaryAngles::new(rotary, longest));
        for (layer, block) in self.weights.blocks.iter().enumerate() {
            let d = self.config.d_model;
            let mut at = |site, values: &mut [f32], width| {
                hooks.at(HookPoint { layer, site }, values, width);
            };
            at(Site::ResidPre, &mut resid, d);
            let read = self.config.parallel_residual.then(|| resid.clone());
            let scale = self.config.attention_scale(layer);
            self.attention(block, scale, &lengths, angles.as_ref(), &mut resid);
            let normed = self.normed(read.as_ref().unwrap_or(&resid), &block.ln_2);
            self.mlp(block, &normed, &mut resid, &mut at);
            at(Site::ResidPost, &mut resid, d);
        }
        resid
    }

    /// Returns the logits `[tokens, d_vocab]` of a final residual stream `[tokens, d_model]`.
    pub fn logits(&self, resid: &[f32]) -> Vec<f32> {
        let (d, vocab) = (self.config.d_model, self.config.d_vocab);
        let tokens = resid.len() / d;
        let normed = self.normed(resid, &self.weights.ln_final);
        let mut logits = vec![0.0; tokens * vocab];
        let normed = MatrixView::new(&normed, tokens, d);
        let w_u = MatrixView::new(self.weights.unembedding(), vocab, d).t();
        match &self.weights.unembed {
            Some(unembed) => affine(normed, w_u, &unembed.bias, &mut logits),
            None => matmul_all_cores(normed, w_u, &mut logits),
        }
        logits
    }

    fn embed(&self, rows: &[&[u32]]) -> Vec<f32> {
        let d = self.config.d_model;
        let row_of = |table: &[f32], i: usize| -> Vec<f32> { table[i * d..(i + 1) * d].to_vec() };
        let one = |(pos, &id): (usize, &u32)| {
            let mut x = row_of(&self.weights.embed, id as usize);
            if self.config.rotary.is_none() {
                let p = &self.weights.pos_embed[pos * d..(pos + 1) * d];
                x.iter_mut().zip(p).for_each(|(x, p)| *x += p);
            }
            x
        };
        rows.iter().flat_map(|row| row.iter().enumerate().flat_map(one)).collect()
    }

    fn normed(&self, x: &[f32], norm: &Norm) -> Vec<f32> {
        let d = self.config.d_model;
        let rows = (VALUES_PER_TASK / d).max(1) * d;
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(rows).zip(x.par_chunks(rows)).for_each(|(out, x)| {
            layer_norm(x, &norm.gain, &norm.bias, self.config.layer_norm_eps, out);
        });
        out
    }

    /// Computes `resid += Attn(LN1(resid))`, for each row separately.
    fn attention(
        &self,
        block: &Block,
        scale: f32,
        lengths: &[usize],
        angles: Option<&RotaryAngles>,
        resid: &mut [f32],
    ) {
        let d = self.config.d_model;
        let mut qkv = linear(&self.normed(resid, &block.ln_1), &block.qkv, d);
        if let Some(angles) = angles {
            let rows = split_rows(&mut qkv, lengths, 3 * d);
            rows.into_par_iter().for_each(|row| angles.turn(row, d, self.config.d_head()));
        }
        let mut mixed = vec![0.0; resid.len()];
        let out = split_rows(&mut mixed, lengths, d);
        let starts = lengths.iter().scan(0, |next, len| {
            *next += len;
            Some(*next - len)
        });
        out.into_par_iter().zip(starts.collect::<Vec<_>>()).for_each(|(out, start)| {
            self.attend(&qkv[start * 3 * d..], scale, out);
        });
        add_linear(&mixed, &block.attn_out, d, resid);
    }

    /// Computes attention within one row. `qkv` starts with the row's `[len, 3 d_model]`; `out` is
    /// `[len, d_model]`.
    fn attend(&self, qkv: &[f32], scale: f32, out: &mut [f32]) {
        let (d, d_head) = (self.config.d_model, self.config.d_head());
        let len = out.len() / d;
        let mut scores = vec![0.0; QUERIES.min(len) * len];
        for head in 0..self.config.n_heads {
            let part = |which: usize, from: usize, to: usize| {
                let first = from * 3 * d + which * d + head * d_head;
                MatrixView::strided(&qkv[first..], to - from, d_head, 3 * d)
            };
            // A few queries at a time, so that most keys that these queries cannot see are skipped.
            for from in (0..len).step_by(QUERIES) {
                let to = (from + QUERIES).min(len);
                let scores = &mut scores[..(to - from) * to];
                matmul(part(0, from, to), part(1, 0, to).t(), scores, to);
                causal_softmax(scores, to, from, scale);
                let out = &mut out[from * d + head * d_head..];
                matmul(MatrixView::new(scores, to - from, to), part(2, 0, to), out, d);
            }
        }
    }

    /// Computes `resid += MLP(normed)` and calls the hooks with pre- and post-activations.
    fn mlp(
        &self,
        block: &Block,
        normed: &[f32],
        resid: &mut [f32],
        at: &mut dyn FnMut(Site, &mut [f32], usize),
    ) {
        let (d, d_mlp) = (self.config.d_model, self.config.d_mlp());
        let mut neurons = linear(normed, &block.mlp_in, d);
        at(Site::MlpPre, &mut neurons, d_mlp);
        let activate = match self.config.activation {
            Activation::GeluNew => gelu_new_all,
            Activation::Gelu => gelu_all,
        };
        neurons.par_chunks_mut(VALUES_PER_TASK).for_each(activate);
        at(Site::MlpPost, &mut neurons, d_mlp);
        add_linear(&neurons, &block.mlp_out, d_mlp, resid);
    }
}

/// Returns `x W + b` for x `[tokens, d_in]`.
fn linear(x: &[f32], layer: &Linear, d_in: usize) -> Vec<f32> {
    let tokens = x.len() / d_in;
    let mut out = vec![0.0; tokens * layer.bias.len()];
    affine(MatrixView::new(x, tokens, d_in), weight(layer, d_in), &layer.bias, &mut out);
    out
}

/// Computes `out += x W + b` for x `[tokens, d_in]`.
fn add_linear(x: &[f32], layer: &Linear, d_in: usize, out: &mut [f32]) {
    let x = MatrixView::new(x, x.len() / d_in, d_in);
    add_affine(x, weight(layer, d_in), &layer.bias, out);
}

fn weight(layer: &Linear, d_in: usize) -> MatrixView<'_> {
    MatrixView::new(&layer.weight, d_in, layer.bias.len())
}

fn split_rows<'a>(
    mut values: &'a mut [f32],
    lengths: &[usize],
    width: usize,
) -> Vec<&'a mut [f32]> {
    let mut rows = Vec::with_capacity(lengths.len());
    for len in lengths {
        let (row, rest) = values.split_at_mut(len * width);
        rows.push(row);
        values = rest;
    }
    rows
}
