//! Statistics of activations over other tokens than correlations: another pass over the tokens.

use super::Session;
use crate::corpus::Tokens;
use crate::correlation::TOKENS_AT_ONCE;
use crate::error::Result;
use crate::model::capture::{Activations, Capture};
use crate::model::{Decoder, Site};
use crate::spec::Exclusion;
use crate::stats::ActivationSums;

/// The activations of one judged model.
struct ModelActivations {
    pre: Activations,
    post: Activations,
    sums: ActivationSums,
}

impl ModelActivations {
    /// Runs the model over rows. The activations of the tokens to `keep` are buffered.
    fn read(&mut self, model: &dyn Decoder, rows: &[&[u32]], keep: &[bool]) -> Result<()> {
        let targets = vec![(Site::MlpPre, &mut self.pre), (Site::MlpPost, &mut self.post)];
        model.forward(rows, &mut Capture::new(keep, targets))?;
        while self.pre.tokens() >= TOKENS_AT_ONCE {
            self.absorb(TOKENS_AT_ONCE);
        }
        Ok(())
    }

    /// Adds the first tokens of the buffers to the sums.
    fn absorb(&mut self, tokens: usize) {
        let values = ..tokens * self.pre.n_neurons;
        self.sums.absorb(&self.pre.values[values], &self.post.values[values]);
        self.pre.discard(tokens);
        self.post.discard(tokens);
    }
}

impl Session<'_> {
    /// Returns the statistics of the activations of every judged model over the tokens that
    /// `statistics.exclude` leaves, or `None` if they are the tokens of the correlations.
    ///
    /// # Errors
    /// Returns an error if a model cannot be loaded, the device fails, or the run was stopped.
    pub(super) fn separate_statistics(&mut self) -> Result<Option<Vec<ActivationSums>>> {
        let plan = self.plan;
        let Some(tokens) = separate_tokens(&plan.tokens, plan.spec.statistics.exclude.as_deref())
        else {
            return Ok(None);
        };
        let of_model = |&model: &usize| {
            let n = plan.models[model].layout().n_neurons();
            let sums = ActivationSums::new(n, plan.spec.statistics.moments);
            ModelActivations { pre: Activations::new(n), post: Activations::new(n), sums }
        };
        let mut judged: Vec<ModelActivations> = plan.judged.iter().map(of_model).collect();
        let stage = "reading tokens for statistics";
        self.read_models(stage, &tokens, &plan.judged, |models, batch| {
            let (rows, keep) = (batch.ids(), batch.kept());
            let judged = judged.iter_mut().collect();
            models.each(judged, |model, judged: &mut ModelActivations| {
                judged.read(model, &rows, &keep)
            })
        })?;
        for judged in &mut judged {
            judged.absorb(judged.pre.tokens());
        }
        Ok(Some(judged.into_iter().map(|judged| judged.sums).collect()))
    }
}

/// Returns the tokens without the `excluded` ones, or `None` if they are the same.
fn separate_tokens(tokens: &Tokens, excluded: Option<&[Exclusion]>) -> Option<Tokens> {
    let separate = tokens.clone().excluding(excluded?);
    (separate.count() != tokens.count()).then_some(separate)
}
