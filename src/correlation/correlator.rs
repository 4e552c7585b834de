//! Compares a family of models over the same tokens, two models at a time.

use std::borrow::{Borrow, BorrowMut};
use std::io;

use super::compare::{ModelPair, Watch};
use super::engine::{Engine, Side, SumSource};
use super::host::HostEngine;
use super::layer_similarity::linear_cka;
use super::neuron_comparison::{NeuronComparison, ScreeningCounts, TokensOf};
use super::pair::PairResult;
use super::pass_sums::PassSums;
use super::plan::{ComparisonPlan, Keep};
use super::sums::{Layout, NeuronSums};
use super::surrogate::SurrogateId;
use crate::checkpoint::{State, Visit};
use crate::error::Result;

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
/// correlator.absorb(&mut [&mut reference, &mut partner])?;
/// correlator.end_pass(&|| Ok(()))?;
/// let pairs = correlator.finish();
/// let best = [0, 1].map(|i| pairs[0][0].best(i).unwrap());
/// assert_eq!(best.map(|b| b.neuron), [1, 0]);
/// assert!(best.iter().all(|b| b.rho > 0.999));
/// # Ok::<(), universal_neurons::Error>(())
/// ```
pub struct Correlator<E: Engine = HostEngine> {
    engine: E,
    plan: ComparisonPlan,
    own: Vec<NeuronSums>,
    kept: Accumulated<E>,
    /// `[reference][partner]`.
    found: Vec<Vec<PairResult>>,
    /// The Frobenius norm of the covariances of each layer of each model; empty before the last pass,
    /// and if layers are not compared.
    gram_norms: Vec<Vec<f64>>,
}

enum Accumulated<E: Engine> {
    /// The activations of every model.
    Tokens(Vec<E::OwnTokens>),
    Sums(PassSums<E>),
}

impl Correlator {
    /// Creates a correlator on the CPU, without tokens.
    pub fn new(plan: ComparisonPlan, keep: Keep) -> Self {
        let engine = HostEngine::of(&plan);
        Self::on(engine, plan, keep).unwrap_or_else(|e| unreachable!("the CPU has no limit: {e}"))
    }
}

impl<E: Engine> Correlator<E> {
    /// Creates a correlator without tokens.
    ///
    /// # Errors
    ///
    /// Returns an error if the engine has too little memory.
    pub fn on(engine: E, plan: ComparisonPlan, keep: Keep) -> Result<Self> {
        let models = plan.models.iter();
        let kept = match keep {
            Keep::Tokens => {
                let kept = models.clone().map(|m| engine.no_tokens(*m));
                Accumulated::Tokens(kept.collect::<Result<_>>()?)
            }
            Keep::Sums { passes } => Accumulated::Sums(PassSums::new(&engine, &plan, passes)?),
        };
        let (top, draws) = (plan.top, plan.baseline.draws);
        let layers = |model: usize| plan.models[model].n_layers;
        let compared = plan.compares_layers();
        let found_of = |&x: &usize| {
            let pair = PairResult::new(plan.models[x].n_neurons(), top, draws);
            let pairs_of_layers = |y| if compared { layers(x) * layers(y) } else { 0 };
            let of = |y| pair.clone().with_pairs_of_layers(pairs_of_layers(y));
            plan.partners(x).map(of).collect()
        };
        let found = plan.references.iter().map(found_of).collect();
        let own = models.map(|m| engine.neuron_sums(m.n_neurons())).collect();
        Ok(Self { engine, plan, own, kept, found, gram_norms: Vec::new() })
    }
}

impl<E: Engine> Accumulated<E> {
    /// Returns the activations of a model as rows, layer by layer, if they are kept.
    fn rows(&self, engine: &E, model: usize, layout: Layout) -> Vec<E::Rows> {
        let Self::Tokens(tokens) = self else { return Vec::new() };
        let of = |layer| engine.rows(tokens[model].borrow(), layout, layer);
        (0..layout.n_layers).map(of).collect()
    }

    /// Returns the Frobenius norm of the covariances of each layer of a model, whose Gram sums must be
    /// there if sums are kept.
    fn gram_norms(&self, engine: &E, side: Side<E>) -> Result<Vec<f64>> {
        match self {
            Self::Sums(sums) => match &sums.grams[side.model] {
                Some(grams) => engine.gram_norms(grams, side),
                None => unreachable!("every model is a partner"),
            },
            Self::Tokens(tokens) => {
                let mut grams = engine.new_grams(side.layout)?;
                let tokens = (tokens[side.model].borrow(), side.layout);
                engine.add_products(Vec::new(), Some(&mut grams), &[], tokens)?;
                engine.gram_norms(&grams, side)
            }
        }
    }
}

impl<E: Engine> NeuronComparison for Correlator<E> {
    type Engine = E;

    fn absorb(&mut self, tokens: &mut [&mut TokensOf<Self>]) -> Result<()> {
        assert_eq!(tokens.len(), self.own.len(), "tokens of every model");
        let count = self.engine.count(tokens[0], self.plan.models[0]).expect("whole tokens");
        let repeated = self.is_repeated_pass();
        for (own, tokens) in self.own.iter_mut().zip(tokens.iter_mut()) {
            self.engine.absorb(own, tokens, repeated);
        }
        assert!(self.own.iter().all(|own| own.n == self.own[0].n), "other token counts");
        match &mut self.kept {
            Accumulated::Tokens(kept) => {
                let kept = kept.iter_mut().zip(tokens);
                kept.for_each(|(kept, tokens)| self.engine.keep(kept, tokens));
                Ok(())
            }
            Accumulated::Sums(sums) => sums.absorb((&self.engine, &self.plan), tokens, count),
        }
    }

