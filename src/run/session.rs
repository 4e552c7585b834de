//! A session: the models that an experiment reads through, its plan, and how it is watched.

use std::sync::atomic::Ordering;

use super::{Control, run_on_cpu};
use crate::corpus::{Batch, Tokens};
use crate::error::{Error, Kind, Result};
use crate::findings::{Findings, Universal};
use crate::model::Transformer;
use crate::plan::Plan;

/// An experiment at work on one model.
pub struct Session<'a> {
    /// What is to be done.
    pub plan: &'a Plan,
    /// The reference model.
    pub model: Transformer,
    /// How the experiment is watched and stopped.
    pub control: &'a mut Control,
    /// The universal neurons, if they are known already.
    universal: Option<Universal>,
}

impl<'a> Session<'a> {
    /// Loads the reference model of a plan.
    ///
    /// # Errors
    /// Returns an error if the model cannot be loaded.
    pub fn open(
        plan: &'a Plan,
        universal: Option<Universal>,
        control: &'a mut Control,
    ) -> Result<Self> {
        control.progress.stage("loading models", 1);
        let model = plan.reference().load(&control.progress)?;
        Ok(Self { plan, model, control, universal })
    }

    /// Returns which neurons are universal, counted over all layers. Runs the study of the
    /// spec if they are not known.
    ///
    /// # Errors
    /// Returns an error if the study fails, or the universal neurons are of a model of another
    /// size.
    pub fn universal(&mut self) -> Result<Vec<bool>> {
        let found = match &self.universal {
            Some(universal) => universal.clone(),
            None => {
                self.control.progress.say("finding the universal neurons first");
                let outcome = super::run(self.plan, self.control)?;
                outcome.check_correlated()?;
                let found = Universal::of(&outcome.reference, self.plan.spec.correlation.threshold);
                self.universal.insert(found).clone()
            }
        };
        let expected = self.plan.reference().layout().n_neurons();
        if found.0.len() == expected {
            return Ok(found.0);
        }
        let problem = format!("{} neurons, the model has {expected}", found.0.len());
        let remedy = "give the folder of a run with the same reference model";
        Err(Error::new(Kind::Evidence, "--universal", problem, remedy))
    }

    /// Runs the study of another plan on the CPU. Shows its name instead of its progress.
    ///
    /// # Errors
    /// Returns an error if a model cannot be loaded, or the run was stopped.
    pub fn study(&self, plan: &Plan, name: &str) -> Result<Findings> {
        self.control.progress.say(name);
        let mut quiet = Control { stop: self.control.stop.clone(), ..Control::default() };
        let outcome = run_on_cpu(plan, &mut quiet)?;
        outcome.check_correlated()?;
        Ok(outcome.reference)
    }

    /// Passes every batch of the plan to `see`, together with the reference model.
    ///
    /// # Errors
    /// Returns an error if the run was stopped.
    pub fn read(&mut self, what: &str, mut see: impl FnMut(&Transformer, &Batch)) -> Result<()> {
        let tokens: &Tokens = &self.plan.tokens;
        let used = tokens.count().used;
        self.control.progress.stage(what, used as u64);
        for batch in &tokens.batches(self.plan.spec.batch.tokens, 0..used) {
            if self.control.stop.load(Ordering::Relaxed) {
                let problem = "interrupted before the end; nothing was written";
                return Err(Error::new(Kind::Interrupted, "the run", problem, "start it again"));
            }
            see(&self.model, batch);
            self.control.progress.advance(batch.used.len() as u64);
        }
        Ok(())
    }
}
