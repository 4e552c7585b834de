//! Screening: finds the best candidates of each neuron in a sample of the tokens, then computes
//! exact sums over all tokens for these pairs only.
//!
//! If tokens were independent, Fisher's `z = artanh ρ` of the sample would have a standard error of
//! `1/√(n − 3)`. Neighbouring tokens are not quite independent, so choose a few standard errors
//! more. A neuron is safe if, within the chosen number of standard errors, no partner outside its
//! candidates could be its best one and its excess could not lie on the other side of a threshold.
//! All other neurons are compared exactly, with every neuron of every partner over all tokens. The
//! chance level of a safe neuron stays that of the sample.

use super::candidates::{CandidateSums, NeuronMajor};
use super::compare::Watch;
use super::excess::{Agreement, agreements};
use super::pair::PairResult;
use super::sums::{Layout, NeuronSums};
use super::{CHUNK, ComparisonPlan, Correlator, Keep, NeuronComparison};
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

/// How many neurons screening compared exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct ScreeningCounts {
    /// Number of neurons compared exactly.
    pub exact: usize,
    /// How many of them became doubtful only when the exact correlations of their candidates were
    /// known.
    pub screened_again: usize,
    /// Number of neurons of the reference.
    pub of: usize,
}

/// A comparison in which most neurons are compared with their candidates only.
pub struct ScreenedCorrelator {
    plan: ComparisonPlan,
    margin: Margin,
    /// Bytes that the sums of exactly compared neurons of one reference model may take in a pass.
    room: usize,
    own: Vec<NeuronSums>,
    models: Vec<ScreenedModel>,
    /// Number of completed passes over all tokens.
    passes: usize,
}

struct ScreenedModel {
    model: usize,
    /// Result of the sample for each partner.
    sample: Vec<PairResult>,
    /// Exact sums of the candidates of each partner.
    candidates: Vec<CandidateSums>,
    /// Result for each partner: that of the sample, with exact values entered neuron by neuron.
    found: Vec<PairResult>,
    exact: ExactComparison,
    /// Neurons that are compared exactly in a later pass.
    waiting: Vec<usize>,
    done: Vec<bool>,
    screening: ScreeningCounts,
}

/// The neurons of a reference model that are compared exactly in this pass.
struct ExactComparison {
    neurons: Vec<usize>,
    /// A correlator of the family with the reference reduced to these neurons.
    correlator: Option<Correlator>,
}

impl ExactComparison {
    /// Takes as many of the waiting neurons as fit into `room` bytes.
    fn of_waiting(
        plan: &ComparisonPlan,
        model: usize,
        waiting: &mut Vec<usize>,
        room: usize,
    ) -> Self {
        let partners: usize = plan.partners(model).map(|y| plan.models[y].n_neurons()).sum();
        let most = (room / (size_of::<f64>() * partners)).max(1);
        let neurons: Vec<usize> = waiting.drain(..most.min(waiting.len())).collect();
        let mut models = plan.models.clone();
        models[model] = Layout { n_layers: 1, d_mlp: neurons.len() };
        let plan = ComparisonPlan { models, references: vec![model], ..plan.clone() };
        let correlator = || Correlator::new(plan, Keep::Sums { passes: 1 });
        Self { correlator: (!neurons.is_empty()).then(correlator), neurons }
    }

    fn absorb(&mut self, model: usize, width: usize, tokens: &[&mut [f32]]) {
        let Some(correlator) = &mut self.correlator else { return };
        let row = |row: &[f32]| self.neurons.iter().map(|&i| row[i]).collect::<Vec<f32>>();
        let mut all: Vec<Vec<f32>> = tokens.iter().map(|tokens| tokens.to_vec()).collect();
        all[model] = tokens[model].chunks_exact(width).flat_map(row).collect();
        let mut all: Vec<&mut [f32]> = all.iter_mut().map(Vec::as_mut_slice).collect();
        correlator.absorb(&mut all);
    }
}

