//! Screening: finds the best candidates of each neuron in a sample of the tokens, then computes
//! exact sums over all tokens for these pairs only.
//!
//! If tokens were independent, Fisher's `z = artanh ρ` of the sample would have a standard error of
//! `1/√(n − 3)`. Neighbouring tokens are not quite independent, so choose a few standard errors
//! more. A neuron is safe if, within the chosen number of standard errors, no partner outside its
//! candidates could be its best one and its excess could not lie on the other side of a threshold.
//! All other neurons are compared exactly, with every neuron of every partner over all tokens. The
//! chance level of a safe neuron stays that of the sample. If more than half of the neurons of a model
//! are not safe after the sample, all of them are compared exactly.

use std::borrow::BorrowMut;

use super::compare::Watch;
use super::correlator::Correlator;
use super::engine::{Engine, StoredCandidates};
use super::excess::{Agreement, agreements};
use super::host::HostEngine;
use super::neuron_comparison::{NeuronComparison, ScreeningCounts, TokensOf};
use super::pair::PairResult;
use super::plan::{ComparisonPlan, Keep};
use super::sums::{Layout, NeuronSums};

use crate::checkpoint::{State, Visit};
use crate::error::Result;

/// The uncertainty of correlations estimated from a sample, and the thresholds that it must not
/// cross.
#[derive(Debug, Clone)]
pub struct Margin {
    /// Largest error of artanh ρ of the sample, at the chosen number of standard errors.
    z: f64,
    /// Thresholds of the excess correlation that are reported.
    thresholds: Vec<f64>,
}

impl Margin {
    /// Creates the margin of a sample of `tokens` tokens at a number of standard errors.
    pub fn new(tokens: usize, standard_errors: f64, thresholds: Vec<f64>) -> Self {
        Self { z: standard_errors / (tokens.max(4) as f64 - 3.0).sqrt(), thresholds }
    }

    fn moved(&self, rho: f64, by: f64) -> f64 {
        // artanh is infinite at 1.
        (rho.clamp(-0.999_999, 0.999_999).atanh() + by).tanh()
    }

    /// Returns the neurons that are not safe, given the result of the sample and, once known, the
    /// exact correlations of its candidates.
    fn doubtful(&self, sample: &[PairResult], exact: Option<&[PairResult]>) -> Vec<usize> {
        let agreements = agreements(exact.unwrap_or(sample));
        let doubtful = |i: &usize| {
            let elsewhere = (0..sample.len())
                .any(|m| self.could_be_elsewhere(&sample[m], exact.map(|exact| &exact[m]), *i));
            elsewhere || agreements[*i].is_some_and(|a| self.near_threshold(&a, exact.is_some()))
        };
        (0..agreements.len()).filter(doubtful).collect()
    }

    /// Returns whether a partner outside the candidates could correlate better than the best one.
    fn could_be_elsewhere(
        &self,
        sample: &PairResult,
        exact: Option<&PairResult>,
        i: usize,
    ) -> bool {
        let (Some(best), Some(last)) = (sample.best(i), sample.top(i).last()) else {
            return false;
        };
        let best = match exact.and_then(|exact| exact.best(i)) {
            Some(exact) => exact.rho,
            None => self.moved(best.rho, -self.z),
        };
        sample.is_full(i) && self.moved(last.rho, self.z) > best
    }

    fn near_threshold(&self, a: &Agreement, exact: bool) -> bool {
        let off = |rho: f64| (self.moved(rho, self.z) - self.moved(rho, -self.z)) / 2.0;
        let corr = if exact { 0.0 } else { off(a.corr.mean) };
        let reach = off(a.baseline.mean) + corr;
        self.thresholds.iter().any(|t| (a.excess() - t).abs() <= reach)
    }
}

/// A comparison in which most neurons are compared with their candidates only.
pub struct ScreenedCorrelator<E: Engine = HostEngine> {
    engine: E,
    plan: ComparisonPlan,
    margin: Margin,
    /// Bytes that the sums of exactly compared neurons of one reference model may take in a pass.
    room: usize,
    own: Vec<NeuronSums>,
    models: Vec<ScreenedModel<E>>,
    /// Exact sums of the candidates of every reference model in each partner.
    candidates: Vec<StoredCandidates<E>>,
    /// Number of completed passes over all tokens.
    passes: usize,
}

