//! How similar two layers are as a whole: linear CKA (Kornblith et al., 2019, eq. 5), which does not
//! depend on which neuron matches which. It follows from sums that are there already.

use std::ops::Range;

use rayon::prelude::*;

use super::sums::NeuronSums;

/// Returns the Frobenius norm of a layer's matrix of covariances: `‖XᵀX‖` for activations X whose means
/// are subtracted. `gram` is Σ x_j x_k, `[d, d]`, of which the entries with k ≤ j are read; `neurons`
/// are those of the layer among the sums. A neuron without a correlation counts as one that is always
/// zero.
pub fn gram_norm(gram: &[f64], sums: &NeuronSums, neurons: Range<usize>) -> f64 {
    let (first, d) = (neurons.start, neurons.len());
    let lives = |i: usize| sums.inverse_spread(first + i).is_some();
    let row = |j: usize| {
        let mean = sums.sum(first + j) / sums.n as f64;
        let square = |k: usize| (gram[j * d + k] - mean * sums.sum(first + k)).powi(2);
        let below: f64 = (0..j).filter(|&k| lives(k)).map(square).sum();
        2.0 * below + square(j)
    };
    let rows: Vec<f64> = (0..d).into_par_iter().filter(|&j| lives(j)).map(row).collect();
    rows.iter().sum::<f64>().sqrt()
}

/// Returns Σ over the neurons of a layer of y of their squared covariance with one neuron of x, given
/// the row of correlations. `inverse` are the inverse spreads of the neurons of y, `inverse_x` that
/// of the neuron of x; NaN marks a neuron without a correlation.
pub fn squared_covariances(row: &[f64], inverse: &[f64], inverse_x: f64) -> f64 {
    let square = |(rho, inverse): (&f64, &f64)| {
        let covariance = rho / inverse / inverse_x;
        if covariance.is_nan() { 0.0 } else { covariance * covariance }
    };
    row.iter().zip(inverse).map(square).sum()
}

/// Returns linear CKA, from 0 to 1, of every pair of layers, `[layer of x][layer of y]` in one list.
/// `squares` are the summed squares of covariances, `norms` those of [`gram_norm`].
pub fn linear_cka(squares: &[f64], [x, y]: [&[f64]; 2]) -> Vec<f64> {
    let norms = x.iter().flat_map(|x| y.iter().map(move |y| x * y));
    squares.iter().zip(norms).map(|(square, norm)| square / norm).collect()
}

#[cfg(test)]
mod tests {
    use super::super::oracle::{cka, rotate};
    use super::super::rotation::{random_rotation, rotation_stream};
    use super::super::tests::{KEEPS, X, Y, activations, all_series, correlate_all, plan};
    use super::super::{ComparisonPlan, Layout, NeuronComparison};
    use crate::spec::BaselineKind;

    /// Returns the series of the neurons of one layer.
    fn layer_series(values: &[f32], layout: Layout, layer: usize) -> Vec<Vec<f64>> {
        all_series(values, layout)[layout.neurons(layer)].to_vec()
    }

    #[test]
    fn layers_are_compared_as_their_definition_says() {
        let (x, y) = (activations(X, 300, 1), activations(Y, 300, 2));
        for keep in KEEPS {
            let both =
                ComparisonPlan { references: vec![0, 1], ..plan(&[X, Y], BaselineKind::Rotation) };
            let found = correlate_all(&both, keep, &[&x, &y]).finish();
            for (a, b) in (0..X.n_layers).flat_map(|a| (0..Y.n_layers).map(move |b| (a, b))) {
                let want = cka(&layer_series(&x, X, a), &layer_series(&y, Y, b));
                let forth = found[0][0].cka[a * Y.n_layers + b];
                let back = found[1][0].cka[b * X.n_layers + a];
                assert!(
                    (forth - want).abs() < 1e-5,
                    "{keep:?} L{a} L{b}: {forth}, expected {want}"
                );
                assert!((back - want).abs() < 1e-5, "{keep:?} L{b} L{a}: {back}, expected {want}");
            }
            let one =
                correlate_all(&plan(&[X, Y], BaselineKind::Rotation), keep, &[&x, &y]).finish();
            assert!(one[0][0].cka.is_empty(), "the Gram sums of x are not there");
        }
    }

    #[test]
    fn a_layer_is_wholly_similar_to_itself_and_to_its_rotation() {
        let x = activations(X, 300, 1);
        let rotation =
            random_rotation(BaselineKind::Orthogonal, rotation_stream(1, 0, 0, 0), X.d_mlp);
        let turned: Vec<Vec<Vec<f64>>> =
            (0..X.n_layers).map(|l| rotate(&rotation, &layer_series(&x, X, l))).collect();
        let value = |e: usize| {
            let (t, i) = (e / X.n_neurons(), e % X.n_neurons());
            turned[X.layer(i)][i % X.d_mlp][t] as f32
        };
        let turned: Vec<f32> = (0..x.len()).map(value).collect();
        let both =
            ComparisonPlan { references: vec![0, 1], ..plan(&[X, X], BaselineKind::FastRotation) };
        let found = correlate_all(&both, KEEPS[1], &[&x, &turned]).finish();
        for layer in 0..X.n_layers {
            let cka = found[0][0].cka[layer * X.n_layers + layer];
            assert!((cka - 1.0).abs() < 1e-5, "layer {layer}: {cka}");
        }
    }

    #[test]
    fn a_neuron_without_a_correlation_does_not_change_the_similarity_of_layers() {
        let (mut x, y) = (activations(X, 300, 1), activations(Y, 300, 2));
        // One neuron never varies, another is not finite.
        x.iter_mut().step_by(X.n_neurons()).for_each(|v| *v = 4.0);
        x[1] = f32::INFINITY;
        let both =
            ComparisonPlan { references: vec![0, 1], ..plan(&[X, Y], BaselineKind::Rotation) };
        for keep in KEEPS {
            let found = correlate_all(&both, keep, &[&x, &y]).finish();
            let want = cka(&layer_series(&x, X, 0)[2..], &layer_series(&y, Y, 0));
            let got = found[0][0].cka[0];
            assert!((got - want).abs() < 1e-5, "{keep:?}: {got}, expected {want}");
        }
    }
}
