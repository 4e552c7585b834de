//! Percentile ranks, means and medians, which show what sets universal neurons apart (paper §4.2,
//! Fig. 3).

/// Returns the percentile rank of every value among all values, 0–100. Ties are averaged as in
/// `scipy.stats.percentileofscore(kind="rank")`: the rank is the mean of the share of values below
/// and the share of values not above. NaN has rank NaN and does not count.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let rank = |&value: &f64| {
        let below = sorted.partition_point(|&v| v < value);
        let not_above = sorted.partition_point(|&v| v <= value);
        // The mean of the places 1…n that tied values take.
        let middle = (below + not_above + 1) as f64 / 2.0;
        if value.is_nan() { f64::NAN } else { 100.0 * middle / sorted.len() as f64 }
    };
    values.iter().map(rank).collect()
}

/// Returns percentile ranks within each layer; `layers` holds the layer of each value.
///
/// # Panics
///
/// Panics if the lengths differ.
pub fn ranks_within(layers: &[usize], values: &[f64]) -> Vec<f64> {
    assert_eq!(layers.len(), values.len());
    let mut result = vec![f64::NAN; values.len()];
    let deepest = layers.iter().copied().max().map_or(0, |l| l + 1);
    for layer in 0..deepest {
        let members: Vec<usize> = (0..values.len()).filter(|&i| layers[i] == layer).collect();
        let own: Vec<f64> = members.iter().map(|&i| values[i]).collect();
        for (&i, rank) in members.iter().zip(ranks(&own)) {
            result[i] = rank;
        }
    }
    result
}

/// Returns the mean without NaN values; NaN if there are no others.
pub fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (n, sum) = values.filter(|v| !v.is_nan()).fold((0.0, 0.0), |(n, s), v| (n + 1.0, s + v));
    sum / n
}

/// Returns the median without NaN values: the mean of the two middle values if their number is
/// even, `None` if there are none.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut known: Vec<f64> = values.filter(|v| !v.is_nan()).collect();
    if known.is_empty() {
        return None;
    }
    let (middle, is_odd) = (known.len() / 2, known.len() % 2 == 1);
    let (smaller, &mut middle, _) = known.select_nth_unstable_by(middle, f64::total_cmp);
    let before = smaller.iter().copied().max_by(f64::total_cmp).filter(|_| !is_odd);
    Some(before.map_or(middle, |before| f64::midpoint(before, middle)))
}

