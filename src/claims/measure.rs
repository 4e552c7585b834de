//! The measures that claims are about.

use serde::{Deserialize, Serialize};

use crate::experiment::{self, ByLayer};
use crate::table::{Column, NeuronId};

/// What a claim measures: a quantity of the neuron tables, a figure of an experiment, or something
/// that the project does not measure yet. Exactly one of `name`, `figure` and `awaits` is given.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Measure {
    /// The quantity of the neuron table.
    pub name: Option<Quantity>,
    /// The column that the quantity is computed from.
    pub column: Option<Column>,
    /// The neurons that the quantity is computed over.
    pub of: Option<NeuronSet>,
    /// Neurons of `of` to exclude, because the source computed its figure without them.
    pub without: Vec<NeuronId>,
    /// The kind of experiment that reports the figure.
    pub experiment: Option<String>,
    /// The name of the figure, as the kind declares it.
    pub figure: Option<String>,
    /// The labels that decide the claim. The claim is shown with the chance that it would hold if
    /// these labels were in random order.
    pub permute: Option<Permuted>,
    /// What the project lacks to measure the claim.
    pub awaits: Option<String>,
}

/// Labels that are put in random order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permuted {
    /// The order of the layers.
    Layers,
    /// Which neurons are universal; their number stays.
    Universal,
}

/// A set of neurons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NeuronSet {
    /// Neurons whose excess correlation is above the threshold.
    Universal,
    /// Neurons whose excess correlation is not above the threshold.
    Others,
    /// All neurons.
    All,
}

/// A quantity of the neuron table. Shares are in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// Share of all neurons that are universal.
    UniversalShare,
    /// Number of universal neurons.
    UniversalCount,
    /// Number of universal neurons in each layer.
    UniversalByLayer,
    /// Number of layers among the first two that belong to the two layers with most universal
    /// neurons.
    EarlyAmongLargest,
    /// Universal share of the first model, divided by the largest share of the others.
    ShareRatio,
    /// Largest difference of universal share between models, in percentage points.
    ShareDifference,
    /// Mean over `of` of the largest minus the smallest best match over partners.
    Spread,
    /// [`Self::Spread`] over universal neurons, minus that over all neurons.
    SpreadGap,
    /// Layer, index and excess correlation of the neuron with the largest excess correlation.
    TopNeuron,
    /// Mean share of best matches in the same layer minus mean share in each other layer.
    DepthDiagonal,
    /// Smallest of the layers' mean excess correlations.
    LeastLayerExcess,
    /// Smallest excess correlation of a universal neuron.
    LeastUniversalExcess,
    /// Largest error of excess_corr = mean_corr − mean_baseline and of l2_penalty = w_in_norm² + w_out_norm².
    IdentityError,
    /// Number of rows of the authors' older table.
    OlderRows,
    /// Number of rows of the older table whose neuron is in the universal table.
    OlderInUniversal,
    /// Largest error of excess_corr = min_corr − max_baseline in the older table.
    OlderIdentityError,
    /// Number of rows of the authors' table of neurons with low kurtosis.
    SubgaussianRows,
    /// Largest kurtosis in the table of neurons with low kurtosis.
    SubgaussianLargestKurt,
    /// Median over `of` of the within-layer percentile of `column`.
    PercentileMedian,
    /// [`Self::PercentileMedian`] over universal neurons, minus that over the others.
    PercentileGap,
    /// Median over `of` of `column`.
    Median,
    /// Share of `of` where `column` is positive.
    PositiveShare,
    /// Smallest and largest value of `column` over `of`.
    Range,
    /// Number of universal neurons with kurtosis below 2.
    SubgaussianCount,
    /// Number of universal neurons with high vocabulary kurtosis in each layer.
    PredictionByLayer,
    /// Number of universal neurons with high vocabulary kurtosis.
    PredictionCount,
    /// Share of universal neurons with high vocabulary kurtosis whose vocabulary skew is negative.
    SuppressionShare,
    /// The first layer that has universal neurons with high vocabulary kurtosis, as a share of the
    /// depth from 0 to 1.
    PredictionOnset,
    /// Share of universal neurons with high vocabulary kurtosis that lie in the later half of the
    /// layers.
    PredictionLateShare,
    /// Share of the last layer's universal neurons that have high vocabulary kurtosis.
    PredictionLastLayerShare,
    /// Share of the neurons of `of` with high vocabulary kurtosis whose vocabulary skew is negative:
    /// in the last layer, and in the layers before.
    SuppressionLateShares,
    /// The first value of [`Self::SuppressionLateShares`] minus the second.
    SuppressionLateGap,
    /// Number of rows, neurons, token classes and suppressing rows in the authors' table of
    /// prediction neurons.
    PredictionTableCounts,
    /// Number of rows of that table in the earlier half of the layers.
    PredictionTableEarly,
    /// Number of suppressing rows and of all rows of that table: in the last layer, and in the
    /// layers before.
    PredictionTableSuppression,
    /// Number of rows of that table with a universal neuron, and of these neurons.
    PredictionTableUniversal,
    /// Smallest vocabulary kurtosis of these neurons.
    PredictionTableKurt,
    /// Number of these rows whose neuron has negative vocabulary skew if and only if it suppresses.
    PredictionTableAgreement,
    /// Median cos(w_in, w_out) of very active neurons.
    ActiveCosine,
}

impl Measure {
    /// Returns what is wrong with the measure, if anything is: it has none or several of its three
    /// forms, the kind of experiment is unknown, or the kind does not report the figure.
    pub fn problem(&self) -> Option<String> {
        let figure = self.experiment.is_some() || self.figure.is_some();
        let forms = [self.name.is_some(), figure, self.awaits.is_some()];
        if forms.iter().filter(|given| **given).count() != 1 {
            return Some(
                "a measure has exactly one of: name, experiment and figure, awaits".into(),
            );
        }
        if !self.without.is_empty() && self.of.is_none() {
            return Some("`without` excludes neurons from a set, and `of` names none".into());
        }
        if let Some(labels) = self.permute.filter(|labels| !self.depends_on(*labels)) {
            return Some(format!("`permute`: the measure does not depend on {}", labels.text()));
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

    /// Returns how the figure of the measure follows from values of the layers, if it does.
    pub(super) fn by_layer(&self) -> Option<ByLayer> {
        let kind = experiment::kind(self.experiment.as_ref()?)?;
        kind.figures.iter().find(|figure| Some(figure.name) == self.figure.as_deref())?.by_layer
    }

    /// Returns whether the measure may change if the labels are put in another order.
    fn depends_on(&self, labels: Permuted) -> bool {
        use Quantity as Q;
        match (labels, self.name) {
            (Permuted::Layers, None) => self.by_layer().is_some() || self.figure.is_none(),
            (Permuted::Layers, Some(quantity)) => matches!(
                quantity,
                Q::EarlyAmongLargest
                    | Q::DepthDiagonal
                    | Q::UniversalByLayer
                    | Q::PredictionByLayer
                    | Q::PredictionOnset
                    | Q::SuppressionLateGap
            ),
            (Permuted::Universal, None) => false,
            (Permuted::Universal, Some(Q::PercentileGap | Q::SpreadGap)) => true,
            (Permuted::Universal, Some(_)) => {
                matches!(self.of, Some(NeuronSet::Universal | NeuronSet::Others))
            }
        }
    }
}

impl Permuted {
    /// Returns the labels as text.
    pub fn text(self) -> &'static str {
        match self {
            Self::Layers => "the order of the layers",
            Self::Universal => "which neurons are universal",
        }
    }
}
