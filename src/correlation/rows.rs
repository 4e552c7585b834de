//! One row of correlations: a neuron of the reference against one layer of the partner.

use crate::backend::device::ops::BINS;
use crate::backend::wide::widened;
use crate::stats::PowerSums;

widened! {
    pub fn correlate(row: &mut [f64], sums: &[f64], inverse: &[f64], mean_x: f64, inverse_x: f64) {
        for ((value, sum_y), inverse_y) in row.iter_mut().zip(sums).zip(inverse) {
            *value = (*value - mean_x * sum_y) * inverse_x * inverse_y;
        }
    }
}

widened! {
    pub fn scale(row: &[f64], inverse: &[f64], scaled: &mut [f32]) {
        for ((out, value), inverse) in scaled.iter_mut().zip(row).zip(inverse) {
            *out = if inverse.is_nan() { 0.0 } else { (value * (1.0 / inverse)) as f32 };
        }
    }
}

/// Inserts the correlations of a row into a list of the largest ones. Of equal values, the first
/// comes first; NaN is never inserted.
pub fn keep_best(row: &[f64], first: usize, top: &mut [f64], partner: &mut [u32]) {
    for (i, &rho) in row.iter().enumerate() {
        keep_if_best(rho, first + i, top, partner);
    }
}

#[inline(always)]
pub fn keep_if_best(rho: f64, neuron: usize, top: &mut [f64], partner: &mut [u32]) {
    let last = top.len() - 1;
    // The first comparison is false if `rho` is NaN; the second inserts into an unused slot (NaN).
    if rho > top[last] || (top[last].is_nan() && !rho.is_nan()) {
        let place = top.iter().position(|&t| t.is_nan() || rho > t).unwrap_or(last);
        top[place..].rotate_right(1);
        partner[place..].rotate_right(1);
        (top[place], partner[place]) = (rho, neuron as u32);
    }
}

/// The distribution of the correlations of one row. NaN (no correlation) is not counted.
pub struct RowStatistics {
    /// Power sums of ρ around 0.
    pub moments: PowerSums,
    /// Number of correlations in each bin of the histogram.
    pub bins: [u32; BINS],
}

impl RowStatistics {
    pub fn of(row: &[f64]) -> Self {
        let mut spread = Self { moments: PowerSums::around(0.0), bins: [0; BINS] };
        for &rho in row.iter().filter(|rho| !rho.is_nan()) {
            spread.moments.add(rho);
            spread.bins[row_bin(rho)] += 1;
        }
        spread
    }
}

/// Returns the bin of the histogram that a correlation falls into.
pub fn row_bin(rho: f64) -> usize {
    let bin = (rho + 1.0) * (BINS as f64 / 2.0);
    // The cast and `min` keep values that rounding moved beyond ±1 in the outermost bins.
    (bin as usize).min(BINS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_wins_and_nan_never_does() {
        let best = |row: &[f64], k: usize| {
            let (mut top, mut partner) = (vec![f64::NAN; k], vec![0; k]);
            // In two parts, as the layers of a partner arrive.
            let (first, second) = row.split_at(row.len() / 2);
            keep_best(first, 0, &mut top, &mut partner);
            keep_best(second, first.len(), &mut top, &mut partner);
            let found = top.into_iter().zip(partner).filter(|(rho, _)| !rho.is_nan());
            found.collect::<Vec<_>>()
        };
        let row = [f64::NAN, 0.25, 0.5, 0.5, -1.0];
        assert_eq!(best(&row, 1), [(0.5, 2)]);
        assert_eq!(best(&row, 3), [(0.5, 2), (0.5, 3), (0.25, 1)]);
        assert_eq!(best(&row, 9).len(), 4);
        assert_eq!(best(&[f64::NAN; 3], 2), []);
        assert_eq!(best(&[-0.5], 1), [(-0.5, 0)]);
    }

    #[test]
    fn every_correlation_falls_into_a_bin() {
        let spread = RowStatistics::of(&[-1.0, -1.0 - 1e-9, 0.0, 0.999, 1.0, 1.0 + 1e-9, f64::NAN]);
        assert_eq!((spread.bins[0], spread.bins[50], spread.bins[99]), (2, 1, 3));
        assert_eq!(spread.bins.iter().sum::<u32>(), 6);
    }
}
