//! The texts and tokens that a card shows.

use super::activations::CardColumn;
use super::seen::{Seen, short};
use crate::model::Config;
use crate::model::weights::Weights;
use crate::plan::Plan;
use crate::record::Context;
use crate::stats::weights::vocabulary_effects;

/// Number of tokens shown before and after an active token.
const AROUND: (usize, usize) = (15, 10);
/// The same for a token that was sampled, of which there are more.
const AROUND_SAMPLED: (usize, usize) = (8, 4);
/// Number of tokens shown as most promoted, and as most suppressed.
const TOKENS: usize = 10;

/// Everything needed to show contexts and tokens.
pub struct View<'a> {
    pub plan: &'a Plan,
    pub seen: &'a Seen,
    /// The text of every token of the vocabulary.
    pub vocabulary: &'a [String],
    /// The text of every token of every row, in its context.
    pub texts: &'a [Vec<String>],
}

impl View<'_> {
    /// Returns the most promoted and the most suppressed tokens, with their effects.
    pub fn effects(
        &self,
        folded: &Weights,
        config: &Config,
        neuron: usize,
    ) -> [Vec<(String, f64)>; 2] {
        let effects = vocabulary_effects(folded, config, neuron);
        let mut order: Vec<usize> =
            (0..effects.len()).filter(|&t| effects[t].is_finite()).collect();
        order.sort_by(|&a, &b| effects[b].total_cmp(&effects[a]));
        let shown = |t: &usize| (self.vocabulary[*t].clone(), short(effects[*t]));
        [
            order.iter().take(TOKENS).map(shown).collect(),
            order.iter().rev().take(TOKENS).map(shown).collect(),
        ]
    }

    /// Returns the context of a token with the activations of a neuron.
    pub fn context(&self, of: CardColumn, token: usize) -> Context {
        self.context_within(of, token, AROUND)
    }

    /// Returns the context of a sampled token with the activations of a neuron.
    pub fn sampled(&self, of: CardColumn, token: usize) -> Context {
        self.context_within(of, token, AROUND_SAMPLED)
    }

    fn context_within(&self, of: CardColumn, token: usize, around: (usize, usize)) -> Context {
        let (row, position) = self.seen.activations.places[token];
        let sample = &self.plan.samples[self.seen.tokens.rows[row].sample_at(position)];
        let shown = self.window(token, around);
        Context {
            sample: sample.id.clone(),
            domain: sample.domain.clone(),
            tokens: self.texts[row][shown.clone()].to_vec(),
            values: self.values_within(of, token, shown.clone()),
            at: position - shown.start,
        }
    }

    /// Returns the activations of a neuron in the context of a token; `None` for tokens that are
    /// excluded from statistics.
    pub fn values(&self, of: CardColumn, token: usize) -> Vec<Option<f64>> {
        self.values_within(of, token, self.window(token, AROUND))
    }

    fn values_within(
        &self,
        of: CardColumn,
        token: usize,
        shown: std::ops::Range<usize>,
    ) -> Vec<Option<f64>> {
        let (row, _) = self.seen.activations.places[token];
        let value = |p: usize| {
            let token = self.seen.activations.places.binary_search(&(row, p)).ok()?;
            let value = self.seen.activations.value(of, token)?;
            value.is_finite().then(|| short(f64::from(value)))
        };
        shown.map(value).collect()
    }

    /// Returns the positions shown around a token: whole characters.
    fn window(&self, token: usize, (before, after): (usize, usize)) -> std::ops::Range<usize> {
        let (row, position) = self.seen.activations.places[token];
        let texts = &self.texts[row];
        // The token at the beginning of a sequence is not part of the text.
        let first = self.seen.tokens.rows[row].parts[0].position.min(position);
        let start = position.saturating_sub(before).max(first);
        let start = (first..=start).rev().find(|&p| !texts[p].is_empty()).unwrap_or(start);
        let end = (position + 1 + after).min(texts.len());
        start..(end..texts.len()).find(|&p| !texts[p].is_empty()).unwrap_or(texts.len())
    }
}