struct ScreenedModel<E: Engine> {
    model: usize,
    /// Result of the sample for each partner.
    sample: Vec<PairResult>,
    /// Result for each partner: that of the sample, with exact values entered neuron by neuron.
    found: Vec<PairResult>,
    exact: ExactComparison<E>,
    /// Neurons that are compared exactly in a later pass.
    waiting: Vec<usize>,
    done: Vec<bool>,
    screening: ScreeningCounts,
}

/// The neurons of a reference model that are compared exactly in this pass.
struct ExactComparison<E: Engine> {
    neurons: Vec<usize>,
    /// A correlator of the family with the reference reduced to these neurons.
    correlator: Option<Correlator<E>>,
}

impl<E: Engine> ExactComparison<E> {
    /// Takes as many of the waiting neurons as fit into `room` bytes.
    fn of_waiting(
        (engine, plan): (&E, &ComparisonPlan),
        model: usize,
        waiting: &mut Vec<usize>,
        room: usize,
    ) -> Result<Self> {
        let partners: usize = plan.partners(model).map(|y| plan.models[y].n_neurons()).sum();
        let most = (room / (size_of::<f64>() * partners)).max(1);
        let neurons: Vec<usize> = waiting.drain(..most.min(waiting.len())).collect();
        let mut models = plan.models.clone();
        models[model] = Layout { n_layers: 1, d_mlp: neurons.len() };
        let plan = ComparisonPlan { models, references: vec![model], ..plan.clone() };
        let correlator = || Correlator::on(engine.clone(), plan, Keep::Sums { passes: 1 });
        Ok(Self { correlator: (!neurons.is_empty()).then(correlator).transpose()?, neurons })
    }

    fn absorb(
        &mut self,
        (engine, models): (&E, &[Layout]),
        model: usize,
        tokens: &[&mut E::Tokens],
    ) -> Result<()> {
        let Some(correlator) = &mut self.correlator else { return Ok(()) };
        let copy = |(i, tokens): (usize, &&mut E::Tokens)| {
            engine.pick(models[i], tokens, (i == model).then_some(self.neurons.as_slice()))
        };
        let mut all = tokens.iter().enumerate().map(copy).collect::<Result<Vec<_>>>()?;
        let mut all: Vec<&mut E::Tokens> = all.iter_mut().map(BorrowMut::borrow_mut).collect();
        correlator.absorb(&mut all)
    }
}

impl ScreenedCorrelator {
    /// Creates a comparison on the CPU as [`Self::on`] does.
    pub fn new(
        plan: ComparisonPlan,
        margin: Margin,
        sample: Vec<Vec<PairResult>>,
        room: usize,
    ) -> Self {
        let engine = HostEngine::of(&plan);
        let new = Self::on(engine, plan, margin, sample, room);
        new.unwrap_or_else(|e| unreachable!("the CPU has no limit: {e}"))
    }
}

impl<E: Engine> ScreenedCorrelator<E> {
    /// Creates a comparison from the result of a sample, `[reference][partner]`. The sums of
    /// exactly compared neurons take at most `room` bytes in each pass over the tokens.
    ///
    /// # Errors
    ///
    /// Returns an error if the engine has too little memory.
    pub fn on(
        engine: E,
        plan: ComparisonPlan,
        margin: Margin,
        sample: Vec<Vec<PairResult>>,
        room: usize,
    ) -> Result<Self> {
        let room = room / plan.references.len();
        let own = plan.models.iter().map(|m| engine.neuron_sums(m.n_neurons())).collect();
        let mut candidates = Vec::new();
        let judge = |(&model, sample): (&usize, Vec<PairResult>)| {
            let of = plan.models[model].n_neurons();
            let mut waiting = margin.doubtful(&sample, None);
            if waiting.len() > of / 2 {
                // More would turn out to be doubtful, and take another pass over the tokens.
                waiting = (0..of).collect();
            } else {
                for (y, sample) in plan.partners(model).zip(&sample) {
                    let sums = engine.new_candidates(sample)?;
                    candidates.push(StoredCandidates { x: model, y, sums });
                }
            }
            Ok(ScreenedModel {
                model,
                found: sample.clone(),
                screening: ScreeningCounts {
                    exact: waiting.len(),
                    of,
                    ..ScreeningCounts::default()
                },
                exact: ExactComparison::of_waiting((&engine, &plan), model, &mut waiting, room)?,
                waiting,
                done: vec![false; of],
                sample,
            })
        };
        let models = plan.references.iter().zip(sample).map(judge).collect::<Result<_>>()?;
        Ok(Self { engine, plan, margin, room, own, models, candidates, passes: 0 })
    }
}

