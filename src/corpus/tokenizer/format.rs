//! The members of `tokenizer.json` that byte-level BPE needs. Every other member is refused
//! by name, unless the ids of a text cannot depend on it.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::parts::{AddedEntry, Parts};

/// Maximum number of merges. GPT-2 has 50,000.
pub(super) const MAX_MERGES: usize = 1 << 20;
/// Maximum number of tokens, as for a model's config.
const MAX_TOKENS: usize = 1 << 22;

/// A `tokenizer.json` of the `tokenizers` library.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenizerFile {
    version: Option<String>,
    /// Has no effect: the program that saved the file left it there, and the spec decides how a
    /// corpus is cut into rows.
    #[serde(rename = "truncation")]
    _truncation: Option<IgnoredAny>,
    /// As `truncation`.
    #[serde(rename = "padding")]
    _padding: Option<IgnoredAny>,
    #[serde(default)]
    added_tokens: Vec<AddedEntry>,
    normalizer: Option<Component>,
    pre_tokenizer: Option<Component>,
    post_processor: Option<Component>,
    decoder: Option<Component>,
    model: BpeFile,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BpeFile {
    r#type: Option<String>,
    dropout: Option<f64>,
    /// Has no effect, like the next two: a byte without a token is an error.
    #[serde(rename = "unk_token")]
    _unk_token: Option<String>,
    #[serde(rename = "fuse_unk")]
    _fuse_unk: Option<bool>,
    #[serde(rename = "byte_fallback")]
    _byte_fallback: Option<bool>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    ignore_merges: Option<bool>,
    #[serde(deserialize_with = "vocabulary")]
    vocab: HashMap<String, u32>,
    #[serde(deserialize_with = "merges")]
    merges: Vec<(String, String)>,
}

/// A normalizer, pre-tokenizer, post-processor or decoder.
#[derive(Default)]
struct Component {
    kind: String,
    /// The members that are switches.
    switches: HashMap<String, bool>,
    /// The members of a sequence.
    parts: Vec<Component>,
    /// How many sequences of the text the template of a post-processor has.
    sequences: usize,
    /// The first member with another name.
    other: Option<String>,
}

/// Reads `tokenizer.json`.
///
/// # Errors
/// Returns what is wrong, with the path of the member, if the text is not JSON of this form
/// or has a member that would change ids.
pub(super) fn parse(text: &str) -> Result<Parts, String> {
    let json = &mut serde_json::Deserializer::from_str(text);
    let file: TokenizerFile = serde_path_to_error::deserialize(&mut *json).map_err(|e| {
        let path = e.path().to_string();
        let at = if path == "." { String::new() } else { format!("`{path}`: ") };
        format!("{at}{}", e.into_inner())
    })?;
    json.end().map_err(|e| e.to_string())?;
    if let Some(version) = file.version.filter(|v| v != "1.0") {
        return Err(format!("`version` is `{version}`, expected `1.0`"));
    }
    let nfc = file.normalizer.map_or(Ok(false), |c| c.normalizes("normalizer"))?;
    match &file.pre_tokenizer {
        Some(component) => component.cuts_as_gpt2("pre_tokenizer")?,
        None => return Err("`pre_tokenizer` is missing, expected `ByteLevel`".into()),
    }
    file.post_processor.map_or(Ok(()), |c| c.keeps_ids("post_processor"))?;
    file.decoder.map_or(Ok(()), |c| c.is_byte_level("decoder"))?;
    file.model.check()?;
    Ok(Parts {
        nfc,
        vocabulary: file.model.vocab,
        merges: file.model.merges,
        added: file.added_tokens,
    })
}

