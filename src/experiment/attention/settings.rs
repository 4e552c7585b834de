//! The settings of `kind: attention`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::named::PairChoice;

/// The heuristics that count as large.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PairSign {
    /// The largest: neurons that raise attention to the first token and so turn the head off.
    #[default]
    Positive,
    /// The smallest: neurons that lower this attention and so turn the head on.
    Negative,
    /// The largest in size, of either sign, as in the authors' code.
    Both,
}

/// `kind: attention`: neurons that turn attention heads towards or away from the first token
/// (§5.3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AttentionSettings {
    /// Pairs of a neuron and a head that are ablated: a number, for those with the largest
    /// heuristic, or a list such as `[[L4.N3594, L5.H0]]`.
    pub pairs: PairChoice,
    /// Which heuristics count as large if pairs are chosen by number.
    pub sign: PairSign,
    /// Whether destination tokens that are beginning-of-sequence tokens within a row count.
    pub count_bos: bool,
    /// Minimum mean attention to the first token. Heads below it are skipped, because a
    /// neuron cannot turn a head away from a token that the head does not attend to. Named pairs
    /// are kept.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub attends: f64,
    /// Number of random directions that the heuristic of neurons is compared with.
    #[schemars(range(min = 2, max = 100_000))]
    pub directions: usize,
    /// Seed of the random directions.
    pub seed: u64,
}

impl Default for AttentionSettings {
    fn default() -> Self {
        Self {
            pairs: PairChoice::Strongest(5),
            sign: PairSign::Positive,
            count_bos: true,
            attends: 0.1,
            directions: 1000,
            seed: 1,
        }
    }
}
