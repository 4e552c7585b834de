//! What the models say about the sample of tokens that is read for cards.

use super::activations::{BatchActivations, ChosenActivations, ChosenNeurons, ModelNeuron};
use super::reverse::ReverseSums;
use crate::corpus::Tokens;
use crate::error::Result;
use crate::families::{FamilySums, TokenGrouping, TokenGroups};
use crate::run::Session;

/// Number of tokens that the partner models read again.
const PARTNER_TOKENS: usize = 12_288;

/// Activations of the chosen neurons over the sample, and the groups of its tokens.
pub struct Seen {
    pub tokens: Tokens,
    /// The neurons of cards, then the partner neurons.
    pub chosen: Vec<ModelNeuron>,
    pub activations: ChosenActivations,
    pub groups: TokenGroups,
    /// Sums of the post-activations of cards by group.
    pub readings: FamilySums,
    /// Sums for the correlations of the partner neurons.
    pub reverse: ReverseSums,
}

impl Seen {
    /// Reads the sample for the cards of some neurons of the reference model, given by their indices
    /// over all layers, and for some partner neurons.
    ///
    /// # Errors
    /// Returns an error if a model or the tokenizer cannot be read, or the run was stopped.
    pub fn read(session: &mut Session, own: &[usize], partners: &[ModelNeuron]) -> Result<Self> {
        let plan = session.plan;
        let tokens = plan.tokens.sample(plan.spec.cards.tokens);
        let grouping = TokenGrouping::new(plan, None)?;
        let model = plan.judged[0];
        let chosen = own.iter().map(|&neuron| ModelNeuron { model, neuron });
        let chosen = chosen.chain(partners.iter().copied()).collect();
        let mut readings = FamilySums::new(&grouping, own.len());
        let mut groups = TokenGroups::default();
        let n_neurons = plan.reference().layout().n_neurons();
        let mut reverse = ReverseSums::new(n_neurons, partners.len());
        let absorb = |new: BatchActivations| {
            let newest = grouping.of(new.batch, new.keep);
            readings.absorb(&newest, &last_rows(&new.all.post, new.batch.used.len()));
            let shared = new.reference.len() / n_neurons;
            reverse.absorb(new.reference, &mut last_rows(&new.all.partners, shared));
            groups.iter_mut().zip(newest).for_each(|(all, new)| all.extend(new));
        };
        let every = tokens.count().used.div_ceil(PARTNER_TOKENS).max(1);
        let neurons = ChosenNeurons { own, partners, every };
        let activations = ChosenActivations::read(session, &tokens, neurons, absorb)?;
        Ok(Self { tokens, chosen, activations, groups, readings, reverse })
    }
}

/// Returns the last `n` tokens of `[neuron][token]` as `[token, neuron]`.
fn last_rows(values: &[Vec<f32>], n: usize) -> Vec<f32> {
    let all = values.first().map_or(0, Vec::len);
    let newest = (all - n.min(all))..all;
    newest.flat_map(|t| values.iter().map(move |values| values[t])).collect()
}

/// Rounds a number to three decimals, for values that are only shown.
pub fn short(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
