//! The most similar weights of other neurons (paper Fig. 10).

use rayon::prelude::*;

use super::weights::{transposed, unit_rows};
use crate::backend::matmul::matmul;
use crate::backend::pack::MatrixView;
use crate::model::Config;
use crate::model::weights::{Block, Weights};

/// Number of neurons handled by one task, whose cosines with all neurons are in memory at the same
/// time.
const NEURONS: usize = 128;

/// The other neurons, in all layers, with weights most similar to those of a neuron.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimilarWeights {
    /// The nearest neuron by the mean of cos(w_in, w_in) and cos(w_out, w_out), counted over all
    /// layers.
    pub neuron: usize,
    /// One minus this mean: 0 for a duplicate, 1 for orthogonal weights.
    pub distance: f64,
    /// The largest cosine of the neuron's w_in with the w_in and with the w_out of another neuron, then
    /// those of its w_out with them: in the order of [`PAIRS`].
    pub cosines: [f64; 4],
}

/// Names of the pairs of weights that are compared: those of the neuron, then those of another one.
pub const PAIRS: [&str; 4] = ["in-in", "in-out", "out-in", "out-out"];

/// Returns the most similar weights of every neuron. Values are NaN for weights that are not finite.
pub fn similar_weights(weights: &Weights, config: &Config) -> Vec<SimilarWeights> {
    let (d, d_mlp) = (config.d_model, config.d_mlp());
    let w_in = |block: &Block| unit_rows(&transposed(&block.mlp_in.weight, d, d_mlp), d);
    let w_out = |block: &Block| unit_rows(&block.mlp_out.weight, d);
    let all = [
        weights.blocks.iter().flat_map(w_in).collect::<Vec<f32>>(),
        weights.blocks.iter().flat_map(w_out).collect(),
    ];
    let n = all[0].len() / d;
    let tasks = (0..n).into_par_iter().step_by(NEURONS);
    let of_task = |first: usize| {
        let rows = first..n.min(first + NEURONS);
        let cosines = |own: usize, other: usize| {
            let mut cosines = vec![0.0; rows.len() * n];
            let some = &all[own][rows.start * d..rows.end * d];
            let some = MatrixView::new(some, rows.len(), d);
            matmul(some, MatrixView::new(&all[other], n, d).t(), &mut cosines, n);
            cosines
        };
        of_rows(rows.start, n, cosines)
    };
    tasks.flat_map_iter(of_task).collect()
}

/// Returns the most similar weights of the neurons from `first` on. `cosines` computes those of their
/// w_in (0) or w_out (1) with the w_in or w_out of all `n` neurons, `[neurons, n]`.
fn of_rows(
    first: usize,
    n: usize,
    cosines: impl Fn(usize, usize) -> Vec<f32>,
) -> Vec<SimilarWeights> {
    let largest = |values: &[f32]| -> Vec<f64> {
        let rows = values.chunks_exact(n).enumerate();
        rows.map(|(i, row)| best(row, first + i).1.into()).collect()
    };
    let crossed = [(0, 1), (1, 0)].map(|(own, other)| largest(&cosines(own, other)));
    let (mut both, out_out) = (cosines(0, 0), cosines(1, 1));
    let straight = [&both, &out_out].map(|values| largest(values));
    both.iter_mut().zip(&out_out).for_each(|(both, out)| *both += out);
    let one = |(i, row): (usize, &[f32])| {
        let (neuron, sum) = best(row, first + i);
        SimilarWeights {
            neuron,
            distance: 1.0 - f64::from(sum) / 2.0,
            cosines: [straight[0][i], crossed[0][i], crossed[1][i], straight[1][i]],
        }
    };
    both.chunks_exact(n).enumerate().map(one).collect()
}

/// Returns the index and the size of the largest value except for that of the neuron itself; this
/// index and NaN if no value is a number.
fn best(row: &[f32], own: usize) -> (usize, f32) {
    let others = row.iter().copied().enumerate().filter(|(j, c)| *j != own && !c.is_nan());
    others.fold((own, f32::NAN), |best, other| if other.1 <= best.1 { best } else { other })
}
