//! The vocabulary that all models of a plan share.

use std::sync::Arc;

use super::{Plan, PlannedModel};
use crate::corpus::tokenizer::BpeTokenizer;
use crate::error::{Error, Kind, Result};

impl Plan {
    /// Returns whether the text of the tokens is known: always for models, and for recorded
    /// activations if the spec names their tokenizer.
    pub fn has_text(&self) -> bool {
        self.transcript.is_some() || !self.is_recorded()
    }

    /// Returns the number of ids of the vocabulary.
    pub fn d_vocab(&self) -> usize {
        let recorded = self.transcript.as_ref().map(|text| text.tokenizer.d_vocab());
        recorded.unwrap_or(self.reference().config.d_vocab)
    }

    /// Returns the id in the vocabulary of a token of a row.
    pub fn vocabulary_id(&self, token: u32) -> u32 {
        self.transcript.as_ref().map_or(token, |text| text.ids[token as usize])
    }

    /// Returns the tokenizer that all models share.
    ///
    /// # Errors
    /// Returns an error if it cannot be read, or recorded activations have none.
    pub fn tokenizer(&self) -> Result<Arc<BpeTokenizer>> {
        match &self.transcript {
            None => Ok(Arc::new(self.reference().tokenizer()?)),
            Some(text) => Ok(Arc::clone(&text.tokenizer)),
        }
    }

    /// Returns the text of every token of the vocabulary, including leading spaces.
    ///
    /// # Errors
    /// Returns an error if the tokenizer cannot be read.
    pub fn vocabulary(&self) -> Result<Vec<String>> {
        Ok(self.tokenizer()?.texts())
    }
}

/// Checks that all models share one vocabulary: neurons can be compared over the same tokens
/// only if every model gives the same ids the same meaning.
pub(super) fn check_one_vocabulary(models: &[PlannedModel]) -> Result<()> {
    let first = models[0].tokenizer()?;
    for model in &models[1..] {
        if !model.tokenizer()?.same_tokens(&first)
            || model.config.bos_token_id != models[0].config.bos_token_id
        {
            return Err(another_vocabulary(model, &models[0]));
        }
    }
    Ok(())
}

/// Checks that a model can replace `planned`, whose tokenizer tokenised the text. A checkpoint
/// without tokenizer files is assumed to have the same tokenizer.
///
/// # Errors
/// Returns an error if the model has another vocabulary, or its tokenizer cannot be read.
pub(super) fn check_same_vocabulary(model: &PlannedModel, planned: &PlannedModel) -> Result<()> {
    let shape = |model: &PlannedModel| (model.config.d_vocab, model.config.bos_token_id);
    let same_files = model.tokenizer_digest == planned.tokenizer_digest;
    let same_tokens = match model.tokenizer_digest {
        Some(_) if !same_files => model.tokenizer()?.same_tokens(&planned.tokenizer()?),
        _ => true,
    };
    match same_tokens && shape(model) == shape(planned) {
        true => Ok(()),
        false => Err(another_vocabulary(model, planned)),
    }
}

fn another_vocabulary(model: &PlannedModel, than: &PlannedModel) -> Error {
    Error::new(
        Kind::Model,
        model.folder.display(),
        format_args!("model `{}` has another vocabulary than `{}`", model.name, than.name),
        "compare models that were trained with one tokenizer",
    )
}
