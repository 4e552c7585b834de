//! Mean, variance, skewness and kurtosis, from power sums.

use crate::checkpoint::{Part, State, Visit};
use crate::nullable::or_nan;

/// The first four moments. `var` divides by n; `kurt` is the fourth standardised moment, 3 for a
/// Gaussian. `skew` and `kurt` are 0 if the variance is 0. All four are NaN if there are no values or
/// a value is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Moments {
    /// Mean.
    #[serde(deserialize_with = "or_nan")]
    pub mean: f64,
    /// Population variance.
    #[serde(deserialize_with = "or_nan")]
    pub var: f64,
    /// Third standardised moment.
    #[serde(deserialize_with = "or_nan")]
    pub skew: f64,
    /// Fourth standardised moment.
    #[serde(deserialize_with = "or_nan")]
    pub kurt: f64,
}

/// The number of values and the sums Σ(x − shift)^k for k = 1…4. Sums over disjoint values with equal
/// shifts can be added.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PowerSums {
    n: f64,
    shift: f64,
    sums: [f64; 4],
}

impl PowerSums {
    /// Creates sums without values. `shift` should lie near the mean of the values to come.
    pub fn around(shift: f64) -> Self {
        Self { shift, ..Self::default() }
    }

    /// Returns the value that is subtracted before summing.
    pub fn shift(&self) -> f64 {
        self.shift
    }

    /// Creates sums from the number of values and the sums.
    pub fn of(shift: f64, n: f64, sums: [f64; 4]) -> Self {
        Self { n, shift, sums }
    }

    /// Adds a value.
    #[inline]
    pub fn add(&mut self, value: f64) {
        self.add_repeated(value, 1.0);
    }

    /// Adds a value with weight `count`.
    #[inline]
    pub fn add_repeated(&mut self, value: f64, times: f64) {
        let d = value - self.shift;
        let square = d * d;
        self.n += times;
        self.sums[0] += times * d;
        self.sums[1] += times * square;
        self.sums[2] += times * square * d;
        self.sums[3] += times * square * square;
    }

    /// Adds the sums of other values.
    ///
    /// # Panics
    /// Panics if the shifts differ.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.shift, other.shift, "sums around different shifts do not add");
        self.n += other.n;
        self.sums.iter_mut().zip(other.sums).for_each(|(a, b)| *a += b);
    }

    /// Returns whether every value added is finite.
    pub fn is_finite(&self) -> bool {
        self.shift.is_finite() && self.sums.iter().all(|s| s.is_finite())
    }

    /// Returns the moments of all values added.
    pub fn moments(&self) -> Moments {
        if self.n == 0.0 || !self.is_finite() {
            return Moments::MISSING;
        }
        let [m1, m2, m3, m4] = self.sums.map(|s| s / self.n);
        let var = m2 - m1 * m1;
        // Rounding may leave less than zero; NaN stays NaN, which `max` would not let it.
        let var = if var < 0.0 { 0.0 } else { var };
        let third = m3 - 3.0 * m1 * m2 + 2.0 * m1.powi(3);
        let fourth = m4 - 4.0 * m1 * m3 + 6.0 * m1 * m1 * m2 - 3.0 * m1.powi(4);
        let standardised = |moment: f64, power: f64| {
            if var == 0.0 { 0.0 } else { moment / var.powf(power) }
        };
        Moments {
            mean: self.shift + m1,
            var,
            skew: standardised(third, 1.5),
            kurt: standardised(fourth, 2.0),
        }
    }
}

impl State for PowerSums {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        visit(Part::Shift(&mut self.shift))?;
        visit(Part::Numbers(std::slice::from_mut(&mut self.n)))?;
        visit(Part::Numbers(&mut self.sums))
    }
}

impl Moments {
    /// The moments of no values: all NaN.
    pub const MISSING: Self =
        Self { mean: f64::NAN, var: f64::NAN, skew: f64::NAN, kurt: f64::NAN };

