//! The clusters of a run of `kind: matching` as the page lists them: neurons that are one and the same
//! in several models, with what is known of the one of the reference.

use serde::Serialize;

use crate::experiment::cluster_models;
use crate::record::{RunFolder, RunResults, StudyRecord};
use crate::table::fixed_cell;

/// Maximum number of clusters on a page; the other ones are in `clusters.csv`.
const SHOWN: usize = 60;

/// The table of clusters.
#[derive(Debug, PartialEq, Serialize)]
pub struct ClusterTable {
    /// The models, one column each.
    models: Vec<String>,
    /// The clusters shown.
    lines: Vec<ClusterLine>,
    /// Number of clusters in the file.
    of: usize,
}

/// A cluster.
#[derive(Debug, PartialEq, Serialize)]
struct ClusterLine {
    spans: String,
    mean_corr: String,
    /// Its neurons in each model.
    neurons: Vec<Vec<ClusterMember>>,
    /// What the cards of its neurons say, the reference's first; empty without one.
    says: String,
}

/// A neuron of a cluster.
#[derive(Debug, PartialEq, Serialize)]
struct ClusterMember {
    id: String,
    /// The part of the page's address that shows its card, if there is one.
    card: Option<String>,
}

/// Returns the clusters of a run, with links to the cards of a study of the same models: the first ones of the file; `None` for a run without clusters.
pub fn cluster_table(run: &RunFolder, study: Option<&StudyRecord>) -> Option<ClusterTable> {
    let RunResults::Figures(found) = &run.results else { return None };
    let table = found.tables.get("clusters")?;
    let models = cluster_models(table).to_vec();
    let corr = table.numbers("mean_corr");
    let line = |(row, cells): (usize, &Vec<String>)| {
        let neurons =
            models.iter().zip(cells.iter().skip(cells.len().saturating_sub(models.len())));
        let neurons: Vec<Vec<ClusterMember>> =
            neurons.map(|(model, ids)| members(study, model, ids)).collect();
        ClusterLine {
            spans: table.cell(row, "models").to_owned(),
            mean_corr: fixed_cell(corr[row], 3),
            says: says(study, &neurons),
            neurons,
        }
    };
    let lines = table.rows.iter().enumerate().take(SHOWN).map(line).collect();
    Some(ClusterTable { models, lines, of: table.rows.len() })
}

/// Returns the neurons of a cell, each with the place of its card.
fn members(study: Option<&StudyRecord>, model: &str, ids: &str) -> Vec<ClusterMember> {
    let card = |id: &str| {
        let study = study?;
        let cards = study.cards.as_ref()?;
        if model == study.summary.reference {
            return cards.cards.iter().any(|card| card.neuron == id).then(|| id.to_owned());
        }
        let mut partners = cards.partners.iter();
        let found = partners.any(|card| card.model == model && card.neuron == id);
        found.then(|| format!("{model}.{id}"))
    };
    ids.split_whitespace().map(|id| ClusterMember { id: id.to_owned(), card: card(id) }).collect()
}

/// Returns the sentences of the cards of a cluster's neurons in the reference model.
fn says(study: Option<&StudyRecord>, neurons: &[Vec<ClusterMember>]) -> String {
    let cards = study.and_then(|study| study.cards.as_ref());
    let cards = cards.into_iter().flat_map(|file| &file.cards);
    let own = |neuron: &str| {
        let mut members = neurons.iter().flatten();
        members.any(|member| member.card.as_deref() == Some(neuron))
    };
    let said = cards.filter(|card| own(&card.neuron)).map(|card| card.sentence());
    said.collect::<Vec<_>>().join(" ")
}
