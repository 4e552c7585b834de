//! The rotation baseline without a second pass over tokens.
//!
//! Literally (paper eq. 3): replace each layer's activations V `[d_mlp, tokens]`
//! by R V, rows of R random and of unit norm, and correlate as before. By
//! linearity all sums of R V follow from those of V: with centred sums,
//! `cov(x, (RV)_j) = R_j · cov(x, V)` and `var((RV)_j) = R_jᵀ cov(V, V) R_j`.

use rayon::prelude::*;

use super::fast_rotation::FastRotation;
use super::random::{Purpose, RandomStream};
use super::sums::ModelSums;
use crate::backend::matmul::{Product, matmul_all_cores};
use crate::backend::pack::MatrixView;
use crate::backend::parts::add_in_parts;
use crate::spec::BaselineKind;

/// A random matrix `[d, d]` with rows of unit norm.
pub enum Rotation {
    /// Its entries.
    Dense(Vec<f32>),
    /// The transforms that it is a product of.
    Fast(FastRotation),
}

impl Rotation {
    /// Draws a rotation of the kind that the baseline asks for.
    pub fn draw(kind: BaselineKind, stream: RandomStream, d: usize) -> Self {
        match kind {
            BaselineKind::FastRotation => Self::Fast(FastRotation::new(stream, d)),
            _ => Self::Dense(random_rotation(kind, stream, d)),
        }
    }
}

/// Returns a random matrix `[d, d]` with rows of unit norm: Gaussian rows divided by their norms
/// (the paper's baseline), or orthonormal rows.
pub fn random_rotation(kind: BaselineKind, stream: RandomStream, d: usize) -> Vec<f32> {
    if kind == BaselineKind::FastRotation {
        return FastRotation::new(stream, d).dense();
    }
    let mut r = vec![0.0_f32; d * d];
    stream.normals(&mut r);
    match kind {
        BaselineKind::Orthogonal => orthogonal(&r, d),
        _ => {
            r.par_chunks_exact_mut(d).for_each(|row| {
                let norm = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
                row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
            });
            r
        }
    }
}

/// Makes the rows of a Gaussian matrix orthonormal (modified Gram–Schmidt in f64), which gives a
/// uniformly distributed orthogonal matrix.
fn orthogonal(normals: &[f32], d: usize) -> Vec<f32> {
    let mut rows: Vec<Vec<f64>> =
        normals.chunks_exact(d).map(|row| row.iter().map(|&v| f64::from(v)).collect()).collect();
    for i in 0..d {
        let (done, rest) = rows.split_at_mut(i + 1);
        let row = &mut done[i];
        let norm = dot(row, row).sqrt();
        row.iter_mut().for_each(|v| *v /= norm);
        let row: &[f64] = row;
        rest.par_iter_mut().for_each(|other| {
            let along = dot(row, other);
            other.iter_mut().zip(row).for_each(|(o, r)| *o -= along * r);
        });
    }
    rows.into_iter().flatten().map(|v| v as f32).collect()
}

/// Returns the dot product, summed in eight interleaved parts.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut parts = [0.0; 8];
    add_in_parts(a, b, &mut parts, |a, b| a * b);
    parts.iter().sum()
}

/// Returns the stream of random numbers for the rotation of one layer of one partner in one draw.
pub fn rotation_stream(seed: u64, draw: usize, partner: usize, layer: usize) -> RandomStream {
    let id = (draw as u64) << 32 | (partner as u64) << 16 | layer as u64;
    RandomStream { seed, purpose: Purpose::Rotation, id }
}

/// The rotated neurons of one layer of a partner, in all draws.
pub struct RotatedLayer {
    product: Product,
    d: usize,
    draws: Vec<Draw>,
}

struct Draw {
    rotation: Rotation,
    /// `1 / spread((RV)_j)`; NaN if the rotated neuron never varies.
    inverse: Vec<f64>,
}

