//! `config.json` of a GPT-NeoX (Pythia), as Transformers has written it over the years.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::fields::{Problem, refuse_unknown, require, set, typed, unify, unknown, unsupported};
use super::shape::{Activation, Architecture, Config, Rotary};

/// Fields of GPT-NeoX configs that do not change the forward pass.
const NEUTRAL: &[&str] = &["attention_dropout", "classifier_dropout", "hidden_dropout"];

/// Names of the base of the angles: that of most versions, and one that 4.48 to 4.57 also write.
const BASE: (&str, &str) = ("rotary_emb_base", "rope_theta");
/// Names of the share of a head's dimensions that are rotated, in the same order.
const SHARE: (&str, &str) = ("rotary_pct", "partial_rotary_factor");

#[derive(Deserialize)]
struct NeoxConfigFile {
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
    #[serde(default)]
    rotary_emb_base: Option<f64>,
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

fn epsilon() -> f32 {
    1e-5
}

fn yes() -> bool {
    true
}

/// Moves the parameters of rotary positions to the names that most versions use. They are next to
/// the other fields or, since 5.0, in a separate object.
fn gather_rotary(fields: &mut Map<String, Value>) -> Result<(), Problem> {
    for (name, synonym) in [BASE, SHARE] {
        unify(fields, name, synonym)?;
    }
    // Version 5 treats the older object as the newer one.
    for object in ["rope_parameters", "rope_scaling"] {
        let inner = match fields.get(object) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(inner)) => inner.clone(),
            Some(_) => return Err(unsupported(object, "an object or null")),
        };
        fields.remove(object);
        for (key, value) in inner {
            let from = format!("{object}.{key}");
            match (key.as_str(), &value) {
                (_, Value::Null) => {}
                ("rope_theta", _) => set(fields, BASE.0, value, &from)?,
                ("partial_rotary_factor", _) => set(fields, SHARE.0, value, &from)?,
                ("rope_type" | "type", Value::String(kind)) if kind == "default" => {}
                ("rope_type" | "type", _) => {
                    return Err(unsupported(&from, "\"default\""));
                }
                _ => return Err(unknown(&from)),
            }
        }
    }
    Ok(())
}

/// Reads the fields of a GPT-NeoX.
pub fn read(mut fields: Map<String, Value>) -> Result<Config, Problem> {
    gather_rotary(&mut fields)?;
    let file: NeoxConfigFile = typed(fields)?;
    refuse_unknown(&file.other, NEUTRAL)?;
    require(&[
        ("attention_bias", file.attention_bias, "true"),
        ("tie_word_embeddings", !file.tie_word_embeddings, "false"),
    ])?;
    let share = file.rotary_pct.unwrap_or(0.25);
    let base = file.rotary_emb_base.unwrap_or(10_000.0);
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
