//! Compares measured values with what a claim expects. A comparison with a value that is NaN or
//! infinite neither holds nor fails: it is undecided. So is a comparison with a bound or a range if the
//! interval of the value lies only partly where the comparison holds.

use super::claim::{Judgement, Trend};
use super::values::{list, short};
use crate::compare::{Tolerance, largest_difference};
use crate::record::PercentileInterval;

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Assessment {
    /// Whether the comparison holds. `None` if it is undecided: there is no value, or one of them
    /// is NaN or infinite.
    pub holds: Option<bool>,
    /// Largest difference as a share of the tolerance, if there is a tolerance.
    pub tolerance_used: Option<f64>,
}

/// Compares a value, given with its interval, with the bound or the range that a judgement gives: the
/// comparison holds if it holds for the whole interval, and fails if it holds nowhere in it. A judgement
/// without a bound is about the value alone.
pub fn judge_interval(
    judgement: &Judgement,
    values: &[f64],
    interval: Option<PercentileInterval>,
) -> Assessment {
    let found = judge(judgement, values);
    let (Some(interval), Some(_)) = (interval, found.holds) else { return found };
    let PercentileInterval { low, high } = interval;
    let holds = match judgement.between {
        Some([from, to]) if high < from || low > to => Some(false),
        Some([from, to]) => (low >= from && high <= to).then_some(true),
        None if judgement.bounds().is_empty() => found.holds,
        None => {
            let [low, high] = [low, high].map(|end| judge(judgement, &[end]).holds);
            low.filter(|_| low == high)
        }
    };
    Assessment { holds, ..found }
}

/// Compares values with what a judgement expects.
pub fn judge(judgement: &Judgement, values: &[f64]) -> Assessment {
    let plain = |holds| Assessment { holds: Some(holds), tolerance_used: None };
    if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
        return Assessment { holds: None, tolerance_used: None };
    }
    if let (Some(figures), [tolerance]) = (&judgement.equals, &judgement.tolerances()[..]) {
        return equals(figures.list(), *tolerance, values);
    }
    let all = |test: &dyn Fn(f64) -> bool| plain(values.iter().all(|&v| test(v)));
    if let Some([low, high]) = judgement.between {
        return all(&|v| (low..=high).contains(&v));
    }
    if let Some(bound) = judgement.above {
        return all(&|v| v > bound);
    }
    if let Some(bound) = judgement.below {
        return all(&|v| v < bound);
    }
    plain(judgement.trend.is_some_and(|trend| follows(trend, values)))
}

fn equals(figures: &[f64], tolerance: Tolerance, values: &[f64]) -> Assessment {
    if figures.len() != values.len() {
        return Assessment { holds: Some(false), tolerance_used: None };
    }
    let worst = largest_difference(values, figures, tolerance);
    let holds = worst.is_some_and(|d| d.within());
    Assessment { holds: Some(holds), tolerance_used: worst.map(|d| d.share) }
}

fn follows(trend: Trend, values: &[f64]) -> bool {
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return false };
    match trend {
        Trend::Rising => values.is_sorted() && last > first,
        Trend::Falling => values.is_sorted_by(|a, b| a >= b) && last < first,
    }
}

