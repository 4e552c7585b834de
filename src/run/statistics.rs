//! Statistics of activations over other tokens than correlations: another pass over the tokens.

use super::Session;
use crate::corpus::Tokens;
use crate::correlation::TOKENS_AT_ONCE;
use crate::error::Result;
use crate::model::Site;
use crate::model::capture::Activations;
use crate::spec::Exclusion;
use crate::stats::ActivationSums;

/// The activations of one judged model.
struct ModelActivations {
    pre: Activations,
    post: Activations,
    sums: ActivationSums,
}

impl ModelActivations {
    /// Returns the buffers for a batch.
    fn targets(&mut self) -> Vec<(Site, &mut Activations)> {
        vec![(Site::MlpPre, &mut self.pre), (Site::MlpPost, &mut self.post)]
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
            models.capture(batch, judged.iter_mut().map(ModelActivations::targets).collect())?;
            for judged in &mut judged {
                while judged.pre.tokens() >= TOKENS_AT_ONCE {
                    judged.absorb(TOKENS_AT_ONCE);
                }
            }
            Ok(())
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
