//! `summary.json`: the headline figures of a study, and the published ones beside them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::corpus::documents::DocumentCount;
use crate::corpus::tokens::TokenCount;
use crate::correlation::ScreeningCounts;
use crate::error::Result;
use crate::nullable::or_nan;
use crate::store::read_json;

/// `summary.json`: the headline figures of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this file's structure.
    pub schema: u32,
    /// Name of the experiment.
    pub experiment: String,
    /// Name of the reference model.
    pub reference: String,
    /// Names of the partner models.
    pub partners: Vec<String>,
    /// Numbers of documents read and skipped.
    #[serde(default)]
    pub documents: DocumentCount,
    /// Numbers of token positions used and excluded.
    pub tokens: TokenCount,
    /// Number of neurons of the reference model.
    pub neurons: usize,
    /// Neurons of the reference model whose activation never varies.
    pub dead: Vec<String>,
    /// Neurons of the reference model with a NaN or infinite activation.
    pub non_finite: Vec<String>,
    /// Neurons without a correlation, for each model in the order of the spec; empty in files of
    /// version 1.
    #[serde(default)]
    pub models: Vec<Uncorrelated>,
    /// Share of universal neurons at the threshold, then at the thresholds of `also_report`.
    pub shares: Vec<Share>,
    /// Share of neurons above each of the thresholds 0.1, 0.2 … 0.9; empty in earlier files.
    #[serde(default)]
    pub curve: Vec<Share>,
    /// How much the share depends on the draws of the baseline; absent in earlier files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draws: Option<DrawError>,
    /// Share of universal neurons of each layer, at the threshold.
    pub by_layer: Vec<Share>,
    /// The ten neurons with the largest excess correlation.
    pub top: Vec<TopNeuron>,
    /// Within-layer percentiles of eight properties of universal neurons.
    pub signatures: Vec<Signature>,
    /// `[layer][partner layer]`: share of the best matches that lie in each layer of the partner
    /// model, averaged over partners.
    #[serde(deserialize_with = "or_nan")]
    pub depth: Vec<Vec<f64>>,
    /// Mean excess correlation of each layer.
    #[serde(deserialize_with = "or_nan")]
    pub mean_excess_by_layer: Vec<f64>,
    /// How intervals were computed, or why there are none; absent if the spec asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resampling: Option<Resampling>,
    /// Numbers of neurons that screening compared exactly, if the spec asks for screening.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screening: Option<ScreeningCounts>,
    /// Duration of the parts of the run. Left out when results are compared, since no two runs
    /// take equally long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<Timing>,
}

impl Summary {
    /// Name of the file.
    pub const FILE: &str = "summary.json";

    /// Reads the summary of a run folder.
    ///
    /// # Errors
    /// Returns an error if the file is missing or damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        read_json(&folder.join(Self::FILE))
    }
}

/// Maximum number of neurons without a correlation that a line of text names.
const NAMED: usize = 5;

/// Version of `summary.json`.
pub const SUMMARY_SCHEMA: u32 = 2;

/// The neurons of a model that have no correlation, by names such as `L0.N12`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncorrelated {
    /// Name of the model.
    pub model: String,
    /// Number of neurons of the model.
    pub neurons: usize,
    /// Neurons whose activation never varies.
    pub dead: Vec<String>,
    /// Neurons with a NaN or infinite activation.
    pub non_finite: Vec<String>,
}

impl Uncorrelated {
    /// Describes the neurons in words: their number, and the names of at most five.
    pub fn described(&self) -> String {
        let part = |names: &[String], what: &str| match names {
            [] => None,
            few if few.len() <= NAMED => Some(format!("{} {what}: {}", few.len(), few.join(" "))),
            many => Some(format!("{} {what}", many.len())),
        };
        let parts = [part(&self.dead, "never vary"), part(&self.non_finite, "not finite")];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        format!("of {} neurons {}", self.neurons, parts.join("; "))
    }

    /// Returns whether every neuron has a correlation.
    pub fn is_empty(&self) -> bool {
        self.dead.is_empty() && self.non_finite.is_empty()
    }
}

