//! Neuron cards: the contexts in which a neuron is most active, the tests that explain it, and the
//! tokens that it promotes and suppresses. A sample of the tokens is read once for all cards.

mod activations;
mod choice;
mod explained;
mod export;
mod joint;
mod made;
mod reading;
mod reverse;
mod seen;
mod text_reading;
mod view;

use crate::record::{Card, Explanation, Histogram};

pub use activations::ModelNeuron;
pub use choice::{CardRequest, choose};
pub use export::export;
pub use reading::{check, of, read};
pub use text_reading::{GivenText, TextReading, read_text};

/// Minimum share of the variance that a test must explain to describe the neuron.
const EXPLAINED: f64 = 0.2;
/// Number of tokens named in a sentence.
const NAMED: usize = 5;

impl Card {
    /// Describes the neuron in two sentences, and in a third one what it promotes and suppresses, if it
    /// has weights.
    pub fn sentence(&self) -> String {
        let named = |tokens: &mut dyn Iterator<Item = &String>| {
            let shown = tokens.take(NAMED).map(|token| format!("“{}”", shown(token)));
            shown.collect::<Vec<_>>().join(", ")
        };
        let mut strongest: Vec<&String> = Vec::new();
        for context in &self.contexts {
            let token = &context.tokens[context.place().start];
            if !strongest.contains(&token) {
                strongest.push(token);
            }
        }
        let strongest = named(&mut strongest.into_iter());
        let active = format!("{} It is strongest on {strongest}.", self.explained());
        if self.promoted.is_empty() {
            return active;
        }
        format!(
            "{active} It raises the logits of {} and lowers those of {}.",
            named(&mut self.promoted.iter().map(|(token, _)| token)),
            named(&mut self.suppressed.iter().map(|(token, _)| token))
        )
    }

    fn explained(&self) -> String {
        let Some(best) = self.explanations.first() else {
            return "No questions about its tokens were asked.".into();
        };
        let percent = 100.0 * best.reduction;
        if best.reduction < EXPLAINED {
            let Explanation { test, .. } = best;
            return format!(
                "No simple question explains it: the best, “{test}”, takes away {percent:.0} % of its variance."
            );
        }
        let way = if best.difference > 0.0 { "more" } else { "less" };
        let (test, place) = match best.test.strip_prefix("previous: ") {
            Some(test) => (test, " for the token before"),
            None => (best.test.as_str(), ""),
        };
        format!(
            "It is {way} active where “{test}” holds{place}, which takes away {percent:.0} % of its variance."
        )
    }
}

/// Returns a token with newlines made visible.
pub fn shown(token: &str) -> String {
    token.replace('\n', "⏎")
}

impl Histogram {
    /// Number of bins.
    const BINS: usize = 40;

    /// Creates a histogram of values, each with the answer of a test. Values that are not finite
    /// are skipped.
    fn of(values: &[(f32, bool)]) -> Self {
        let finite = || values.iter().filter(|(v, _)| v.is_finite());
        let low = finite().fold(f32::INFINITY, |low, (v, _)| low.min(*v));
        let high = finite().fold(f32::NEG_INFINITY, |high, (v, _)| high.max(*v));
        let (from, to) = (f64::from(low), f64::from(high));
        let bins = Self::BINS;
        let mut histogram = Self { from, width: 0.0, yes: vec![0; bins], no: vec![0; bins] };
        if finite().next().is_none() {
            return Self { from: 0.0, ..histogram };
        }
        histogram.width = (to - from) / bins as f64;
        for (value, answer) in finite() {
            let at = ((f64::from(*value) - from) / histogram.width) as usize;
            let side = if *answer { &mut histogram.yes } else { &mut histogram.no };
            // The largest value lies on the upper edge of the last bin.
            side[at.min(bins - 1)] += 1;
        }
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_histogram_counts_every_value_where_it_lies(
            values in prop::collection::vec((-5.0f32..5.0, any::<bool>()), 1..200),
        ) {
            let h = Histogram::of(&values);
            prop_assert_eq!((h.yes.iter().sum::<u32>() + h.no.iter().sum::<u32>()) as usize, values.len());
            let yes = values.iter().filter(|(_, yes)| *yes).count();
            prop_assert_eq!(h.yes.iter().sum::<u32>() as usize, yes);
            // A value of the twin's bin or, within rounding of an edge, of its neighbour.
            for (value, answer) in &values {
                let at = ((f64::from(*value) - h.from) / h.width.max(1e-300)).min(39.0) as usize;
                let side = if *answer { &h.yes } else { &h.no };
                prop_assert!(side[at.saturating_sub(1)..(at + 2).min(40)].iter().any(|n| *n > 0));
            }
        }
    }

    #[test]
    fn a_constant_has_one_bin_and_nan_none() {
        let constant = Histogram::of(&[(1.0, false), (1.0, false), (f32::NAN, true)]);
        assert_eq!((constant.no.iter().sum::<u32>(), constant.yes.iter().sum::<u32>()), (2, 0));
        assert_eq!(Histogram::of(&[(f32::NAN, true)]).yes.iter().sum::<u32>(), 0);
    }
}