impl ScreenedCorrelator {
    /// Creates a comparison from the result of a sample, `[reference][partner]`. The sums of
    /// exactly compared neurons take at most `room` bytes in each pass over the tokens.
    pub fn new(
        plan: ComparisonPlan,
        margin: Margin,
        sample: Vec<Vec<PairResult>>,
        room: usize,
    ) -> Self {
        let room = room / plan.references.len();
        let own = plan.models.iter().map(|m| NeuronSums::new(m.n_neurons())).collect();
        let judge = |(&model, sample): (&usize, Vec<PairResult>)| {
            let mut waiting = margin.doubtful(&sample, None);
            let of = plan.models[model].n_neurons();
            ScreenedModel {
                model,
                candidates: sample.iter().map(CandidateSums::new).collect(),
                found: sample.clone(),
                screening: ScreeningCounts {
                    exact: waiting.len(),
                    of,
                    ..ScreeningCounts::default()
                },
                exact: ExactComparison::of_waiting(&plan, model, &mut waiting, room),
                waiting,
                done: vec![false; of],
                sample,
            }
        };
        let models = plan.references.iter().zip(sample).map(judge).collect();
        Self { plan, margin, room, own, models, passes: 0 }
    }

    /// Returns the counts of screening for each reference model.
    pub fn report(&self) -> Vec<ScreeningCounts> {
        self.models.iter().map(|model| model.screening).collect()
    }

    /// Adds a chunk of tokens to the sums of all candidates.
    fn absorb_candidates(&mut self, tokens: &[&[f32]]) {
        let columns: Vec<NeuronMajor> =
            tokens.iter().zip(&self.plan.models).map(|(t, &m)| NeuronMajor::of(t, m)).collect();
        for model in &mut self.models {
            let partners = self.plan.partners(model.model);
            for (y, sums) in partners.zip(&mut model.candidates) {
                sums.absorb(&columns[model.model], &columns[y]);
            }
        }
    }
}

impl ScreenedModel {
    /// Enters the results of this pass and queues the neurons that turned out to be doubtful.
    fn end_pass(
        &mut self,
        (plan, margin): (&ComparisonPlan, &Margin),
        own: &[NeuronSums],
        first: bool,
        watch: Watch,
    ) -> Result<()> {
        if first {
            let partners = plan.partners(self.model).zip(&self.candidates);
            for ((y, sums), found) in partners.zip(&mut self.found) {
                for i in 0..found.neurons() {
                    found.set_top(i, &sums.best(i, &own[self.model], &own[y]));
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

impl NeuronComparison for ScreenedCorrelator {
    fn absorb(&mut self, tokens: &mut [&mut [f32]]) {
        for model in &mut self.models {
            let width = self.plan.models[model.model].n_neurons();
            model.exact.absorb(model.model, width, tokens);
        }
        if self.is_repeated_pass() {
            return;
        }
        self.own.iter_mut().zip(tokens.iter_mut()).for_each(|(own, tokens)| own.absorb(tokens));
        let width = |model: usize| self.plan.models[model].n_neurons();
        let widths: Vec<usize> = (0..tokens.len()).map(width).collect();
        let count = tokens[0].len() / widths[0];
        for start in (0..count).step_by(CHUNK) {
            let end = (start + CHUNK).min(count);
            let chunks = tokens.iter().zip(&widths).map(|(t, w)| &t[start * w..end * w]);
            self.absorb_candidates(&chunks.collect::<Vec<_>>());
        }
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
            let how = (&self.plan, &self.margin);
            model.end_pass(how, &self.own, first, watch)?;
            let waiting = &mut model.waiting;
            model.exact = ExactComparison::of_waiting(&self.plan, model.model, waiting, self.room);
        }
        Ok(self.models.iter().any(|model| model.exact.correlator.is_some()))
    }

    fn finish(self) -> Vec<Vec<PairResult>> {
        self.models.into_iter().map(|model| model.found).collect()
    }
}

impl State for ScreenedCorrelator {
    fn parts(&mut self, _: Visit) -> std::io::Result<()> {
        Err(std::io::Error::other("a screened run keeps no checkpoint"))
    }
}
