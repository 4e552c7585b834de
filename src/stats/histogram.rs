//! Counts of values in bins of equal width.

use std::ops::Range;

/// Edges of bins of equal width. A bin contains its lower edge; the last bin contains both.
#[derive(Debug, Clone, PartialEq)]
pub struct Bins {
    /// The edges in ascending order, one more than there are bins.
    pub edges: Vec<f64>,
}

impl Bins {
    /// Divides a range into `n` bins. The first and the last edge are the ends of the range.
    pub fn of(range: &Range<f64>, n: usize) -> Self {
        let inner = (0..n).map(|i| range.start + (range.end - range.start) * i as f64 / n as f64);
        Self { edges: inner.chain([range.end]).collect() }
    }

    /// Returns the number of values in each bin. Values outside all bins are not counted.
    pub fn counts(&self, values: impl IntoIterator<Item = f64>) -> Vec<u64> {
        let last = self.edges.len() - 1;
        let mut counts = vec![0; last];
        for value in values {
            if value >= self.edges[0] && value <= self.edges[last] {
                let below = self.edges.partition_point(|edge| *edge <= value);
                counts[(below - 1).min(last - 1)] += 1;
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bin_holds_the_values_between_its_edges(
            values in prop::collection::vec(-2.0_f64..2.0, 0..200),
            from in -1.0_f64..0.0, width in 0.1_f64..2.0, n in 1_usize..30,
        ) {
            let bins = Bins::of(&(from..from + width), n);
            prop_assert_eq!((bins.edges[0], bins.edges[n]), (from, from + width));
            prop_assert!(bins.edges.is_sorted());
            for (i, count) in bins.counts(values.iter().copied()).into_iter().enumerate() {
                let (low, high) = (bins.edges[i], bins.edges[i + 1]);
                let is_in = |v: &&f64| **v >= low && (**v < high || i + 1 == n && **v == high);
                prop_assert_eq!(count, values.iter().filter(is_in).count() as u64);
            }
        }
    }

    #[test]
    fn both_ends_count_and_nothing_outside_them() {
        let bins = Bins::of(&(0.0..1.0), 2);
        let values = [0.0, 0.49, 0.5, 1.0, 1.1, -0.1, f64::NAN, f64::INFINITY];
        assert_eq!(bins.counts(values), [2, 2]);
    }
}
