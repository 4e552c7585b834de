//! How statistics of single neurons are computed, and intervals of all figures.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::corpus::Exclusion;

/// How statistics of single neurons are computed (`mean`, `var`, `skew`, `kurt`, `sparsity`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Statistics {
    /// Exact moments, or moments of the published 257-bin histogram.
    pub moments: MomentKind,
    /// What the column `sparsity` counts.
    pub sparsity: SparsityKind,
    /// Tokens that are excluded from these statistics, if they are others than those that
    /// `corpus.exclude` excludes from correlations: `[]` for none, as in the published tables. The
    /// judged models then read the tokens once more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<Exclusion>>,
    /// How the intervals of the universal share and of the signatures are computed.
    pub intervals: IntervalOptions,
}

/// How 95 % intervals are computed: by resampling blocks of documents, and neurons within layers. It
/// takes another pass over the tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IntervalOptions {
    /// Number of blocks that the documents are dealt into; 0 for no intervals.
    #[schemars(range(min = 0, max = 1000), extend("x-remedy" = "20 blocks are usual; 0 turns intervals off"))]
    pub blocks: usize,
    /// Number of resamples.
    #[schemars(range(min = 100, max = 100_000), extend("x-remedy" = "1000 resamples are usual"))]
    pub resamples: usize,
    /// Seed of the draws.
    pub seed: u64,
}

/// Number of partners of each neuron whose correlations are resampled. A neuron's best match in a
/// resample is nearly always one of its best few over all tokens.
const CANDIDATES: usize = 5;

impl IntervalOptions {
    /// Returns the number of partners of each neuron among which resamples look for the best match;
    /// 0 without intervals.
    pub fn candidates(&self) -> usize {
        if self.blocks > 0 { CANDIDATES } else { 0 }
    }
}

impl Default for IntervalOptions {
    fn default() -> Self {
        Self { blocks: 20, resamples: 1000, seed: 1 }
    }
}

/// How moments of pre-activations are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MomentKind {
    /// From every value, in one pass.
    #[default]
    Exact,
    /// From a histogram with edges linspace(-10, 15, 256) and two open bins, each
    /// bin standing for its centre: how the published tables were made.
    Binned,
}

/// What the column `sparsity` counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SparsityKind {
    /// Share of tokens with pre-activation above zero: the paper's activation frequency.
    #[default]
    AboveZero,
    /// The published column, which counts the bin (-0.098, 0] too.
    PublishedBin,
}
