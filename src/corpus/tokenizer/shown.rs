//! The texts of tokens for the eye.

use super::byte_level::bytes_of;
use super::{BpeTokenizer, TokenName};

impl BpeTokenizer {
    /// Returns the text of every id, `[d_vocab]`. A token that is not whole characters is shown as
    /// its bytes, `⟨E2 80⟩`.
    pub fn shown_texts(&self) -> Vec<String> {
        let shown = |(text, name): (String, &Option<TokenName>)| match name {
            Some(TokenName::Bytes(name)) if text.contains(char::REPLACEMENT_CHARACTER) => {
                hex(&bytes_of(name).unwrap_or_default())
            }
            _ => text,
        };
        self.texts().into_iter().zip(&self.names).map(shown).collect()
    }

    /// Returns the texts of consecutive tokens. A character whose bytes are spread over several
    /// tokens belongs to the first of them, and the text of the others begins after it, so that it
    /// may be empty. Bytes that are not part of a character are shown as `⟨E2 80⟩`.
    ///
    /// # Panics
    /// Panics if an id is not below d_vocab.
    pub fn shown_in_context(&self, ids: &[u32]) -> Vec<String> {
        let (mut bytes, mut token_of) = (Vec::new(), Vec::new());
        for (token, &id) in ids.iter().enumerate() {
            match &self.names[id as usize] {
                Some(TokenName::Added(text)) => bytes.extend(text.bytes()),
                Some(TokenName::Bytes(name)) => bytes.extend(bytes_of(name).unwrap_or_default()),
                None => (),
            }
            token_of.resize(bytes.len(), token);
        }
        let mut texts = vec![String::new(); ids.len()];
        let mut rest = token_of.as_slice();
        for chunk in bytes.utf8_chunks() {
            let (of_characters, after) = rest.split_at(chunk.valid().len());
            for (at, character) in chunk.valid().char_indices() {
                texts[of_characters[at]].push(character);
            }
            let (of_bytes, after) = after.split_at(chunk.invalid().len());
            let mut bytes = chunk.invalid();
            for token in of_bytes.chunk_by(|a, b| a == b) {
                let (own, others) = bytes.split_at(token.len());
                texts[token[0]].push_str(&hex(own));
                bytes = others;
            }
            rest = after;
        }
        texts
    }
}

fn hex(bytes: &[u8]) -> String {
    let hex: Vec<String> = bytes.iter().map(|b| format!("{b:02X}")).collect();
    format!("⟨{}⟩", hex.join(" "))
}
