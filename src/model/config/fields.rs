//! The fields of a `config.json` as a set: each once, and synonyms that agree.

use std::fmt;

use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::known;

/// The remedy for a file that is not a config.
pub const NOT_A_CONFIG: &str = "give the config.json of the model as Transformers writes it";

/// Problem and remedy.
pub type Problem = (String, &'static str);

/// The fields of a JSON object, without repeated names.
pub struct ConfigFields(pub Map<String, Value>);

impl<'de> Deserialize<'de> for ConfigFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Once)
    }
}

/// Reads an object and refuses repeated fields.
struct Once;

impl<'de> Visitor<'de> for Once {
    type Value = ConfigFields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<ConfigFields, A::Error> {
        let mut fields = Map::new();
        while let Some((name, value)) = entries.next_entry::<String, Value>()? {
            if fields.contains_key(&name) {
                return Err(A::Error::custom(format_args!("field `{name}` is there twice")));
            }
            fields.insert(name, value);
        }
        Ok(ConfigFields(fields))
    }
}

/// Moves the value of `synonym` to `name`.
///
/// # Errors
/// Returns a problem that names both fields if both are present with different values.
pub fn unify(fields: &mut Map<String, Value>, name: &str, synonym: &str) -> Result<(), Problem> {
    match fields.remove(synonym) {
        None | Some(Value::Null) => Ok(()),
        Some(value) => set(fields, name, value, synonym),
    }
}

/// Sets a field to a value that comes from `from`.
///
/// # Errors
/// Returns a problem that names both if the field is present with another value.
pub fn set(
    fields: &mut Map<String, Value>,
    name: &str,
    value: Value,
    from: &str,
) -> Result<(), Problem> {
    match fields.get(name) {
        None | Some(Value::Null) => {
            fields.insert(name.to_owned(), value);
            Ok(())
        }
        Some(other) if same(other, &value) => Ok(()),
        Some(other) => Err((
            format!("field `{name}` is {other}, and `{from}` is {value}"),
            "keep the one that the model was trained with, and remove the other",
        )),
    }
}

/// Returns whether two values are equal. 10000 and 10000.0 count as equal.
fn same(a: &Value, b: &Value) -> bool {
    a == b || a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| a == b)
}

/// Returns the problem for a field with an unsupported value.
pub fn unsupported(field: &str, expected: &str) -> Problem {
    let problem = format!("field `{field}` is unsupported, expected {expected}");
    (problem, "this program runs GPT-2 and GPT-NeoX; convert or choose another model")
}

/// Refuses the first option with a value that this forward pass does not support.
pub fn require(options: &[(&str, bool, &str)]) -> Result<(), Problem> {
    match options.iter().find(|(_, as_expected, _)| !as_expected) {
        Some((field, _, expected)) => Err(unsupported(field, expected)),
        None => Ok(()),
    }
}

/// Returns the problem for an unknown field.
pub fn unknown(field: &str) -> Problem {
    (
        format!("unknown field `{field}`, which may change the numbers"),
        "remove the field if it does not alter inference",
    )
}

/// Refuses fields that may change the numbers: unknown fields, and options that are on and that this
/// forward pass does not support.
pub fn refuse_unknown(other: &Map<String, Value>, neutral: &[&str]) -> Result<(), Problem> {
    for (field, value) in other {
        if known::is_on(field, value) {
            return Err(unsupported(field, "false, null or empty"));
        }
        let known = known::is_neutral(field)
            || known::is_off(field, value)
            || neutral.contains(&field.as_str());
        if !known {
            return Err(unknown(field));
        }
    }
    Ok(())
}

/// Reads typed fields.
pub fn typed<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Problem> {
    serde_json::from_value(Value::Object(fields)).map_err(|e| (e.to_string(), NOT_A_CONFIG))
}
