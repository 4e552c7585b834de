//! Compares a family of models over the same tokens, two models at a time.

use super::compare::{MakeRotatedLayer, Watch};
use super::pair::PairResult;
use super::plan::{ComparisonPlan, Keep};
use super::rotation::{RotatedLayer, Rotation, rotation_stream};
use super::source::{AccumulatedSums, ResidentActivations, SumSource};
use super::sums::{CrossSums, GramSums, ModelSums, NeuronSums};
use super::surrogate::{SurrogateId, SurrogateSums};
use super::{CHUNK, NeuronComparison, TOKENS_AT_ONCE};
use crate::checkpoint::{Part, State, Visit};
use crate::error::Result;
use crate::spec::Baseline;

/// Accumulates the tokens of a family and compares the models at the end of each pass.
///
/// # Examples
///
/// Finds the best match of each of two neurons, from the activations on four tokens.
///
/// ```
/// use universal_neurons::Correlator;
/// use universal_neurons::correlation::{ComparisonPlan, Keep, Layout, NeuronComparison};
///
/// let layout = Layout { n_layers: 1, d_mlp: 2 };
/// let mut correlator = Correlator::new(ComparisonPlan::new(vec![layout; 2]), Keep::Tokens);
/// let mut reference = [1.0, 0.0, 2.0, 1.0, 3.0, 1.0, 4.0, 0.0]; // [tokens, neurons]
/// let mut partner = [5.0, 2.0, 6.0, 4.0, 6.0, 6.0, 5.0, 8.0];
/// correlator.absorb(&mut [&mut reference, &mut partner]);
/// correlator.end_pass(&|| Ok(()))?;
/// let pairs = correlator.finish();
/// let best = [0, 1].map(|i| pairs[0][0].best(i).unwrap());
/// assert_eq!(best.map(|b| b.neuron), [1, 0]);
/// assert!(best.iter().all(|b| b.rho > 0.999));
/// # Ok::<(), universal_neurons::Error>(())
/// ```
pub struct Correlator {
    plan: ComparisonPlan,
    own: Vec<NeuronSums>,
    kept: Accumulated,
    /// `[reference][partner]`.
    found: Vec<Vec<PairResult>>,
}

enum Accumulated {
    /// Pilot-shifted activations `[tokens, n_neurons]` of every model.
    Tokens(Vec<Vec<f32>>),
    Sums(PassSums),
}

struct PassSums {
    pass: usize,
    passes: usize,
    /// Index in the corpus of the first token.
    first: u64,
    /// Tokens added in this pass.
    tokens: u64,
    /// Models x and y, with x before y, and their sums of products.
    cross: Vec<(usize, usize, CrossSums)>,
    /// Gram sums of every model that is a partner, if the baseline is a rotation.
    grams: Vec<Option<GramSums>>,
    surrogates: Vec<SurrogateSums>,
}

impl Correlator {
    /// Creates a correlator without tokens.
    pub fn new(plan: ComparisonPlan, keep: Keep) -> Self {
        let kept = match keep {
            Keep::Tokens => Accumulated::Tokens(vec![Vec::new(); plan.models.len()]),
            Keep::Sums { passes } => Accumulated::Sums(PassSums::new(&plan, passes)),
        };
        let (top, draws) = (plan.top, plan.baseline.draws);
        let found_of = |&x: &usize| {
            let pair = PairResult::new(plan.models[x].n_neurons(), top, draws);
            vec![pair; plan.models.len() - 1]
        };
        let found = plan.references.iter().map(found_of).collect();
        let own = plan.models.iter().map(|m| NeuronSums::new(m.n_neurons())).collect();
        Self { plan, own, kept, found }
    }

    /// Sets the pilot of a model to the mean of the first tokens of a corpus, `[tokens,
    /// n_neurons]`.
    pub fn take_pilot(&mut self, model: usize, tokens: &[f32]) {
        self.own[model].take_pilot(tokens);
    }

    /// Sets the corpus index of the first token, a multiple of [`CHUNK`], so that surrogates draw
    /// the same random numbers however the corpus is split.
    pub fn start_at(&mut self, token: u64) {
        if let Accumulated::Sums(sums) = &mut self.kept {
            sums.first = token;
        }
    }

