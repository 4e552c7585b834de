//! The sums of products that one pass over the tokens adds up.

use std::borrow::BorrowMut;
use std::io;

use super::engine::{Engine, StoredCross};
use super::plan::ComparisonPlan;
use super::sums::NeuronSums;
use super::surrogate::SurrogateId;
use crate::checkpoint::{Part, State, Visit};
use crate::error::Result;

/// Sums of products of the layers of one pass.
pub struct PassSums<E: Engine> {
    /// Number of the pass, from 0.
    pub pass: usize,
    /// Number of passes.
    pub passes: usize,
    /// Index in the corpus of the first token.
    pub first: u64,
    /// Number of tokens added in this pass.
    pub tokens: u64,
    /// Sums of every pair of compared models; once for both directions where the engine can
    /// transpose them.
    pub cross: Vec<StoredCross<E>>,
    /// Gram sums of every model that is a partner, if the baseline is a rotation.
    pub grams: Vec<Option<E::Grams>>,
    /// The surrogates of every partner, unless the baseline is a rotation.
    pub surrogates: Vec<SurrogateSums<E>>,
}

/// The sums of one surrogate, and of its products with every reference model.
pub struct SurrogateSums<E: Engine> {
    /// The model and draw of the surrogate.
    pub id: SurrogateId,
    /// Sums over the neurons of the surrogate.
    pub own: NeuronSums,
    /// Sums of products of each reference model with the surrogate.
    pub cross: Vec<StoredCross<E>>,
}

impl<E: Engine> PassSums<E> {
    /// Creates zero sums for the first of `passes` passes.
    ///
    /// # Errors
    /// Returns an error if the engine has too little memory.
    pub fn new(engine: &E, plan: &ComparisonPlan, passes: usize) -> Result<Self> {
        let gram = |model: usize| {
            let needed = plan.uses_rotation() && plan.partner_models().contains(&model);
            needed.then(|| engine.new_grams(plan.models[model])).transpose()
        };
        let mut sums = Self {
            pass: 0,
            passes,
            first: 0,
            tokens: 0,
            cross: Vec::new(),
            grams: (0..plan.models.len()).map(gram).collect::<Result<_>>()?,
            surrogates: Vec::new(),
        };
        sums.start(engine, plan, 0)?;
        Ok(sums)
    }

    /// Allocates zero sums for the layers of a pass, in place of those of the pass before.
    ///
    /// # Errors
    /// Returns an error if the engine has too little memory.
    pub fn start(&mut self, engine: &E, plan: &ComparisonPlan, pass: usize) -> Result<()> {
        (self.pass, self.tokens) = (pass, 0);
        // Frees the memory of the pass before.
        self.cross.clear();
        self.surrogates.clear();
        let zeros = |(x, y): (usize, usize)| {
            let layers = plan.layers(x, pass, self.passes);
            let sums = engine.new_cross(plan.models[x], layers.clone(), plan.models[y])?;
            Ok(StoredCross { x, y, layers, sums })
        };
        let pairs = plan.stored_pairs(E::TRANSPOSES).into_iter();
        self.cross = pairs.map(zeros).collect::<Result<_>>()?;
        if plan.uses_rotation() {
            return Ok(());
        }
        for model in plan.partner_models() {
            for draw in 0..plan.baseline.draws {
                let against = plan.references.iter().filter(|&&x| x != model);
                let cross = against.map(|&x| zeros((x, model))).collect::<Result<_>>()?;
                let own = NeuronSums::around_zero(plan.models[model].n_neurons());
                self.surrogates.push(SurrogateSums { id: SurrogateId { model, draw }, own, cross });
            }
        }
        Ok(())
    }

    /// Adds the shifted activations of `count` tokens in every model.
    ///
    /// # Errors
    /// Returns an error if the engine fails.
    pub fn absorb(
        &mut self,
        (engine, plan): (&E, &ComparisonPlan),
        tokens: &[&mut E::Tokens],
        count: u64,
    ) -> Result<()> {
        let first = self.first + self.tokens;
        self.tokens += count;
        let tokens: Vec<&E::Tokens> = tokens.iter().map(|tokens| &**tokens).collect();
        for (model, (grams, &layout)) in self.grams.iter_mut().zip(&plan.models).enumerate() {
            let cross = self.cross.iter_mut().filter(|cross| cross.y == model).collect();
            let grams = grams.as_mut().filter(|_| self.pass == 0);
            engine.add_products(cross, grams, &tokens, (tokens[model], layout))?;
        }
        for SurrogateSums { id, own, cross } in &mut self.surrogates {
            let mut fake = engine.surrogate(plan, *id, tokens[id.model], first)?;
            let fake = fake.borrow_mut();
            engine.absorb(own, fake, false);
            let fake = (&*fake, plan.models[id.model]);
            engine.add_products(cross.iter_mut().collect(), None, &tokens, fake)?;
        }
        Ok(())
    }

    /// Returns the sums of products of x and y, and whether they are those of y and x.
    pub fn find(&self, x: usize, y: usize) -> Option<(&StoredCross<E>, bool)> {
        self.cross.iter().find_map(|cross| match (cross.x, cross.y) {
            own if own == (x, y) => Some((cross, false)),
            own if own == (y, x) && E::TRANSPOSES => Some((cross, true)),
            _ => None,
        })
    }
}

impl<E: Engine> PassSums<E> {
    /// Visits the state of the pass, as [`State::parts`] does. Reading that of another pass than
    /// the first allocates its sums.
    ///
    /// # Errors
    /// Returns the first error of `visit`, or an error if there is no such pass.
    pub fn parts(&mut self, engine: &E, plan: &ComparisonPlan, visit: Visit) -> io::Result<()> {
        let mut pass = self.pass as u64;
        visit(Part::Count(&mut pass))?;
        if pass >= self.passes as u64 {
            return Err(io::Error::other(format!("there is no pass {pass}")));
        }
        if pass != self.pass as u64 {
            self.start(engine, plan, pass as usize).map_err(io::Error::other)?;
        }
        visit(Part::Count(&mut self.tokens))?;
        self.cross.iter_mut().try_for_each(|cross| cross.sums.parts(visit))?;
        self.grams.iter_mut().flatten().try_for_each(|gram| gram.parts(visit))?;
        for SurrogateSums { own, cross, .. } in &mut self.surrogates {
            own.parts(visit)?;
            cross.iter_mut().try_for_each(|cross| cross.sums.parts(visit))?;
        }
        Ok(())
    }
}
