//! Reads tokens for the cards of chosen neurons and of their best matches.

use rayon::prelude::*;

use super::activations::{CardColumn, ModelNeuron, at_quantiles};
use super::choice::choose;
use super::explained::{Explained, explain};
use super::reverse::{largest, rank};
use super::seen::{Seen, short};
use super::view::View;
use crate::error::{Error, Kind, Result};
use crate::families::reduction;
use crate::findings::Findings;
use crate::model::fold::preprocess;
use crate::plan::Plan;
use crate::record::{
    CARDS_SCHEMA, Card, CardFile, CardMatch, Histogram, JointHistogram, PartnerCard, SampledContext,
};
use crate::run::Session;
use crate::table::{self, NeuronId};

/// Number of contexts in which a neuron is compared with its matches, and of those on the card of a
/// partner neuron.
const COMPARED: usize = 4;

/// Largest number of sparse units of which some get cards: tokens are read with their zeros for them.
const MOST_SPARSE: usize = 1 << 15;

/// The quantiles of a neuron's activation at which its card shows a token.
const QUANTILES: [f64; 4] = [0.999, 0.99, 0.9, 0.5];

/// A neuron of the reference model that gets a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardRequest {
    /// Index of the neuron over all layers.
    pub neuron: usize,
    /// Its best matches in partner models, in the order of the family.
    pub matches: Vec<ModelNeuron>,
}

/// Reads cards for the neurons that stand out in the findings about the reference model.
///
/// # Errors
/// Returns an error as [`read`] does.
pub fn of(session: &mut Session, findings: &Findings) -> Result<CardFile> {
    let (plan, layout) = (session.plan, session.plan.reference().layout());
    if !plan.has_text() || plan.is_sparse() && layout.n_neurons() > MOST_SPARSE {
        return Ok(CardFile::default());
    }
    let excess = findings.table.column(table::Column::ExcessCorr);
    let threshold = plan.spec.correlation.threshold;
    let chosen = choose(excess, threshold, layout, plan.spec.cards.neurons);
    let wanted = |neuron: usize| {
        let matches = plan.partners(plan.judged[0]).zip(&findings.extra[neuron].matches);
        let matches = matches.filter_map(|(model, best)| {
            let id = best.as_ref()?.id;
            let neuron = id.layer * plan.models[model].layout().d_mlp + id.neuron;
            Some(ModelNeuron { model, neuron })
        });
        CardRequest { neuron, matches: matches.collect() }
    };
    read(session, &chosen.into_iter().map(wanted).collect::<Vec<_>>())
}

/// Reads a sample of the plan's tokens for the cards of some neurons of the reference model.
///
/// # Errors
/// Returns an error if a model, the tokenizer or the tests cannot be read, or the run was stopped.
pub fn read(session: &mut Session, wanted: &[CardRequest]) -> Result<CardFile> {
    if wanted.is_empty() {
        return Ok(CardFile::default());
    }
    let plan = session.plan;
    if !plan.has_text() {
        let problem = "a card shows tokens, and the text of recorded activations is not known";
        let remedy = "record the ids of the tokens as `tokens`, and name their tokenizer";
        return Err(Error::new(Kind::Spec, "models.tokenizer", problem, remedy));
    }
    let mut partners: Vec<ModelNeuron> =
        wanted.iter().flat_map(|wanted| wanted.matches.iter().copied()).collect();
    partners.sort_unstable();
    partners.dedup();
    let own: Vec<usize> = wanted.iter().map(|wanted| wanted.neuron).collect();
    let seen = Seen::read(session, &own, &partners)?;
    let explained = explain(plan, &seen, wanted.len())?;
    let tokenizer = plan.tokenizer()?;
    let texts: Vec<Vec<String>> =
        seen.tokens.rows.iter().map(|row| tokenizer.shown_in_context(&plan.ids_of(row))).collect();
    let vocabulary = plan.shown_vocabulary()?;
    let view = View { plan, seen: &seen, vocabulary: &vocabulary, texts: &texts };
    let effects = effects(session, &view)?;
    let read = &seen.activations;
    let cards = wanted.par_iter().zip(&explained).enumerate();
    let cards = cards.map(|(i, (wanted, explained))| {
        let [promoted, suppressed] = effects[i].clone();
        let values = read.pre[i].iter().copied().zip(explained.answers.iter().copied());
        let context = |token: usize| view.context(CardColumn::Own(i), token);
        let most = plan.spec.cards.contexts;
        let strongest = read.strongest(CardColumn::Own(i), 0..read.places.len(), most);
        let shared = read.shared.iter().copied();
        let compared = read.strongest(CardColumn::Own(i), shared, most.min(COMPARED));
        let sampled = at_quantiles(&read.post[i], &QUANTILES).into_iter().zip(QUANTILES);
        let sampled = sampled.map(|(token, share)| SampledContext {
            percentile: 100.0 * share,
            context: view.sampled(CardColumn::Own(i), token),
        });
        let pair = |partner: &ModelNeuron| {
            let place = partners.binary_search(partner).unwrap_or_else(|_| unreachable!("listed"));
            let pair = MatchedPair { neuron: wanted.neuron, card: i, partner: *partner, place };
            pair.compare(&view, explained, &compared)
        };
        Card {
            neuron: name(plan, plan.judged[0], wanted.neuron),
            name: given_name(plan, plan.judged[0], wanted.neuron),
            promoted,
            suppressed,
            explanations: explained.explanations.clone(),
            histogram: Histogram::of(&values.collect::<Vec<_>>()),
            contexts: strongest.into_iter().map(context).collect(),
            sampled: sampled.collect(),
            compared: compared.iter().copied().map(context).collect(),
            matches: wanted.matches.iter().map(pair).collect(),
        }
    });
    let cards: Vec<Card> = cards.collect();
    let partner = |(i, partner): (usize, &ModelNeuron)| {
        let [promoted, suppressed] = effects[wanted.len() + i].clone();
        let most = plan.spec.cards.contexts.min(COMPARED);
        let strongest = read.strongest(CardColumn::Partner(i), read.shared.iter().copied(), most);
        let context = |token: usize| view.context(CardColumn::Partner(i), token);
        PartnerCard {
            model: plan.models[partner.model].name.clone(),
            neuron: name(plan, partner.model, partner.neuron),
            name: given_name(plan, partner.model, partner.neuron),
            promoted,
            suppressed,
            contexts: strongest.into_iter().map(context).collect(),
        }
    };
    let tokens = read.places.len();
    let tokens_of_partners = read.shared.len();
    let partners = partners.par_iter().enumerate().map(partner).collect();
    Ok(CardFile { schema: CARDS_SCHEMA, tokens, cards, tokens_of_partners, partners })
}

