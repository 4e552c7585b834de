//! `cards.json`: the neurons that a study examines closely.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::nullable::or_nan;

/// Version of `cards.json`.
pub const CARDS_SCHEMA: u32 = 2;

/// `cards.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CardFile {
    /// Version of the file's structure.
    pub schema: u32,
    /// Number of token positions that were read for the cards.
    pub tokens: usize,
    /// The cards, in the order of neurons.
    pub cards: Vec<Card>,
    /// Number of token positions that the partner models read for the cards too.
    #[serde(default)]
    pub tokens_of_partners: usize,
    /// The neurons of other models that the cards name as best matches, in the order of the family
    /// and of neurons. Empty in files of schema 1.
    #[serde(default)]
    pub partners: Vec<PartnerCard>,
}

/// The card of a neuron of a partner model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartnerCard {
    /// Name of the model.
    pub model: String,
    /// Name of the neuron, such as `L0.N12`.
    pub neuron: String,
    /// The name that the user gave the neuron.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The tokens whose logits the neuron raises most: text and cos(W_U, w_out).
    #[serde(deserialize_with = "or_nan")]
    pub promoted: Vec<(String, f64)>,
    /// The tokens whose logits the neuron lowers most.
    #[serde(deserialize_with = "or_nan")]
    pub suppressed: Vec<(String, f64)>,
    /// The places where the neuron is most active among the tokens that its model read, largest
    /// first, at most one in each row of tokens.
    pub contexts: Vec<Context>,
}

/// Everything that a run records about one neuron beside its row of the neuron table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Name of the neuron, such as `L0.N12`.
    pub neuron: String,
    /// The name that the user gave the neuron.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The tokens whose logits the neuron raises most: text and cos(W_U, w_out).
    #[serde(deserialize_with = "or_nan")]
    pub promoted: Vec<(String, f64)>,
    /// The tokens whose logits the neuron lowers most.
    #[serde(deserialize_with = "or_nan")]
    pub suppressed: Vec<(String, f64)>,
    /// The token tests that explain most of the neuron's variance, best first; empty if the spec
    /// names no tests.
    pub explanations: Vec<Explanation>,
    /// Distribution of the pre-activations.
    pub histogram: Histogram,
    /// The places where the neuron is most active, largest first, at most one in each row of
    /// tokens.
    pub contexts: Vec<Context>,
    /// The tokens at some percentiles of the neuron's activation, highest first. Empty in files of
    /// schema 1.
    #[serde(default)]
    pub sampled: Vec<SampledContext>,
    /// The places where the neuron is most active among the tokens that the partner models read too.
    /// Empty in files of schema 1.
    #[serde(default)]
    pub compared: Vec<Context>,
    /// The best match in each partner model that has one, in the order of the family. Empty in files
    /// of schema 1.
    #[serde(default)]
    pub matches: Vec<CardMatch>,
}

/// A token at a percentile of a neuron's activation, in its context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampledContext {
    /// Percentile of the activation among the tokens that were read, 0 to 100.
    #[serde(deserialize_with = "or_nan")]
    pub percentile: f64,
    /// The context.
    #[serde(flatten)]
    pub context: Context,
}

/// The best match of a neuron in a partner model, compared with it on the tokens that the
/// partner models read for the cards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CardMatch {
    /// Name of the partner model.
    pub model: String,
    /// Name of the partner neuron.
    pub neuron: String,
    /// ρ of the two neurons.
    #[serde(deserialize_with = "or_nan")]
    pub rho: f64,
    /// Place of the card's neuron among all neurons of the reference model, ordered by ρ with the
    /// partner neuron, from 1. The match is mutual if it is 1.
    pub rank: usize,
    /// The neuron of the reference model that has the largest ρ with the partner neuron.
    pub closest: String,
    /// ρ of `closest` and the partner neuron.
    #[serde(deserialize_with = "or_nan")]
    pub closest_rho: f64,
    /// Share of the partner neuron's variance that the card's best token test explains; NaN if there
    /// is no test.
    #[serde(deserialize_with = "or_nan")]
    pub explained: f64,
    /// Distribution of the two post-activations.
    pub joint: JointHistogram,
    /// Post-activations of the partner neuron at the tokens of each context of
    /// [`Card::compared`].
    pub values: Vec<Vec<Option<f64>>>,
}

