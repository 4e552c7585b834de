//! The identity of a run: digests of everything that its sums depend on.

use super::Plan;
use crate::backend::kernel::CpuKernel;
use crate::digest::digest;

impl Plan {
    /// Returns the SHA-256 of all token ids, row by row.
    pub fn tokens_digest(&self) -> String {
        let ids =
            self.tokens.rows.iter().flat_map(|row| row.ids.iter().flat_map(|id| id.to_le_bytes()));
        digest(&ids.collect::<Vec<u8>>())
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
