//! Reads the fields that a corpus asks for from one line of JSON, and skips all others.
//!
//! Skipped fields may contain what programs write although JSON forbids it: lone surrogates,
//! `NaN` and infinities. In a field that is read, each of these is an error.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use crate::spec::Fields;

/// Key of the object that replaces a bare `NaN` or infinity.
const NOT_FINITE: &str = "\0not finite";

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue {
    /// Text.
    Text(String),
    /// A number or a boolean, as written.
    Scalar(String),
    /// Null.
    Null,
    /// A list, an object or an unreadable number, named in words.
    Other(&'static str),
}

/// The fields to read. A dot in a name leads into an object.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Names of the fields for text, id and label.
    paths: [Option<&'a str>; 3],
    /// Whether other fields are refused.
    closed: bool,
}

/// Values of text, id and label; None for a field that the line lacks.
pub type FieldValues = [Option<FieldValue>; 3];

impl<'a> Wanted<'a> {
    /// Returns the fields that a spec names, or those of the program's own layout.
    pub fn new(fields: Option<&'a Fields>) -> Self {
        match fields {
            None => Self { paths: [Some("text"), Some("id"), Some("domain")], closed: true },
            Some(fields) => Self {
                paths: [Some(&fields.text), fields.id.as_deref(), fields.label.as_deref()],
                closed: false,
            },
        }
    }

    /// Returns the names of the fields for text, id and label.
    pub fn paths(&self) -> [Option<&'a str>; 3] {
        self.paths
    }

    /// Reads the fields of a line.
    ///
    /// # Errors
    /// Returns the problem if the line is not one JSON object, repeats a key that leads to one
    /// of the fields, or has text in one of them that is not valid Unicode.
    pub fn parse(&self, line: &str) -> Result<FieldValues, String> {
        match self.parse_strict(line) {
            Err(problem) => match finite(line) {
                Some(line) => self.parse_strict(&line).map_err(|e| plain(&e)),
                None => Err(plain(&problem)),
            },
            Ok(found) => Ok(found),
        }
    }

    fn parse_strict(&self, line: &str) -> serde_json::Result<FieldValues> {
        let mut found = [None, None, None];
        let mut json = serde_json::Deserializer::from_str(line);
        let (names, paths) = (self.paths, self.paths);
        ObjectLevel { names, paths, closed: self.closed, top: true, found: &mut found }
            .deserialize(&mut json)?;
        json.end()?;
        Ok(found)
    }
}

/// Returns the message of an error with the column only; the line is in the error's subject.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or_default();
    match error.column() {
        0 => message.to_owned(),
        column => format!("{message} at column {column}"),
    }
}

