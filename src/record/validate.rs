//! Checks that the files of a run folder fit each other. Reports index one file by another,
//! so a folder that was edited or cut must be refused before anything is drawn.

use std::path::Path;

use super::{
    Card, CardFile, CardMatch, Context, JointHistogram, PartnerCorrelations, Share, Summary,
};
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
    let shares = summary.shares.iter().chain(&summary.curve);
    if let Some(share) = shares.clone().find(|s| !(-1.0..=1.0).contains(&s.threshold)) {
        let problem = format!("`threshold` is {}, expected -1 to 1", share.threshold);
        return Err(damaged(file, problem));
    }
    let fits = |s: &Share| s.universal <= s.of && s.of <= summary.neurons;
    if let Some(s) = shares.chain(&summary.by_layer).find(|s| !fits(s)) {
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
    let partner = cards.partners.iter().find(|p| !p.contexts.iter().all(is_whole));
    let partner = partner.map(|p| format!("card of {} of {}: {UNFIT_CONTEXTS}", p.neuron, p.model));
    match cards.cards.iter().find_map(problem).or(partner) {
        Some(problem) => Err(damaged(file, problem)),
        None => Ok(()),
    }
}

/// The flaw of a context.
const UNFIT_CONTEXTS: &str = "`contexts` has lists that do not fit `at`";

/// Returns whether the lists of a context fit each other.
fn is_whole(context: &Context) -> bool {
    context.at < context.tokens.len() && context.values.len() == context.tokens.len()
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
    let sampled = card.sampled.iter().map(|sampled| &sampled.context);
    if !card.contexts.iter().chain(&card.compared).chain(sampled).all(is_whole) {
        return Some(UNFIT_CONTEXTS);
    }
    card.matches.iter().find_map(|found| flaw_of_match(found, card))
}

/// Returns what is wrong with a match of a card, if anything is.
fn flaw_of_match(found: &CardMatch, card: &Card) -> Option<&'static str> {
    let same = |(values, context): (&Vec<_>, &Context)| values.len() == context.tokens.len();
    let values = found.values.len() == card.compared.len();
    if !values || !found.values.iter().zip(&card.compared).all(same) {
        return Some("`values` of a match do not fit `compared`");
    }
    let JointHistogram { bins, x, y, line, counts } = &found.joint;
    let within = |(cell, _): &(usize, u32)| cell / bins.max(&1) < *bins;
    let pairs = [x, y, line].iter().all(|list| list.len() == 2);
    (*bins > MOST_BINS || !pairs || !counts.iter().all(within))
        .then_some("`joint` of a match has cells outside its bins, or lists of another length")
}

/// Largest number of bins of a joint histogram in each direction.
const MOST_BINS: usize = 1000;