/// Counts of tokens by two post-activations, in bins of equal width, and the regression line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JointHistogram {
    /// Number of bins in each direction.
    pub bins: usize,
    /// Lower edge of the first bin and width of a bin, of the card's neuron.
    #[serde(deserialize_with = "or_nan")]
    pub x: Vec<f64>,
    /// Lower edge of the first bin and width of a bin, of the partner neuron.
    #[serde(deserialize_with = "or_nan")]
    pub y: Vec<f64>,
    /// Intercept and slope of the regression of the partner neuron on the card's neuron.
    #[serde(deserialize_with = "or_nan")]
    pub line: Vec<f64>,
    /// The cells that are not empty, in ascending order: index `bins · row + column` and number of
    /// tokens. The column is the bin of the card's neuron.
    pub counts: Vec<(usize, u32)>,
}

/// A token test, and how well it explains a neuron.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Name of the test.
    pub test: String,
    /// Family of the test.
    pub family: String,
    /// Share of the neuron's variance that the test explains (paper eq. 4).
    #[serde(deserialize_with = "or_nan")]
    pub reduction: f64,
    /// Mean post-activation over tokens that pass the test, minus the mean over the others.
    #[serde(deserialize_with = "or_nan")]
    pub difference: f64,
    /// Number of tokens that pass the test.
    #[serde(deserialize_with = "or_nan")]
    pub support: f64,
}

/// Counts of pre-activations in bins of equal width, split by the best token test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Lower edge of the first bin.
    #[serde(deserialize_with = "or_nan")]
    pub from: f64,
    /// Width of a bin.
    #[serde(deserialize_with = "or_nan")]
    pub width: f64,
    /// Counts over tokens that pass the best test; all zero if there is no test.
    pub yes: Vec<u32>,
    /// Counts over the other tokens.
    pub no: Vec<u32>,
}

/// A place in the text where a neuron is active.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// Id of the document.
    pub sample: String,
    /// Label of the document's sub-corpus.
    pub domain: String,
    /// The tokens around the place. A character whose bytes are spread over several tokens belongs
    /// to the first of them; the others may be empty.
    pub tokens: Vec<String>,
    /// Post-activation at each token; null for tokens that are excluded from statistics.
    pub values: Vec<Option<f64>>,
    /// Index in `tokens` of the place.
    pub at: usize,
}

impl Context {
    /// Returns the tokens of the place: the token at [`Self::at`], with the others that share a
    /// character with it.
    pub fn place(&self) -> Range<usize> {
        let continues = |token: usize| self.tokens[token].is_empty();
        let start = (0..=self.at).rev().find(|&token| !continues(token)).unwrap_or(self.at);
        let after = (self.at + 1..self.tokens.len()).find(|&token| !continues(token));
        start..after.unwrap_or(self.tokens.len())
    }
}

impl CardFile {
    /// Name of the file.
    pub const FILE: &str = "cards.json";
}

impl Default for CardFile {
    fn default() -> Self {
        Self {
            schema: CARDS_SCHEMA,
            tokens: 0,
            cards: Vec::new(),
            tokens_of_partners: 0,
            partners: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_whole_character() {
        let place = |at: usize| {
            let tokens = ["a", "−", "", "", "b", ""].map(String::from).to_vec();
            let values = vec![None; tokens.len()];
            Context { sample: String::new(), domain: String::new(), tokens, values, at }.place()
        };
        assert_eq!([0, 1, 2, 3, 4, 5].map(place), [0..1, 1..4, 1..4, 1..4, 4..6, 4..6]);
    }
}
