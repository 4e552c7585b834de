//! The tensors of a GPT-NeoX: linear layers as `[d_out, d_in]`, queries, keys and values
//! head by head.

use super::gpt2::norm;
use super::source::{Source, Taker};
use super::{Block, Linear, Unembed, Weights};
use crate::error::Result;
use crate::model::Config;

/// Reads all weights.
pub fn read(source: &mut Source, config: &Config) -> Result<Weights> {
    let mut t = Taker::new(source, "gpt_neox.");
    let (d, vocab) = (config.d_model, config.d_vocab);
    let embed = t.take("embed_in.weight", &[vocab, d])?;
    let blocks = (0..config.n_layers).map(|l| block(&mut t, l, config)).collect::<Result<_>>()?;
    let ln_final = norm(&mut t, "final_layer_norm", d)?;
    let weight = head(&mut t, &[vocab, d])?;
    // Causal masks and the angles of rotations, which old checkpoints hold too.
    t.refuse_others(|name| {
        let Some(rest) = name.strip_prefix("layers.") else { return false };
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        matches!(
            rest,
            ".attention.bias" | ".attention.masked_bias" | ".attention.rotary_emb.inv_freq"
        )
    })?;
    let unembed = Unembed { weight, bias: vec![0.0; vocab] };
    Ok(Weights { embed, pos_embed: Vec::new(), blocks, ln_final, unembed: Some(unembed) })
}

/// The unembedding, by its name of Pythia's repositories or by that of newer Transformers.
fn head(t: &mut Taker, shape: &[usize]) -> Result<Vec<f32>> {
    const NAMES: [&str; 2] = ["embed_out.weight", "lm_head.weight"];
    for name in NAMES {
        if let Some(head) = t.take_unprefixed(name, shape)? {
            return Ok(head);
        }
    }
    Err(t.error(format!("tensor `{}` is missing", NAMES[0])))
}

fn block(t: &mut Taker, layer: usize, config: &Config) -> Result<Block> {
    let (d, d_mlp) = (config.d_model, config.d_mlp());
    let name = |part| format!("layers.{layer}.{part}");
    let qkv = linear(t, &name("attention.query_key_value"), d, 3 * d)?;
    Ok(Block {
        ln_1: norm(t, &name("input_layernorm"), d)?,
        qkv: side_by_side(&qkv, config),
        attn_out: linear(t, &name("attention.dense"), d, d)?,
        ln_2: norm(t, &name("post_attention_layernorm"), d)?,
        mlp_in: linear(t, &name("mlp.dense_h_to_4h"), d, d_mlp)?,
        mlp_out: linear(t, &name("mlp.dense_4h_to_h"), d_mlp, d)?,
    })
}

/// A linear layer that is stored with one row per output.
fn linear(t: &mut Taker, name: &str, d_in: usize, d_out: usize) -> Result<Linear> {
    let stored = t.take(&format!("{name}.weight"), &[d_out, d_in])?;
    let mut weight = vec![0.0; stored.len()];
    for (o, row) in stored.chunks_exact(d_in).enumerate() {
        row.iter().enumerate().for_each(|(i, w)| weight[i * d_out + o] = *w);
    }
    Ok(Linear { weight, bias: t.take(&format!("{name}.bias"), &[d_out])? })
}

/// From query, key and value of each head to all queries, all keys and all values.
fn side_by_side(qkv: &Linear, config: &Config) -> Linear {
    let (heads, d_head) = (config.n_heads, config.d_head());
    let place = |to: usize| {
        let (which, head, i) = (to / (heads * d_head), to / d_head % heads, to % d_head);
        head * 3 * d_head + which * d_head + i
    };
    let order: Vec<usize> = (0..3 * config.d_model).map(place).collect();
    let arranged = |row: &[f32]| order.iter().map(|&from| row[from]).collect::<Vec<f32>>();
    let weight = qkv.weight.chunks_exact(order.len()).flat_map(arranged).collect();
    Linear { weight, bias: arranged(&qkv.bias) }
}
