//! The models of a spec, and what is compared of them.

use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_yaml::{Mapping, Value};

/// A reference model and the models it is compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// Name of the model whose neurons are judged; one of `family`.
    pub reference: String,
    /// Further models whose neurons are judged in the same run, each against all others; `all` for all
    /// others. Each gets its own tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "names_or_all")]
    pub also_reference: Vec<String>,
    /// What is compared: MLP neurons, or other units of the models.
    #[serde(default, skip_serializing_if = "Units::are_activations")]
    pub units: Units,
    /// The format that activations are rounded to when they are read: `f16` as in the authors' code.
    #[serde(default, skip_serializing_if = "ActivationFormat::is_exact")]
    pub activations: ActivationFormat,
    /// Whether two models, or a model at two steps of `kind: dynamics`, may have the same weights, so
    /// that a model is compared with itself. Otherwise it is an error.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub same_weights: bool,
    /// The first layers, which alone are studied: `[0, 1]` for the first two of every model. Forward
    /// passes stop after the last of them. All layers when absent. Only for `kind: universality`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<usize>>,
    /// Folder of the tokenizer of recorded activations, whose files hold `tokens`, their ids: with
    /// both, units get cards. Relative to the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// All models, including the reference; at least two.
    pub family: Vec<Model>,
}

/// The units that are compared. Those other than MLP neurons have no weights of their own, so that the
/// columns about weights are empty; moments describe the values themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Units {
    /// Activations of MLP neurons, after the activation function (the paper's).
    #[default]
    MlpPost,
    /// Pre-activations of MLP neurons.
    MlpPre,
    /// The norm of what each attention head adds to the residual stream.
    HeadOutputNorm,
    /// The attention that each head gives the beginning-of-sequence token.
    AttentionToBos,
    /// The dimensions of the residual stream after each block.
    Residual,
}

impl Units {
    /// Returns whether the units are activations of MLP neurons.
    pub fn are_activations(&self) -> bool {
        *self == Self::MlpPost
    }

    /// Returns what the units are called, in the plural.
    pub fn noun(self) -> &'static str {
        match self {
            Self::MlpPost | Self::MlpPre => "neurons",
            Self::HeadOutputNorm | Self::AttentionToBos => "heads",
            Self::Residual => "dimensions",
        }
    }

    /// Returns whether the units are MLP neurons, which have weights.
    pub fn are_neurons(self) -> bool {
        matches!(self, Self::MlpPost | Self::MlpPre)
    }
}

/// The format of activations that enter sums. The forward pass is in f32 in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActivationFormat {
    /// As the forward pass computes them.
    #[default]
    F32,
    /// Rounded to 11 significant bits. A neuron with an activation above 65,504 is not finite.
    F16,
}

impl ActivationFormat {
    /// Returns whether activations are not rounded.
    pub fn is_exact(&self) -> bool {
        *self == Self::F32
    }
}

fn names_or_all(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "oneOf": [{ "type": "array", "items": { "type": "string" } }, { "const": "all" }],
    })
}

/// Replaces `also_reference: all` by the names of all models but the reference.
pub fn name_all_references(spec: &mut Mapping) {
    let Some(Value::Mapping(models)) = spec.get_mut("models") else { return };
    if models.get("also_reference") != Some(&Value::from("all")) {
        return;
    }
    let reference = models.get("reference").cloned();
    let family = models.get("family").and_then(Value::as_sequence).into_iter().flatten();
    let names = family.filter_map(|model| model.get("name").cloned());
    let others: Vec<Value> = names.filter(|name| Some(name) != reference.as_ref()).collect();
    models.insert("also_reference".into(), Value::Sequence(others));
}

/// One model on disk, in Hugging Face form, or the activations of one that were recorded elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Short name used in tables, unique in the family.
    pub name: String,
    /// Folder with `config.json`, weights and tokenizer, relative to the spec. In a spec without
    /// `corpus`, a file of recorded activations (`.safetensors`, `.npy`, `.parquet`) or a
    /// folder of such files.
    pub path: PathBuf,
    /// Seed of random initial weights that replace those of the folder: the same network untrained,
    /// which shows what architecture and tokens alone give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untrained: Option<u64>,
    /// CSV file of names for neurons, or other units: columns `layer`, `neuron` and `name`. They are
    /// shown beside `L0.N12`. Relative to the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Mapping {
        let mut spec = serde_yaml::from_str(text).expect("YAML");
        name_all_references(&mut spec);
        spec
    }

    #[test]
    fn all_are_the_others_of_the_family() {
        let family = "family: [{ name: a }, { name: b }, { name: c }]";
        let spec = named(&format!("models: {{ reference: b, also_reference: all, {family} }}"));
        assert_eq!(
            spec["models"]["also_reference"],
            serde_yaml::from_str::<Value>("[a, c]").expect("YAML")
        );
        for other in ["[all]", "[a]", "any"] {
            let text = format!("models: {{ reference: b, also_reference: {other}, {family} }}");
            let plain: Mapping = serde_yaml::from_str(&text).expect("YAML");
            assert_eq!(named(&text), plain, "{other}");
        }
    }
}