/// An object on the path to some of the fields.
struct ObjectLevel<'a, 'f> {
    /// The complete paths, for messages.
    names: [Option<&'a str>; 3],
    /// The rest of each path from this object on.
    paths: [Option<&'a str>; 3],
    closed: bool,
    top: bool,
    found: &'f mut FieldValues,
}

impl<'de> DeserializeSeed<'de> for ObjectLevel<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        if self.top { json.deserialize_map(self) } else { json.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for ObjectLevel<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object per line")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut entered = [false; 3];
        while let Some(key) = map.next_key_seed(Key { paths: self.paths, closed: self.closed })? {
            match key {
                KeyAction::Elsewhere => {
                    map.next_value::<IgnoredAny>()?;
                }
                KeyAction::Unknown(name) => {
                    let expected = "expected `id`, `domain` and `text`";
                    return Err(A::Error::custom(format!("unknown field `{name}`, {expected}")));
                }
                KeyAction::Here(here) => {
                    let name = name_of(&self.names, here);
                    if (0..3).any(|i| here[i] && (self.found[i].is_some() || entered[i])) {
                        return Err(repeated(name));
                    }
                    let value = map.next_value_seed(Leaf);
                    let value = value.map_err(|e| A::Error::custom(format!("`{name}`: {e}")))?;
                    for i in (0..3).filter(|&i| here[i]) {
                        self.found[i] = Some(value.clone());
                    }
                }
                KeyAction::Inwards(inwards) => {
                    if (0..3).any(|i| inwards[i] && (self.found[i].is_some() || entered[i])) {
                        return Err(repeated(name_of(&self.names, inwards)));
                    }
                    let rest = |i: usize| {
                        let path = self.paths[i].filter(|_| inwards[i])?;
                        path.split_once('.').map(|(_, rest)| rest)
                    };
                    let paths = [rest(0), rest(1), rest(2)];
                    (0..3).for_each(|i| entered[i] |= inwards[i]);
                    let (names, found) = (self.names, &mut *self.found);
                    map.next_value_seed(ObjectLevel {
                        names,
                        paths,
                        closed: false,
                        top: false,
                        found,
                    })?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

fn name_of<'a>(paths: &[Option<&'a str>; 3], which: [bool; 3]) -> &'a str {
    (0..3).find(|&i| which[i]).and_then(|i| paths[i]).unwrap_or_default()
}

fn repeated<E: serde::de::Error>(name: &str) -> E {
    E::custom(format!("`{name}` is given twice"))
}

/// The target of a key.
enum KeyAction {
    /// None of the fields.
    Elsewhere,
    /// None of the fields, in a layout that refuses other fields.
    Unknown(String),
    /// These fields.
    Here([bool; 3]),
    /// An object that may contain these fields.
    Inwards([bool; 3]),
}

struct Key<'a> {
    paths: [Option<&'a str>; 3],
    closed: bool,
}

impl Key<'_> {
    fn step(&self, key: &[u8]) -> KeyAction {
        let which = |leads: &dyn Fn(&str) -> bool| self.paths.map(|path| path.is_some_and(leads));
        let here = which(&|path| path.as_bytes() == key);
        if here.contains(&true) {
            return KeyAction::Here(here);
        }
        let inwards =
            which(&|path| path.split_once('.').is_some_and(|(first, _)| first.as_bytes() == key));
        match inwards.contains(&true) {
            true => KeyAction::Inwards(inwards),
            false if self.closed => KeyAction::Unknown(String::from_utf8_lossy(key).into_owned()),
            false => KeyAction::Elsewhere,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = KeyAction;

    // Read as bytes, which may contain lone surrogates.
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<KeyAction, D::Error> {
        json.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = KeyAction;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E>(self, key: &str) -> Result<KeyAction, E> {
        Ok(self.step(key.as_bytes()))
    }
    fn visit_bytes<E>(self, key: &[u8]) -> Result<KeyAction, E> {
        Ok(self.step(key))
    }
}

/// The value of a field that is read.
struct Leaf;

impl<'de> DeserializeSeed<'de> for Leaf {
    type Value = FieldValue;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<FieldValue, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Leaf {
    type Value = FieldValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }
    fn visit_str<E>(self, text: &str) -> Result<FieldValue, E> {
        Ok(FieldValue::Text(text.to_owned()))
    }
    fn visit_string<E>(self, text: String) -> Result<FieldValue, E> {
        Ok(FieldValue::Text(text))
    }
    fn visit_bool<E>(self, value: bool) -> Result<FieldValue, E> {
        Ok(FieldValue::Scalar(value.to_string()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<FieldValue, E> {
        Ok(FieldValue::Scalar(value.to_string()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<FieldValue, E> {
        Ok(FieldValue::Scalar(value.to_string()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<FieldValue, E> {
        // Larger numbers may have been rounded, so that two ids become equal.
        let exact = value.abs() < 9_007_199_254_740_992.0;
        Ok(if exact {
            FieldValue::Scalar(format!("{value:?}"))
        } else {
            FieldValue::Other("a number of too many digits")
        })
    }
    fn visit_unit<E>(self) -> Result<FieldValue, E> {
        Ok(FieldValue::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<FieldValue, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(FieldValue::Other("an array"))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FieldValue, A::Error> {
        let mut found = FieldValue::Other("an object");
        while let Some(key) =
            map.next_key_seed(Key { paths: [Some(NOT_FINITE), None, None], closed: false })?
        {
            if matches!(key, KeyAction::Here(_)) {
                found = FieldValue::Other("NaN or an infinity");
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(found)
    }
}

/// Replaces each bare `NaN` or infinity of a line by an object. Returns None if there is none.
fn finite(line: &str) -> Option<String> {
    let (mut out, mut rest, mut replaced) = (String::new(), line, false);
    while let Some(at) = rest.find(['"', 'N', 'I', '-']) {
        let (before, here) = rest.split_at(at);
        out.push_str(before);
        let word = ["NaN", "Infinity", "-Infinity"].into_iter().find(|word| here.starts_with(word));
        let length = match word {
            Some(word) => {
                out.push_str("{\"\\u0000not finite\":0}");
                replaced = true;
                word.len()
            }
            None => {
                let length = if here.starts_with('"') { string_length(here) } else { 1 };
                out.push_str(&here[..length]);
                length
            }
        };
        rest = &here[length..];
    }
    out.push_str(rest);
    replaced.then_some(out)
}

/// Returns the length of the JSON string that a text begins with, quotes included, in bytes.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        Fields { text: "text".into(), label: Some("meta.set".into()), id: Some("n".into()) }
    }

    fn parse(line: &str) -> Result<FieldValues, String> {
        Wanted::new(Some(&fields())).parse(line)
    }

    fn text(text: &str) -> Option<FieldValue> {
        Some(FieldValue::Text(text.into()))
    }

    #[test]
    fn fields_that_are_not_read_cost_nothing() {
        for other in [
            "NaN",
            "-Infinity",
            "[Infinity, {\"y\": NaN}]",
            r#""\ud800""#,
            r#"{"\udc00": 1}"#,
            "1e999",
            "123456789012345678901234567890",
            "\"NaN\"",
            "null",
            r#""a\"NaN\\""#,
        ] {
            for line in [
                format!(
                    r#"{{"x": {other}, "text": "NaN \" -Infinity", "n": 1, "meta": {{"set": "s"}}}}"#
                ),
                format!(
                    r#"{{"text": "NaN \" -Infinity", "n": 1, "meta": {{"x": {other}, "set": "s"}}, "x": 1}}"#
                ),
            ] {
                let found = parse(&line).unwrap_or_else(|e| panic!("{line}: {e}"));
                let expected =
                    [text("NaN \" -Infinity"), Some(FieldValue::Scalar("1".into())), text("s")];
                assert_eq!(found, expected, "{line}");
            }
        }
        assert!(parse(r#"{"\ud800": 1, "text": "t"}"#).is_ok(), "a key that is not read");
    }

    #[test]
    fn fields_that_are_read_are_refused_by_name() {
        for (line, problem) in [
            (r#"{"text": "\ud800"}"#, "`text`: "),
            (r#"{"text": "a", "text": "b"}"#, "`text` is given twice"),
            (r#"{"meta": {"set": "a"}, "meta": {}}"#, "`meta.set` is given twice"),
            (r#"{"meta": {"set": "a", "set": "b"}}"#, "`meta.set` is given twice"),
            (r#"{"meta.set": "a", "meta": {"set": "b"}}"#, "`meta.set` is given twice"),
            (r#"["text"]"#, "one JSON object per line"),
            (r#"{"text": "a"} {"text": "b"}"#, "trailing"),
            (r#"{"text": "a""#, "EOF"),
            (r#"{"text": nan}"#, "expected"),
        ] {
            let found = parse(line).expect_err(line);
            assert!(found.contains(problem), "{line}: {found}");
            assert!(!found.contains("line 1"), "{found}");
        }
        let other = |line: &str| parse(line).expect(line)[0].clone();
        for value in ["NaN", "Infinity", "-Infinity"] {
            let line = format!("{{\"text\": {value}}}");
            assert_eq!(other(&line), Some(FieldValue::Other("NaN or an infinity")));
        }
        assert_eq!(other(r#"{"text": {"a": 1}}"#), Some(FieldValue::Other("an object")));
        assert_eq!(other(r#"{"text": ["a"]}"#), Some(FieldValue::Other("an array")));
        assert_eq!(other(r#"{"text": null}"#), Some(FieldValue::Null));
        assert_eq!(other(r#"{"x": 1}"#), None);
    }

    #[test]
    fn numbers_keep_the_digits_that_tell_them_apart() {
        for (value, expected) in [
            ("7", FieldValue::Scalar("7".into())),
            ("-7", FieldValue::Scalar("-7".into())),
            ("18446744073709551615", FieldValue::Scalar("18446744073709551615".into())),
            ("1.0", FieldValue::Scalar("1.0".into())),
            ("true", FieldValue::Scalar("true".into())),
            ("18446744073709551616", FieldValue::Other("a number of too many digits")),
        ] {
            assert_eq!(parse(&format!("{{\"n\": {value}}}")).expect(value)[1], Some(expected));
        }
    }

    #[test]
    fn a_name_with_a_dot_is_a_key_or_a_way_inwards() {
        assert_eq!(parse(r#"{"meta.set": "flat"}"#).expect("read")[2], text("flat"));
        assert_eq!(parse(r#"{"meta": "text"}"#).expect("read")[2], None);
        assert_eq!(parse(r#"{"meta": [1, null]}"#).expect("read")[2], None);
    }
}
