//! What the loader of a spec must know about a kind of experiment. The kinds themselves are
//! registered in a room above this one, which hands their rules in.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_yaml::Value;

use super::finding::Finding;
use super::{Spec, ranges};

/// Whether a spec has a section with the settings of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// The kind has no settings.
    None,
    /// Every setting has a default.
    Optional,
    /// Some setting has no default.
    Required,
}

/// The rules of one kind of experiment.
#[derive(Debug, Clone, Copy)]
pub struct KindRules {
    /// What `kind:` calls it; its section has the same name.
    pub name: &'static str,
    /// The question that experiments of this kind ask, in a few words.
    pub purpose: &'static str,
    /// Whether it has a section of settings.
    pub section: Section,
    /// Whether the experiment is about whole models, so that `models.layers` cannot leave layers out.
    pub needs_whole_models: bool,
    /// Whether members of the family may be recorded activations, which have no weights.
    pub reads_recorded: bool,
    /// Keys within the section, list items included, whose values are paths.
    pub paths: &'static [&'static str],
    /// Returns the JSON Schema of the settings.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Checks the settings and fills in their defaults.
    pub complete: fn(Value) -> Result<Value, Finding>,
    /// Checks the settings against the rest of the spec.
    pub check: fn(&Spec) -> Result<(), Finding>,
    /// Returns whether the experiment reads the texts of documents, not only their tokens.
    pub keeps_texts: fn(&Spec) -> bool,
}

impl KindRules {
    /// Returns whether a spec of this kind may have a section of settings.
    pub fn has_section(&self) -> bool {
        self.section != Section::None
    }
}

/// Parses settings, fills in their defaults, and checks the ranges that their schema gives.
///
/// # Errors
/// Returns the key path within the settings, the problem and the remedy.
pub fn complete<S: Serialize + DeserializeOwned + JsonSchema>(
    settings: Value,
) -> Result<Value, Finding> {
    // An absent section, or one without any key, stands for all defaults.
    let settings = if settings.is_null() { Value::Mapping(Default::default()) } else { settings };
    let typed: S = serde_path_to_error::deserialize(settings).map_err(|e| {
        let message = super::suggest::plain(&e.inner().to_string());
        let path = e.path().to_string();
        let remedy = super::suggest::remedy(&message);
        (if path == "." { String::new() } else { path }, message, remedy)
    })?;
    let complete = serde_yaml::to_value(&typed)
        .map_err(|e| (String::new(), e.to_string(), "write it in another way".into()))?;
    ranges::check(&schemars::schema_for!(S), &complete)?;
    Ok(complete)
}
