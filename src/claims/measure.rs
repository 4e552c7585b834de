//! What claims are about: numbers taken from evidence.

use serde::Deserialize;

use crate::experiment;
use crate::table::{Column, NeuronId};

/// What a claim is about: a quantity of the neuron tables, a figure of an experiment, or
/// something that the project does not measure yet. Exactly one of the three is given.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Measure {
    /// The quantity of the neuron tables.
    pub name: Option<Quantity>,
    /// The column that the quantity is taken from.
    pub column: Option<Column>,
    /// The neurons that the quantity is taken over.
    pub of: Option<NeuronSet>,
    /// Neurons of `of` to leave out, where a source computed its figure without them.
    pub without: Vec<NeuronId>,
    /// The kind of experiment that reports the figure.
    pub experiment: Option<String>,
    /// The name of the figure, as the kind declares it.
    pub figure: Option<String>,
    /// What the claim waits for.
    pub awaits: Option<String>,
}

/// A set of neurons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NeuronSet {
    /// Those above the threshold.
    Universal,
    /// Those not above it.
    Others,
    /// All of them.
    All,
}

/// Quantities that claims are about. Shares are in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// Share of all neurons that are universal.
    UniversalShare,
    /// Number of universal neurons.
    UniversalCount,
    /// Number of universal neurons in each layer.
    UniversalByLayer,
    /// How many of the two layers with most universal neurons are the first two.
    EarlyAmongLargest,
    /// Universal share of the first model over the largest of the others.
    ShareRatio,
    /// Largest difference of universal share between models, in percentage points.
    ShareDifference,
    /// Mean over `of` of the largest minus the smallest best match over partners.
    Spread,
    /// The same over universal neurons minus over all.
    SpreadGap,
    /// Layer, neuron and excess of the neuron of largest excess.
    TopNeuron,
    /// Mean share of best matches in the same layer minus mean share in each other layer.
    DepthDiagonal,
    /// Smallest mean excess of a layer.
    LeastLayerExcess,
    /// Smallest excess of a universal neuron.
    LeastUniversalExcess,
    /// Largest error of excess_corr = mean_corr − mean_baseline and of l2_penalty = w_in_norm² + w_out_norm².
    IdentityError,
    /// Rows of the older table.
    OlderRows,
    /// Those of them in the universal table.
    OlderInUniversal,
    /// Largest error of excess_corr = min_corr − max_baseline in the older table.
    OlderIdentityError,
    /// Rows of the table of neurons of small kurtosis.
    SubgaussianRows,
    /// Largest kurtosis in it.
    SubgaussianLargestKurt,
    /// Median over `of` of the within-layer percentile of `column`.
    PercentileMedian,
    /// The same over universal neurons minus over the others.
    PercentileGap,
    /// Median over `of` of `column`.
    Median,
    /// Share of `of` where `column` is positive.
    PositiveShare,
    /// Smallest and largest value of `column` over `of`.
    Range,
    /// Universal neurons of large vocabulary kurtosis in each layer.
    PredictionByLayer,
    /// Their number.
    PredictionCount,
    /// Share of them with negative vocabulary skew.
    SuppressionShare,
    /// The first layer with one, as a share of depth from 0 to 1.
    PredictionOnset,
    /// Share of neurons of large vocabulary kurtosis with negative skew: last layer minus the layers before.
    SuppressionLateGap,
    /// Median cos(w_in, w_out) of very active neurons.
    ActiveCosine,
}

impl Measure {
    /// Returns what is wrong with the measure: none or several of its three forms, an
    /// experiment of an unknown kind, or a figure that the kind does not report.
    pub fn problem(&self) -> Option<String> {
        let figure = self.experiment.is_some() || self.figure.is_some();
        let forms = [self.name.is_some(), figure, self.awaits.is_some()];
        if forms.iter().filter(|given| **given).count() != 1 {
            return Some(
                "a measure has exactly one of: name, experiment and figure, awaits".into(),
            );
        }
        if !self.without.is_empty() && self.of.is_none() {
            return Some("`without` leaves neurons out of a set, and `of` names none".into());
        }
        let (experiment, name) = match (&self.experiment, &self.figure) {
            (None, None) => return None,
            (Some(experiment), Some(name)) => (experiment, name),
            _ => return Some("`experiment` and `figure` belong together".into()),
        };
        let Some(kind) = experiment::kind(experiment) else {
            return Some(format!("`{experiment}` is not a kind of experiment"));
        };
        let known = kind.figures.iter().any(|figure| figure.name == name);
        (!known).then(|| format!("`kind: {experiment}` reports no figure `{name}`"))
    }
}
