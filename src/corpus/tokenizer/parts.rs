//! The parts of byte-level BPE, checked against the model before a tokenizer is built.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use super::byte_level::bytes_of;

/// Maximum length of a token in bytes. The longest of GPT-2 has 256.
const MAX_TOKEN: usize = 4096;
/// Maximum number of added tokens. Pythia has 25.
const MAX_ADDED: usize = 10_000;

/// An entry of `added_tokens`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddedEntry {
    pub id: u32,
    pub content: String,
    pub single_word: bool,
    pub lstrip: bool,
    pub rstrip: bool,
    /// Whether it is looked for after normalisation.
    pub normalized: bool,
    pub special: bool,
}

/// A byte-level BPE tokenizer that is not built yet.
#[derive(Debug)]
pub(super) struct Parts {
    /// Whether texts are normalised to NFC.
    pub nfc: bool,
    /// Tokens and their ids, without those that are only added.
    pub vocabulary: HashMap<String, u32>,
    /// Pairs of tokens that become one, the first ones first.
    pub merges: Vec<(String, String)>,
    /// Tokens that are found in the text before it is split into words.
    pub added: Vec<AddedEntry>,
}

/// The name of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenName {
    /// Written in letters that stand for bytes.
    Bytes(String),
    /// Written as in the text.
    Added(String),
}

impl TokenName {
    /// Returns how many bytes of text the token stands for.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Bytes(name) => name.chars().count(),
            Self::Added(text) => text.len(),
        }
    }
}

impl Parts {
    /// Returns the number of tokens, added ones included.
    pub fn size(&self) -> usize {
        let added: HashSet<&String> = self.added.iter().map(|token| &token.content).collect();
        let only_added = added.into_iter().filter(|name| !self.vocabulary.contains_key(*name));
        self.vocabulary.len() + only_added.count()
    }

    /// Returns the number of ids up to the largest one.
    pub fn ids(&self) -> usize {
        let added = self.added.iter().map(|token| token.id);
        let largest = self.vocabulary.values().copied().chain(added).max();
        largest.map_or(0, |id| id as usize + 1)
    }

    /// Checks the parts and returns the names of all tokens by id, `[d_vocab]`. An id may be
    /// without a token.
    ///
    /// # Errors
    /// Returns what is wrong if a token or merge is not one of a byte-level vocabulary, or an
    /// id is used twice or is not below `d_vocab`.
    pub fn names(&self, d_vocab: usize) -> Result<Vec<Option<TokenName>>, String> {
        let mut names = vec![None; d_vocab];
        self.check_added()?;
        let added: HashSet<&str> = self.added.iter().map(|a| a.content.as_str()).collect();
        let only_added = self.added.iter().filter(|a| !self.vocabulary.contains_key(&a.content));
        let all = self.vocabulary.iter().map(|(name, id)| (name, *id));
        // In the order of ids, so that the same file always gives the same error.
        let mut all: Vec<_> = all.chain(only_added.map(|a| (&a.content, a.id))).collect();
        all.sort_unstable_by_key(|(name, id)| (*id, *name));
        for (name, id) in all {
            let place = names.get_mut(id as usize).ok_or_else(|| {
                let last = d_vocab.saturating_sub(1);
                format!("the token `{}` has id {id}, the model's last is {last}", shown(name))
            })?;
            let named = match added.contains(name.as_str()) {
                true => TokenName::Added(name.clone()),
                false => TokenName::Bytes(name.clone()),
            };
            if name.is_empty() || name.len() > MAX_TOKEN {
                return Err(format!(
                    "the token of id {id} has {} bytes, expected 1 to {MAX_TOKEN}",
                    name.len()
                ));
            }
            if matches!(named, TokenName::Bytes(_)) && bytes_of(name).is_none() {
                return Err(format!(
                    "the token `{}` of id {id} is not of a byte-level vocabulary",
                    shown(name)
                ));
            }
            if place.replace(named).is_some() {
                return Err(format!(
                    "the token `{}` has id {id}, which another token has too",
                    shown(name)
                ));
            }
        }
        self.check_merges()?;
        Ok(names)
    }

    fn check_added(&self) -> Result<(), String> {
        if self.added.len() > MAX_ADDED {
            return Err(format!("{} added tokens, expected at most {MAX_ADDED}", self.added.len()));
        }
        let mut seen = HashSet::new();
        for (i, token) in self.added.iter().enumerate() {
            let switches = [
                ("single_word", token.single_word),
                ("lstrip", token.lstrip),
                ("rstrip", token.rstrip),
            ];
            if let Some((name, _)) = switches.into_iter().find(|(_, on)| *on) {
                let name = format!("added_tokens[{i}].{name}");
                return Err(format!(
                    "`{name}` is true for `{}`, expected false",
                    shown(&token.content)
                ));
            }
            if !seen.insert(&token.content) {
                return Err(format!("`added_tokens` has `{}` twice", shown(&token.content)));
            }
            if self.vocabulary.get(&token.content).is_some_and(|id| *id != token.id) {
                return Err(format!(
                    "`{}` has one id in `added_tokens` and another in `vocab`",
                    shown(&token.content)
                ));
            }
        }
        Ok(())
    }

    fn check_merges(&self) -> Result<(), String> {
        for (i, (first, second)) in self.merges.iter().enumerate() {
            let merged = format!("{first}{second}");
            if let Some(name) =
                [first, second, &merged].into_iter().find(|t| !self.vocabulary.contains_key(*t))
            {
                return Err(format!(
                    "merge {} needs the token `{}`, which the vocabulary lacks",
                    i + 1,
                    shown(name)
                ));
            }
        }
        Ok(())
    }

    /// Builds the tokenizer from the checked parts only.
    ///
    /// # Errors
    /// Returns what is wrong if the library refuses the parts or gives an added token another
    /// id than the file.
    pub fn build(self) -> Result<Tokenizer, String> {
        let vocabulary: Vocab = self.vocabulary.into_iter().collect();
        let model = BPE::builder().vocab_and_merges(vocabulary, self.merges).build();
        let mut tokenizer = Tokenizer::new(model.map_err(|e| e.to_string())?);
        tokenizer.with_normalizer(self.nfc.then_some(NFC)).map_err(|e| e.to_string())?;
        tokenizer.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(false)));
        let token = |t: &AddedEntry| {
            AddedToken::from(t.content.clone(), t.special).normalized(t.normalized)
        };
        tokenizer.add_tokens(self.added.iter().map(token)).map_err(|e| e.to_string())?;
        for token in &self.added {
            let id = tokenizer.token_to_id(&token.content);
            if id != Some(token.id) {
                let given = id.map_or("none".into(), |id| id.to_string());
                return Err(format!(
                    "`added_tokens` gives `{}` the id {}, in its place it gets {given}",
                    shown(&token.content),
                    token.id
                ));
            }
        }
        Ok(tokenizer)
    }
}

/// Returns the beginning of a name, safe for a terminal.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(40).flat_map(char::escape_debug).collect()
}
