//! `config.json` of a GPT-2 in Hugging Face form.
//!
//! Read, never assumed: a field that would change numbers and that this forward
//! pass does not know is refused, not ignored.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};

/// Fields that say nothing about inference.
const IRRELEVANT: &[&str] = &[
    "_name_or_path",
    "architectures",
    "attn_pdrop",
    "chunk_size_feed_forward",
    "dtype",
    "embd_pdrop",
    "gradient_checkpointing",
    "id2label",
    "initializer_range",
    "label2id",
    "n_ctx",
    "pad_token_id",
    "resid_pdrop",
    "return_dict",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    "torch_dtype",
    "transformers_version",
    "use_cache",
];

/// Shape and options of a GPT-2.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Config {
    model_type: String,
    /// Number of blocks.
    #[serde(rename = "n_layer")]
    pub n_layers: usize,
    /// Attention heads per block.
    #[serde(rename = "n_head")]
    pub n_heads: usize,
    /// Width of the residual stream.
    #[serde(rename = "n_embd")]
    pub d_model: usize,
    #[serde(default)]
    n_inner: Option<usize>,
    /// Size of the vocabulary.
    #[serde(rename = "vocab_size")]
    pub d_vocab: usize,
    /// Longest row, in tokens.
    #[serde(rename = "n_positions")]
    pub n_ctx: usize,
    /// Added to the variance by every LayerNorm.
    #[serde(rename = "layer_norm_epsilon", default = "default_epsilon")]
    pub layer_norm_eps: f32,
    #[serde(default = "default_activation")]
    activation_function: String,
    #[serde(default = "yes")]
    scale_attn_weights: bool,
    /// Divide attention scores of layer l by l + 1 as well (true for the Stanford models).
    #[serde(default)]
    pub scale_attn_by_inverse_layer_idx: bool,
    // Asks for f32 attention; this forward pass is in f32 throughout.
    #[serde(default, rename = "reorder_and_upcast_attn")]
    _reorder_and_upcast_attn: bool,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
    #[serde(default)]
    add_cross_attention: bool,
    /// Id of the token that begins every row.
    pub bos_token_id: u32,
    #[serde(default, rename = "eos_token_id")]
    _eos_token_id: Option<u32>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

fn default_epsilon() -> f32 {
    1e-5
}

fn default_activation() -> String {
    "gelu_new".into()
}

fn yes() -> bool {
    true
}

impl Config {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// If the file is missing or malformed, a shape is impossible, or a field
    /// asks for something that this forward pass does not compute.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::io(Kind::Model, path, "read the model's config", &e))?;
        Self::parse(&text)
            .map_err(|(problem, remedy)| Error::new(Kind::Model, path.display(), problem, remedy))
    }

    fn parse(text: &str) -> Result<Self, (String, &'static str)> {
        let config: Self = serde_json::from_str(text).map_err(|e| {
            (e.to_string(), "give the config.json of a GPT-2 as Transformers writes it")
        })?;
        config.check_options()?;
        config.check_shape()?;
        Ok(config)
    }

    fn check_options(&self) -> Result<(), (String, &'static str)> {
        let supported = [
            ("model_type", self.model_type == "gpt2", "\"gpt2\""),
            ("activation_function", self.activation_function == "gelu_new", "\"gelu_new\""),
            ("scale_attn_weights", self.scale_attn_weights, "true"),
            ("tie_word_embeddings", self.tie_word_embeddings, "true"),
            ("add_cross_attention", !self.add_cross_attention, "false"),
        ];
        if let Some((field, _, expected)) = supported.iter().find(|(_, ok, _)| !ok) {
            let problem = format!("field `{field}` is unsupported, expected {expected}");
            return Err((
                problem,
                "this program runs GPT-2 models; convert or choose another model",
            ));
        }
        match self.other.keys().find(|k| !IRRELEVANT.contains(&k.as_str())) {
            Some(key) => Err((
                format!("unknown field `{key}`, which may change the numbers"),
                "remove the field if it does not alter inference",
            )),
            None => Ok(()),
        }
    }

    fn check_shape(&self) -> Result<(), (String, &'static str)> {
        let sizes = [
            ("n_layer", self.n_layers, 1 << 10),
            ("n_head", self.n_heads, 1 << 10),
            ("n_embd", self.d_model, 1 << 16),
            ("n_inner", self.d_mlp(), 1 << 18),
            ("vocab_size", self.d_vocab, 1 << 22),
            ("n_positions", self.n_ctx, 1 << 20),
        ];
        const REMEDY: &str = "check that config.json belongs to these weights";
        if let Some((field, size, max)) =
            sizes.iter().find(|(_, size, max)| *size == 0 || size > max)
        {
            return Err((format!("field `{field}` is {size}, expected 1 to {max}"), REMEDY));
        }
        if !self.d_model.is_multiple_of(self.n_heads) {
            let problem =
                format!("`n_embd` {} is no multiple of `n_head` {}", self.d_model, self.n_heads);
            return Err((problem, REMEDY));
        }
        if self.bos_token_id as usize >= self.d_vocab {
            let problem = format!(
                "`bos_token_id` {} lies outside the vocabulary of {}",
                self.bos_token_id, self.d_vocab
            );
            return Err((problem, REMEDY));
        }
        Ok(())
    }

    /// Neurons per layer; four times d_model unless the config says otherwise.
    pub fn d_mlp(&self) -> usize {
        self.n_inner.unwrap_or(4 * self.d_model)
    }

    /// Width of one attention head.
    pub fn d_head(&self) -> usize {
        self.d_model / self.n_heads
    }

    /// Weights of all blocks, biases aside: two operations each per token.
    pub fn block_weights(&self) -> usize {
        self.n_layers * self.d_model * (4 * self.d_model + 2 * self.d_mlp())
    }

    /// What attention scores of a layer are multiplied by: `1/√d_head`, and
    /// `1/(layer + 1)` where the config asks for it.
    pub fn attention_scale(&self, layer: usize) -> f32 {
        let depth = if self.scale_attn_by_inverse_layer_idx { layer + 1 } else { 1 };
        1.0 / ((self.d_head() as f32).sqrt() * depth as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(extra: &str) -> Result<Config, (String, &'static str)> {
        Config::parse(&format!(
            r#"{{"model_type":"gpt2","n_layer":2,"n_head":2,"n_embd":8,"vocab_size":16,
                "n_positions":4,"bos_token_id":15{extra}}}"#
        ))
    }

    #[test]
    fn defaults_are_those_of_gpt2() {
        let config = with("").expect("minimal config");
        assert_eq!((config.d_mlp(), config.d_head()), (32, 4));
        assert_eq!(config.attention_scale(1), 0.5);
    }

    #[test]
    fn inverse_layer_scaling_divides_by_layer_plus_one() {
        let config = with(r#","scale_attn_by_inverse_layer_idx":true"#).expect("config");
        assert_eq!((config.attention_scale(0), config.attention_scale(1)), (0.5, 0.25));
    }

    #[test]
    fn fields_that_would_change_numbers_are_refused() {
        for (extra, named) in [
            (r#","activation_function":"relu""#, "activation_function"),
            (r#","rope_theta":10000"#, "rope_theta"),
            (r#","tie_word_embeddings":false"#, "tie_word_embeddings"),
            (r#","n_inner":0"#, "n_inner"),
        ] {
            let (problem, _) = with(extra).expect_err(extra);
            assert!(problem.contains(named), "{problem}");
        }
    }
}
