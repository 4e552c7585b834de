//! `config.json` of a GPT-2, as Transformers writes it.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::fields::{Problem, refuse_unknown, require, typed, unify};
use super::shape::{Activation, Architecture, Config};

/// Fields of GPT-2 configs that do not change the forward pass: dropout, heads for other
/// tasks, the size of an old causal mask, and special tokens of GPT-1.
const NEUTRAL: &[&str] = &[
    "attn_pdrop",
    "embd_pdrop",
    "n_ctx",
    "n_special",
    "predict_special_tokens",
    "resid_pdrop",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
];

/// Synonyms that Transformers accepts for fields of GPT-2.
const SYNONYMS: &[(&str, &str)] = &[
    ("n_embd", "hidden_size"),
    ("n_head", "num_attention_heads"),
    ("n_layer", "num_hidden_layers"),
    ("n_positions", "max_position_embeddings"),
];

/// Id of `<|endoftext|>`, the default token id in Transformers' config class.
const END_OF_TEXT: u32 = 50_256;

#[derive(Deserialize)]
struct Gpt2ConfigFile {
    n_layer: usize,
    n_head: usize,
    n_embd: usize,
    #[serde(default)]
    n_inner: Option<usize>,
    vocab_size: usize,
    n_positions: usize,
    #[serde(default = "epsilon")]
    layer_norm_epsilon: f32,
    #[serde(default = "activation")]
    activation_function: String,
    #[serde(default = "yes")]
    scale_attn_weights: bool,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
    // Requests f32 attention. This forward pass always uses f32.
    #[serde(default, rename = "reorder_and_upcast_attn")]
    _reorder_and_upcast_attn: bool,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
    /// Transformers before 2.8 does not write this field.
    #[serde(default)]
    bos_token_id: Option<u32>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

fn epsilon() -> f32 {
    1e-5
}

fn activation() -> String {
    "gelu_new".into()
}

fn yes() -> bool {
    true
}

/// Returns whether fields without `model_type`, which Transformers writes since 2.4, are those of a
/// GPT-2. GPT-1 and CTRL have the same fields, and each has a further field that is refused as
/// unknown.
pub fn is_likely(fields: &Map<String, Value>) -> bool {
    let classes = fields.get("architectures").and_then(Value::as_array);
    let class = |c: &Value| c.as_str().is_some_and(|c| c.starts_with("GPT2"));
    ["n_layer", "n_head", "n_embd"].iter().all(|f| fields.contains_key(*f))
        && classes.is_none_or(|classes| classes.iter().all(class))
}

/// Reads the fields of a GPT-2.
pub fn read(mut fields: Map<String, Value>) -> Result<Config, Problem> {
    SYNONYMS.iter().try_for_each(|(name, synonym)| unify(&mut fields, name, synonym))?;
    let file: Gpt2ConfigFile = typed(fields)?;
    refuse_unknown(&file.other, NEUTRAL)?;
    require(&[
        ("scale_attn_weights", file.scale_attn_weights, "true"),
        ("tie_word_embeddings", file.tie_word_embeddings, "true"),
    ])?;
    Ok(Config {
        architecture: Architecture::Gpt2,
        n_layers: file.n_layer,
        n_heads: file.n_head,
        d_model: file.n_embd,
        d_mlp: file.n_inner.unwrap_or(file.n_embd.saturating_mul(4)),
        d_vocab: file.vocab_size,
        n_ctx: file.n_positions,
        layer_norm_eps: file.layer_norm_epsilon,
        activation: Activation::named(&file.activation_function, "activation_function")?,
        scale_attn_by_inverse_layer_idx: file.scale_attn_by_inverse_layer_idx,
        rotary: None,
        parallel_residual: false,
        bos_token_id: file.bos_token_id.unwrap_or(END_OF_TEXT),
    })
}
