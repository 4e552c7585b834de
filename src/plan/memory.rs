//! The memory that a run needs, and the choice of what it keeps of the tokens.

use super::{Plan, PlannedModel};
use crate::correlation::{Keep, TOKENS_AT_ONCE};
use crate::error::{Error, Kind, Result};

impl Plan {
    /// Returns what the run keeps of the tokens: activations or sums, whichever is smaller, within
    /// the memory that the spec allows.
    ///
    /// # Errors
    /// Returns an error if neither fits into that memory.
    pub(super) fn choose_keep(&self) -> Result<Keep> {
        let bytes = |keep: &Keep| self.bytes_with(*keep);
        let once = [Keep::Tokens, Keep::Sums { passes: 1 }];
        let smaller = match self.spec.correlation.screen {
            // A screening sample is small, so its activations are kept rather than their sums.
            Some(_) => Keep::Tokens,
            None => once.into_iter().min_by_key(bytes).unwrap_or(Keep::Tokens),
        };
        let Some(gib) = self.spec.batch.memory_gib else {
            return Ok(smaller);
        };
        let limit = (gib * f64::from(1 << 30)) as usize;
        let most = match smaller {
            Keep::Tokens if self.spec.correlation.screen.is_some() => 0,
            _ => self.comparison_plan().max_passes(),
        };
        let repeated = (2..=most).map(|passes| Keep::Sums { passes });
        let fits = |keep: &Keep| bytes(keep) <= limit;
        std::iter::once(smaller).chain(repeated.clone()).find(fits).ok_or_else(|| {
            let least = std::iter::once(smaller).chain(repeated).map(|keep| bytes(&keep)).min();
            let least = least.unwrap_or(0) as f64 / f64::from(1 << 30);
            Error::new(
                Kind::Spec,
                self.spec_path.display(),
                format_args!("`batch.memory_gib` is {gib}, the run needs {least:.2}"),
                "raise the limit, compare fewer models, or use the rotation baseline",
            )
        })
    }

    /// Returns the bytes that weights, activations, and the data kept of the tokens need.
    pub fn bytes(&self) -> usize {
        self.bytes_with(self.keep)
    }

    /// Returns the bytes that a screened run may use for neurons that it compares exactly: the
    /// rest of the memory that the spec allows, or without a limit as much as the rest of the run.
    pub fn room(&self) -> usize {
        let limit = self.spec.batch.memory_gib.map(|gib| (gib * f64::from(1 << 30)) as usize);
        limit.map_or(self.bytes(), |limit| limit.saturating_sub(self.bytes()))
    }

    fn bytes_with(&self, keep: Keep) -> usize {
        let study = self.comparison_plan();
        let n = |model: &PlannedModel| model.layout().n_neurons();
        let pre: usize = self.judged.iter().map(|&i| n(&self.models[i])).sum();
        let post: usize = self.models.iter().map(n).sum();
        let tokens = TOKENS_AT_ONCE + self.spec.batch.tokens.max(self.tokens.context);
        let activations = 4 * tokens * (pre + post);
        let weights = |m: &PlannedModel| {
            let config = &m.config;
            4 * (config.block_weights() + (config.d_vocab + config.n_ctx) * config.d_model)
        };
        let weights: usize = self.models.iter().map(weights).sum();
        let used = self.tokens.count().used;
        let tokens = self.spec.correlation.screen.as_ref().map_or(used, |s| s.sample.min(used));
        let kept = study.kept_bytes(keep, tokens);
        weights + activations + kept + study.comparison_bytes()
    }
}
