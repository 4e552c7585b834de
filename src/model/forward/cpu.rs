//! The forward pass on the CPU, in f32.

use std::convert::Infallible;
use std::ops::Range;

use rayon::prelude::*;

use super::super::change::Changes;
use super::super::ops::{causal_softmax, gelu_all, gelu_new_all, layer_norm};
use super::super::rotary::RotaryAngles;
use super::super::weights::{Linear, Norm, Weights};
use super::super::{Activation, Config};
use super::backend::{Backend, HeadShape};
use crate::backend::matmul::{add_affine, affine, matmul};
use crate::backend::pack::MatrixView;

/// Number of values handled by one task of an elementwise loop.
const VALUES_PER_TASK: usize = 1 << 15;

/// Number of queries of a row whose attention is computed together.
const QUERIES: usize = 96;

/// The CPU: all of its cores, and the memory of the process.
#[derive(Debug, Clone, Copy)]
pub struct Cpu;

/// The rows of a batch.
pub struct CpuRows {
    /// Token ids of each row.
    ids: Vec<Vec<u32>>,
    /// Rotary angles, if positions are rotary.
    angles: Option<RotaryAngles>,
}

impl Backend for Cpu {
    type Error = Infallible;
    type Values = Vec<f32>;
    type Factor = Vec<f32>;
    type Norm = Norm;
    type Linear = Linear;
    type Embeddings = Weights;
    type Rows = CpuRows;

    fn rows(&self, config: &Config, rows: &[&[u32]]) -> Result<CpuRows, Infallible> {
        let longest = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let angles = config.rotary.map(|rotary| RotaryAngles::new(rotary, longest));
        Ok(CpuRows { ids: rows.iter().map(|row| row.to_vec()).collect(), angles })
    }

    fn values(&self, len: usize) -> Result<Vec<f32>, Infallible> {
        Ok(Vec::with_capacity(len))
    }

    fn factor(&self, tokens: usize, width: usize) -> Result<Vec<f32>, Infallible> {
        self.values(tokens * width)
    }

    fn embed(
        &self,
        embeddings: &Weights,
        rows: &CpuRows,
        d_model: usize,
    ) -> Result<Vec<f32>, Infallible> {
        let row_of = |table: &[f32], i: usize| table[i * d_model..(i + 1) * d_model].to_vec();
        let one = |(position, &id): (usize, &u32)| {
            let mut x = row_of(&embeddings.embed, id as usize);
            if rows.angles.is_none() {
                let p = &embeddings.pos_embed[position * d_model..(position + 1) * d_model];
                x.iter_mut().zip(p).for_each(|(x, p)| *x += p);
            }
            x
        };
        Ok(rows.ids.iter().flat_map(|row| row.iter().enumerate().flat_map(one)).collect())
    }

    fn norm(
        &self,
        x: &Vec<f32>,
        norm: &Norm,
        eps: f32,
        out: &mut Vec<f32>,
    ) -> Result<(), Infallible> {
        normalize(x, norm, eps, out);
        Ok(())
    }

    fn linear(&self, x: &Vec<f32>, layer: &Linear, out: &mut Vec<f32>) -> Result<(), Infallible> {
        let (x, w) = operands(x, layer);
        out.resize(x.rows * layer.bias.len(), 0.0);
        affine(x, w, &layer.bias, out);
        Ok(())
    }

    fn add_linear(
        &self,
        x: &Vec<f32>,
        layer: &Linear,
        out: &mut Vec<f32>,
    ) -> Result<(), Infallible> {
        let (x, w) = operands(x, layer);
        add_affine(x, w, &layer.bias, out);
        Ok(())
    }

    fn attention(
        &self,
        qkv: &mut Vec<f32>,
        rows: &CpuRows,
        heads: HeadShape,
        out: &mut Vec<f32>,
    ) -> Result<(), Infallible> {
        let HeadShape { d_model, d_head, .. } = heads;
        if let Some(angles) = &rows.angles {
            let rows = split_rows(qkv, &rows.ids, 3 * d_model);
            rows.into_par_iter().for_each(|row| angles.turn(row, d_model, d_head));
        }
        out.resize(qkv.len() / 3, 0.0);
        let starts = rows.ids.iter().scan(0, |next, ids| {
            *next += ids.len();
            Some(*next - ids.len())
        });
        let out = split_rows(out, &rows.ids, d_model);
        out.into_par_iter().zip(starts.collect::<Vec<_>>()).for_each(|(out, start)| {
            attend(&qkv[start * 3 * d_model..], heads, out);
        });
        Ok(())
    }

