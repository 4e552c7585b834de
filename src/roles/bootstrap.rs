//! Confidence intervals by bootstrap. Whole sequences are resampled, because the tokens of a
//! sequence are not independent.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A mean with its 95 % confidence interval from resampled sequences.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Mean over all tokens.
    pub mean: f64,
    /// 2.5th percentile of the resampled means.
    pub low: f64,
    /// 97.5th percentile of the resampled means.
    pub high: f64,
}

/// Returns the mean per token and its interval, from the sum over each sequence and the number of
/// tokens of each sequence.
///
/// # Panics
/// Panics if there is no sequence.
pub fn bootstrap(sums: &[f64], tokens: &[f64], resamples: usize, seed: u64) -> Interval {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mean = |pick: &mut dyn FnMut(usize) -> usize| {
        let picked = (0..sums.len()).map(pick);
        let (sum, n) = picked.fold((0.0, 0.0), |(s, n), i| (s + sums[i], n + tokens[i]));
        sum / n
    };
    let whole = mean(&mut |i| i);
    let mut draw = |_| (random.next_u64() % sums.len() as u64) as usize;
    let mut means: Vec<f64> = (0..resamples).map(|_| mean(&mut draw)).collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[((means.len() - 1) as f64 * share).round() as usize];
    Interval { mean: whole, low: at(0.025), high: at(0.975) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_the_mean_and_narrows() {
        let sums = |n: usize| (0..n).map(|i| (i % 7) as f64).collect::<Vec<_>>();
        let of = |n: usize| bootstrap(&sums(n), &vec![1.0; n], 1000, 3);
        let (few, many) = (of(21), of(2100));
        assert_eq!((few.mean, many.mean), (3.0, 3.0));
        assert!(few.low < 3.0 && 3.0 < few.high);
        assert!(many.high - many.low < (few.high - few.low) / 5.0);
        // 1.96 standard errors, of a variance of 4.
        assert!(((many.high - many.low) / 2.0 - 1.96 * 2.0 / 2100f64.sqrt()).abs() < 0.02);
        assert_eq!(of(21), few, "the same seed, the same interval");
    }
}
