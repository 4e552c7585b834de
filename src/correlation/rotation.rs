//! The rotation baseline without a second pass over tokens.
//!
//! Literally (paper eq. 3): replace each layer's activations V `[d_mlp, tokens]`
//! by R V, rows of R random and of unit norm, and correlate as before. By
//! linearity all sums of R V follow from those of V: with centred sums,
//! `cov(x, (RV)_j) = R_j · cov(x, V)` and `var((RV)_j) = R_jᵀ cov(V, V) R_j`.

use rayon::prelude::*;

use super::random::{Purpose, Stream};
use super::sums::{CrossSums, GramSums, Layout, NeuronSums};
use crate::backend::matmul::matmul_all_cores;
use crate::backend::pack::View;

/// Reference neurons whose correlations with a rotated layer are held at once.
const ROWS_AT_ONCE: usize = 4096;

/// A rotation `[d, d]`: Gaussian, each row divided by its norm.
pub fn rotation(stream: Stream, d: usize) -> Vec<f32> {
    let mut r = vec![0.0_f32; d * d];
    stream.normals(&mut r);
    r.par_chunks_exact_mut(d).for_each(|row| {
        let norm = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
    });
    r
}

/// Stream of the rotation of one layer of one partner in one draw.
pub fn stream(seed: u64, draw: usize, partner: usize, layer: usize) -> Stream {
    let id = (draw as u64) << 32 | (partner as u64) << 16 | layer as u64;
    Stream { seed, purpose: Purpose::Rotation, id }
}

/// One partner's sums, prepared for any number of draws.
pub struct Rotator {
    layout: Layout,
    rows: usize,
    /// `cov(x_i, v_j) / spread(x_i)`, `[rows, n_neurons]`.
    scaled: Vec<f32>,
    /// `cov(v_j, v_k)` of each layer, `[d_mlp, d_mlp]`.
    grams: Vec<Vec<f32>>,
}

impl Rotator {
    /// From correlations and the partner's own sums. A partner neuron without
    /// correlation contributes nothing to any rotated one.
    pub fn new(rho: &CrossSums, y: &NeuronSums, gram: &GramSums, layout: Layout) -> Self {
        let spread: Vec<Option<f64>> =
            (0..layout.n_neurons()).map(|j| y.inverse_spread(j).map(|s| 1.0 / s)).collect();
        let scale =
            |(value, spread): (&f64, &Option<f64>)| spread.map_or(0.0, |s| (value * s) as f32);
        let scaled = rho
            .values
            .par_chunks_exact(rho.cols)
            .flat_map_iter(|row| row.iter().zip(&spread).map(scale))
            .collect();
        let centred = |layer: usize, j: usize, k: usize| {
            let (a, b) = (layer * layout.d_mlp + j, layer * layout.d_mlp + k);
            let alive = spread[a].is_some() && spread[b].is_some();
            let cov = gram.get(layer, j, k) - y.sum(a) * y.sum(b) / y.n as f64;
            if alive { cov as f32 } else { 0.0 }
        };
        let d = layout.d_mlp;
        let of_layer =
            |layer| (0..d * d).into_par_iter().map(|e| centred(layer, e / d, e % d)).collect();
        let grams = (0..layout.n_layers).map(of_layer).collect();
        Self { layout, rows: rho.rows, scaled, grams }
    }

    /// For every reference neuron, the best correlation with any rotated neuron
    /// of any layer; NaN where the reference neuron has no correlation.
    pub fn draw(&self, stream_of_layer: impl Fn(usize) -> Stream) -> Vec<f64> {
        let mut best = vec![f64::NAN; self.rows];
        for layer in 0..self.layout.n_layers {
            let r = rotation(stream_of_layer(layer), self.layout.d_mlp);
            self.best_in_layer(layer, &r, &mut best);
        }
        best
    }

    fn best_in_layer(&self, layer: usize, r: &[f32], best: &mut [f64]) {
        let (d, width) = (self.layout.d_mlp, self.layout.n_neurons());
        let inverse = inverse_spreads(r, &self.grams[layer]);
        let mut rotated = vec![0.0; self.rows.min(ROWS_AT_ONCE) * d];
        for (i, best) in best.chunks_mut(ROWS_AT_ONCE).enumerate() {
            let start = i * ROWS_AT_ONCE * width + layer * d;
            let x = View::strided(&self.scaled[start..], best.len(), d, width);
            let rotated = &mut rotated[..best.len() * d];
            matmul_all_cores(x, View::new(r, d, d).t(), rotated);
            best.par_iter_mut().zip(rotated.par_chunks_exact(d)).for_each(|(best, row)| {
                let rho = row.iter().zip(&inverse).map(|(c, s)| f64::from(*c) * s);
                // `max` returns the other operand where one is NaN.
                *best = rho.fold(*best, f64::max);
            });
        }
    }
}

/// `1 / √(R_jᵀ C R_j)` for every row of R; NaN where the rotated neuron never varies.
fn inverse_spreads(r: &[f32], gram: &[f32]) -> Vec<f64> {
    let d = gram.len().isqrt();
    let mut product = vec![0.0; d * d];
    matmul_all_cores(View::new(r, d, d), View::new(gram, d, d), &mut product);
    let square = |(p, r): (&[f32], &[f32])| -> f64 {
        p.iter().zip(r).map(|(&p, &r)| f64::from(p) * f64::from(r)).sum()
    };
    let squares = product.chunks_exact(d).zip(r.chunks_exact(d)).map(square);
    squares.map(|s| if s > 0.0 { 1.0 / s.sqrt() } else { f64::NAN }).collect()
}
