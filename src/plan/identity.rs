//! The identity of a run: digests of everything that its sums depend on.

use super::{Plan, PlannedModel};
use crate::backend::kernel::CpuKernel;
use crate::digest::digest;

impl Plan {
    /// Returns the SHA-256 of all token ids, row by row.
    pub fn tokens_digest(&self) -> String {
        let ids =
            self.tokens.rows.iter().flat_map(|row| row.ids.iter().flat_map(|id| id.to_le_bytes()));
        digest(&ids.collect::<Vec<u8>>())
    }

    /// Returns whether the study of another plan gives the same universal neurons: the same weights,
    /// tokens, units and comparison.
    pub fn is_same_study(&self, other: &Self) -> bool {
        let models = self.models.iter().zip(&other.models);
        let same = |(a, b): (&PlannedModel, &PlannedModel)| {
            (&a.weights_digest, &a.config) == (&b.weights_digest, &b.config)
                && (a.units, a.format) == (b.units, b.format)
        };
        self.models.len() == other.models.len()
            && models.into_iter().all(same)
            && self.judged.first() == other.judged.first()
            && self.tokens == other.tokens
            && self.spec.correlation == other.spec.correlation
    }

    /// Returns the SHA-256 of everything that the bits of the run's sums on the CPU depend on.
    pub fn identity(&self) -> String {
        self.identity_on(CpuKernel::best(self.spec.correlation.precision).name)
    }

    /// Returns the SHA-256 of everything that the bits of the run's sums depend on, if `engine`
    /// computes them.
    pub fn identity_on(&self, engine: &str) -> String {
        let (tokens, keep) = (self.tokens_digest(), format!("{:?}", self.keep));
        let mut parts: Vec<&str> = vec![&self.spec_digest, &self.corpus_digest, &tokens];
        for model in &self.models {
            let tokenizer = model.tokenizer_digest.as_deref().unwrap_or("none");
            parts.extend([&model.config_digest, &model.weights_digest, tokenizer]);
        }
        let text = self.transcript.as_ref().map(|text| text.tokenizer_digest.as_str());
        parts.extend(text.into_iter().chain([engine, &keep]));
        digest(parts.join(" ").as_bytes())
    }
}