impl<E: Engine> ScreenedModel<E> {
    /// Enters the results of this pass and queues the neurons that turned out to be doubtful.
    fn end_pass(
        &mut self,
        (engine, margin): (&E, &Margin),
        (candidates, own): (&[StoredCandidates<E>], &[NeuronSums]),
        first: bool,
        watch: Watch,
    ) -> Result<()> {
        if first {
            let candidates = candidates.iter().filter(|candidates| candidates.x == self.model);
            for (StoredCandidates { x, y, sums }, found) in candidates.zip(&mut self.found) {
                let sums = engine.read_candidates(sums)?;
                for i in 0..found.neurons() {
                    found.set_top(i, &sums.best(i, &own[*x], &own[*y]));
                }
            }
        }
        if let Some(mut correlator) = self.exact.correlator.take() {
            correlator.end_pass(watch)?;
            for (found, exact) in self.found.iter_mut().zip(&correlator.finish()[0]) {
                for (row, &i) in self.exact.neurons.iter().enumerate() {
                    found.copy_neuron(i, exact, row);
                }
            }
            self.exact.neurons.iter().for_each(|&i| self.done[i] = true);
        }
        if first {
            let mut doubtful = margin.doubtful(&self.sample, Some(&self.found));
            doubtful.retain(|i| !self.done[*i] && !self.waiting.contains(i));
            self.screening.exact += doubtful.len();
            self.screening.screened_again = doubtful.len();
            self.waiting.append(&mut doubtful);
        }
        Ok(())
    }
}

impl<E: Engine> NeuronComparison for ScreenedCorrelator<E> {
    type Engine = E;

    fn absorb(&mut self, tokens: &mut [&mut TokensOf<Self>]) -> Result<()> {
        for model in &mut self.models {
            model.exact.absorb((&self.engine, &self.plan.models), model.model, tokens)?;
        }
        if self.is_repeated_pass() {
            return Ok(());
        }
        let own = self.own.iter_mut().zip(tokens.iter_mut());
        own.for_each(|(own, tokens)| self.engine.absorb(own, tokens, false));
        self.engine.add_candidates(&mut self.candidates, tokens, &self.plan.models)
    }

    fn take_pilot(&mut self, model: usize, tokens: &E::Tokens) {
        self.engine.take_pilot(&mut self.own[model], tokens);
    }

    fn start_at(&mut self, _: u64) {}

    fn check(&self, absorbed: u64, all: u64) -> Result<(), String> {
        if !self.own.iter().all(|own| own.is_of(absorbed)) {
            return Err(format!("it does not hold {absorbed} tokens"));
        }
        let mut exact = self.models.iter().filter_map(|model| model.exact.correlator.as_ref());
        exact.try_for_each(|correlator| correlator.check(absorbed, all))
    }

    /// Only the first pass is saved: what later passes compare follows from it.
    fn can_be_saved(&self) -> bool {
        self.passes == 0
    }

    fn engine(&mut self) -> &mut E {
        &mut self.engine
    }

    fn screening(&self) -> Vec<ScreeningCounts> {
        self.models.iter().map(|model| model.screening).collect()
    }

    fn is_repeated_pass(&self) -> bool {
        self.passes > 0
    }

    fn neuron_sums(&self, model: usize) -> &NeuronSums {
        &self.own[model]
    }

    fn end_pass(&mut self, watch: Watch) -> Result<bool> {
        let first = self.passes == 0;
        self.passes += 1;
        for model in &mut self.models {
            let sums = (self.candidates.as_slice(), self.own.as_slice());
            model.end_pass((&self.engine, &self.margin), sums, first, watch)?;
            let (on, waiting) = ((&self.engine, &self.plan), &mut model.waiting);
            model.exact = ExactComparison::of_waiting(on, model.model, waiting, self.room)?;
        }
        Ok(self.models.iter().any(|model| model.exact.correlator.is_some()))
    }

    fn finish(self) -> Vec<Vec<PairResult>> {
        self.models.into_iter().map(|model| model.found).collect()
    }
}

impl<E: Engine> State for ScreenedCorrelator<E> {
    /// Visits the sums of the first pass. Candidates and margins follow from the sample, which is read
    /// again.
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        self.own.iter_mut().try_for_each(|own| own.parts(visit))?;
        for StoredCandidates { sums, .. } in &mut self.candidates {
            self.engine.visit_candidates(sums, visit)?;
        }
        let mut exact = self.models.iter_mut().filter_map(|model| model.exact.correlator.as_mut());
        exact.try_for_each(|correlator| correlator.parts(visit))
    }
}

#[cfg(test)]
mod tests;
