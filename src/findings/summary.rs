//! Draws the summary of a study: the headline figures, and the published ones beside them.

use serde::Deserialize;

use super::sources::Sources;
use crate::correlation::excess::depth_matrix;
use crate::correlation::{Layout, NeuronSums};
use crate::plan::{Plan, PlannedModel};
use crate::record::{
    ExtraRow, Published, SUMMARY_SCHEMA, Share, Signature, Summary, TopNeuron, Uncorrelated,
};
use crate::stats::percentile::{mean, median, ranks_within};
use crate::table::{Column, NeuronId, Table};

/// Why a neuron has no correlation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flag {
    Dead,
    NonFinite,
}

impl Flag {
    /// Returns why a neuron has no correlation, or `None` if it has one.
    pub(super) fn of(own: &NeuronSums, neuron: usize) -> Option<Self> {
        if own.non_finite(neuron) {
            return Some(Self::NonFinite);
        }
        own.inverse_spread(neuron).is_none().then_some(Self::Dead)
    }
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

/// Thresholds of [`Summary::curve`].
const CURVE: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/// Number of neurons listed in [`Summary::top`].
const TOP: usize = 10;

/// Draws the summary of a model from its table and pairs. `judged` is the model's place in the
/// family.
pub(super) fn draw_summary(
    plan: &Plan,
    judged: usize,
    table: &Table,
    extra: &[ExtraRow],
    sources: &Sources,
) -> Summary {
    let pairs = sources.pairs;
    let excess = table.column(Column::ExcessCorr);
    let threshold = plan.spec.correlation.threshold;
    let layout = plan.models[judged].layout();
    let others = plan.partners(judged).map(|i| &plan.models[i]);
    let partners: Vec<String> = others.clone().map(|m| m.name.clone()).collect();
    let layouts: Vec<Layout> = others.map(PlannedModel::layout).collect();
    let family = plan.models.iter().zip(sources.family);
    let models: Vec<_> = family.map(|(model, own)| uncorrelated(model, own)).collect();
    Summary {
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
        curve: CURVE.iter().map(|t| Share::above(*t, excess)).collect(),
        draws: None,
        top: top(table, extra, &partners),
        signatures: signatures(table, threshold),
        depth: depth_matrix(pairs, layout, &layouts),
        mean_excess_by_layer: excess
            .chunks(layout.d_mlp)
            .map(|layer| mean(layer.iter().copied()))
            .collect(),
        partners,
        resampling: None,
        screening: None,
        timing: None,
    }
}

/// Finds the neurons of a model that have no correlation, by the sums over its tokens.
fn uncorrelated(model: &PlannedModel, own: &NeuronSums) -> Uncorrelated {
    let d_mlp = model.layout().d_mlp;
    let named = |flag: Flag| {
        let marked = (0..own.neurons()).filter(|&i| Flag::of(own, i) == Some(flag));
        marked.map(|i| NeuronId::of(i, d_mlp).to_string()).collect()
    };
    Uncorrelated {
        model: model.name.clone(),
        neurons: own.neurons(),
        dead: named(Flag::Dead),
        non_finite: named(Flag::NonFinite),
    }
}

fn top(table: &Table, extra: &[ExtraRow], partners: &[String]) -> Vec<TopNeuron> {
    let excess = table.column(Column::ExcessCorr);
    let mut order: Vec<usize> = (0..excess.len()).filter(|&i| !excess[i].is_nan()).collect();
    order.sort_by(|&a, &b| excess[b].total_cmp(&excess[a]));
    let describe = |&i: &usize| {
        let matches = extra[i].matches.iter().zip(partners);
        let named = matches.filter_map(|(m, name)| Some((m.as_ref()?, name)));
        TopNeuron {
            neuron: table.ids[i].to_string(),
            excess_corr: excess[i],
            partners: named.map(|(m, name)| format!("{name} {} ({:.2})", m.id, m.rho)).collect(),
        }
    };
    order.iter().take(TOP).map(describe).collect()
}

/// Returns the signatures of the neurons above a threshold, without intervals.
pub(super) fn signatures(table: &Table, threshold: f64) -> Vec<Signature> {
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
            interval: None,
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
}