    /// Checks that what was read from a file is what a pass holds that has absorbed
    /// `absorbed` of `all` tokens.
    ///
    /// # Errors
    /// Returns what does not fit.
    pub fn check(&self, absorbed: u64, all: u64) -> Result<(), String> {
        let seen = if self.is_repeated_pass() { all } else { absorbed };
        if !self.own.iter().all(|own| own.is_of(seen)) {
            return Err(format!("its sums over neurons are not of {seen} tokens"));
        }
        let held = match &self.kept {
            Accumulated::Tokens(tokens) => tokens.iter().zip(&self.plan.models).all(|(t, m)| {
                usize::try_from(absorbed)
                    .is_ok_and(|n| Some(t.len()) == n.checked_mul(m.n_neurons()))
            }),
            Accumulated::Sums(sums) => {
                sums.tokens == absorbed && sums.surrogates.iter().all(|s| s.own.is_of(absorbed))
            }
        };
        if !held {
            return Err(format!("it does not hold {absorbed} tokens"));
        }
        let judged = self.plan.references.iter().zip(&self.found);
        let mut pairs = judged.flat_map(|(x, found)| self.plan.partners(*x).zip(found));
        match pairs.all(|(y, pair)| pair.names_within(self.plan.models[y].n_neurons())) {
            true => Ok(()),
            false => Err("it names a neuron that a partner does not have".into()),
        }
    }
}

impl NeuronComparison for Correlator {
    fn absorb(&mut self, tokens: &mut [&mut [f32]]) {
        assert_eq!(tokens.len(), self.own.len(), "tokens of every model");
        let repeated = self.is_repeated_pass();
        for (own, tokens) in self.own.iter_mut().zip(tokens.iter_mut()) {
            if repeated { own.shift(tokens) } else { own.absorb(tokens) }
        }
        assert!(self.own.iter().all(|own| own.n == self.own[0].n), "other token counts");
        match &mut self.kept {
            Accumulated::Tokens(kept) => {
                kept.iter_mut()
                    .zip(tokens)
                    .for_each(|(kept, tokens)| kept.extend_from_slice(tokens));
            }
            Accumulated::Sums(sums) => sums.absorb(&self.plan, tokens),
        }
    }

    fn is_repeated_pass(&self) -> bool {
        matches!(&self.kept, Accumulated::Sums(sums) if sums.pass > 0)
    }

    fn neuron_sums(&self, model: usize) -> &NeuronSums {
        &self.own[model]
    }

    fn end_pass(&mut self, watch: Watch) -> Result<bool> {
        let Self { plan, own, kept, found } = self;
        for (x, found) in plan.references.iter().zip(found) {
            for (y, pair) in plan.partners(*x).zip(found) {
                let direction = Direction { plan, own, x: *x, y, watch };
                match kept {
                    Accumulated::Tokens(tokens) => direction.compare_tokens(tokens, pair)?,
                    Accumulated::Sums(sums) => direction.compare_sums(sums, pair)?,
                }
            }
        }
        match kept {
            Accumulated::Sums(sums) if sums.pass + 1 < sums.passes => {
                sums.start(plan, sums.pass + 1);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn finish(self) -> Vec<Vec<PairResult>> {
        self.found
    }
}

impl PassSums {
    fn new(plan: &ComparisonPlan, passes: usize) -> Self {
        let gram = |model: usize| {
            let needed = plan.uses_rotation() && plan.partner_models().contains(&model);
            needed.then(|| GramSums::new(plan.models[model]))
        };
        let grams = (0..plan.models.len()).map(gram).collect();
        let (cross, surrogates) = (Vec::new(), Vec::new());
        let mut sums = Self { pass: 0, passes, first: 0, tokens: 0, cross, grams, surrogates };
        sums.start(plan, 0);
        sums
    }

    /// Allocates zero sums for the layers of a pass, in place of those of the pass before.
    fn start(&mut self, plan: &ComparisonPlan, pass: usize) {
        (self.pass, self.tokens) = (pass, 0);
        self.cross.clear();
        self.surrogates.clear();
        let sums = |x: usize, y: usize| {
            let layers = plan.layers(x, pass, self.passes);
            CrossSums::new(plan.models[x], layers, plan.models[y])
        };
        self.cross = plan.unordered_pairs().into_iter().map(|(x, y)| (x, y, sums(x, y))).collect();
        if plan.uses_rotation() {
            return;
        }
        for model in plan.partner_models() {
            for draw in 0..plan.baseline.draws {
                let against = plan.references.iter().filter(|&&x| x != model);
                let cross = against.map(|&x| (x, sums(x, model))).collect();
                let id = SurrogateId { model, draw };
                self.surrogates.push(SurrogateSums::new(id, plan.models[model], cross));
            }
        }
    }

    fn absorb(&mut self, plan: &ComparisonPlan, tokens: &[&mut [f32]]) {
        let product = plan.product();
        let chunk = (self.first + self.tokens) / CHUNK as u64;
        self.tokens += (tokens[0].len() / plan.models[0].n_neurons()) as u64;
        for (x, y, cross) in &mut self.cross {
            cross.absorb(product, tokens[*x], tokens[*y]);
        }
        for sums in &mut self.surrogates {
            let model = sums.id.model;
            let mut fake = sums.id.surrogate(plan, tokens[model], chunk);
            sums.own.absorb(&mut fake);
            sums.cross.iter_mut().for_each(|(x, cross)| cross.absorb(product, tokens[*x], &fake));
        }
        if self.pass == 0 {
            let grams = self.grams.iter_mut().zip(tokens);
            grams
                .filter_map(|(gram, tokens)| Some((gram.as_mut()?, tokens)))
                .for_each(|(gram, tokens)| gram.absorb(product, tokens));
        }
    }
}

/// A reference model, one of its partners, and the sums over the neurons of all models.
struct Direction<'a> {
    plan: &'a ComparisonPlan,
    own: &'a [NeuronSums],
    x: usize,
    y: usize,
    watch: Watch<'a>,
}

impl Direction<'_> {
    fn side(&self, model: usize) -> ModelSums<'_> {
        ModelSums { layout: self.plan.models[model], sums: &self.own[model] }
    }

