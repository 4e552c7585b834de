//! The settings of `kind: families`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `kind: families`: which token tests explain which neurons (paper §4.3, eq. 4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FamilySettings {
    /// The token tests, relative to the spec.
    pub path: PathBuf,
    /// Syntax labels of the corpus in CoNLL-U, each document called like its sample
    /// (`# newdoc id = …`); no syntax tests when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syntax: Option<PathBuf>,
    /// A neuron belongs to the family of its best explanation where that reduces its
    /// variance by more than this share.
    #[serde(default = "FamilySettings::explained")]
    #[schemars(
        range(min = 0.0, max = 1.0),
        extend("x-remedy" = "the paper's notebook uses 0.37")
    )]
    pub explained: f64,
    /// Least number of tokens for which a test says yes, and for which it says no.
    #[serde(default = "FamilySettings::support")]
    #[schemars(range(min = 1))]
    pub support: usize,
    /// Words that occur so often get a unigram test.
    #[serde(default = "FamilySettings::frequent")]
    pub frequent: usize,
    /// A position neuron's firing tells so many bits of the position, at least.
    #[serde(default = "FamilySettings::position_bits")]
    pub position_bits: f64,
}

impl FamilySettings {
    /// Tests of a file, the rest as it is when nothing is said.
    pub fn of(path: PathBuf) -> Self {
        Self {
            path,
            syntax: None,
            explained: Self::explained(),
            support: Self::support(),
            frequent: Self::frequent(),
            position_bits: Self::position_bits(),
        }
    }

    fn explained() -> f64 {
        0.37
    }
    fn support() -> usize {
        20
    }
    fn frequent() -> usize {
        40
    }
    fn position_bits() -> f64 {
        0.05
    }
}
