//! The tokenizer of a model: byte-level BPE from `tokenizer.json`, or from the older
//! `vocab.json` and `merges.txt`.
//!
//! The files are parsed and checked here, and the tokenizer is built from the checked parts: the
//! library never reads the files. Post-processors, truncation and padding have no effect;
//! `tokenizer.json` keeps the last two from the program that saved it.

mod byte_level;
mod format;
mod parts;
mod pieces;
mod shown;

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tokenizers::normalizers::unicode::NFC;
use tokenizers::{Encoding, NormalizedString, Normalizer, Tokenizer};

use crate::digest::digest;
use crate::error::{Error, Kind, Result};
use crate::input::InputFile;
use byte_level::{bytes_of, letter_of};
use parts::{AddedEntry, Parts, TokenName};

/// The end-of-text token of GPT-2 and GPT-NeoX vocabularies.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// Maximum length of each file of a tokenizer, in bytes. Those of GPT-2 have 4 MB.
const MAX_FILE: u64 = 64 << 20;
/// Maximum number of ids of a tokenizer without a model.
const MAX_IDS: usize = 1 << 21;

/// The model that a tokenizer must fit.
#[derive(Debug, Clone, Copy)]
pub struct TokenizerFor<'a> {
    /// Its name, for errors.
    pub model: &'a str,
    /// Number of ids of the model, which may be padded beyond those of the tokenizer; `None` if there
    /// are no weights that limit it.
    pub d_vocab: Option<usize>,
}

/// A byte-level BPE tokenizer whose ids are all below a model's `d_vocab`.
#[derive(Debug, Clone)]
pub struct BpeTokenizer {
    inner: Tokenizer,
    path: PathBuf,
    names: Vec<Option<TokenName>>,
    nfc: bool,
    /// Whether some byte has no token, so that some texts cannot be encoded.
    incomplete: bool,
    /// Added tokens within which a text must not be cut.
    whole: Vec<String>,
    /// Whether a text may be cut at all.
    cut: bool,
}

/// Why a text has no tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeFault {
    /// The problem, with its place in the text.
    pub problem: String,
    /// The remedy.
    pub remedy: &'static str,
}

/// Loads the tokenizer of a folder, as [`TokenizerFiles`] does.
///
/// # Errors
/// Returns an error as [`TokenizerFiles::read`] and [`TokenizerFiles::tokenizer`] do.
pub fn load(folder: &Path, model: TokenizerFor) -> Result<BpeTokenizer> {
    TokenizerFiles::read(folder)?.tokenizer(model)
}

/// The files of a tokenizer, each read once, so that their digest is of the text that a
/// tokenizer is made of.
pub struct TokenizerFiles {
    /// The file that errors name.
    path: PathBuf,
    content: Content,
    digest: String,
}

/// Texts of the files of a tokenizer.
enum Content {
    /// `tokenizer.json`.
    Whole(String),
    /// The older files.
    Parts { vocabulary: String, merges: String, added: Option<String> },
}

impl TokenizerFiles {
    /// Returns whether a folder has a tokenizer.
    pub fn are_in(folder: &Path) -> bool {
        ["tokenizer.json", "vocab.json"].iter().any(|name| folder.join(name).exists())
    }

    /// Reads `tokenizer.json` or, in a folder without it, `vocab.json`, `merges.txt` and
    /// `added_tokens.json` if that is there.
    ///
    /// # Errors
    /// Returns an error naming the file that is missing, is not a regular file, or is not text.
    pub fn read(folder: &Path) -> Result<Self> {
        let read =
            |name: &str| InputFile::open(Kind::Corpus, &folder.join(name))?.digested_text(MAX_FILE);
        let whole = folder.join("tokenizer.json");
        let path = folder.join("vocab.json");
        if whole.exists() || !path.exists() {
            let (text, digest) = read("tokenizer.json")?;
            return Ok(Self { path: whole, content: Content::Whole(text), digest });
        }
        let (vocabulary, vocabulary_digest) = read("vocab.json")?;
        let (merges, merges_digest) = read("merges.txt")?;
        let added = folder.join("added_tokens.json").exists();
        let added = added.then(|| read("added_tokens.json")).transpose()?;
        let (added, added_digest) = added.unzip();
        let digests = vocabulary_digest + &merges_digest + &added_digest.unwrap_or_default();
        let content = Content::Parts { vocabulary, merges, added };
        Ok(Self { path, content, digest: digest(digests.as_bytes()) })
    }

