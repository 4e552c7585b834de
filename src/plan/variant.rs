//! Variants of a plan: the same study with other tokens, other models, another number of draws, or
//! all models judged.
//! Everything that depends on the change is recomputed: memory, vocabulary and identity.

use super::distinct::check_distinct;
use super::resolve::check_context;
use super::vocabulary::check_same_vocabulary;
use super::{Plan, PlannedModel};
use crate::corpus::Tokens;
use crate::digest::digest;
use crate::error::Result;

impl Plan {
    /// Returns the plan over other tokens of the same samples. The choice of what the run keeps of
    /// the tokens is made again.
    ///
    /// # Errors
    /// Returns an error if the run does not fit into the memory that the spec allows.
    pub fn with_tokens(&self, tokens: Tokens) -> Result<Self> {
        let mut plan = Self { tokens, ..self.clone() };
        plan.keep = plan.choose_keep()?;
        Ok(plan)
    }

    /// Returns the plan with every model replaced by another, for example by a checkpoint from
    /// another training step.
    ///
    /// # Errors
    /// Returns an error if a model has another vocabulary than the model it replaces or a context
    /// that is too short, if two have the same weights and the spec does not say that it is meant, or if the run does not fit into the memory that the spec
    /// allows.
    pub fn with_models(&self, models: Vec<PlannedModel>) -> Result<Self> {
        assert_eq!(models.len(), self.models.len(), "one model replaces each");
        for (model, planned) in models.iter().zip(&self.models) {
            check_same_vocabulary(model, planned)?;
        }
        check_context(&self.spec, &self.spec_path, &models)?;
        check_distinct(&self.spec, &self.spec_path, &models)?;
        let mut plan = Self { models, ..self.clone() };
        plan.keep = plan.choose_keep()?;
        Ok(plan)
    }

    /// Returns the plan that judges every model of the family, the reference first, and keeps at least
    /// `top` best partners of each neuron.
    ///
    /// # Errors
    /// Returns an error if the run does not fit into the memory that the spec allows.
    pub fn judging_all(&self, top: usize) -> Result<Self> {
        let mut plan = self.clone();
        let reference = self.judged[0];
        plan.judged = std::iter::once(reference).chain(self.partners(reference)).collect();
        let kept = &mut plan.spec.correlation.top_partners;
        *kept = top.max(*kept);
        let change = format!("{} judging all models, {kept} best partners", self.spec_digest);
        plan.spec_digest = digest(change.as_bytes());
        plan.keep = plan.choose_keep()?;
        Ok(plan)
    }

    /// Returns the plan with another number of baseline draws.
    ///
    /// # Errors
    /// Returns an error if the run does not fit into the memory that the spec allows.
    pub fn with_draws(&self, draws: usize) -> Result<Self> {
        let mut plan = self.clone();
        plan.spec.correlation.baseline.draws = draws;
        plan.spec_digest = digest(format!("{} with {draws} draws", self.spec_digest).as_bytes());
        plan.keep = plan.choose_keep()?;
        Ok(plan)
    }
}