    fn take_pilot(&mut self, model: usize, tokens: &E::Tokens) {
        self.engine.take_pilot(&mut self.own[model], tokens);
    }

    fn start_at(&mut self, token: u64) {
        if let Accumulated::Sums(sums) = &mut self.kept {
            sums.first = token;
        }
    }

    fn check(&self, absorbed: u64, all: u64) -> Result<(), String> {
        let seen = if self.is_repeated_pass() { all } else { absorbed };
        if !self.own.iter().all(|own| own.is_of(seen)) {
            return Err(format!("its sums over neurons are not of {seen} tokens"));
        }
        let held = match &self.kept {
            Accumulated::Tokens(tokens) => {
                let mut kept = tokens.iter().zip(&self.plan.models);
                kept.all(|(t, m)| self.engine.count(t.borrow(), *m) == Some(absorbed))
            }
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

    fn engine(&mut self) -> &mut E {
        &mut self.engine
    }

    fn screening(&self) -> Vec<ScreeningCounts> {
        Vec::new()
    }

    fn is_repeated_pass(&self) -> bool {
        matches!(&self.kept, Accumulated::Sums(sums) if sums.pass > 0)
    }

    fn neuron_sums(&self, model: usize) -> &NeuronSums {
        &self.own[model]
    }

    fn end_pass(&mut self, watch: Watch) -> Result<bool> {
        let Self { engine, plan, own, kept, found, gram_norms } = self;
        let placed = own.iter().map(|own| engine.place(own)).collect::<Result<Vec<_>>>()?;
        let side = |model: usize| Side {
            model,
            layout: plan.models[model],
            sums: &own[model],
            placed: &placed[model],
        };
        for (&x, found) in plan.references.iter().zip(found) {
            let rows = kept.rows(engine, x, plan.models[x]);
            for (y, pair) in plan.partners(x).zip(found) {
                let comparison = ModelPair { engine, plan, x: side(x), y: side(y), watch };
                match kept {
                    Accumulated::Tokens(tokens) => {
                        let x = (tokens[x].borrow(), rows.as_slice());
                        let y = (y, tokens[y].borrow());
                        comparison.compare_tokens(x, y, pair)?;
                    }
                    Accumulated::Sums(sums) => comparison.compare_sums(sums, (x, y), pair)?,
                }
            }
        }
        if let Accumulated::Sums(sums) = kept
            && sums.pass + 1 < sums.passes
        {
            sums.start(engine, plan, sums.pass + 1)?;
            return Ok(true);
        }
        if plan.compares_layers() {
            let models = 0..plan.models.len();
            let norms = models.map(|model| kept.gram_norms(engine, side(model)));
            *gram_norms = norms.collect::<Result<_>>()?;
        }
        Ok(false)
    }

    fn finish(self) -> Vec<Vec<PairResult>> {
        let Self { plan, mut found, gram_norms: norms, .. } = self;
        if !norms.is_empty() {
            for ((x, y), pair) in plan.directed_pairs().zip(found.iter_mut().flatten()) {
                pair.cka = linear_cka(&pair.covariances, [&norms[x], &norms[y]]);
            }
        }
        found
    }
}

impl<E: Engine> ModelPair<'_, E> {
    fn compare_sums(
        &self,
        sums: &PassSums<E>,
        (x, y): (usize, usize),
        pair: &mut PairResult,
    ) -> Result<()> {
        if let Some((cross, transposed)) = sums.find(x, y) {
            let grams = sums.grams[y].as_ref();
            self.compare(y, &SumSource::Sums { cross, transposed, grams }, pair)?;
        }
        for surrogate in sums.surrogates.iter().filter(|s| s.id.model == y) {
            for cross in surrogate.cross.iter().filter(|cross| cross.x == x) {
                let source = SumSource::Sums { cross, transposed: false, grams: None };
                self.compare_surrogate(surrogate.id.draw, &source, &surrogate.own, pair)?;
            }
        }
        Ok(())
    }

    fn compare_tokens(
        &self,
        (x, rows): (&E::Tokens, &[E::Rows]),
        (model, y): (usize, &E::Tokens),
        pair: &mut PairResult,
    ) -> Result<()> {
        self.compare(model, &SumSource::Tokens { x, rows, y }, pair)?;
        let draws = if self.plan.uses_rotation() { 0 } else { self.plan.baseline.draws };
        for draw in 0..draws {
            let id = SurrogateId { model, draw };
            let mut fake = self.engine.surrogate(self.plan, id, y, 0)?;
            let mut own = NeuronSums::around_zero(self.y.layout.n_neurons());
            self.engine.absorb(&mut own, fake.borrow_mut(), false);
            let source = SumSource::Tokens { x, rows, y: fake.borrow() };
            self.compare_surrogate(draw, &source, &own, pair)?;
        }
        Ok(())
    }
}

impl<E: Engine> State for Correlator<E> {
    fn parts(&mut self, visit: Visit) -> io::Result<()> {
        self.own.iter_mut().try_for_each(|own| own.parts(visit))?;
        self.found.iter_mut().flatten().try_for_each(|pair| pair.parts(visit))?;
        match &mut self.kept {
            Accumulated::Tokens(tokens) => tokens.iter_mut().try_for_each(|t| t.parts(visit)),
            Accumulated::Sums(sums) => sums.parts(&self.engine, &self.plan, visit),
        }
    }
}