/// Returns what a judgement expects, as text.
pub fn expectation(judgement: &Judgement) -> String {
    if let (Some(figures), [tolerance]) = (&judgement.equals, &judgement.tolerances()[..]) {
        let by = match judgement.within_percent {
            Some(percent) => format!("{percent} %"),
            None => short(tolerance.absolute),
        };
        return format!("{} ± {by}", list(figures.list()));
    }
    if let Some([low, high]) = judgement.between {
        return format!("{low} to {high}");
    }
    let bounds = [("above", judgement.above), ("below", judgement.below)];
    if let Some((word, Some(bound))) = bounds.iter().find(|(_, bound)| bound.is_some()) {
        return format!("{word} {}", short(*bound));
    }
    match judgement.trend {
        Some(Trend::Rising) => "rising".into(),
        _ => "falling".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judgement(comparison: &str) -> Judgement {
        let text = format!("{{tier: desk, models: [m], because: test, {comparison}}}");
        serde_yaml::from_str(&text).expect(comparison)
    }

    fn holds(comparison: &str, values: &[f64]) -> bool {
        judge(&judgement(comparison), values).holds.expect("decided")
    }

    #[test]
    fn each_comparison_holds_where_it_says() {
        assert!(
            holds("equals: 2, within: 0.5", &[2.5]) && !holds("equals: 2, within: 0.5", &[2.6])
        );
        assert!(holds("equals: [1, 2], within: 0.1", &[1.0, 2.0]));
        assert!(!holds("equals: [1, 2], within: 0.1", &[1.0]), "another number of values");
        let percent = "equals: [-200, 2], within_percent: 5";
        assert!(holds(percent, &[-209.0, 2.09]) && !holds(percent, &[-211.0, 2.0]));
        assert_eq!(expectation(&judgement(percent)), "-200 2 ± 5 %");
        // The standard deviation of 1, 2 and 3 is 1.
        let runs = "equals: 2, within_runs: { values: [1, 2, 3], deviations: 2.5 }";
        assert!(holds(runs, &[4.5]) && !holds(runs, &[4.6]));
        assert_eq!(expectation(&judgement(runs)), "2 ± 2.5");
        assert!(holds("between: [1, 2]", &[1.0]) && !holds("between: [1, 2]", &[2.1]));
        assert!(holds("above: 0.5", &[0.6]) && !holds("above: 0.5", &[0.5]), "strictly above");
        assert!(holds("below: 0.5", &[0.4]) && !holds("below: 0.5", &[0.5]), "strictly below");
        assert!(holds("trend: rising", &[1.0, 1.0, 2.0]) && !holds("trend: rising", &[1.0, 1.0]));
        assert!(holds("trend: falling", &[2.0, 1.0]) && !holds("trend: falling", &[2.0, 3.0, 1.0]));
    }

    #[test]
    fn a_direction_holds_where_the_whole_interval_lies() {
        let holds = |comparison: &str, value: f64, low: f64, high: f64| {
            let interval = Some(PercentileInterval { low, high });
            judge_interval(&judgement(comparison), &[value], interval).holds
        };
        for (low, high, above, below) in [
            (0.1, 0.9, Some(true), Some(false)),
            (-0.9, -0.1, Some(false), Some(true)),
            (-0.1, 0.9, None, None),
            (0.0, 0.9, None, Some(false)),
            (-0.9, 0.0, Some(false), None),
            (0.0, 0.0, Some(false), Some(false)),
        ] {
            assert_eq!(holds("above: 0", low + 0.05, low, high), above, "{low} {high}");
            assert_eq!(holds("below: 0", low + 0.05, low, high), below, "{low} {high}");
        }
        assert_eq!(holds("above: 0", f64::NAN, 0.1, 0.9), None, "without a value");
        assert_eq!(
            holds("equals: 1, within: 2", 0.0, -9.0, 9.0),
            Some(true),
            "about the value alone"
        );
        let plain = judge_interval(&judgement("above: 0"), &[1.0], None);
        assert_eq!(plain, judge(&judgement("above: 0"), &[1.0]), "without an interval");
    }

    #[test]
    fn a_range_holds_where_the_whole_interval_lies() {
        for (low, high, want) in [
            (1.0, 2.0, Some(true)),
            (1.2, 1.8, Some(true)),
            (0.9, 1.8, None),
            (1.2, 2.1, None),
            // Neither end lies in the range, but values between them do.
            (0.5, 2.5, None),
            (0.5, 1.0, None),
            (0.5, 0.9, Some(false)),
            (2.1, 2.5, Some(false)),
            (f64::NAN, 1.5, None),
        ] {
            let interval = Some(PercentileInterval { low, high });
            let found = judge_interval(&judgement("between: [1, 2]"), &[1.5], interval);
            assert_eq!(found.holds, want, "{low} to {high}");
        }
        let value = |v: f64| judge_interval(&judgement("between: [1, 2]"), &[v], None).holds;
        assert_eq!([1.0, 2.1, f64::NAN].map(value), [Some(true), Some(false), None]);
    }

    #[test]
    fn nan_infinity_and_no_value_are_undecided() {
        for comparison in
            ["equals: 1, within: 9", "between: [-9, 9]", "above: -9", "below: 9", "trend: rising"]
        {
            for bad in [&[f64::NAN][..], &[f64::INFINITY], &[0.0, f64::NAN], &[]] {
                let found = judge(&judgement(comparison), bad).holds;
                assert_eq!(found, None, "{comparison} {bad:?}");
            }
        }
    }

    #[test]
    fn the_share_of_the_tolerance_is_returned() {
        let outcome = judge(&judgement("equals: 2, within: 0.5"), &[1.75]);
        assert_eq!(outcome, Assessment { holds: Some(true), tolerance_used: Some(0.5) });
    }
}
