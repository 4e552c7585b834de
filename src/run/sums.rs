//! The sums of a study on the CPU.

use super::decoders::Decoders;
use super::member::FamilyMember;
use super::outcome::{outcome, weights_of};
use super::sparse_sums::SparseSums;
use super::study_sums::{BatchReader, Matching, StudySums, TokenSums};
use crate::checkpoint::{Part, State, Visit};
use crate::corpus::Batch;
use crate::correlation::{
    Correlator, HostEngine, NeuronComparison, PairResult, ScreenedCorrelator, TOKENS_AT_ONCE, Watch,
};
use crate::error::Result;
use crate::findings::Outcome;
use crate::model::Site;
use crate::model::capture::Activations;
use crate::plan::Plan;
use crate::stats::{ActivationSums, PILOT_TOKENS, WeightStatistics};

/// The sums that one pass over the tokens updates.
pub struct Sums<C> {
    /// The models of the plan, in its order.
    models: Vec<FamilyMember>,
    /// Post-activations that are not yet added to the comparison, one buffer per model.
    post: Vec<Activations>,
    judged: Vec<Judged>,
    comparison: C,
}

/// Creates sums on the CPU, without tokens.
pub fn host_sums(plan: &Plan, models: Vec<FamilyMember>, matching: Matching) -> Box<dyn StudySums> {
    match matching {
        Matching::All { plan: comparison, .. } if plan.is_sparse() => {
            Box::new(SparseSums::new(comparison, &models))
        }
        Matching::All { plan: comparison, keep, .. } => {
            Box::new(Sums::new(plan, models, Correlator::new(comparison, keep)))
        }
        Matching::Candidates { plan: comparison, margin, sample, room } => {
            let comparison = ScreenedCorrelator::new(comparison, margin, sample, room);
            Box::new(Sums::new(plan, models, comparison))
        }
    }
}

/// The statistics of a judged model, in addition to its correlations.
struct Judged {
    model: usize,
    /// Pre-activations that are not yet added to the statistics.
    pre: Activations,
    statistics: ActivationSums,
}

impl<C: NeuronComparison<Engine = HostEngine>> Sums<C> {
    fn new(plan: &Plan, models: Vec<FamilyMember>, comparison: C) -> Self {
        let n_neurons = |model: usize| plan.models[model].layout().n_neurons();
        let judged = |&model: &usize| Judged {
            model,
            pre: Activations::new(n_neurons(model)),
            statistics: ActivationSums::new(n_neurons(model), plan.spec.statistics.moments),
        };
        Self {
            models,
            post: (0..plan.models.len()).map(|model| Activations::new(n_neurons(model))).collect(),
            judged: plan.judged.iter().map(judged).collect(),
            comparison,
        }
    }

    /// Runs every model once over a batch. The activations are buffered.
    fn run_models(&mut self, batch: &Batch) -> Result<()> {
        let mut targets: Vec<_> =
            self.post.iter_mut().map(|post| vec![(Site::MlpPost, post)]).collect();
        for judged in &mut self.judged {
            targets[judged.model].push((Site::MlpPre, &mut judged.pre));
        }
        Decoders::Cpu(&self.models).capture(batch, targets)
    }

    /// Adds the first tokens of every buffer to the sums and removes them from the buffer.
    fn absorb(&mut self, tokens: usize) -> Result<()> {
        let again = self.comparison.is_repeated_pass();
        for Judged { model, pre, statistics } in &mut self.judged {
            if !again {
                let values = ..tokens * pre.n_neurons;
                statistics.absorb(&pre.values[values], &self.post[*model].values[values]);
            }
            pre.discard(tokens);
        }
        let mut all: Vec<&mut [f32]> =
            self.post.iter_mut().map(|a| &mut a.values[..tokens * a.n_neurons]).collect();
        self.comparison.absorb(&mut all)?;
        self.post.iter_mut().for_each(|a| a.discard(tokens));
        Ok(())
    }