    fn activate(
        &self,
        function: Activation,
        pre: &mut Vec<f32>,
        post: &mut Vec<f32>,
    ) -> Result<(), Infallible> {
        let activate = match function {
            Activation::GeluNew => gelu_new_all,
            Activation::Gelu => gelu_all,
        };
        pre.par_chunks_mut(VALUES_PER_TASK).for_each(activate);
        std::mem::swap(pre, post);
        Ok(())
    }

    fn change(
        &self,
        values: &mut Vec<f32>,
        width: usize,
        changes: Changes<'_>,
    ) -> Result<(), Infallible> {
        changes.make(values, width);
        Ok(())
    }

    fn change_factor(
        &self,
        factor: &mut Vec<f32>,
        width: usize,
        changes: Changes<'_>,
    ) -> Result<(), Infallible> {
        changes.make(factor, width);
        Ok(())
    }

    fn visit(
        &self,
        values: &mut Vec<f32>,
        see: &mut dyn FnMut(&mut [f32]),
    ) -> Result<(), Infallible> {
        see(values);
        Ok(())
    }

    fn visit_factor(
        &self,
        factor: &mut Vec<f32>,
        see: &mut dyn FnMut(&mut [f32]),
    ) -> Result<(), Infallible> {
        see(factor);
        Ok(())
    }
}

/// Applies LayerNorm to the rows of x, `[tokens, d_model]`.
pub fn normalize(x: &[f32], norm: &Norm, eps: f32, out: &mut Vec<f32>) {
    let d = norm.gain.len();
    let rows = (VALUES_PER_TASK / d).max(1) * d;
    out.resize(x.len(), 0.0);
    out.par_chunks_mut(rows).zip(x.par_chunks(rows)).for_each(|(out, x)| {
        layer_norm(x, &norm.gain, &norm.bias, eps, out);
    });
}

/// Computes attention within one row. `qkv` starts with the row's `[len, 3 d_model]`; `out` is
/// `[len, d_model]`.
fn attend(qkv: &[f32], heads: HeadShape, out: &mut [f32]) {
    let HeadShape { d_model: d, d_head, .. } = heads;
    for_each_pattern(qkv, heads, out.len() / d, |head, queries, pattern| {
        let keys = queries.end;
        let out = &mut out[queries.start * d + head * d_head..];
        let values = part(qkv, heads, head, (2, 0..keys));
        matmul(MatrixView::new(pattern, queries.len(), keys), values, out, d);
    });
}

/// Returns the queries (0), keys (1) or values (2) of some tokens of a row.
fn part(
    qkv: &[f32],
    HeadShape { d_model: d, d_head, .. }: HeadShape,
    head: usize,
    (which, tokens): (usize, Range<usize>),
) -> MatrixView<'_> {
    let first = tokens.start * 3 * d + which * d + head * d_head;
    MatrixView::strided(&qkv[first..], tokens.len(), d_head, 3 * d)
}

/// Computes the attention weights of a row of `len` tokens, and passes them on head by head and a few
/// queries at a time, `[queries, keys]`, where the keys are all tokens up to the last of the queries.
pub fn for_each_pattern(
    qkv: &[f32],
    heads: HeadShape,
    len: usize,
    mut see: impl FnMut(usize, Range<usize>, &[f32]),
) {
    let mut scores = vec![0.0; QUERIES.min(len) * len];
    for head in 0..heads.d_model / heads.d_head {
        // A few queries at a time, so that most keys that these queries cannot see are skipped.
        for from in (0..len).step_by(QUERIES) {
            let to = (from + QUERIES).min(len);
            let scores = &mut scores[..(to - from) * to];
            let of = |which, tokens| part(qkv, heads, head, (which, tokens));
            matmul(of(0, from..to), of(1, 0..to).t(), scores, to);
            causal_softmax(scores, to, from, heads.scale);
            see(head, from..to, scores);
        }
    }
}

/// Returns x `[tokens, d_in]` and W `[d_in, d_out]`.
fn operands<'a>(x: &'a [f32], layer: &'a Linear) -> (MatrixView<'a>, MatrixView<'a>) {
    let d_out = layer.bias.len();
    let d_in = layer.weight.len() / d_out;
    (MatrixView::new(x, x.len() / d_in, d_in), MatrixView::new(&layer.weight, d_in, d_out))
}

/// Splits values `[tokens, width]` into those of each row.
fn split_rows<'a>(
    mut values: &'a mut [f32],
    rows: &[Vec<u32>],
    width: usize,
) -> Vec<&'a mut [f32]> {
    let mut split = Vec::with_capacity(rows.len());
    for row in rows {
        let (first, rest) = values.split_at_mut(row.len() * width);
        split.push(first);
        values = rest;
    }
    split
}