    fn compare(&self, source: &dyn SumSource, pair: &mut PairResult) -> Result<()> {
        let Baseline { kind, draws, seed } = self.plan.baseline;
        let y = self.side(self.y);
        let chance = |layer: usize, gram: &[f64]| {
            let one = |draw| {
                Rotation::draw(kind, rotation_stream(seed, draw, self.y, layer), y.layout.d_mlp)
            };
            RotatedLayer::new(self.plan.product(), y, layer, gram, (0..draws).map(one))
        };
        let chance = self.plan.uses_rotation().then_some(&chance as MakeRotatedLayer);
        pair.compare(source, (self.side(self.x), y), chance, self.watch)
    }

    fn compare_sums(&self, sums: &PassSums, pair: &mut PairResult) -> Result<()> {
        let (first, second) = (self.x.min(self.y), self.x.max(self.y));
        let cross = sums.cross.iter().find(|(a, b, _)| (*a, *b) == (first, second));
        let whole = self.plan.models[second];
        if let Some((_, _, cross)) = cross {
            let grams = sums.grams[self.y].as_ref();
            self.compare(
                &AccumulatedSums { cross, transposed: self.x > self.y, grams, whole },
                pair,
            )?;
        }
        for surrogate in sums.surrogates.iter().filter(|s| s.id.model == self.y) {
            let fake = ModelSums { layout: self.plan.models[self.y], sums: &surrogate.own };
            let sides = (self.side(self.x), fake);
            for (_, cross) in surrogate.cross.iter().filter(|(reference, _)| *reference == self.x) {
                let source =
                    AccumulatedSums { cross, transposed: false, grams: None, whole: fake.layout };
                pair.compare_surrogate(surrogate.id.draw, &source, sides, self.watch)?;
            }
        }
        Ok(())
    }

    fn compare_tokens(&self, tokens: &[Vec<f32>], pair: &mut PairResult) -> Result<()> {
        let (x_layout, y_layout) = (self.side(self.x).layout, self.side(self.y).layout);
        let (product, x) = (self.plan.product(), &tokens[self.x]);
        let source = ResidentActivations { product, x, x_layout, y: &tokens[self.y], y_layout };
        self.compare(&source, pair)?;
        let draws = if self.plan.uses_rotation() { 0 } else { self.plan.baseline.draws };
        for draw in 0..draws {
            let (id, width) = (SurrogateId { model: self.y, draw }, y_layout.n_neurons());
            let mut fake = id.surrogate(self.plan, &tokens[self.y], 0);
            let mut sums = NeuronSums::around_zero(width);
            fake.chunks_mut(TOKENS_AT_ONCE * width).for_each(|tokens| sums.absorb(tokens));
            let sides = (self.side(self.x), ModelSums { layout: y_layout, sums: &sums });
            let source = ResidentActivations { product, x, x_layout, y: &fake, y_layout };
            pair.compare_surrogate(draw, &source, sides, self.watch)?;
        }
        Ok(())
    }
}

impl State for Correlator {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        self.own.iter_mut().try_for_each(|own| own.parts(visit))?;
        self.found.iter_mut().flatten().try_for_each(|pair| pair.parts(visit))?;
        match &mut self.kept {
            Accumulated::Tokens(tokens) => {
                tokens.iter_mut().try_for_each(|t| visit(Part::Values(t)))
            }
            Accumulated::Sums(sums) => {
                let mut pass = sums.pass as u64;
                visit(Part::Count(&mut pass))?;
                if pass >= sums.passes as u64 {
                    return Err(std::io::Error::other(format!("there is no pass {pass}")));
                }
                if pass != sums.pass as u64 {
                    sums.start(&self.plan, pass as usize);
                }
                visit(Part::Count(&mut sums.tokens))?;
                sums.cross.iter_mut().try_for_each(|(_, _, cross)| cross.parts(visit))?;
                sums.grams.iter_mut().flatten().try_for_each(|gram| gram.parts(visit))?;
                sums.surrogates.iter_mut().try_for_each(|s| s.parts(visit))
            }
        }
    }
}