/// Returns the value below which a share of the values lies, without NaN values, interpolated
/// linearly between the two nearest as pandas and NumPy do; `None` if there are none.
pub fn quantile(values: impl Iterator<Item = f64>, share: f64) -> Option<f64> {
    let mut known: Vec<f64> = values.filter(|v| !v.is_nan()).collect();
    let place = share * (known.len().checked_sub(1)?) as f64;
    // Only one value is put in its place, which takes less time than to sort all.
    let (_, &mut below, larger) =
        known.select_nth_unstable_by(place.floor() as usize, f64::total_cmp);
    let next = larger.iter().copied().min_by(f64::total_cmp).unwrap_or(below);
    let above = if place.fract() > 0.0 { next } else { below };
    Some(below + (above - below) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// SciPy's definition: (#below + #not above + [value is present]) · 50 / n.
    fn twin(values: &[f64], value: f64) -> f64 {
        let count = |test: &dyn Fn(f64) -> bool| values.iter().filter(|&&v| test(v)).count();
        let (below, not_above) = (count(&|v| v < value), count(&|v| v <= value));
        (below + not_above + usize::from(not_above > below)) as f64 * 50.0 / values.len() as f64
    }

    proptest! {
        #[test]
        fn ranks_match_their_definition(values in prop::collection::vec((-4i8..4).prop_map(f64::from), 1..40)) {
            for (&value, rank) in values.iter().zip(ranks(&values)) {
                prop_assert!((rank - twin(&values, value)).abs() < 1e-12);
            }
        }

        #[test]
        fn layers_rank_their_own(values in prop::collection::vec(-4.0f64..4.0, 2..40)) {
            let layers: Vec<usize> = (0..values.len()).map(|i| i % 2).collect();
            let within = ranks_within(&layers, &values);
            let evens: Vec<f64> = values.iter().copied().step_by(2).collect();
            let got: Vec<f64> = within.iter().copied().step_by(2).collect();
            prop_assert_eq!(got, ranks(&evens));
        }
    }

    /// Any value that a table may hold, so few that ties are common.
    fn any_value() -> impl Strategy<Value = f64> {
        prop::sample::select(vec![
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            0.0,
            -0.0,
            1.0,
            -1.5,
            2.0,
            f64::MAX,
            5e-324,
        ])
    }

    proptest! {
        #[test]
        fn values_that_do_not_exist_change_no_other_rank(
            values in prop::collection::vec((any_value(), 0usize..3), 0..30),
        ) {
            let (values, layers): (Vec<f64>, Vec<usize>) = values.into_iter().unzip();
            let within = ranks_within(&layers, &values);
            for (i, &value) in values.iter().enumerate() {
                let layer = (0..values.len()).filter(|&j| layers[j] == layers[i]);
                let known: Vec<f64> = layer.map(|j| values[j]).filter(|v| !v.is_nan()).collect();
                if value.is_nan() {
                    prop_assert!(within[i].is_nan());
                } else {
                    prop_assert!((within[i] - twin(&known, value)).abs() < 1e-12);
                }
            }
            let known = values.iter().filter(|v| !v.is_nan()).count();
            prop_assert_eq!(median(values.iter().copied()).is_some(), known > 0);
            prop_assert_eq!(mean(values.into_iter().filter(|v| v.is_nan())).is_nan(), true);
        }
    }

    #[test]
    fn a_single_neuron_ranks_hundred_and_nan_ranks_nowhere() {
        assert_eq!(ranks(&[3.5]), [100.0]);
        let ranked = ranks(&[1.0, f64::NAN, 2.0]);
        assert!(ranked[0] == 50.0 && ranked[1].is_nan() && ranked[2] == 100.0);
    }

    /// As `pandas.Series(values).quantile(share)`.
    #[test]
    fn quantiles_are_interpolated() {
        let values = || [3.0, 1.0, f64::NAN, 2.0, 10.0].into_iter();
        let of = |share| quantile(values(), share).expect("values");
        assert_eq!((of(0.0), of(0.5), of(1.0)), (1.0, 2.5, 10.0));
        assert!((of(0.9) - 7.9).abs() < 1e-12 && (of(0.1) - 1.3).abs() < 1e-12);
        assert_eq!(quantile(std::iter::empty(), 0.5), None);
    }

    proptest! {
        #[test]
        fn quantiles_and_medians_are_those_of_sorted_values(
            values in prop::collection::vec(any_value(), 0..30),
            share in prop::sample::select(vec![0.0, 0.025, 0.25, 0.5, 0.7, 0.975, 1.0]),
        ) {
            let mut sorted: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
            sorted.sort_by(f64::total_cmp);
            let last = sorted.len().checked_sub(1);
            let quantile_of = |last: usize| {
                let place = share * last as f64;
                let (a, b) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
                a + (b - a) * place.fract()
            };
            let bits = |value: Option<f64>| value.map(f64::to_bits);
            let got = quantile(values.iter().copied(), share);
            // Infinities have no difference, and the sign of NaN says nothing.
            let same = bits(got) == bits(last.map(quantile_of))
                || got.is_some_and(f64::is_nan) && last.map(quantile_of).is_some_and(f64::is_nan);
            prop_assert!(same, "{:?}", got);
            let (n, got) = (sorted.len(), median(values.iter().copied()));
            let want = last.map(|last| match n % 2 {
                1 => sorted[n / 2],
                _ => f64::midpoint(sorted[last / 2], sorted[n / 2]),
            });
            let same = bits(got) == bits(want)
                || got.is_some_and(f64::is_nan) && want.is_some_and(f64::is_nan);
            prop_assert!(same, "{:?}, expected {:?}", got, want);
        }
    }

    #[test]
    fn medians_of_odd_even_and_none() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, f64::NAN, 3.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }
}
