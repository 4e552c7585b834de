//! How neurons are compared, and with what chance level.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backend::Precision;

/// How neurons are compared (paper eq. 2 and 3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Correlation {
    /// The chance level that matches are compared with.
    pub baseline: Baseline,
    /// A neuron is universal where its excess correlation is above this, strictly.
    #[schemars(range(min = -1.0, max = 1.0), extend("x-remedy" = "the paper's threshold is 0.5"))]
    pub threshold: f64,
    /// Further thresholds to report the share at.
    #[schemars(inner(range(min = -1.0, max = 1.0)), extend("x-remedy" = "the paper's threshold is 0.5"))]
    pub also_report: Vec<f64>,
    /// Precision of the multiplied activations; sums are always f32 and f64.
    pub precision: Precision,
    /// Best partners kept for each neuron and partner model; those of more than one
    /// are written to `partners.csv`.
    #[schemars(range(min = 1, max = 1000))]
    pub top_partners: usize,
    /// Compare most neurons over all tokens only with a few candidates, which are found in a
    /// sample; every pair is compared when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub screen: Option<Screen>,
}

/// How candidates are found in a sample, and when they are trusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Screen {
    /// Tokens of the sample: rows from all over the corpus.
    #[schemars(range(min = 100))]
    pub sample: usize,
    /// Best partners of the sample that are candidates, per neuron and partner model.
    #[schemars(range(min = 1, max = 1000))]
    pub candidates: usize,
    /// How many standard errors a correlation of the sample may be off; a neuron
    /// whose best match or side of a threshold could then differ is compared exactly.
    #[serde(default = "default_standard_errors")]
    #[schemars(range(min = 0.0), extend("x-remedy" = "4 is a cautious choice"))]
    pub standard_errors: f64,
}

fn default_standard_errors() -> f64 {
    4.0
}

impl Default for Correlation {
    fn default() -> Self {
        Self {
            baseline: Baseline::default(),
            threshold: 0.5,
            also_report: vec![0.3, 0.4],
            precision: Precision::default(),
            top_partners: 1,
            screen: None,
        }
    }
}

/// The chance level that correlations are compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Baseline {
    /// The kind of chance level.
    pub kind: BaselineKind,
    /// Number of independent draws. Their mean enters the table, their spread the extra table.
    #[schemars(range(min = 1, max = 1000))]
    pub draws: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Baseline {
    fn default() -> Self {
        Self { kind: BaselineKind::Rotation, draws: 3, seed: 2024 }
    }
}

/// Kinds of chance level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BaselineKind {
    /// Each layer's neurons replaced by random unit-norm combinations of them (the paper's).
    Rotation,
    /// As `rotation`, with combinations that are orthogonal to each other.
    Orthogonal,
    /// As `orthogonal`, from signs and Hadamard transforms: many times faster.
    FastRotation,
    /// The partner's tokens put in random order.
    Permutation,
    /// The partner's activations replaced by GELU of standard normal noise.
    Gaussian,
}

impl fmt::Display for BaselineKind {
    /// Writes the name that specs use.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}
