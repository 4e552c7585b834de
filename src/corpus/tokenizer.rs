//! The tokenizer of a model: `tokenizer.json`, or the older `vocab.json` and `merges.txt`.

use std::path::Path;

use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use crate::error::{Error, Kind, Result};

/// The end-of-text token that byte-level vocabularies of this age have.
const END_OF_TEXT: &str = "<|endoftext|>";

/// Loads the tokenizer of a folder and checks that it is the model's. `padded` tells that
/// the model's vocabulary may have rows beyond the tokenizer's, as GPT-NeoX's has.
///
/// # Errors
/// If the files are missing or malformed, or their vocabulary has another size than the
/// model's.
pub fn load(folder: &Path, d_vocab: usize, padded: bool) -> Result<Tokenizer> {
    let whole = folder.join("tokenizer.json");
    let (path, tokenizer) = if whole.exists() || !folder.join("vocab.json").exists() {
        if let Err(e) = std::fs::metadata(&whole) {
            return Err(Error::io(Kind::Corpus, &whole, "read the tokenizer", &e));
        }
        (whole.clone(), Tokenizer::from_file(&whole).map_err(|e| e.to_string()))
    } else {
        (folder.join("vocab.json"), byte_level(folder).map_err(|e| e.to_string()))
    };
    let error = |problem: String, remedy| Error::new(Kind::Corpus, path.display(), problem, remedy);
    let tokenizer = tokenizer.map_err(|problem| {
        error(problem, "give a tokenizer.json as the tokenizers library writes it")
    })?;
    let size = tokenizer.get_vocab_size(true);
    if size == d_vocab || (padded && size < d_vocab) {
        return Ok(tokenizer);
    }
    Err(error(
        format!("the vocabulary has {size} tokens, the model expects {d_vocab}"),
        "use the tokenizer that the model was trained with",
    ))
}

/// Byte-level pairs from two files, as GPT-2 was published with.
fn byte_level(folder: &Path) -> tokenizers::Result<Tokenizer> {
    let [vocabulary, merges] =
        ["vocab.json", "merges.txt"].map(|name| folder.join(name).to_string_lossy().into_owned());
    let model = BPE::from_file(&vocabulary, &merges).build()?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(false)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    tokenizer.add_special_tokens([AddedToken::from(END_OF_TEXT, true)])?;
    Ok(tokenizer)
}
