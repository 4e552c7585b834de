//! Reads tokens for the cards of chosen neurons.

use std::sync::atomic::{AtomicBool, Ordering};

use safetensors::tensor::{Dtype, TensorView};

use crate::error::{Error, Kind, Result};
use crate::families::{
    FamilySettings, FamilySums, GroupedTests, TestSuite, TokenGrouping, TokenGroups,
    best_explanations,
};
use crate::model::capture::{Activations, Capture};
use crate::model::fold::preprocess;
use crate::model::weights::Weights;
use crate::model::{Config, Site, Transformer};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::record::{CARDS_SCHEMA, Card, CardFile, Context, Explanation, Histogram};
use crate::stats::weights::vocabulary_effects;
use crate::table::NeuronId;

/// Tokens shown before and after an active one.
const AROUND: (usize, usize) = (15, 10);
/// Tokens shown that are promoted most, and suppressed most.
const TOKENS: usize = 10;
/// Explanations shown.
const EXPLANATIONS: usize = 3;

/// Reads tokens of the plan's sample for the cards of some neurons of the reference,
/// counted over all layers.
///
/// # Errors
/// If the model, the tokenizer or the tests cannot be read, or the run was stopped.
pub fn read(
    plan: &Plan,
    chosen: &[usize],
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<CardFile> {
    if chosen.is_empty() {
        return Ok(CardFile::default());
    }
    let mut some = plan.clone();
    some.tokens = plan.tokens.sample(plan.spec.cards.tokens);
    let model = plan.reference().load(progress)?;
    let seen = Seen::read(&some, &model, chosen, progress, stop)?;
    let explained = explain(&some, &seen, chosen.len())?;
    let folded = preprocess(&model.weights, &model.config, &plan.spec.weights);
    let vocabulary = plan.shown_vocabulary()?;
    let view = View { plan: &some, seen: &seen, vocabulary: &vocabulary };
    let card = |(i, (&neuron, (explanations, yes))): (usize, (&usize, (_, Vec<bool>)))| {
        let values = seen.pre[i].iter().copied().zip(yes);
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
    Ok(CardFile { schema: CARDS_SCHEMA, tokens: seen.places.len(), cards })
}

/// Checks the tests that a plan names, so that a mistake in them costs no run.
///
/// # Errors
/// If they are malformed, or the tokenizer cannot be read.
pub fn check(plan: &Plan) -> Result<()> {
    let Some(path) = &plan.spec.cards.tests else { return Ok(()) };
    crate::families::check(path, plan)
}

/// Activations of some neurons of the reference, counted over all layers, at every token
/// of the plan that counts, as safetensors:
///
/// - `pre`, `post` f32 `[neurons, tokens]`: before and after GELU
/// - `token` i64 `[tokens]`: its id; `row` and `position` i64 `[tokens]`: where it stands
///
/// The names of the neurons are in the metadata.
///
/// # Errors
/// If the model or the tokenizer cannot be read, or the run was stopped.
pub fn activations(
    plan: &Plan,
    chosen: &[usize],
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<Vec<u8>> {
    let model = plan.reference().load(progress)?;
    let seen = Seen::read(plan, &model, chosen, progress, stop)?;
    let floats = |values: &[Vec<f32>]| -> Vec<u8> {
        values.iter().flatten().flat_map(|v| v.to_le_bytes()).collect()
    };
    let places = |of: &dyn Fn(&(usize, usize)) -> usize| -> Vec<u8> {
        seen.places.iter().flat_map(|place| (of(place) as i64).to_le_bytes()).collect()
    };
    let token = |&(row, position): &(usize, usize)| plan.tokens.rows[row].ids[position] as usize;
    let (neurons, tokens) = (chosen.len(), seen.places.len());
    let tensors = [
        ("pre", Dtype::F32, vec![neurons, tokens], floats(&seen.pre)),
        ("post", Dtype::F32, vec![neurons, tokens], floats(&seen.post)),
        ("token", Dtype::I64, vec![tokens], places(&token)),
        ("row", Dtype::I64, vec![tokens], places(&|place| place.0)),
        ("position", Dtype::I64, vec![tokens], places(&|place| place.1)),
    ];
    let d_mlp = plan.reference().layout().d_mlp;
    let names = chosen.iter().map(|&i| NeuronId::of(i, d_mlp).to_string());
    let names = [("neurons".to_owned(), names.collect::<Vec<_>>().join(","))];
    let unwritten = |e| Error::new(Kind::Store, "activations", e, "report this with the spec");
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        Ok((*name, TensorView::new(*dtype, shape.clone(), bytes).map_err(unwritten)?))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    safetensors::serialize(views, Some(names.into_iter().collect())).map_err(unwritten)
}

/// What was seen of the chosen neurons, token by token.
struct Seen {
    /// Pre-activations, `[neuron][token]`.
    pre: Vec<Vec<f32>>,
    /// Post-activations, `[neuron][token]`.
    post: Vec<Vec<f32>>,
    /// Row and position of each token.
    places: Vec<(usize, usize)>,
    groups: TokenGroups,
    /// Sums over groups, of post-activations.
    readings: FamilySums,
}

impl Seen {
    fn read(
        plan: &Plan,
        model: &Transformer,
        chosen: &[usize],
        progress: &Progress,
        stop: &AtomicBool,
    ) -> Result<Self> {
        let used = plan.tokens.count().used;
        progress.stage("looking at neurons", used as u64);
        let grouping = TokenGrouping::new(plan, None)?;
        let mut seen = Self {
            pre: vec![Vec::new(); chosen.len()],
            post: vec![Vec::new(); chosen.len()],
            places: Vec::new(),
            groups: TokenGroups::default(),
            readings: FamilySums::new(&grouping, chosen.len()),
        };
        let n = plan.reference().layout().n_neurons();
        for batch in &plan.tokens.batches(plan.spec.batch.tokens, 0..used) {
            if stop.load(Ordering::Relaxed) {
                let problem = "interrupted before the end; nothing was written";
                return Err(Error::new(Kind::Interrupted, "the run", problem, "start it again"));
            }
            let (rows, keep) = (batch.ids(), batch.kept());
            let (mut pre, mut post) = (Activations::new(n), Activations::new(n));
            let targets = vec![(Site::MlpPre, &mut pre), (Site::MlpPost, &mut post)];
            model.forward(&rows, &mut Capture::new(&keep, targets));
            take_columns(&pre, chosen, &mut seen.pre);
            take_columns(&post, chosen, &mut seen.post);
            seen.absorb(grouping.of(batch, &keep), batch.used.len());
            let places = (batch.first_row..).zip(&rows);
            let places = places.flat_map(|(r, row)| (0..row.len()).map(move |p| (r, p)));
            seen.places.extend(places.zip(&keep).filter(|(_, keep)| **keep).map(|(p, _)| p));
            progress.advance(batch.used.len() as u64);
        }
        progress.finish();
        Ok(seen)
    }

    /// Adds the newest tokens to the sums over groups.
    fn absorb(&mut self, groups: TokenGroups, tokens: usize) {
        let all = self.post.first().map_or(0, Vec::len);
        let newest = (all - tokens.min(all))..all;
        let rows = newest.flat_map(|t| self.post.iter().map(move |values| values[t]));
        let rows: Vec<f32> = rows.collect();
        self.readings.absorb(&groups, &rows);
        self.groups.iter_mut().zip(groups).for_each(|(all, new)| all.extend(new));
    }
}

/// Appends the chosen columns of `[tokens, n_neurons]` to those there are.
fn take_columns(all: &Activations, chosen: &[usize], columns: &mut [Vec<f32>]) {
    for row in all.values.chunks_exact(all.n_neurons) {
        columns.iter_mut().zip(chosen).for_each(|(column, &i)| column.push(row[i]));
    }
}

/// The best explanations of each neuron, and which tokens the best one says yes to.
fn explain(plan: &Plan, seen: &Seen, n: usize) -> Result<Vec<(Vec<Explanation>, Vec<bool>)>> {
    let nothing = || (Vec::new(), vec![false; seen.places.len()]);
    let Some(path) = &plan.spec.cards.tests else {
        return Ok((0..n).map(|_| nothing()).collect());
    };
    let spec = FamilySettings::of(path.clone());
    let suite = TestSuite::read(&spec, plan, &seen.readings, None)?;
    let grouped = suite.over(&seen.readings);
    let mut found: Vec<Vec<(f64, Found)>> = vec![Vec::new(); n];
    let see = |group: usize, test: usize, reductions: &[Option<(f64, f64)>]| {
        for (found, reduction) in found.iter_mut().zip(reductions) {
            let Some((reduction, difference)) = *reduction else { continue };
            let at = found.partition_point(|(other, _)| *other >= reduction);
            found.insert(at, (reduction, Found { group, test, difference }));
            found.truncate(EXPLANATIONS);
        }
    };
    best_explanations(&grouped, n, spec.support, see);
    let told = |found: Vec<(f64, Found)>| {
        let yes = found.first().map_or_else(|| nothing().1, |(_, best)| best.says(&grouped, seen));
        (found.iter().map(|(reduction, f)| f.told(&grouped, *reduction)).collect(), yes)
    };
    Ok(found.into_iter().map(told).collect())
}

/// A test that explains something, by its place.
#[derive(Clone, Copy)]
struct Found {
    group: usize,
    test: usize,
    difference: f64,
}

impl Found {
    fn told(&self, grouped: &[GroupedTests], reduction: f64) -> Explanation {
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

    /// Its answer for every token.
    fn says(&self, grouped: &[GroupedTests], seen: &Seen) -> Vec<bool> {
        let GroupedTests { sums, tests, .. } = &grouped[self.group];
        let mut yes = vec![false; sums.groups()];
        tests[self.test].ids.iter().for_each(|&id| yes[id] = true);
        seen.groups[self.group].iter().map(|g| g.is_some_and(|g| yes[g])).collect()
    }
}

/// What contexts and tokens are shown with.
struct View<'a> {
    plan: &'a Plan,
    seen: &'a Seen,
    vocabulary: &'a [String],
}

impl View<'_> {
    /// The tokens promoted most, and suppressed most.
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

    /// The largest activations, at most one of each row.
    fn contexts(&self, neuron: usize) -> Vec<Context> {
        let values = &self.seen.post[neuron];
        let mut best: Vec<usize> = Vec::new();
        for (token, (row, _)) in self.seen.places.iter().enumerate() {
            match best.last_mut() {
                Some(last) if self.seen.places[*last].0 == *row => {
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
        let (row, position) = self.seen.places[token];
        let ids = &self.plan.tokens.rows[row].ids;
        let sample = &self.plan.samples[self.plan.tokens.rows[row].sample];
        let (before, after) = AROUND;
        // The beginning of a sequence is no token of the text.
        let shown = position.saturating_sub(before).max(1.min(position))
            ..(position + 1 + after).min(ids.len());
        let value = |p: usize| {
            let token = self.seen.places.binary_search(&(row, p)).ok()?;
            let value = self.seen.post[neuron][token];
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

/// Three decimals: what is shown is not computed with.
fn short(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