/// Returns the name of a neuron of a model of the plan, without the model.
fn name(plan: &Plan, model: usize, neuron: usize) -> String {
    NeuronId::of(neuron, plan.models[model].layout().d_mlp).to_string()
}

/// Returns the name that the user gave a neuron of a model of the plan.
fn given_name(plan: &Plan, model: usize, neuron: usize) -> Option<String> {
    plan.models[model].names.get(neuron).map(str::to_owned)
}

/// Tokens with the logit effect of a neuron on them: the most promoted and the most suppressed.
type Effects = [Vec<(String, f64)>; 2];

/// Returns the effects of all chosen neurons on the vocabulary; none for other units and for recorded
/// activations, which have no weights.
fn effects(session: &mut Session, view: &View) -> Result<Vec<Effects>> {
    let plan = session.plan;
    let mut all = vec![Effects::default(); view.seen.chosen.len()];
    if plan.is_recorded() || !plan.spec.models.units.are_neurons() {
        return Ok(all);
    }
    for index in 0..plan.models.len() {
        if !view.seen.chosen.iter().any(|chosen| chosen.model == index) {
            continue;
        }
        let model = session.model(index)?;
        let folded = preprocess(&model.weights, &model.config, &plan.spec.weights);
        for (effects, chosen) in all.iter_mut().zip(&view.seen.chosen) {
            if chosen.model == index {
                *effects = view.effects(&folded, &model.config, chosen.neuron);
            }
        }
    }
    Ok(all)
}

/// Checks the tests that a plan names, so that a mistake in them is found before the run.
///
/// # Errors
/// Returns an error if the tests are malformed, or the tokenizer cannot be read.
pub fn check(plan: &Plan) -> Result<()> {
    let Some(path) = &plan.spec.cards.tests else { return Ok(()) };
    crate::families::check(path, plan)
}

/// A neuron of the reference model and its match.
struct MatchedPair {
    /// Index of the neuron over all layers.
    neuron: usize,
    /// Index of its card.
    card: usize,
    /// The match.
    partner: ModelNeuron,
    /// Index of the match in the list of partner neurons.
    place: usize,
}

impl MatchedPair {
    fn compare(&self, view: &View, explained: &Explained, contexts: &[usize]) -> CardMatch {
        let (plan, seen) = (view.plan, view.seen);
        let read = &seen.activations;
        let shared =
            |values: &[f32]| -> Vec<f32> { read.shared.iter().map(|&t| values[t]).collect() };
        let (x, y) = (shared(&read.post[self.card]), &read.partners[self.place]);
        let answers: Vec<bool> = read.shared.iter().map(|&t| explained.answers[t]).collect();
        let rho = seen.reverse.correlations(self.place);
        let closest = largest(&rho).unwrap_or(self.neuron);
        let by_test = || explained_share(y, &answers);
        CardMatch {
            model: plan.models[self.partner.model].name.clone(),
            neuron: name(plan, self.partner.model, self.partner.neuron),
            rho: short(rho[self.neuron]),
            rank: rank(&rho, self.neuron),
            closest: name(plan, plan.judged[0], closest),
            closest_rho: short(rho[closest]),
            explained: explained.explanations.first().map_or(f64::NAN, |_| short(by_test())),
            joint: JointHistogram::of(&x, y),
            values: contexts
                .iter()
                .map(|&token| view.values(CardColumn::Partner(self.place), token))
                .collect(),
        }
    }
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
