//! What hooks see of attention heads: one value a token and head.

use rayon::prelude::*;

use super::super::Config;
use super::backend::HeadShape;
use super::cpu::for_each_pattern;
use crate::backend::matmul::matmul_all_cores;
use crate::backend::pack::MatrixView;

/// Returns the attention weight that each head gives the first token of each row, `[tokens, n_heads]`.
/// `qkv` are the queries, keys and values of all rows, `[tokens, 3 d_model]`, turned by their angles if
/// positions are rotary.
pub fn attention_to_first(qkv: &[f32], rows: &[usize], shape: HeadShape) -> Vec<f32> {
    let (d, heads) = (shape.d_model, shape.d_model / shape.d_head);
    let starts = rows.iter().scan(0, |next, len| {
        *next += len;
        Some((*next - len, *len))
    });
    let of_row = |(start, len): (usize, usize)| {
        let mut weights = vec![0.0; len * heads];
        for_each_pattern(&qkv[start * 3 * d..], shape, len, |head, queries, pattern| {
            for (row, query) in pattern.chunks_exact(queries.end).zip(queries) {
                weights[query * heads + head] = row[0];
            }
        });
        weights
    };
    let rows: Vec<_> = starts.collect();
    rows.into_par_iter().flat_map_iter(of_row).collect()
}

/// Returns the norm of what each head adds to the residual stream, `[tokens, n_heads]`. `read` is what
/// the heads read, `[tokens, d_model]`; `w_o` is W_O, `[d_model, d_model]`.
pub fn head_output_norms(read: &[f32], w_o: &[f32], config: &Config) -> Vec<f32> {
    let (d, d_head, heads) = (config.d_model, config.d_head(), config.n_heads);
    let tokens = read.len() / d;
    let (mut norms, mut written) = (vec![0.0; tokens * heads], vec![0.0; tokens * d]);
    for head in 0..heads {
        let of_head = MatrixView::strided(&read[head * d_head..], tokens, d_head, d);
        let weights = MatrixView::new(&w_o[head * d_head * d..][..d_head * d], d_head, d);
        matmul_all_cores(of_head, weights, &mut written);
        for (token, row) in written.chunks_exact(d).enumerate() {
            let square: f64 = row.iter().map(|v| f64::from(*v).powi(2)).sum();
            norms[token * heads + head] = square.sqrt() as f32;
        }
    }
    norms
}
