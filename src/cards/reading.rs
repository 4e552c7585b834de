//! Reads tokens for the cards of chosen neurons.

use super::activations::ChosenActivations;
use super::choice::choose;
use crate::corpus::{Batch, Tokens};
use crate::error::Result;
use crate::families::{
    FamilySettings, FamilySums, GroupedTests, TestSuite, TokenGrouping, TokenGroups,
    best_explanations,
};
use crate::findings::Findings;
use crate::model::Config;
use crate::model::fold::preprocess;
use crate::model::weights::Weights;
use crate::plan::Plan;
use crate::record::{CARDS_SCHEMA, Card, CardFile, Context, Explanation, Histogram};
use crate::run::Session;
use crate::stats::weights::vocabulary_effects;
use crate::table::{Column, NeuronId};

/// Number of tokens shown before and after an active token.
const AROUND: (usize, usize) = (15, 10);
/// Number of tokens shown as most promoted, and as most suppressed.
const TOKENS: usize = 10;
/// Number of explanations shown.
const EXPLANATIONS: usize = 3;

/// Reads cards for the neurons that stand out in the findings about the reference model.
///
/// # Errors
/// Returns an error as [`read`] does.
pub fn of(session: &mut Session, findings: &Findings) -> Result<CardFile> {
    let (plan, layout) = (session.plan, session.plan.reference().layout());
    let excess = findings.table.column(Column::ExcessCorr);
    let threshold = plan.spec.correlation.threshold;
    read(session, &choose(excess, threshold, layout, plan.spec.cards.neurons))
}

/// Reads a sample of the plan's tokens for the cards of some neurons of the reference model. The
/// neurons are given as indices over all layers.
///
/// # Errors
/// Returns an error if the model, the tokenizer or the tests cannot be read, or the run was
/// stopped.
pub fn read(session: &mut Session, chosen: &[usize]) -> Result<CardFile> {
    if chosen.is_empty() {
        return Ok(CardFile::default());
    }
    let (plan, model) = (session.plan, session.reference()?);
    let seen = Seen::read(session, chosen)?;
    let explained = explain(plan, &seen, chosen.len())?;
    let folded = preprocess(&model.weights, &model.config, &plan.spec.weights);
    let vocabulary = plan.shown_vocabulary()?;
    let view = View { plan, seen: &seen, vocabulary: &vocabulary };
    let card = |(i, (&neuron, (explanations, yes))): (usize, (&usize, (_, Vec<bool>)))| {
        let values = seen.activations.pre[i].iter().copied().zip(yes);
        let [promoted, suppressed] = view.effects(&folded, &model.config, neuron);
        Card {
            neuron: NeuronId::of(neuron, plan.reference().layout().d_mlp).to_string(),
            promoted,
            suppressed,
            explanations,
            histogram: Histogram::of(&values.collect::<Vec<_>>()),
            contexts: view.contexts(i),
        }
    };
    let cards = chosen.iter().zip(explained).enumerate().map(card).collect();
    Ok(CardFile { schema: CARDS_SCHEMA, tokens: seen.activations.places.len(), cards })
}

/// Checks the tests that a plan names, so that a mistake in them is found before the run.
///
/// # Errors
/// Returns an error if the tests are malformed, or the tokenizer cannot be read.
pub fn check(plan: &Plan) -> Result<()> {
    let Some(path) = &plan.spec.cards.tests else { return Ok(()) };
    crate::families::check(path, plan)
}

/// Activations of the chosen neurons over the sample, and the groups of its tokens.
struct Seen {
    tokens: Tokens,
    activations: ChosenActivations,
    groups: TokenGroups,
    /// Sums of post-activations by group.
    readings: FamilySums,
}

impl Seen {
    fn read(session: &mut Session, chosen: &[usize]) -> Result<Self> {
        let plan = session.plan;
        let tokens = plan.tokens.sample(plan.spec.cards.tokens);
        let grouping = TokenGrouping::new(plan, None)?;
        let mut readings = FamilySums::new(&grouping, chosen.len());
        let mut groups = TokenGroups::default();
        let absorb = |batch: &Batch, keep: &[bool], all: &ChosenActivations| {
            let newest = grouping.of(batch, keep);
            readings.absorb(&newest, &last_rows(&all.post, batch.used.len()));
            groups.iter_mut().zip(newest).for_each(|(all, new)| all.extend(new));
        };
        let activations = ChosenActivations::read(session, &tokens, chosen, absorb)?;
        Ok(Self { tokens, activations, groups, readings })
    }
}

/// Returns the last `n` tokens of `[neuron][token]` as `[token, neuron]`.
fn last_rows(values: &[Vec<f32>], n: usize) -> Vec<f32> {
    let all = values.first().map_or(0, Vec::len);
    let newest = (all - n.min(all))..all;
    newest.flat_map(|t| values.iter().map(move |values| values[t])).collect()
}