    /// Returns the moments of values in memory.
    pub fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let (n, sum) = values.clone().fold((0.0, 0.0), |(n, sum), v| (n + 1.0, sum + v));
        let mut sums = PowerSums::around(if n > 0.0 { sum / n } else { 0.0 });
        values.for_each(|v| sums.add(v));
        sums.moments()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    /// Computes the moments by their definition, in two passes.
    fn twin(x: &[f64]) -> Moments {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let central = |k: i32| x.iter().map(|v| (v - mean).powi(k)).sum::<f64>() / n;
        let var = central(2);
        Moments { mean, var, skew: central(3) / var.powf(1.5), kurt: central(4) / var.powi(2) }
    }

    fn samples() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(-5.0f64..5.0, 3..60)
            .prop_filter("some variance", |x| twin(x).var > 1e-3)
    }

    proptest! {
        #[test]
        fn moments_match_their_definition(x in samples(), shift in -3.0f64..3.0) {
            let mut sums = PowerSums::around(shift);
            x.iter().for_each(|&v| sums.add(v));
            let (got, want) = (sums.moments(), twin(&x));
            prop_assert!((got.mean - want.mean).abs() < 1e-10);
            prop_assert!((got.var - want.var).abs() < 1e-9 * want.var.max(1.0));
            prop_assert!((got.skew - want.skew).abs() < 1e-5 && (got.kurt - want.kurt).abs() < 1e-5 * want.kurt);
        }

        #[test]
        fn shape_survives_shift_and_scale(x in samples(), shift in -1e3f64..1e3, scale in 0.1f64..10.0) {
            let (plain, moved) = (Moments::of(x.iter().copied()), Moments::of(x.iter().map(|v| shift + scale * v)));
            prop_assert!((moved.mean - (shift + scale * plain.mean)).abs() < 1e-9 * (1.0 + shift.abs()));
            prop_assert!((moved.var / (scale * scale * plain.var) - 1.0).abs() < 1e-6);
            prop_assert!((moved.skew - plain.skew).abs() < 1e-6 && (moved.kurt / plain.kurt - 1.0).abs() < 1e-6);
        }

        #[test]
        fn parts_merge_to_the_whole(x in samples(), cut in 0usize..60) {
            let (left, right) = x.split_at(cut.min(x.len()));
            let sums = |part: &[f64]| {
                let mut sums = PowerSums::around(0.5);
                part.iter().for_each(|&v| sums.add(v));
                sums
            };
            let mut merged = sums(left);
            merged.merge(&sums(right));
            let (got, want) = (merged.moments(), sums(&x).moments());
            prop_assert!((got.var - want.var).abs() < 1e-10 * want.var.max(1.0));
            prop_assert!((got.kurt / want.kurt - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn degenerate_samples_have_no_shape() {
        let constant = Moments::of([4.25; 9].into_iter());
        assert_eq!(constant, Moments { mean: 4.25, ..Moments::default() });
    }

    #[test]
    fn what_is_no_sample_has_no_moments() {
        let none = |m: Moments| [m.mean, m.var, m.skew, m.kurt].iter().all(|v| v.is_nan());
        assert!(none(Moments::of([].into_iter())));
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for values in [vec![bad], vec![1.0, bad], vec![bad, 2.0, 3.0], vec![bad, -bad]] {
                assert!(none(Moments::of(values.iter().copied())), "{values:?}");
                let mut sums = PowerSums::around(1.0);
                values.iter().for_each(|&v| sums.add(v));
                let mut merged = PowerSums::around(1.0);
                merged.add(5.0);
                merged.merge(&sums);
                assert!(none(sums.moments()) && none(merged.moments()), "{values:?}");
            }
        }
    }

    #[test]
    fn large_means_lose_nothing() {
        let noise = |i: u32| f64::from(i % 7) - 3.0;
        let far = Moments::of((0..700).map(|i| 1e6 + noise(i)));
        assert_relative_eq!(far.var, 4.0, max_relative = 1e-9);
        assert_relative_eq!(far.kurt, 1.75, max_relative = 1e-9);
    }
}
