//! Reads tokens for the cards of chosen neurons and of their best matches.

use rayon::prelude::*;

use super::activations::ModelNeuron;
use super::choice::{CardRequest, choose};
use super::explained::explain;
use super::made::{OwnCard, VocabularyEffects, partner_card};
use super::seen::Seen;
use super::view::View;
use crate::corpus::Row;
use crate::error::{Error, Kind, Result};
use crate::findings::Findings;
use crate::model::fold::preprocess;
use crate::plan::Plan;
use crate::record::{CARDS_SCHEMA, CardFile};
use crate::run::Session;
use crate::table;

/// Maximum number of units of a sparse model that gets cards. For cards, activations are read with their
/// zeros.
const MOST_SPARSE: usize = 1 << 15;

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
    let text = |row: &Row| {
        let ids: Vec<u32> = row.ids.iter().map(|&token| plan.vocabulary_id(token)).collect();
        tokenizer.shown_in_context(&ids)
    };
    let texts: Vec<Vec<String>> = seen.tokens.rows.iter().map(text).collect();
    let vocabulary = tokenizer.shown_texts();
    let view = View { plan, seen: &seen, vocabulary: &vocabulary, texts: &texts };
    let effects = effects(session, &view)?;
    let (own_effects, partner_effects) = effects.split_at(wanted.len());
    let cards = wanted.par_iter().zip(&explained).zip(own_effects).enumerate();
    let card = |(i, ((wanted, explained), effects))| {
        OwnCard { view: &view, partners: &partners, wanted, explained, column: i }.card(effects)
    };
    let cards = cards.map(card).collect();
    let of_partners = partners.par_iter().zip(partner_effects).enumerate();
    let of_partners =
        of_partners.map(|(i, (partner, effects))| partner_card(&view, i, *partner, effects));
    let read = &seen.activations;
    Ok(CardFile {
        schema: CARDS_SCHEMA,
        tokens: read.places.len(),
        cards,
        tokens_of_partners: read.shared.len(),
        partners: of_partners.collect(),
    })
}

/// Returns the effects of all chosen neurons on the vocabulary; none for other units and for recorded
/// activations, which have no weights.
fn effects(session: &mut Session, view: &View) -> Result<Vec<VocabularyEffects>> {
    let plan = session.plan;
    let mut all = vec![VocabularyEffects::default(); view.seen.chosen.len()];
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
