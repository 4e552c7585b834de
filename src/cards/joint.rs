//! The joint distribution of two activations.

use super::seen::short;
use crate::record::JointHistogram;

/// Extent of a range of values in bins: lower edge of the first bin, and width of a bin.
#[derive(Clone, Copy)]
struct Bins {
    from: f64,
    width: f64,
}

impl Bins {
    fn of(values: impl Iterator<Item = f32> + Clone) -> Self {
        let low = f64::from(values.clone().fold(f32::INFINITY, f32::min));
        let high = f64::from(values.fold(f32::NEG_INFINITY, f32::max));
        if low > high {
            return Self { from: 0.0, width: 0.0 };
        }
        Self { from: low, width: (high - low) / JointHistogram::BINS as f64 }
    }

    /// Returns the bin of a value. The largest value lies on the upper edge of the last bin.
    fn bin(self, value: f32) -> usize {
        (((f64::from(value) - self.from) / self.width) as usize).min(JointHistogram::BINS - 1)
    }

    fn shown(self) -> Vec<f64> {
        vec![short(self.from), self.width]
    }
}

impl JointHistogram {
    /// Number of bins in each direction.
    pub const BINS: usize = 24;

    /// Creates the joint histogram of two activations, `x` of the card's neuron and `y` of its
    /// match. Tokens at which one of them is not finite are skipped.
    pub fn of(x: &[f32], y: &[f32]) -> Self {
        let pairs = x.iter().copied().zip(y.iter().copied());
        let pairs = pairs.filter(|(x, y)| x.is_finite() && y.is_finite());
        let (of_x, of_y) =
            (Bins::of(pairs.clone().map(|(x, _)| x)), Bins::of(pairs.clone().map(|(_, y)| y)));
        let mut cells = vec![0_u32; Self::BINS * Self::BINS];
        pairs.clone().for_each(|(x, y)| cells[Self::BINS * of_y.bin(y) + of_x.bin(x)] += 1);
        let counts = cells.into_iter().enumerate().filter(|(_, n)| *n > 0);
        Self {
            bins: Self::BINS,
            x: of_x.shown(),
            y: of_y.shown(),
            line: regression(pairs.map(|(x, y)| (f64::from(x), f64::from(y)))),
            counts: counts.collect(),
        }
    }
}

/// Returns intercept and slope of the least-squares line of y on x; NaN if x never varies.
fn regression(pairs: impl Iterator<Item = (f64, f64)> + Clone) -> Vec<f64> {
    let n = pairs.clone().count() as f64;
    let (sum_x, sum_y) = pairs.clone().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
    let (mean_x, mean_y) = (sum_x / n, sum_y / n);
    let (xx, xy) = pairs.fold((0.0, 0.0), |(xx, xy), (x, y)| {
        (xx + (x - mean_x).powi(2), xy + (x - mean_x) * (y - mean_y))
    });
    let slope = if xx > 0.0 { xy / xx } else { f64::NAN };
    vec![mean_y - slope * mean_x, slope]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_pair_is_counted_once_and_near_its_cell(
            pairs in prop::collection::vec((-3.0f32..3.0, -1.0f32..5.0), 1..200),
        ) {
            let (x, y): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
            let joint = JointHistogram::of(&x, &y);
            let total: u32 = joint.counts.iter().map(|(_, n)| n).sum();
            prop_assert_eq!(total as usize, pairs.len());
            let edge = |values: &[f32], of: fn(f32, f32) -> f32| {
                f64::from(values.iter().copied().reduce(of).expect("a value"))
            };
            for (x0, y0) in &pairs {
                let place = |v: f32, of: &[f32]| {
                    let (low, high) = (edge(of, f32::min), edge(of, f32::max));
                    24.0 * (f64::from(v) - low) / (high - low).max(1e-300)
                };
                let (column, row) = (place(*x0, &x), place(*y0, &y));
                let near = |(cell, _): &(usize, u32)| {
                    let (c, r) = ((cell % 24) as f64, (cell / 24) as f64);
                    (c - 1e-6..=c + 1.0 + 1e-6).contains(&column)
                        && (r - 1e-6..=r + 1.0 + 1e-6).contains(&row)
                };
                prop_assert!(joint.counts.iter().any(near), "{} {}", column, row);
            }
        }

        #[test]
        fn no_other_line_is_nearer(
            pairs in prop::collection::vec((-3.0f32..3.0, -1.0f32..5.0), 3..50),
            other in (-0.1f64..0.1, -0.1f64..0.1),
        ) {
            let (x, y): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
            let line = JointHistogram::of(&x, &y).line;
            let error = |a: f64, b: f64| -> f64 {
                pairs.iter().map(|(x, y)| (f64::from(*y) - a - b * f64::from(*x)).powi(2)).sum()
            };
            prop_assert!(error(line[0], line[1]) <= error(line[0] + other.0, line[1] + other.1) + 1e-9);
        }
    }

    #[test]
    fn a_line_is_found_and_a_constant_has_none() {
        let joint = JointHistogram::of(&[0.0, 1.0, 2.0, f32::NAN], &[1.0, 3.0, 5.0, 0.0]);
        assert_eq!((joint.line, joint.counts), (vec![1.0, 2.0], vec![(0, 1), (300, 1), (575, 1)]));
        let constant = JointHistogram::of(&[1.0, 1.0], &[1.0, 2.0]);
        assert!(constant.line[1].is_nan());
        assert!(JointHistogram::of(&[f32::NAN], &[0.0]).counts.is_empty());
    }
}
