//! Variants of a plan: the same study over other tokens, of other models, or with other
//! draws. What follows from the change is recomputed: memory, vocabulary and identity.

use super::resolve::check_context;
use super::vocabulary::check_same_vocabulary;
use super::{Plan, PlannedModel};
use crate::corpus::Tokens;
use crate::digest::digest;
use crate::error::Result;

impl Plan {
    /// Returns the plan over other tokens of the same samples. What the run keeps of them is
    /// chosen again.
    ///
    /// # Errors
    /// Returns an error if the run does not fit into the memory that the spec allows.
    pub fn with_tokens(&self, tokens: Tokens) -> Result<Self> {
        let mut plan = Self { tokens, ..self.clone() };
        plan.keep = plan.choose_keep()?;
        Ok(plan)
    }

    /// Returns the plan of other models, one in the place of each: checkpoints of another step
    /// of training, for example.
    ///
    /// # Errors
    /// Returns an error if a model has another vocabulary than the one whose place it takes or
    /// a context that is too short, or if the run does not fit into the memory that the spec
    /// allows.
    pub fn with_models(&self, models: Vec<PlannedModel>) -> Result<Self> {
        assert_eq!(models.len(), self.models.len(), "one model in the place of each");
        for (model, planned) in models.iter().zip(&self.models) {
            check_same_vocabulary(model, planned)?;
        }
        check_context(&self.spec, &self.spec_path, &models)?;
        let mut plan = Self { models, ..self.clone() };
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