impl BpeFile {
    fn check(&self) -> Result<(), String> {
        if let Some(kind) = self.r#type.as_ref().filter(|kind| *kind != "BPE") {
            return Err(format!("`model.type` is `{kind}`, expected `BPE`"));
        }
        if let Some(dropout) = self.dropout.filter(|dropout| *dropout != 0.0) {
            return Err(format!("`model.dropout` is {dropout}: ids would be random"));
        }
        let affixes = [
            ("continuing_subword_prefix", &self.continuing_subword_prefix),
            ("end_of_word_suffix", &self.end_of_word_suffix),
        ];
        for (name, affix) in affixes {
            if let Some(affix) = affix.as_ref().filter(|affix| !affix.is_empty()) {
                return Err(format!("`model.{name}` is `{affix}`, expected none"));
            }
        }
        match self.ignore_merges {
            Some(true) => Err("`model.ignore_merges` is true, expected false".into()),
            _ => Ok(()),
        }
    }
}

impl Component {
    fn refuse(&self, at: &str, expected: &str) -> String {
        format!("`{at}` is `{}`, expected {expected}", self.kind)
    }

    /// Returns an error if the component has a member that its kind does not have.
    fn check_members(&self, at: &str) -> Result<(), String> {
        match &self.other {
            Some(name) => Err(format!("`{at}.{name}` is not known for `{}`", self.kind)),
            None => Ok(()),
        }
    }

    /// Applies a check to each member of a sequence.
    fn each(
        &self,
        at: &str,
        check: impl Fn(&Self, &str) -> Result<(), String>,
    ) -> Result<(), String> {
        self.check_members(at)?;
        let mut parts = self.parts.iter().enumerate();
        parts.try_for_each(|(i, part)| check(part, &format!("{at}[{i}]")))
    }

    /// Returns whether the normalizer is NFC, as GPT-NeoX has, rather than nothing.
    fn normalizes(&self, at: &str) -> Result<bool, String> {
        match self.kind.as_str() {
            "NFC" => self.check_members(at).map(|()| true),
            "Sequence" => {
                self.each(at, |part, at| part.normalizes(at).map(|_| ()))?;
                // NFC of NFC is NFC.
                Ok(!self.parts.is_empty() && self.parts.iter().any(Self::has_nfc))
            }
            _ => Err(self.refuse(at, "none, or `NFC`")),
        }
    }

    fn has_nfc(&self) -> bool {
        self.kind == "NFC" || self.parts.iter().any(Self::has_nfc)
    }

    /// Checks that a pre-tokenizer is GPT-2's.
    fn cuts_as_gpt2(&self, at: &str) -> Result<(), String> {
        match self.kind.as_str() {
            "ByteLevel" => {
                self.check_members(at)?;
                let is = |name: &str, default| *self.switches.get(name).unwrap_or(&default);
                if is("add_prefix_space", true) {
                    return Err(format!(
                        "`{at}.add_prefix_space` is true: a space would be put before every text"
                    ));
                }
                if !is("use_regex", true) {
                    return Err(format!(
                        "`{at}.use_regex` is false: texts would not be split into words"
                    ));
                }
                Ok(())
            }
            // A second byte-level step would encode the letters that stand for bytes.
            "Sequence" if self.parts.len() == 1 => self.each(at, Self::cuts_as_gpt2),
            _ => Err(self.refuse(at, "`ByteLevel`")),
        }
    }

    /// Checks that a post-processor only adds special tokens, which are not used.
    fn keeps_ids(&self, at: &str) -> Result<(), String> {
        match self.kind.as_str() {
            "ByteLevel" => self.check_members(at),
            "TemplateProcessing" if self.sequences == 1 => self.check_members(at),
            "TemplateProcessing" => {
                Err(format!("`{at}.single` has the text {} times, expected once", self.sequences))
            }
            "Sequence" => self.each(at, Self::keeps_ids),
            _ => Err(self.refuse(at, "none, `ByteLevel` or `TemplateProcessing`")),
        }
    }