    /// Takes the pilots, which are subtracted from all activations, from the buffered tokens, and
    /// removes these tokens. All shares thus have the same pilots.
    fn take_pilots(&mut self) {
        for Judged { pre, statistics, .. } in &mut self.judged {
            statistics.take_pilot(&pre.values);
            pre.values.clear();
        }
        for (model, post) in self.post.iter_mut().enumerate() {
            self.comparison.take_pilot(model, &post.values);
            post.values.clear();
        }
    }
}

impl<C: NeuronComparison<Engine = HostEngine>> TokenSums for Sums<C> {
    fn absorb_rest(&mut self) -> Result<()> {
        if self.post[0].tokens() > 0 {
            self.absorb(self.post[0].tokens())?;
        }
        Ok(())
    }

    fn end_pass(&mut self, watch: Watch) -> Result<bool> {
        self.comparison.end_pass(watch)
    }
}

impl<C: NeuronComparison<Engine = HostEngine>> StudySums for Sums<C> {
    fn begin(&mut self, plan: &Plan, share: bool) -> Result<()> {
        if share {
            // These few batches cannot be interrupted, so every checkpoint contains the pilots.
            for batch in plan.tokens.batches(plan.spec.batch.tokens, 0..PILOT_TOKENS) {
                self.run_models(&batch)?;
            }
            self.take_pilots();
        }
        Ok(())
    }

    fn start_at(&mut self, token: u64) {
        self.comparison.start_at(token);
    }

    fn matches(self: Box<Self>) -> Vec<Vec<PairResult>> {
        self.comparison.finish()
    }

    fn finish(self: Box<Self>, plan: &Plan, separate: Option<Vec<ActivationSums>>) -> Outcome {
        let Self { models, judged, comparison, .. } = *self;
        let own = || judged.into_iter().map(|judged| judged.statistics).collect();
        let weights = |i: usize| match &models[i] {
            FamilyMember::Model(model) => weights_of(plan, model),
            FamilyMember::Units(reader) if reader.units.are_neurons() => {
                weights_of(plan, &reader.model)
            }
            FamilyMember::Units(_) | FamilyMember::Recording(_) => {
                vec![WeightStatistics::MISSING; plan.models[i].layout().n_neurons()]
            }
        };
        outcome(plan, &weights, comparison, &separate.unwrap_or_else(own))
    }

    fn check(&self, held: u64, all: u64) -> Result<(), String> {
        let waiting = self.post[0].tokens();
        let judged = self.judged.iter().map(|judged| &judged.pre);
        let mut buffers = self.post.iter().chain(judged);
        let is_whole = |a: &Activations| a.values.len() == waiting * a.n_neurons;
        // A consistent file buffers fewer tokens than are absorbed at once.
        if waiting >= TOKENS_AT_ONCE || !buffers.all(is_whole) {
            return Err("its models have read different tokens".into());
        }
        let absorbed = held.checked_sub(waiting as u64).ok_or("it holds too many tokens")?;
        self.comparison.check(absorbed, all)?;
        let seen = if self.comparison.is_repeated_pass() { all } else { absorbed };
        match self.judged.iter().all(|judged| judged.statistics.is_of(seen)) {
            true => Ok(()),
            false => Err(format!("its statistics are not of {seen} tokens")),
        }
    }
}

impl<C: NeuronComparison<Engine = HostEngine>> BatchReader for Sums<C> {
    fn read(&mut self, batches: &[Batch]) -> Result<()> {
        for batch in batches {
            self.run_models(batch)?;
            while self.post[0].tokens() >= TOKENS_AT_ONCE {
                self.absorb(TOKENS_AT_ONCE)?;
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Option<&mut dyn State> {
        if self.comparison.can_be_saved() { Some(self) } else { None }
    }
}

impl<C: NeuronComparison<Engine = HostEngine>> State for Sums<C> {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        for activations in &mut self.post {
            visit(Part::Values(&mut activations.values))?;
        }
        for judged in &mut self.judged {
            visit(Part::Values(&mut judged.pre.values))?;
            judged.statistics.parts(visit)?;
        }
        self.comparison.parts(visit)
    }
}
