//! The headline figures of a run, and the published ones beside them.

use serde::{Deserialize, Serialize};

use super::{Extra, Sources};
use crate::corpus::documents::Count;
use crate::corpus::tokens::TokenCount;
use crate::correlation::excess::depth_matrix;
use crate::correlation::{Layout, NeuronSums, ScreeningCounts};
use crate::nullable::or_nan;
use crate::plan::{Plan, PlannedModel};
use crate::stats::percentile::{mean, median, ranks_within};
use crate::table::{Column, NeuronId, Table};

/// `summary.json`: the headline figures of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Version of this file's structure.
    pub schema: u32,
    /// Name of the experiment.
    pub experiment: String,
    /// Name of the reference model.
    pub reference: String,
    /// Names of its partners.
    pub partners: Vec<String>,
    /// Documents read and skipped.
    #[serde(default)]
    pub documents: Count,
    /// Positions used and left out.
    pub tokens: TokenCount,
    /// Neurons of the reference.
    pub neurons: usize,
    /// Those whose activation never varies.
    pub dead: Vec<String>,
    /// Those with a NaN or infinite activation.
    pub non_finite: Vec<String>,
    /// The same of every model of the family, in its order; none in files of version 1.
    #[serde(default)]
    pub models: Vec<Uncorrelated>,
    /// Universal neurons at the threshold and at those reported beside it.
    pub shares: Vec<Share>,
    /// Universal neurons of each layer, at the threshold.
    pub by_layer: Vec<Share>,
    /// The ten neurons of largest excess.
    pub top: Vec<Top>,
    /// Within-layer percentiles of eight properties.
    pub signatures: Vec<Signature>,
    /// `[layer][partner layer]`: where best matches lie, averaged over partners.
    #[serde(deserialize_with = "or_nan")]
    pub depth: Vec<Vec<f64>>,
    /// Mean excess of each layer.
    #[serde(deserialize_with = "or_nan")]
    pub mean_excess_by_layer: Vec<f64>,
    /// What screening did, where the spec asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screening: Option<ScreeningCounts>,
    /// Seconds; absent in comparisons, since no two runs agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<Timing>,
}

/// Neurons without a correlation that are named in a line of text; more are counted.
const NAMED: usize = 5;

/// Version of `summary.json`.
pub const SUMMARY_SCHEMA: u32 = 2;

/// Neurons of a model that have no correlation, named as in `L0.N12`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncorrelated {
    /// The model.
    pub model: String,
    /// Neurons of the model.
    pub neurons: usize,
    /// Neurons whose activation never varies.
    pub dead: Vec<String>,
    /// Neurons with a NaN or infinite activation.
    pub non_finite: Vec<String>,
}

impl Uncorrelated {
    /// Finds the neurons of a model by the sums over its tokens.
    pub(super) fn of(model: &PlannedModel, own: &NeuronSums) -> Self {
        let d_mlp = model.layout().d_mlp;
        let named = |flag: Flag| {
            let marked = (0..own.neurons()).filter(|&i| Flag::of(own, i) == Some(flag));
            marked.map(|i| NeuronId::of(i, d_mlp).to_string()).collect()
        };
        Self {
            model: model.name.clone(),
            neurons: own.neurons(),
            dead: named(Flag::Dead),
            non_finite: named(Flag::NonFinite),
        }
    }

    /// Describes them in words: how many there are, and the names of a few.
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

/// Why a neuron has no correlation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flag {
    Dead,
    NonFinite,
}

impl Flag {
    /// Returns why a neuron has no correlation, None where it has one.
    pub(super) fn of(own: &NeuronSums, neuron: usize) -> Option<Self> {
        if own.non_finite(neuron) {
            return Some(Self::NonFinite);
        }
        own.inverse_spread(neuron).is_none().then_some(Self::Dead)
    }
}

/// How many neurons lie above a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// `excess_corr` above this, strictly.
    #[serde(deserialize_with = "or_nan")]
    pub threshold: f64,
    /// Neurons above it.
    pub universal: usize,
    /// Neurons counted.
    pub of: usize,
    /// The share in percent.
    #[serde(deserialize_with = "or_nan")]
    pub percent: f64,
}

impl Share {
    fn above(threshold: f64, excess: &[f64]) -> Self {
        let universal = excess.iter().filter(|&&e| e > threshold).count();
        let percent = 100.0 * universal as f64 / excess.len() as f64;
        Self { threshold, universal, of: excess.len(), percent }
    }
}

/// A neuron of large excess and its partners.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Top {
    /// The neuron.
    pub neuron: String,
    /// Its excess correlation.
    #[serde(deserialize_with = "or_nan")]
    pub excess_corr: f64,
    /// Best match in each partner, `a L0.N1 (0.9)`.
    pub partners: Vec<String>,
}

/// Median within-layer percentile of a property, over universal and other neurons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signature {
    /// What the paper calls it.
    pub property: String,
    /// Column of the table.
    pub column: String,
    /// Here, over universal neurons; null where there are none.
    pub universal: Option<f64>,
    /// Here, over the others.
    pub others: Option<f64>,
    /// The published counterpart.
    pub published: Published,
}

