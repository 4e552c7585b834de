//! The tensors of a GPT-NeoX: linear layers as `[d_out, d_in]`, queries, keys and values
//! head by head.

use super::gpt2::{norm, pair};
use super::parameters::{Block, Linear, Unembed, Weights};
use super::reader::{Shape, TensorReader};
use crate::error::Result;
use crate::model::Config;

/// Names of the unembedding: in Pythia's repositories, and in newer versions of Transformers.
const HEADS: [&str; 2] = ["embed_out.weight", "lm_head.weight"];

/// Returns the name of the unembedding in this checkpoint.
fn head(t: &TensorReader) -> &'static str {
    HEADS.into_iter().find(|name| t.has(name)).unwrap_or(HEADS[0])
}

/// Checks that all tensors exist, and no unknown ones.
pub fn check(t: &TensorReader, config: &Config) -> Result<()> {
    let d = config.d_model;
    let vocab = vec![config.d_vocab, d];
    let mut expected: Vec<Shape> =
        vec![("embed_in.weight".into(), vocab.clone()), (head(t).into(), vocab)];
    (0..config.n_layers).for_each(|l| expected.extend(shapes_of_block(l, config)));
    expected.extend(pair("final_layer_norm", vec![d], d));
    // Causal masks and rotation angles, which old checkpoints also contain.
    t.check(&expected, |name| {
        let Some(rest) = name.strip_prefix("layers.") else {
            return name == "rotary_emb.inv_freq";
        };
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        matches!(
            rest,
            ".attention.bias" | ".attention.masked_bias" | ".attention.rotary_emb.inv_freq"
        )
    })
}

fn shapes_of_block(layer: usize, config: &Config) -> impl Iterator<Item = Shape> {
    let (d, d_mlp) = (config.d_model, config.d_mlp());
    let parts = [
        ("input_layernorm", vec![d], d),
        ("attention.query_key_value", vec![3 * d, d], 3 * d),
        ("attention.dense", vec![d, d], d),
        ("post_attention_layernorm", vec![d], d),
        ("mlp.dense_h_to_4h", vec![d_mlp, d], d_mlp),
        ("mlp.dense_4h_to_h", vec![d, d_mlp], d),
    ];
    parts
        .into_iter()
        .flat_map(move |(part, weight, bias)| pair(&format!("layers.{layer}.{part}"), weight, bias))
}

/// Reads all weights.
pub fn read(t: &mut TensorReader, config: &Config) -> Result<Weights> {
    check(t, config)?;
    let embed = t.take("embed_in.weight")?;
    let blocks = (0..config.n_layers).map(|l| block(t, l, config)).collect::<Result<_>>()?;
    let ln_final = norm(t, "final_layer_norm")?;
    let weight = t.take(head(t))?;
    let unembed = Unembed { weight, bias: vec![0.0; config.d_vocab] };
    Ok(Weights { embed, pos_embed: Vec::new(), blocks, ln_final, unembed: Some(unembed) })
}

fn block(t: &mut TensorReader, layer: usize, config: &Config) -> Result<Block> {
    let (d, d_mlp) = (config.d_model, config.d_mlp());
    let name = |part| format!("layers.{layer}.{part}");
    let qkv = linear(t, &name("attention.query_key_value"), d)?;
    Ok(Block {
        ln_1: norm(t, &name("input_layernorm"))?,
        qkv: side_by_side(&qkv, config),
        attn_out: linear(t, &name("attention.dense"), d)?,
        ln_2: norm(t, &name("post_attention_layernorm"))?,
        mlp_in: linear(t, &name("mlp.dense_h_to_4h"), d)?,
        mlp_out: linear(t, &name("mlp.dense_4h_to_h"), d_mlp)?,
    })
}

/// Reads a linear layer of `d_in` inputs that is stored with one row per output.
fn linear(t: &mut TensorReader, name: &str, d_in: usize) -> Result<Linear> {
    let stored = t.take(&format!("{name}.weight"))?;
    let d_out = stored.len() / d_in;
    let mut weight = vec![0.0; stored.len()];
    for (o, row) in stored.chunks_exact(d_in).enumerate() {
        row.iter().enumerate().for_each(|(i, w)| weight[i * d_out + o] = *w);
    }
    Ok(Linear { weight, bias: t.take(&format!("{name}.bias"))? })
}

/// Reorders columns from query, key and value of each head to all queries, all keys, all values.
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
