//! `config.json` of a GPT-2, as Transformers writes it.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Activation, Architecture, Config, Problem};

/// Fields of GPT-2 configs that alter nothing at inference.
const IRRELEVANT: &[&str] = &[
    "chunk_size_feed_forward",
    "n_ctx",
    "pad_token_id",
    "return_dict",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    "attn_pdrop",
    "embd_pdrop",
    "resid_pdrop",
];

#[derive(Deserialize)]
struct File {
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
    // Asks for f32 attention; this forward pass is in f32 throughout.
    #[serde(default, rename = "reorder_and_upcast_attn")]
    _reorder_and_upcast_attn: bool,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
    #[serde(default)]
    add_cross_attention: bool,
    bos_token_id: u32,
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

/// Reads the fields of a GPT-2.
pub fn read(fields: Map<String, Value>) -> Result<Config, Problem> {
    let file: File = super::fields(fields)?;
    super::refuse_unknown(&file.other, IRRELEVANT)?;
    super::require(&[
        ("scale_attn_weights", file.scale_attn_weights, "true"),
        ("tie_word_embeddings", file.tie_word_embeddings, "true"),
        ("add_cross_attention", !file.add_cross_attention, "false"),
    ])?;
    Ok(Config {
        architecture: Architecture::Gpt2,
        n_layers: file.n_layer,
        n_heads: file.n_head,
        d_model: file.n_embd,
        d_mlp: file.n_inner.unwrap_or(4 * file.n_embd),
        d_vocab: file.vocab_size,
        n_ctx: file.n_positions,
        layer_norm_eps: file.layer_norm_epsilon,
        activation: Activation::named(&file.activation_function, "activation_function")?,
        scale_attn_by_inverse_layer_idx: file.scale_attn_by_inverse_layer_idx,
        rotary: None,
        parallel_residual: false,
        bos_token_id: file.bos_token_id,
    })
}
