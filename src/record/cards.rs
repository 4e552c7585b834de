//! `cards.json`: the neurons that a study examines closely.

use serde::{Deserialize, Serialize};

use crate::nullable::or_nan;

/// Version of `cards.json`.
pub const CARDS_SCHEMA: u32 = 1;

/// `cards.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CardFile {
    /// Version of the file's structure.
    pub schema: u32,
    /// Number of token positions that were read for the cards.
    pub tokens: usize,
    /// The cards, in the order of neurons.
    pub cards: Vec<Card>,
}

/// Everything that a run records about one neuron beside its row of the neuron table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Name of the neuron, such as `L0.N12`.
    pub neuron: String,
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
    /// The tokens around the place.
    pub tokens: Vec<String>,
    /// Post-activation at each token; null for tokens that are excluded from statistics.
    pub values: Vec<Option<f64>>,
    /// Index in `tokens` of the place.
    pub at: usize,
}

impl CardFile {
    /// Name of the file.
    pub const FILE: &str = "cards.json";
}

impl Default for CardFile {
    fn default() -> Self {
        Self { schema: CARDS_SCHEMA, tokens: 0, cards: Vec::new() }
    }
}
