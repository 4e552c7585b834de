//! Pearson correlation from sums, and the best match of each neuron.

use rayon::prelude::*;

use super::sums::{CrossSums, NeuronSums};

/// The partner neuron that correlates best with a neuron.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Best {
    /// Pearson's ρ.
    pub rho: f64,
    /// The partner neuron, counted over all layers.
    pub neuron: usize,
}

/// Turns `Σxy` into ρ (eq. 2), in place: `(Σxy − Σx Σy / n) / (spread_x spread_y)`.
/// Entries of a neuron without correlation become NaN.
pub fn to_correlations(mut cross: CrossSums, x: &NeuronSums, y: &NeuronSums) -> CrossSums {
    let n = x.n as f64;
    let inverse = |sums: &NeuronSums, i| sums.inverse_spread(i).unwrap_or(f64::NAN);
    let inverse_y: Vec<f64> = (0..cross.cols).map(|j| inverse(y, j)).collect();
    let cols = cross.cols;
    cross.values.par_chunks_exact_mut(cols).enumerate().for_each(|(i, row)| {
        let (inverse_x, mean_x) = (inverse(x, i), x.sum(i) / n);
        for (j, value) in row.iter_mut().enumerate() {
            *value = (*value - mean_x * y.sum(j)) * inverse_x * inverse_y[j];
        }
    });
    cross
}

/// Best match of every row; None where the row, or every column, has no correlation.
pub fn best_matches(rho: &CrossSums) -> Vec<Option<Best>> {
    rho.values.par_chunks_exact(rho.cols).map(best_of_row).collect()
}

fn best_of_row(row: &[f64]) -> Option<Best> {
    let mut best: Option<Best> = None;
    for (neuron, &rho) in row.iter().enumerate() {
        // Strict, so that the first of equal partners is named; false for NaN.
        if rho > best.map_or(f64::NEG_INFINITY, |b| b.rho) {
            best = Some(Best { rho, neuron });
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_wins_and_nan_never_does() {
        let row = [f64::NAN, 0.25, 0.5, 0.5];
        assert_eq!(best_of_row(&row), Some(Best { rho: 0.5, neuron: 2 }));
        assert_eq!(best_of_row(&[f64::NAN; 3]), None);
        assert_eq!(best_of_row(&[-0.5]), Some(Best { rho: -0.5, neuron: 0 }));
    }
}