impl Signature {
    /// Whether the median over universal neurons lies on the side of 50 that was published.
    pub fn points_as_published(&self) -> bool {
        self.universal.is_some_and(|v| (v > 50.0) == (self.published.direction == "high"))
    }
}

/// What was published of a signature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Median over universal neurons.
    #[serde(deserialize_with = "or_nan")]
    pub universal: f64,
    /// Median over the others.
    #[serde(deserialize_with = "or_nan")]
    pub others: f64,
    /// "high" or "low", as the paper says.
    pub direction: String,
}

/// One entry of `expected/signatures.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishedSignature {
    column: String,
    property: String,
    universal: f64,
    others: f64,
    paper: String,
}

/// How long the parts of a run took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Loading weights.
    #[serde(deserialize_with = "or_nan")]
    pub load_s: f64,
    /// Forward passes and sums over all tokens.
    #[serde(deserialize_with = "or_nan")]
    pub tokens_s: f64,
    /// Matches, baselines and statistics from the sums.
    #[serde(deserialize_with = "or_nan")]
    pub finish_s: f64,
}

/// Neurons listed at the top.
const TOP: usize = 10;

impl Summary {
    /// Draws the headline from the table and the pairs.
    pub(super) fn draw(
        plan: &Plan,
        judged: usize,
        table: &Table,
        extra: &[Extra],
        sources: &Sources,
    ) -> Self {
        let pairs = sources.pairs;
        let excess = table.column(Column::ExcessCorr);
        let threshold = plan.spec.correlation.threshold;
        let layout = plan.models[judged].layout();
        let others = plan.partners(judged).map(|i| &plan.models[i]);
        let partners: Vec<String> = others.clone().map(|m| m.name.clone()).collect();
        let layouts: Vec<Layout> = others.map(PlannedModel::layout).collect();
        let family = plan.models.iter().zip(sources.family);
        let models: Vec<_> = family.map(|(model, own)| Uncorrelated::of(model, own)).collect();
        Self {
            schema: SUMMARY_SCHEMA,
            experiment: plan.spec.name.clone(),
            reference: plan.models[judged].name.clone(),
            documents: plan.documents,
            tokens: plan.tokens.count(),
            neurons: table.ids.len(),
            dead: models[judged].dead.clone(),
            non_finite: models[judged].non_finite.clone(),
            models,
            shares: plan.thresholds().map(|t| Share::above(t, excess)).collect(),
            by_layer: excess.chunks(layout.d_mlp).map(|e| Share::above(threshold, e)).collect(),
            top: top(table, extra, &partners),
            signatures: signatures(table, threshold),
            depth: depth_matrix(pairs, layout, &layouts),
            mean_excess_by_layer: excess
                .chunks(layout.d_mlp)
                .map(|layer| mean(layer.iter().copied()))
                .collect(),
            partners,
            screening: None,
            timing: None,
        }
    }
}

fn top(table: &Table, extra: &[Extra], partners: &[String]) -> Vec<Top> {
    let excess = table.column(Column::ExcessCorr);
    let mut order: Vec<usize> = (0..excess.len()).filter(|&i| !excess[i].is_nan()).collect();
    order.sort_by(|&a, &b| excess[b].total_cmp(&excess[a]));
    let describe = |&i: &usize| {
        let matches = extra[i].matches.iter().zip(partners);
        let named = matches.filter_map(|(m, name)| Some((m.as_ref()?, name)));
        Top {
            neuron: table.ids[i].to_string(),
            excess_corr: excess[i],
            partners: named.map(|(m, name)| format!("{name} {} ({:.2})", m.id, m.rho)).collect(),
        }
    };
    order.iter().take(TOP).map(describe).collect()
}

fn signatures(table: &Table, threshold: f64) -> Vec<Signature> {
    let layers = table.layers();
    let universal: Vec<bool> =
        table.column(Column::ExcessCorr).iter().map(|&e| e > threshold).collect();
    let one = |published: PublishedSignature| {
        let column = Column::ALL.iter().find(|c| c.name() == published.column)?;
        let ranks = ranks_within(&layers, table.column(*column));
        let over = |which: bool| {
            let chosen = ranks.iter().zip(&universal).filter(move |(_, u)| **u == which);
            median(chosen.map(|(rank, _)| *rank))
        };
        Some(Signature {
            property: published.property,
            column: published.column,
            universal: over(true),
            others: over(false),
            published: Published {
                universal: published.universal,
                others: published.others,
                direction: published.paper,
            },
        })
    };
    published_signatures().into_iter().filter_map(one).collect()
}

fn published_signatures() -> Vec<PublishedSignature> {
    // A test parses the embedded file, so the default is never taken.
    serde_yaml::from_str(include_str!("../../expected/signatures.yaml")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_signature_is_about_a_column() {
        let published = published_signatures();
        assert_eq!(published.len(), 8);
        for signature in published {
            assert!(
                Column::ALL.iter().any(|c| c.name() == signature.column),
                "{}",
                signature.column
            );
        }
    }

    #[test]
    fn a_share_counts_strictly_above() {
        let share = Share::above(0.5, &[0.5, 0.51, 0.2, 0.9]);
        assert_eq!((share.universal, share.of, share.percent), (2, 4, 50.0));
    }
}
