//! The study of universality: for a plan, for its variants, and for experiments that need to know
//! which neurons are universal.

use std::time::Instant;

use super::batches::batches_in_shares;
use super::passes::{read_and_match, refuse_sparse, resume_or_begin};
use super::{ModelMatches, Session, screened};
use crate::error::{Error, Kind, Result};
use crate::findings::{Findings, Outcome, Universal};
use crate::plan::Plan;
use crate::record::Timing;

impl Session<'_> {
    /// Runs the study, on the device if the session has one.
    ///
    /// # Errors
    /// Returns an error if a model cannot be loaded, the device fails or has too little memory, no
    /// neuron can be correlated, a checkpoint cannot be written or read, or the run was stopped.
    pub fn study(&mut self) -> Result<Outcome> {
        let begun = Instant::now();
        self.members()?;
        let load_s = begun.elapsed().as_secs_f64();
        let plan = self.plan;
        if let Some(screen) = &plan.spec.correlation.screen {
            return screened::run(self, screen, load_s);
        }
        if self.control.checkpoints.is_some() {
            refuse_sparse(plan, "--checkpoint")?;
        }
        let statistics = self.separate_statistics()?;
        let mut sums = self.empty_sums()?;
        let batches = batches_in_shares(plan, sums.at_once());
        let done = resume_or_begin(self, sums.as_mut(), &batches, false)?;
        let spent = read_and_match(self, sums.as_mut(), done)?;
        let begun = Instant::now();
        let outcome = sums.finish(plan, statistics);
        self.control.progress.finish();
        let finish_s = spent.matching + begun.elapsed().as_secs_f64();
        Ok(outcome.timed(Timing { load_s, tokens_s: spent.reading, finish_s }))
    }

    /// Runs the study of a variant of the plan. Shows `name` instead of progress.
    /// Models that are also in the plan are not loaded again.
    ///
    /// # Errors
    /// Returns an error if a model cannot be loaded, no neuron can be correlated, or the run
    /// was stopped.
    pub fn study_of(&mut self, variant: &Plan, name: &str) -> Result<Findings> {
        Ok(self.outcome_of(variant, name)?.reference)
    }

    /// Runs the study of a variant as [`Self::study_of`] does. Returns the results for all its judged
    /// models.
    ///
    /// # Errors
    /// Returns an error as [`Self::study_of`] does.
    pub fn outcome_of(&mut self, variant: &Plan, name: &str) -> Result<Outcome> {
        let mut quiet = self.control.quiet();
        let mut session = self.share(variant, &mut quiet)?;
        self.control.progress.say(name);
        let outcome = session.study()?;
        outcome.check_correlated()?;
        Ok(outcome)
    }

    /// Returns which neurons of a variant are universal. Runs its study, unless the variant is the plan's
    /// own study, whose universal neurons are known.
    ///
    /// # Errors
    /// Returns an error as [`Self::study_of`] does.
    pub fn universal_in(&mut self, variant: &Plan, name: &str) -> Result<Universal> {
        if let Some(known) = self.universal.as_ref().filter(|_| self.same_study)
            && variant.is_same_study(self.plan)
        {
            self.control.progress.say(&format!("{name}: known from its study"));
            return Ok(known.clone());
        }
        let found = self.study_of(variant, name)?;
        Ok(Universal::of(&found, variant.spec.correlation.threshold))
    }

    /// Returns whether each neuron is universal, for all layers. Runs the study of the plan if this
    /// is not known, and afterwards drops the partner models from memory.
    ///
    /// # Errors
    /// Returns an error if the study fails, or the universal neurons are those of a model of
    /// another size.
    pub fn universal(&mut self) -> Result<Vec<bool>> {
        let found = match &self.universal {
            Some(universal) => universal.clone(),
            None => {
                self.control.progress.say("finding the universal neurons first");
                let outcome = self.study()?;
                self.drop_partners();
                outcome.check_correlated()?;
                let partners = self.plan.partners(self.plan.judged[0]);
                self.matches = ModelMatches::of(partners, &outcome.reference.extra);
                let found = Universal::of(&outcome.reference, self.plan.spec.correlation.threshold);
                self.same_study = true;
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
}