    /// Returns the SHA-256 of the file or, of several files, of their digests.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Makes the tokenizer and checks that it is the model's.
    ///
    /// # Errors
    /// Returns an error naming the file and the member if a file is malformed, holds anything
    /// but byte-level BPE, or if its ids are not the model's.
    pub fn tokenizer(self, model: TokenizerFor) -> Result<BpeTokenizer> {
        let parts = match &self.content {
            Content::Whole(text) => format::parse(text),
            Content::Parts { vocabulary, merges, added } => {
                two_files(vocabulary, merges, added.as_deref())
            }
        };
        let tokenizer = parts.and_then(|parts| BpeTokenizer::new(&self.path, parts, model));
        tokenizer.map_err(|problem| {
            let remedy = format!(
                "give the tokenizer that model `{}` was trained with: byte-level BPE, as GPT-2 and \
                 GPT-NeoX have",
                model.model
            );
            Error::new(Kind::Corpus, self.path.display(), problem, remedy)
        })
    }
}

/// Byte-level BPE of the files that GPT-2 was published with.
fn two_files(vocabulary: &str, merges: &str, added: Option<&str>) -> Result<Parts, String> {
    let vocabulary = format::parse_vocabulary(vocabulary)?;
    let lines = merges.lines().enumerate();
    let lines =
        lines.filter(|(i, line)| !line.is_empty() && (*i > 0 || !line.starts_with("#version")));
    let merge = |(i, line): (usize, &str)| {
        let problem = || format!("line {} of merges.txt is not two tokens", i + 1);
        format::split_merge(line).ok_or_else(problem)
    };
    let merges = lines.take(format::MAX_MERGES).map(merge).collect::<Result<_, String>>()?;
    let end_of_text = vocabulary.len() as u32;
    let id = vocabulary.get(END_OF_TEXT).copied();
    let added = added.map_or(Ok(HashMap::new()), |text| {
        format::parse_vocabulary(text).map_err(|e| format!("added_tokens.json beside it: {e}"))
    })?;
    if let Some(name) = added.keys().filter(|name| *name != END_OF_TEXT).min() {
        let name = parts::shown(name);
        return Err(format!(
            "added_tokens.json beside it adds `{name}`, which only a tokenizer.json describes"
        ));
    }
    let id = id.or(added.get(END_OF_TEXT).copied()).unwrap_or(end_of_text);
    let token = AddedEntry {
        id,
        content: END_OF_TEXT.into(),
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
    };
    Ok(Parts { nfc: false, vocabulary, merges, added: vec![token] })
}

impl BpeTokenizer {
    fn new(path: &Path, parts: Parts, model: TokenizerFor) -> Result<Self, String> {
        let size = parts.size();
        let d_vocab = model.d_vocab.unwrap_or_else(|| parts.ids().min(MAX_IDS));
        if size > d_vocab {
            return Err(format!("the vocabulary has {size} tokens, the model expects {d_vocab}"));
        }
        let names = parts.names(d_vocab)?;
        let bytes = |name: &str| parts.vocabulary.contains_key(name);
        let incomplete = !(0..=255).all(|byte| bytes(&letter_of(byte).to_string()));
        let guarded = parts.added.iter().filter(|token| pieces::has_cut(&token.content));
        // What NFC turns into such a token is not searched for: the text is left whole.
        let cut = !guarded.clone().any(|token| parts.nfc && token.normalized);
        let whole = guarded.map(|token| token.content.clone()).collect();
        let nfc = parts.nfc;
        let inner = parts.build()?;
        Ok(Self { inner, path: path.to_path_buf(), names, nfc, incomplete, whole, cut })
    }

