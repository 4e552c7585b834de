//! Matches seen from the other side: the correlations of a partner neuron with every neuron of the
//! reference model.

use crate::backend::kernel::CpuKernel;
use crate::backend::matmul::Product;
use crate::backend::pack::MatrixView;
use crate::correlation::{CHUNK, NeuronSums};
use crate::spec::Precision;

/// Sums over tokens, from which the correlations of some partner neurons with every neuron of the
/// reference model follow.
pub struct ReverseSums {
    reference: NeuronSums,
    partners: NeuronSums,
    /// Σxy, `[partners, neurons of the reference model]`.
    cross: Vec<f64>,
}

impl ReverseSums {
    /// Creates sums without tokens.
    pub fn new(reference: usize, partners: usize) -> Self {
        Self {
            reference: NeuronSums::new(reference),
            partners: NeuronSums::new(partners),
            cross: vec![0.0; reference * partners],
        }
    }

    /// Adds the activations of the same tokens, `[tokens, neurons of the reference model]` and
    /// `[tokens, partners]`. Changes them by a constant for each neuron.
    pub fn absorb(&mut self, reference: &mut [f32], partners: &mut [f32]) {
        let (n, m) = (self.reference.neurons(), self.partners.neurons());
        if m == 0 || partners.is_empty() {
            return;
        }
        self.reference.absorb(reference);
        self.partners.absorb(partners);
        let tokens = partners.len() / m;
        let product = Product { kernel: CpuKernel::best(Precision::F32), chain: CHUNK };
        let (x, y) = (MatrixView::new(reference, tokens, n), MatrixView::new(partners, tokens, m));
        product.add(y, x, &mut self.cross);
    }

    /// Returns ρ of a partner neuron with every neuron of the reference model; NaN for a neuron
    /// without correlation.
    pub fn correlations(&self, partner: usize) -> Vec<f64> {
        let n = self.reference.neurons();
        let of = |sums: &NeuronSums, i: usize| sums.inverse_spread(i).unwrap_or(f64::NAN);
        let (sum, inverse) = (self.partners.sum(partner), of(&self.partners, partner));
        let tokens = self.partners.n as f64;
        let cross = self.cross[partner * n..(partner + 1) * n].iter().enumerate();
        let rho = |(i, xy): (usize, &f64)| {
            (xy - self.reference.sum(i) * sum / tokens) * inverse * of(&self.reference, i)
        };
        cross.map(rho).collect()
    }
}

/// Returns the place of a value in descending order, from 1. NaN comes last.
pub fn rank(values: &[f64], of: usize) -> usize {
    let own = values[of];
    let before = |v: &&f64| **v > own || (own.is_nan() && !v.is_nan());
    1 + values.iter().filter(before).count()
}

/// Returns the index of the first largest value; `None` if all are NaN.
pub fn largest(values: &[f64]) -> Option<usize> {
    let known = (0..values.len()).filter(|&i| !values[i].is_nan());
    known.reduce(|best, i| if values[i] > values[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pearson's correlation as it is defined, in f64.
    fn twin(x: &[f64], y: &[f64]) -> f64 {
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let (mx, my) = (mean(x), mean(y));
        let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
            x.iter().zip(y).map(|(x, y)| of(x - mx, y - my)).sum()
        };
        sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
    }

    proptest! {
        #[test]
        fn correlations_are_their_definition(
            rows in prop::collection::vec(prop::array::uniform5(-2.0f32..2.0), 8..60),
            shift in -50.0f32..50.0,
        ) {
            let mut sums = ReverseSums::new(3, 2);
            let x = |row: &[f32; 5]| [row[0] + shift, row[1], row[0] + row[3]];
            for part in rows.chunks(7) {
                let mut reference: Vec<f32> = part.iter().flat_map(x).collect();
                let mut partners: Vec<f32> = part.iter().flat_map(|row| [row[3], row[4]]).collect();
                sums.absorb(&mut reference, &mut partners);
            }
            for partner in 0..2 {
                let got = sums.correlations(partner);
                let y: Vec<f64> = rows.iter().map(|row| f64::from(row[3 + partner])).collect();
                for (i, got) in got.iter().enumerate() {
                    let x: Vec<f64> = rows.iter().map(|row| f64::from(x(row)[i])).collect();
                    prop_assert!((got - twin(&x, &y)).abs() < 1e-4, "{} {}", got, twin(&x, &y));
                }
            }
        }
    }

    #[test]
    fn a_constant_has_no_correlation_and_comes_last() {
        let mut sums = ReverseSums::new(2, 1);
        sums.absorb(&mut [1.0, 3.0, 2.0, 3.0, 3.0, 3.0], &mut [1.0, 2.0, 3.0]);
        let rho = sums.correlations(0);
        assert!((rho[0] - 1.0).abs() < 1e-6 && rho[1].is_nan(), "{rho:?}");
        assert_eq!([rank(&rho, 0), rank(&rho, 1)], [1, 2]);
        assert_eq!(largest(&rho), Some(0));
    }

    #[test]
    fn ranks_count_what_is_larger() {
        let values = [0.5, f64::NAN, 0.9, 0.5, -1.0];
        let ranks: Vec<usize> = (0..5).map(|i| rank(&values, i)).collect();
        assert_eq!(ranks, [2, 5, 1, 2, 4]);
        assert_eq!(largest(&values), Some(2));
        assert_eq!(largest(&[f64::NAN]), None);
    }
}
