//! `config.json` of a GPT-NeoX (Pythia), as Transformers has written it over the years.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Activation, Architecture, Config, Problem, Rotary};

/// Fields of GPT-NeoX configs that alter nothing at inference.
const IRRELEVANT: &[&str] =
    &["attention_dropout", "classifier_dropout", "hidden_dropout", "is_decoder", "pad_token_id"];

#[derive(Deserialize)]
struct File {
    num_hidden_layers: usize,
    num_attention_heads: usize,
    hidden_size: usize,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "epsilon")]
    layer_norm_eps: f32,
    hidden_act: String,
    #[serde(default)]
    rotary_pct: Option<f64>,
    #[serde(default, alias = "rope_theta")]
    rotary_emb_base: Option<f64>,
    /// Where newer versions put both.
    #[serde(default)]
    rope_parameters: Option<RopeParameters>,
    #[serde(default)]
    rope_scaling: Option<Value>,
    #[serde(default = "yes")]
    use_parallel_residual: bool,
    #[serde(default = "yes")]
    attention_bias: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
    bos_token_id: u32,
    #[serde(flatten)]
    other: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RopeParameters {
    rope_type: String,
    rope_theta: f64,
    partial_rotary_factor: f64,
}

fn epsilon() -> f32 {
    1e-5
}

fn yes() -> bool {
    true
}

/// Reads the fields of a GPT-NeoX.
pub fn read(fields: Map<String, Value>) -> Result<Config, Problem> {
    let file: File = super::fields(fields)?;
    super::refuse_unknown(&file.other, IRRELEVANT)?;
    let plain_rope = file.rope_parameters.as_ref().is_none_or(|r| r.rope_type == "default");
    super::require(&[
        ("rope_scaling", file.rope_scaling.is_none(), "null"),
        ("rope_parameters.rope_type", plain_rope, "\"default\""),
        ("attention_bias", file.attention_bias, "true"),
        ("tie_word_embeddings", !file.tie_word_embeddings, "false"),
    ])?;
    let newer = file.rope_parameters.as_ref();
    let share = newer.map(|r| r.partial_rotary_factor).or(file.rotary_pct).unwrap_or(0.25);
    let base = newer.map(|r| r.rope_theta).or(file.rotary_emb_base).unwrap_or(10_000.0);
    let d_head = file.hidden_size / file.num_attention_heads.max(1);
    Ok(Config {
        architecture: Architecture::Neox,
        n_layers: file.num_hidden_layers,
        n_heads: file.num_attention_heads,
        d_model: file.hidden_size,
        d_mlp: file.intermediate_size,
        d_vocab: file.vocab_size,
        n_ctx: file.max_position_embeddings,
        layer_norm_eps: file.layer_norm_eps,
        activation: Activation::named(&file.hidden_act, "hidden_act")?,
        scale_attn_by_inverse_layer_idx: false,
        rotary: Some(Rotary { dims: (d_head as f64 * share) as usize, base }),
        parallel_residual: file.use_parallel_residual,
        bos_token_id: file.bos_token_id,
    })
}
