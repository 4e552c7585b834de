//! Checks that the files of a run folder fit each other. Reports index one file by another,
//! so a folder that was edited or cut must be refused before anything is drawn.

use std::path::Path;

use super::{Card, CardFile, Context, PartnerCorrelations, Share, Summary};
use crate::correlation::Layout;
use crate::error::Result;
use crate::store::damaged;
use crate::table::NeuronId;

/// Returns the layout of the reference that a summary describes.
///
/// # Errors
/// Returns an error naming the field if the number of neurons, the layers, the shares and the
/// matrix of layers do not fit each other, or there is no share.
pub fn layout(file: &Path, summary: &Summary) -> Result<Layout> {
    let n_layers = summary.by_layer.len();
    if n_layers == 0 || summary.shares.is_empty() {
        return Err(damaged(file, "has no layers or no shares"));
    }
    if let Some(share) = summary.shares.iter().find(|s| !(-1.0..=1.0).contains(&s.threshold)) {
        let problem = format!("`threshold` is {}, expected -1 to 1", share.threshold);
        return Err(damaged(file, problem));
    }
    let fits = |s: &Share| s.universal <= s.of && s.of <= summary.neurons;
    if let Some(s) = summary.shares.iter().chain(&summary.by_layer).find(|s| !fits(s)) {
        let (some, of, all) = (s.universal, s.of, summary.neurons);
        let problem = format!("a share counts {some} neurons of {of}; the model has {all}");
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

/// Checks that there is one distribution of ρ for each partner, all with the same number of bins.
///
/// # Errors
/// Returns an error naming what does not fit.
pub fn correlations(file: &Path, of: &[PartnerCorrelations], summary: &Summary) -> Result<()> {
    if !of.iter().map(|s| &s.partner).eq(&summary.partners) {
        return Err(damaged(file, "is not about the partners of summary.json"));
    }
    let bins = of.first().map_or(0, |s| s.histogram.len());
    if bins == 0 || of.iter().any(|s| s.histogram.len() != bins) {
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

/// Returns what is wrong with a card, if anything is.
fn flaw(card: &Card, layout: Layout) -> Option<&'static str> {
    let id: Option<NeuronId> = card.neuron.parse().ok();
    if id.is_none_or(|id| id.layer >= layout.n_layers || id.neuron >= layout.d_mlp) {
        return Some("is not a neuron of the model");
    }
    if card.histogram.yes.len() != card.histogram.no.len() {
        return Some("`histogram` has lists of different lengths");
    }
    let fits = |c: &Context| c.at < c.tokens.len() && c.values.len() == c.tokens.len();
    (!card.contexts.iter().all(fits)).then_some("`contexts` has lists that do not fit `at`")
}
