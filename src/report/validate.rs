//! Checks that the files of a run's folder fit each other. Reports index one file by another,
//! so a folder that was edited or cut must be refused before anything is drawn.

use std::path::Path;

use super::folder::Spread;
use crate::cards::{Card, CardFile};
use crate::correlation::Layout;
use crate::error::Result;
use crate::findings::Summary;
use crate::record::TextTable;
use crate::store::damaged;
use crate::table::NeuronId;

/// Returns the layout of the reference that a summary describes.
///
/// # Errors
/// Returns an error naming the field if the number of neurons, the layers and the matrix of
/// layers do not fit each other, or there is no share.
pub fn layout(file: &Path, summary: &Summary) -> Result<Layout> {
    let n_layers = summary.by_layer.len();
    if n_layers == 0 || summary.shares.is_empty() {
        return Err(damaged(file, "has no layers or no shares"));
    }
    if let Some(share) = summary.shares.iter().find(|s| !(-1.0..=1.0).contains(&s.threshold)) {
        let problem = format!("`threshold` is {}, expected -1 to 1", share.threshold);
        return Err(damaged(file, problem));
    }
    if summary.neurons == 0 || !summary.neurons.is_multiple_of(n_layers) {
        let problem = format!("`neurons` is {}, in {n_layers} layers", summary.neurons);
        return Err(damaged(file, problem));
    }
    let columns = summary.depth.first().map_or(0, Vec::len);
    let square = columns > 0 && summary.depth.iter().all(|row| row.len() == columns);
    if !square || summary.depth.len() != n_layers {
        let problem = format!("`depth` does not have {n_layers} rows of one length");
        return Err(damaged(file, problem));
    }
    Ok(Layout { n_layers, d_mlp: summary.neurons / n_layers })
}

/// Checks that the extra table has a row for each neuron and the columns of each partner.
///
/// # Errors
/// Returns an error naming the missing column or the number of rows.
pub fn extra(file: &Path, table: &TextTable, summary: &Summary) -> Result<()> {
    if table.rows.len() != summary.neurons {
        let problem = format!("has {} rows, expected {}", table.rows.len(), summary.neurons);
        return Err(damaged(file, problem));
    }
    let columns = summary.partners.iter();
    let mut columns =
        columns.flat_map(|p| ["best", "corr", "baseline"].map(|c| format!("{c}_{p}")));
    match columns.find(|column| !table.header.contains(column)) {
        Some(column) => Err(damaged(file, format!("has no column `{column}`"))),
        None => Ok(()),
    }
}

/// Checks that the distributions of ρ are those of the partners, in bins of one number.
///
/// # Errors
/// Returns an error naming what does not fit.
pub fn spreads(file: &Path, spreads: &[Spread], summary: &Summary) -> Result<()> {
    if !spreads.iter().map(|s| &s.partner).eq(&summary.partners) {
        return Err(damaged(file, "is not about the partners of summary.json"));
    }
    let bins = spreads.first().map_or(0, |s| s.histogram.len());
    if bins == 0 || spreads.iter().any(|s| s.histogram.len() != bins) {
        return Err(damaged(file, "`histogram` is empty or of another length for some partner"));
    }
    Ok(())
}

/// Checks that every card is about a neuron of the model and that its lists fit each other.
///
/// # Errors
/// Returns an error naming the card and the field.
pub fn cards(file: &Path, cards: &CardFile, layout: Layout) -> Result<()> {
    let problem = |card: &Card| Some(format!("card of {}: {}", card.neuron, flaw(card, layout)?));
    match cards.cards.iter().find_map(problem) {
        Some(problem) => Err(damaged(file, problem)),
        None => Ok(()),
    }
}

fn flaw(card: &Card, layout: Layout) -> Option<&'static str> {
    let id: Option<NeuronId> = card.neuron.parse().ok();
    if id.is_none_or(|id| id.layer >= layout.n_layers || id.neuron >= layout.d_mlp) {
        return Some("is not a neuron of the model");
    }
    if card.histogram.yes.len() != card.histogram.no.len() {
        return Some("`histogram` has lists of different lengths");
    }
    let fits =
        |c: &crate::cards::Context| c.at < c.tokens.len() && c.values.len() == c.tokens.len();
    (!card.contexts.iter().all(fits)).then_some("`contexts` has lists that do not fit `at`")
}
