//! The cards of single neurons, made of what was read.

use super::activations::{CardColumn, ModelNeuron, at_quantiles};
use super::choice::CardRequest;
use super::explained::Explained;
use super::reverse::{largest, rank};
use super::seen::short;
use super::view::View;
use crate::families::reduction;
use crate::plan::Plan;
use crate::record::{Card, CardMatch, Histogram, JointHistogram, PartnerCard, SampledContext};
use crate::table::NeuronId;

/// Number of contexts in which a neuron is compared with its matches, and of those on the card of a
/// partner neuron.
const COMPARED: usize = 4;
/// The quantiles of a neuron's activation at which its card shows a token.
const QUANTILES: [f64; 4] = [0.999, 0.99, 0.9, 0.5];

/// Tokens with the logit effect of a neuron on them: the most promoted and the most suppressed.
pub type VocabularyEffects = [Vec<(String, f64)>; 2];

/// What the card of a neuron of the reference model is made of.
pub struct OwnCard<'a> {
    pub view: &'a View<'a>,
    /// All partner neurons that were read, ascending.
    pub partners: &'a [ModelNeuron],
    pub wanted: &'a CardRequest,
    pub explained: &'a Explained,
    /// Index of the neuron among those that were read.
    pub column: usize,
}

impl OwnCard<'_> {
    /// Makes the card.
    pub fn card(&self, [promoted, suppressed]: &VocabularyEffects) -> Card {
        let (view, plan, read) = (self.view, self.view.plan, &self.view.seen.activations);
        let (column, post) = (CardColumn::Own(self.column), &read.post[self.column]);
        let context = |token: usize| view.context(column, token);
        let most = plan.spec.cards.contexts;
        let strongest = read.strongest(column, 0..read.places.len(), most);
        let compared = read.strongest(column, read.shared.iter().copied(), most.min(COMPARED));
        let sampled = at_quantiles(post, &QUANTILES).into_iter().zip(QUANTILES);
        let sampled = sampled.map(|(token, share)| SampledContext {
            percentile: 100.0 * share,
            context: view.sampled(column, token),
        });
        let values = read.pre[self.column].iter().zip(&self.explained.answers);
        let values: Vec<(f32, bool)> = values.map(|(v, answer)| (*v, *answer)).collect();
        Card {
            neuron: name(plan, plan.judged[0], self.wanted.neuron),
            name: given_name(plan, plan.judged[0], self.wanted.neuron),
            promoted: promoted.clone(),
            suppressed: suppressed.clone(),
            explanations: self.explained.explanations.clone(),
            histogram: Histogram::of(&values),
            contexts: strongest.into_iter().map(context).collect(),
            sampled: sampled.collect(),
            compared: compared.iter().copied().map(context).collect(),
            matches: self.wanted.matches.iter().map(|m| self.compare(*m, &compared)).collect(),
        }
    }

    /// Compares the neuron with one of its matches, in some contexts.
    fn compare(&self, partner: ModelNeuron, contexts: &[usize]) -> CardMatch {
        let (view, plan, seen) = (self.view, self.view.plan, self.view.seen);
        let (read, neuron) = (&seen.activations, self.wanted.neuron);
        let place =
            self.partners.binary_search(&partner).unwrap_or_else(|_| unreachable!("listed"));
        let x: Vec<f32> = read.shared.iter().map(|&t| read.post[self.column][t]).collect();
        let y = &read.partners[place];
        let answers: Vec<bool> = read.shared.iter().map(|&t| self.explained.answers[t]).collect();
        let rho = seen.reverse.correlations(place);
        let closest = largest(&rho).unwrap_or(neuron);
        let values = |&token: &usize| view.values(CardColumn::Partner(place), token);
        let by_test = |_| short(explained_share(y, &answers));
        CardMatch {
            model: plan.models[partner.model].name.clone(),
            neuron: name(plan, partner.model, partner.neuron),
            rho: short(rho[neuron]),
            rank: rank(&rho, neuron),
            closest: name(plan, plan.judged[0], closest),
            closest_rho: short(rho[closest]),
            explained: self.explained.explanations.first().map_or(f64::NAN, by_test),
            joint: JointHistogram::of(&x, y),
            values: contexts.iter().map(values).collect(),
        }
    }
}

/// Makes the card of a partner neuron, which is the i-th of those that were read.
pub fn partner_card(
    view: &View,
    i: usize,
    partner: ModelNeuron,
    [promoted, suppressed]: &VocabularyEffects,
) -> PartnerCard {
    let (plan, read) = (view.plan, &view.seen.activations);
    let most = plan.spec.cards.contexts.min(COMPARED);
    let column = CardColumn::Partner(i);
    let strongest = read.strongest(column, read.shared.iter().copied(), most);
    PartnerCard {
        model: plan.models[partner.model].name.clone(),
        neuron: name(plan, partner.model, partner.neuron),
        name: given_name(plan, partner.model, partner.neuron),
        promoted: promoted.clone(),
        suppressed: suppressed.clone(),
        contexts: strongest.into_iter().map(|token| view.context(column, token)).collect(),
    }
}

/// Returns the name of a neuron of a model of the plan, without the model.
fn name(plan: &Plan, model: usize, neuron: usize) -> String {
    NeuronId::of(neuron, plan.models[model].layout().d_mlp).to_string()
}

/// Returns the name that the user gave a neuron of a model of the plan.
fn given_name(plan: &Plan, model: usize, neuron: usize) -> Option<String> {
    plan.models[model].names.get(neuron).map(str::to_owned)
}

/// Returns the share of the variance of some activations that the answers of a test explain
/// (eq. 4); NaN if there is none.
fn explained_share(values: &[f32], answers: &[bool]) -> f64 {
    let (mut all, mut yes) = ([0.0; 3], [0.0; 3]);
    for (value, answer) in values.iter().zip(answers) {
        let value = f64::from(*value);
        for (sum, term) in all.iter_mut().zip([1.0, value, value * value]) {
            *sum += term;
        }
        if *answer {
            for (sum, term) in yes.iter_mut().zip([1.0, value, value * value]) {
                *sum += term;
            }
        }
    }
    reduction(all, yes, 1.0).map_or(f64::NAN, |(reduction, _)| reduction)
}