/// Returns the best explanations of each neuron, and the answer of the best one for every token.
fn explain(plan: &Plan, seen: &Seen, n: usize) -> Result<Vec<(Vec<Explanation>, Vec<bool>)>> {
    let nothing = || (Vec::new(), vec![false; seen.activations.places.len()]);
    let Some(path) = &plan.spec.cards.tests else {
        return Ok((0..n).map(|_| nothing()).collect());
    };
    let spec = FamilySettings::of(path.clone());
    let suite = TestSuite::read(&spec, plan, &seen.readings, None)?;
    let grouped = suite.over(&seen.readings);
    let mut found: Vec<Vec<(f64, TestMatch)>> = vec![Vec::new(); n];
    let see = |group: usize, test: usize, reductions: &[Option<(f64, f64)>]| {
        for (found, reduction) in found.iter_mut().zip(reductions) {
            let Some((reduction, difference)) = *reduction else { continue };
            let at = found.partition_point(|(other, _)| *other >= reduction);
            found.insert(at, (reduction, TestMatch { group, test, difference }));
            found.truncate(EXPLANATIONS);
        }
    };
    best_explanations(&grouped, n, spec.support, see);
    let explanation = |found: Vec<(f64, TestMatch)>| {
        let yes = found.first().map_or_else(|| nothing().1, |(_, best)| best.says(&grouped, seen));
        (found.iter().map(|(reduction, f)| f.explanation(&grouped, *reduction)).collect(), yes)
    };
    Ok(found.into_iter().map(explanation).collect())
}

/// A test that explains a neuron, by its indices.
#[derive(Clone, Copy)]
struct TestMatch {
    group: usize,
    test: usize,
    difference: f64,
}

impl TestMatch {
    fn explanation(&self, grouped: &[GroupedTests], reduction: f64) -> Explanation {
        let GroupedTests { sums, tests, .. } = &grouped[self.group];
        let test = &tests[self.test];
        Explanation {
            test: test.name.clone(),
            family: test.family.clone(),
            reduction: short(reduction),
            difference: short(self.difference),
            support: test.ids.iter().map(|&id| sums.tokens(id)).sum(),
        }
    }

    /// Returns the answer of the test for every token.
    fn says(&self, grouped: &[GroupedTests], seen: &Seen) -> Vec<bool> {
        let GroupedTests { sums, tests, .. } = &grouped[self.group];
        let mut yes = vec![false; sums.groups()];
        tests[self.test].ids.iter().for_each(|&id| yes[id] = true);
        seen.groups[self.group].iter().map(|g| g.is_some_and(|g| yes[g])).collect()
    }
}

/// Everything needed to show contexts and tokens.
struct View<'a> {
    plan: &'a Plan,
    seen: &'a Seen,
    vocabulary: &'a [String],
}

impl View<'_> {
    /// Returns the most promoted and the most suppressed tokens, with their effects.
    fn effects(&self, folded: &Weights, config: &Config, neuron: usize) -> [Vec<(String, f64)>; 2] {
        let effects = vocabulary_effects(folded, config, neuron);
        let mut order: Vec<usize> =
            (0..effects.len()).filter(|&t| effects[t].is_finite()).collect();
        order.sort_by(|&a, &b| effects[b].total_cmp(&effects[a]));
        let shown = |t: &usize| (self.vocabulary[*t].clone(), short(effects[*t]));
        [
            order.iter().take(TOKENS).map(shown).collect(),
            order.iter().rev().take(TOKENS).map(shown).collect(),
        ]
    }

    /// Returns the contexts of the largest activations, at most one from each row.
    fn contexts(&self, neuron: usize) -> Vec<Context> {
        let values = &self.seen.activations.post[neuron];
        let mut best: Vec<usize> = Vec::new();
        for (token, (row, _)) in self.seen.activations.places.iter().enumerate() {
            match best.last_mut() {
                Some(last) if self.seen.activations.places[*last].0 == *row => {
                    if values[token] > values[*last] {
                        *last = token;
                    }
                }
                _ => best.push(token),
            }
        }
        best.retain(|&token| values[token].is_finite());
        best.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
        best.truncate(self.plan.spec.cards.contexts);
        best.iter().map(|&token| self.context(neuron, token)).collect()
    }

    fn context(&self, neuron: usize, token: usize) -> Context {
        let (row, position) = self.seen.activations.places[token];
        let ids = &self.seen.tokens.rows[row].ids;
        let sample = &self.plan.samples[self.seen.tokens.rows[row].sample];
        let (before, after) = AROUND;
        // The token at the beginning of a sequence is not part of the text.
        let shown = position.saturating_sub(before).max(1.min(position))
            ..(position + 1 + after).min(ids.len());
        let value = |p: usize| {
            let token = self.seen.activations.places.binary_search(&(row, p)).ok()?;
            let value = self.seen.activations.post[neuron][token];
            value.is_finite().then(|| short(f64::from(value)))
        };
        Context {
            sample: sample.id.clone(),
            domain: sample.domain.clone(),
            tokens: ids[shown.clone()].iter().map(|&id| self.token(id)).collect(),
            values: shown.clone().map(value).collect(),
            at: position - shown.start,
        }
    }

    fn token(&self, id: u32) -> String {
        self.vocabulary[id as usize].clone()
    }
}

/// Rounds a number to three decimals, for values that are only shown.
fn short(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
