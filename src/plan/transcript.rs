//! The text of recorded activations: which token of a vocabulary each of them belongs to.

use std::sync::Arc;

use super::PlannedModel;
use super::recorded::common;
use crate::corpus::tokenizer::{BpeTokenizer, TokenizerFiles, TokenizerFor};
use crate::error::{Error, Kind, Result};
use crate::model::Recording;
use crate::spec::Spec;

/// The tokens of recorded activations in a vocabulary.
#[derive(Debug, Clone)]
pub struct Transcript {
    /// The id of each token, by its index in the files.
    pub ids: Arc<[u32]>,
    /// The tokenizer of the ids.
    pub tokenizer: Arc<BpeTokenizer>,
    /// SHA-256 of the files of the tokenizer.
    pub tokenizer_digest: String,
}

impl Transcript {
    /// Reads the ids that the members recorded, and the tokenizer that a spec names; `None` if it names
    /// none.
    ///
    /// # Errors
    /// Returns an error if the tokenizer cannot be read, no member holds ids, two members hold
    /// different ones, or an id is not one of the tokenizer.
    pub(super) fn read(spec: &Spec, models: &[PlannedModel]) -> Result<Option<Self>> {
        let Some(folder) = &spec.models.tokenizer else { return Ok(None) };
        let files = TokenizerFiles::read(folder)?;
        let tokenizer_digest = files.digest().to_owned();
        let tokenizer = files.tokenizer(TokenizerFor { model: &models[0].name, d_vocab: None })?;
        let Some(ids) = common(models, "tokens", Recording::token_ids)? else {
            let problem = "no member of the family holds `tokens`, the ids of its tokens";
            let remedy = "add them to one file as a tensor of integers, or remove the key";
            return Err(Error::new(Kind::Spec, "models.tokenizer", problem, remedy));
        };
        let d_vocab = tokenizer.d_vocab();
        let id = |id: &i64| u32::try_from(*id).ok().filter(|id| (*id as usize) < d_vocab);
        let known = ids.iter().map(|i| id(i).ok_or(*i)).collect::<Result<_, _>>();
        let ids = known.map_err(|id| {
            let problem = format!("`tokens` holds {id}, and the tokenizer has ids below {d_vocab}");
            let remedy = "name the tokenizer of the model whose activations were recorded";
            Error::new(Kind::Model, folder.display(), problem, remedy)
        })?;
        Ok(Some(Self { ids, tokenizer: Arc::new(tokenizer), tokenizer_digest }))
    }
}