    /// Returns the ids of a text, all below `d_vocab`, without special tokens around them.
    ///
    /// # Errors
    /// Returns the place in the text if a word there is too long or a byte has no token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, EncodeFault> {
        let mut ids = Vec::new();
        self.each_piece(
            text,
            &|piece| self.inner.encode_fast(piece, false),
            &mut |_, encoding| {
                ids.extend_from_slice(encoding.get_ids());
            },
        )?;
        Ok(ids)
    }

    /// Returns the bytes of a text that each of its tokens stands for. Tokens that share a
    /// character all have the bytes of that character.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn spans(&self, text: &str) -> Result<Vec<Range<usize>>, EncodeFault> {
        Ok(self.encode_with_spans(text)?.into_iter().map(|(_, span)| span).collect())
    }

    /// Returns the ids of a text as [`Self::encode`] does, each with its bytes as [`Self::spans`] does.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_with_spans(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>, EncodeFault> {
        let mut tokens = Vec::new();
        self.each_piece(text, &|piece| self.inner.encode(piece, false), &mut |start, encoding| {
            let spans = encoding.get_offsets().iter().map(|(from, to)| start + from..start + to);
            tokens.extend(encoding.get_ids().iter().copied().zip(spans));
        })?;
        Ok(tokens)
    }

    /// Encodes a text piece by piece and shows each with its place.
    fn each_piece(
        &self,
        text: &str,
        encode: &dyn Fn(&str) -> tokenizers::Result<Encoding>,
        visit: &mut dyn FnMut(usize, &Encoding),
    ) -> Result<(), EncodeFault> {
        let all: &mut dyn Iterator<Item = (usize, &str)> = match self.cut {
            true => &mut pieces::pieces(text, &self.whole),
            false => &mut std::iter::once((0, text)),
        };
        for (start, piece) in all {
            if let Some((at, length)) = pieces::too_long(piece) {
                let at = start + at;
                let most = pieces::MAX_WORD;
                let problem =
                    format!("the word at byte {at} has {length} bytes, at most {most} are read");
                return Err(EncodeFault {
                    problem,
                    remedy: "split the word, or leave the sample out",
                });
            }
            let encoding = encode(piece).map_err(|e| EncodeFault {
                problem: format!("the text from byte {start} on has no tokens: {e}"),
                remedy: "remove the sample or correct its text",
            })?;
            self.check_ids(encoding.get_ids(), (piece, start))?;
            visit(start, &encoding);
        }
        Ok(())
    }

    /// Checks that the ids of a piece are the model's, and that they are all of its text.
    fn check_ids(&self, ids: &[u32], (piece, start): (&str, usize)) -> Result<(), EncodeFault> {
        let fault = |problem| {
            Err(EncodeFault {
                problem,
                remedy: "give the tokenizer that the model was trained with, or correct the text",
            })
        };
        let mut bytes = 0;
        for &id in ids {
            let Some(Some(name)) = self.names.get(id as usize) else {
                let (path, d_vocab) = (self.path.display(), self.names.len());
                return fault(format!(
                    "{path} gives the id {id}, the model knows {d_vocab} of them"
                ));
            };
            bytes += name.bytes();
        }
        if self.incomplete && bytes != self.normalised_bytes(piece) {
            let has_token = |c: &char| {
                let mut buffer = [0; 4];
                let mut bytes = c.encode_utf8(&mut buffer).bytes();
                bytes.all(|b| self.inner.token_to_id(&letter_of(b).to_string()).is_some())
            };
            let unknown = piece.char_indices().find(|(_, c)| !has_token(c)).unwrap_or_default();
            let (at, character) = (start + unknown.0, unknown.1.escape_debug());
            return fault(format!(
                "`{character}` at byte {at} is not in the vocabulary of {}",
                self.path.display()
            ));
        }
        Ok(())
    }

    fn normalised_bytes(&self, text: &str) -> usize {
        let mut normalised = NormalizedString::from(text);
        // NFC of a text never fails.
        match self.nfc && NFC.normalize(&mut normalised).is_ok() {
            true => normalised.get().len(),
            false => text.len(),
        }
    }

    /// Returns the text of every id, `[d_vocab]`, leading space included. Bytes that are not
    /// whole characters are `U+FFFD`; an id without a token is empty.
    pub fn texts(&self) -> Vec<String> {
        let text = |name: &Option<TokenName>| match name {
            Some(TokenName::Added(text)) => text.clone(),
            Some(TokenName::Bytes(name)) => {
                String::from_utf8_lossy(&bytes_of(name).unwrap_or_default()).into_owned()
            }
            None => String::new(),
        };
        self.names.iter().map(text).collect()
    }

    /// Returns the number of ids, those without a token included.
    pub fn d_vocab(&self) -> usize {
        self.names.len()
    }

    /// Returns the id of a token by its name in the vocabulary.
    pub fn id_of(&self, name: &str) -> Option<u32> {
        self.inner.token_to_id(name)
    }

    /// Returns the name of a token in the vocabulary.
    pub fn name_of(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Returns whether an id is that of an added token that is special.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.get_added_tokens_decoder().get(&id).is_some_and(|token| token.special)
    }

    /// Returns whether each id stands for the same token as another tokenizer's.
    pub fn same_tokens(&self, other: &Self) -> bool {
        let named = |t: &Self| t.inner.get_vocab(true);
        named(self) == named(other)
    }

    /// Returns the SHA-256 of all that ids depend on, whichever files it came from.
    ///
    /// # Errors
    /// Returns an error if the tokenizer cannot be written as JSON.
    pub fn digest(&self) -> Result<String> {
        let json = self.inner.to_string(false).map_err(|e| {
            Error::new(Kind::Corpus, self.path.display(), e, "give another tokenizer")
        })?;
        Ok(digest(json.as_bytes()))
    }
}

#[cfg(test)]
mod tests;
