//! The kinds of evidence.

use serde::Deserialize;

/// A kind of evidence. One judgement never mixes two kinds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// The five small models that the project ships.
    Desk,
    /// The authors' tables of universal neurons.
    Published,
    /// The authors' tables of all neurons.
    Population,
    /// A run of this program on the original models.
    Weights,
    /// The run that `verify --run` names, for claims of one's own.
    Run,
}

impl Tier {
    /// Returns the name used in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Desk => "desk",
            Self::Published => "published",
            Self::Population => "population",
            Self::Weights => "weights",
            Self::Run => "run",
        }
    }

    /// Returns what a verdict of this tier is about, as it is shown beside the verdict.
    pub fn badge(self) -> &'static str {
        match self {
            Self::Desk => "on the bundled models",
            Self::Published => "on the authors' tables of universal neurons",
            Self::Population => "on the authors' tables of all neurons",
            Self::Weights => "on the original models",
            Self::Run => "on the run that was named",
        }
    }
}