/// The share of neurons whose excess correlation lies above a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The threshold, which the excess correlation must exceed.
    #[serde(deserialize_with = "or_nan")]
    pub threshold: f64,
    /// Number of neurons above the threshold.
    pub universal: usize,
    /// Number of all neurons.
    pub of: usize,
    /// The share, in percent.
    #[serde(deserialize_with = "or_nan")]
    pub percent: f64,
    /// 95 % interval of the share over resampled documents, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<PercentileInterval>,
}

impl Share {
    /// Counts the values above a threshold.
    pub fn above(threshold: f64, excess: &[f64]) -> Self {
        let universal = excess.iter().filter(|&&e| e > threshold).count();
        let percent = 100.0 * universal as f64 / excess.len() as f64;
        Self { threshold, universal, of: excess.len(), percent, interval: None }
    }
}

/// How much the universal share depends on the draws of the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DrawError {
    /// Number of draws.
    pub draws: usize,
    /// Standard error of the share, in percentage points: that of a mean over draws of the share that
    /// each draw alone gives. NaN for a single draw.
    #[serde(deserialize_with = "or_nan")]
    pub percent: f64,
    /// Number of neurons whose excess correlation lies within one standard error of the threshold.
    pub near: usize,
}

/// The 2.5th and the 97.5th percentile over resamples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PercentileInterval {
    /// The 2.5th percentile.
    #[serde(deserialize_with = "or_nan")]
    pub low: f64,
    /// The 97.5th percentile.
    #[serde(deserialize_with = "or_nan")]
    pub high: f64,
}

/// How the intervals of a run were computed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resampling {
    /// Number of blocks that the documents were dealt into.
    pub blocks: usize,
    /// Number of resamples.
    pub resamples: usize,
    /// Number of partners of each neuron among which resamples look for the best match.
    pub candidates: usize,
    /// Why there are no intervals, although the spec asks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// A neuron with a large excess correlation, and its best matches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopNeuron {
    /// Name of the neuron.
    pub neuron: String,
    /// Excess correlation of the neuron.
    #[serde(deserialize_with = "or_nan")]
    pub excess_corr: f64,
    /// Best match in each partner model, as in `a L0.N1 (0.9)`.
    pub partners: Vec<String>,
}

/// Median within-layer percentile of a property, over universal neurons and over the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signature {
    /// The paper's name of the property.
    pub property: String,
    /// Column of the neuron table.
    pub column: String,
    /// Median over the universal neurons of this run; null if there are none.
    pub universal: Option<f64>,
    /// Median over the other neurons of this run.
    pub others: Option<f64>,
    /// 95 % interval of the difference, universal minus other neurons, over resampled documents and
    /// neurons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<PercentileInterval>,
    /// The published medians.
    pub published: Published,
}

impl Signature {
    /// Returns the median over universal neurons minus that over the others, if both exist.
    pub fn difference(&self) -> Option<f64> {
        Some(self.universal? - self.others?)
    }

    /// Returns whether the median over universal neurons lies on the published side of 50.
    pub fn points_as_published(&self) -> bool {
        self.universal.is_some_and(|v| (v > 50.0) == (self.published.direction == "high"))
    }
}

/// The published medians of a property.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Median over universal neurons.
    #[serde(deserialize_with = "or_nan")]
    pub universal: f64,
    /// Median over the other neurons.
    #[serde(deserialize_with = "or_nan")]
    pub others: f64,
    /// Direction that the paper reports for universal neurons: `high` or `low`.
    pub direction: String,
}

/// Duration of the parts of a run, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Loading weights.
    #[serde(deserialize_with = "or_nan")]
    pub load_s: f64,
    /// Forward passes, and sums over all tokens.
    #[serde(deserialize_with = "or_nan")]
    pub tokens_s: f64,
    /// Matches, baselines and statistics, computed from the sums.
    #[serde(deserialize_with = "or_nan")]
    pub finish_s: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_counts_strictly_above() {
        let share = Share::above(0.5, &[0.5, 0.51, 0.2, 0.9]);
        assert_eq!((share.universal, share.of, share.percent), (2, 4, 50.0));
    }
}
