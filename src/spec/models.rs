//! The models of a spec, and what is compared of them.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A reference model and the models it is compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Models {
    /// Name of the model whose neurons are judged; one of `family`.
    pub reference: String,
    /// Further models whose neurons are judged in the same run, each against all others. Each
    /// gets its own tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also_reference: Vec<String>,
    /// What is compared: MLP neurons, or other units of the models.
    #[serde(default, skip_serializing_if = "Units::are_activations")]
    pub units: Units,
    /// Whether two models, or a model at two steps of `kind: dynamics`, may have the same weights, so
    /// that a model is compared with itself. Otherwise it is an error.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub same_weights: bool,
    /// The first layers, which alone are studied: `[0, 1]` for the first two of every model. Forward
    /// passes stop after the last of them. All layers when absent. Only for `kind: universality`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<usize>>,
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
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    pub fn are_activations(&self) -> bool {
        *self == Self::MlpPost
    }

    /// Returns whether the units are MLP neurons, which have weights.
    pub fn are_neurons(self) -> bool {
        matches!(self, Self::MlpPost | Self::MlpPre)
    }
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
}