    /// Checks that a decoder is that of a byte-level vocabulary. It is not used: the text of
    /// a token follows from its name.
    fn is_byte_level(&self, at: &str) -> Result<(), String> {
        match self.kind.as_str() {
            "ByteLevel" => self.check_members(at),
            "Sequence" => self.each(at, Self::is_byte_level),
            _ => Err(self.refuse(at, "none, or `ByteLevel`")),
        }
    }
}

impl<'de> Deserialize<'de> for Component {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Component;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a component with its `type`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Component, A::Error> {
                let (mut component, mut seen) = (Component::default(), HashSet::new());
                while let Some(name) = map.next_key::<String>()? {
                    component.member(&name, &mut map)?;
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("duplicate field `{name}`")));
                    }
                }
                match component.kind.as_str() {
                    "" => Err(A::Error::missing_field("type")),
                    _ => Ok(component),
                }
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl Component {
    /// Reads the value of a member.
    fn member<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "type" => self.kind = map.next_value()?,
            "add_prefix_space" | "trim_offsets" | "use_regex" => {
                self.switches.insert(name.to_string(), map.next_value()?);
            }
            "normalizers" | "pretokenizers" | "processors" | "decoders" => {
                self.parts = map.next_value()?;
            }
            "single" => {
                let template: Vec<HashMap<String, IgnoredAny>> = map.next_value()?;
                self.sequences = template.iter().filter(|p| p.contains_key("Sequence")).count();
            }
            "pair" | "special_tokens" => {
                map.next_value::<IgnoredAny>()?;
            }
            _ => {
                map.next_value::<IgnoredAny>()?;
                self.other.get_or_insert_with(|| name.to_string());
            }
        }
        Ok(())
    }
}

/// Reads names of tokens with their ids.
fn vocabulary<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<HashMap<String, u32>, D::Error> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = HashMap<String, u32>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("an object of tokens and their ids")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = HashMap::new();
            while let Some((name, id)) = map.next_entry::<String, u32>()? {
                if all.len() == MAX_TOKENS {
                    return Err(A::Error::custom(format!("more than {MAX_TOKENS} tokens")));
                }
                if all.insert(name.clone(), id).is_some() {
                    return Err(A::Error::custom(format!("the token `{name}` occurs twice")));
                }
            }
            Ok(all)
        }
    }
    deserializer.deserialize_map(Names)
}

/// Reads `vocab.json`.
pub(super) fn parse_vocabulary(text: &str) -> Result<HashMap<String, u32>, String> {
    let json = &mut serde_json::Deserializer::from_str(text);
    let all = vocabulary(&mut *json).map_err(|e| e.to_string())?;
    json.end().map_err(|e| e.to_string())?;
    Ok(all)
}

/// Splits a merge at its only space.
pub(super) fn split_merge(text: &str) -> Option<(String, String)> {
    let (first, second) = text.split_once(' ')?;
    let whole = !first.is_empty() && !second.is_empty() && !second.contains(' ');
    whole.then(|| (first.to_string(), second.to_string()))
}

/// Reads merges, each `"a b"` or, since version 0.20 of the library, `["a", "b"]`.
fn merges<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    struct Merges;
    impl<'de> Visitor<'de> for Merges {
        type Value = Vec<(String, String)>;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("a list of merges")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(Merge(first, second)) = list.next_element()? {
                if all.len() == MAX_MERGES {
                    return Err(A::Error::custom(format!("more than {MAX_MERGES} merges")));
                }
                all.push((first, second));
            }
            Ok(all)
        }
    }
    deserializer.deserialize_seq(Merges)
}

struct Merge(String, String);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("two tokens, as `\"a b\"` or `[\"a\", \"b\"]`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Merge, E> {
                let split = split_merge(text).map(|(first, second)| Merge(first, second));
                split.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Merge, A::Error> {
                let pair = (list.next_element()?, list.next_element()?);
                match (pair, list.next_element::<IgnoredAny>()?) {
                    ((Some(first), Some(second)), None) => Ok(Merge(first, second)),
                    _ => Err(A::Error::custom("a merge has two tokens")),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}
