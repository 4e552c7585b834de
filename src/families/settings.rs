//! The settings of `kind: families`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NeuronChoice;

/// `kind: families`: which token tests explain which neurons (paper §4.3, eq. 4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FamilySettings {
    /// File of token tests; a relative path starts at the spec.
    pub path: PathBuf,
    /// File of syntax labels of the corpus in CoNLL-U. The id of each document
    /// (`# newdoc id = …`) is that of its sample. Without it there are no syntax tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syntax: Option<PathBuf>,
    /// The neurons that are explained: `all`, `universal`, or a list.
    #[serde(default)]
    pub neurons: NeuronChoice,
    /// A neuron belongs to the family of its best explanation if this explanation reduces its
    /// variance by more than this share.
    #[serde(default = "FamilySettings::explained")]
    #[schemars(
        range(min = 0.0, max = 1.0),
        extend("x-remedy" = "the paper's notebook uses 0.37")
    )]
    pub explained: f64,
    /// Minimum number of tokens with answer yes, and with answer no, for a test to count.
    #[serde(default = "FamilySettings::support")]
    #[schemars(range(min = 1))]
    pub support: usize,
    /// Words that occur at least this many times get a unigram test.
    #[serde(default = "FamilySettings::frequent")]
    pub frequent: usize,
    /// A neuron is a position neuron if the mutual information between its firing and the
    /// position exceeds this many bits.
    #[serde(default = "FamilySettings::position_bits")]
    pub position_bits: f64,
}

impl FamilySettings {
    /// Returns settings with the tests of a file, and defaults for everything else.
    pub fn of(path: PathBuf) -> Self {
        Self {
            path,
            syntax: None,
            neurons: NeuronChoice::default(),
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