impl RotatedLayer {
    /// Computes the spreads of the rotated neurons from the partner's sums, the Gram sums of the
    /// layer (valid for k ≤ j), and one rotation per draw. A partner neuron without correlation
    /// contributes to no rotated neuron.
    pub fn new(
        product: Product,
        y: ModelSums,
        layer: usize,
        gram: &[f64],
        rotations: impl Iterator<Item = Rotation>,
    ) -> Self {
        let neurons = y.layout.neurons(layer);
        let alive: Vec<bool> =
            neurons.clone().map(|j| y.sums.inverse_spread(j).is_some()).collect();
        let (d, first, n) = (alive.len(), neurons.start, y.sums.n as f64);
        let centred = |j: usize, k: usize| {
            let cov = gram[j.max(k) * d + j.min(k)];
            let cov = cov - y.sums.sum(first + j) * y.sums.sum(first + k) / n;
            if alive[j] && alive[k] { cov as f32 } else { 0.0 }
        };
        let gram: Vec<f32> = (0..d * d).into_par_iter().map(|e| centred(e / d, e % d)).collect();
        let inverse = |square: f64| if square > 0.0 { 1.0 / square.sqrt() } else { f64::NAN };
        let draw = |rotation: Rotation| {
            let squares = match &rotation {
                Rotation::Dense(r) => squares(r, &gram),
                Rotation::Fast(fast) => fast.squares(&gram),
            };
            Draw { inverse: squares.into_iter().map(inverse).collect(), rotation }
        };
        let draws = rotations.map(draw).collect();
        Self { product, d, draws }
    }

    /// Returns, for each draw, the rotation and `1 / spread` of each rotated neuron.
    pub fn draws(&self) -> impl Iterator<Item = (&Rotation, &[f64])> {
        self.draws.iter().map(|draw| (&draw.rotation, draw.inverse.as_slice()))
    }

    /// Raises the best chance correlation of some reference neurons to the best correlation with
    /// the rotated neurons, for each draw. `scaled` is `ρ spread_y` with the neurons of the layer
    /// themselves, `[neurons, d_mlp]`; `rotated` is a buffer of the same length.
    pub fn raise<'a>(
        &self,
        scaled: &[f32],
        rotated: &mut [f32],
        best: impl Iterator<Item = &'a mut [f64]>,
    ) {
        let rows = scaled.len() / self.d;
        let d = self.d;
        for (draw, best) in self.draws.iter().zip(best) {
            let r = match &draw.rotation {
                Rotation::Dense(r) => MatrixView::new(r, d, d),
                Rotation::Fast(fast) => {
                    fast.raise(scaled, &draw.inverse, best);
                    continue;
                }
            };
            self.product.write(MatrixView::new(scaled, rows, d), r.t(), rotated);
            best.par_iter_mut().zip(rotated.par_chunks_exact(d)).for_each(|(best, row)| {
                let rho = row.iter().zip(&draw.inverse).map(|(c, s)| f64::from(*c) * s);
                // `max` returns the other operand if one is NaN.
                *best = rho.fold(*best, f64::max);
            });
        }
    }
}

/// Returns `R_jᵀ C R_j` for every row of R.
fn squares(r: &[f32], gram: &[f32]) -> Vec<f64> {
    let d = gram.len().isqrt();
    let mut product = vec![0.0; d * d];
    matmul_all_cores(MatrixView::new(r, d, d), MatrixView::new(gram, d, d), &mut product);
    let square = |(p, r): (&[f32], &[f32])| -> f64 {
        p.iter().zip(r).map(|(&p, &r)| f64::from(p) * f64::from(r)).sum()
    };
    product.chunks_exact(d).zip(r.chunks_exact(d)).map(square).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orthogonal_rows_are_orthonormal() {
        let d = 70;
        let r = random_rotation(BaselineKind::Orthogonal, rotation_stream(1, 0, 1, 0), d);
        let wide: Vec<Vec<f64>> =
            r.chunks_exact(d).map(|row| row.iter().map(|&v| f64::from(v)).collect()).collect();
        for (i, a) in wide.iter().enumerate() {
            for (j, b) in wide.iter().enumerate() {
                let want = f64::from(u8::from(i == j));
                assert!((dot(a, b) - want).abs() < 1e-6, "{i} {j}");
            }
        }
    }
}
