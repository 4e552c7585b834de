//! The tensors of a GPT-2: linear layers as `[d_in, d_out]`.

use super::parameters::{Block, Linear, Norm, Weights};
use super::reader::{Shape, TensorReader};
use crate::error::Result;
use crate::model::Config;

/// Name of the embedding.
const EMBED: &str = "wte.weight";
/// Name of the unembedding, which is tied to the embedding. Programs save one or the other or both.
const HEAD: &str = "lm_head.weight";

/// Checks that all tensors exist, and no unknown ones.
pub fn check(t: &TensorReader, config: &Config) -> Result<()> {
    let d = config.d_model;
    let vocab = vec![config.d_vocab, d];
    let embed = if t.has(EMBED) || !t.has(HEAD) { EMBED } else { HEAD };
    let mut expected: Vec<Shape> =
        vec![(embed.into(), vocab.clone()), ("wpe.weight".into(), vec![config.n_ctx, d])];
    if embed == EMBED && t.has(HEAD) {
        expected.push((HEAD.into(), vocab));
    }
    (0..config.n_layers).for_each(|l| expected.extend(shapes_of_block(l, config)));
    expected.extend(pair("ln_f", vec![d], d));
    // Causal masks, which old checkpoints contain in addition to the weights.
    t.check(&expected, |name| {
        let mut parts = name.split('.');
        let block =
            parts.next() == Some("h") && parts.next().is_some_and(|l| l.parse::<usize>().is_ok());
        block && matches!(parts.collect::<Vec<_>>()[..], ["attn", "bias" | "masked_bias"])
    })
}

fn shapes_of_block(layer: usize, config: &Config) -> impl Iterator<Item = Shape> {
    let (d, d_mlp) = (config.d_model, config.d_mlp());
    let parts = [
        ("ln_1", vec![d], d),
        ("attn.c_attn", vec![d, 3 * d], 3 * d),
        ("attn.c_proj", vec![d, d], d),
        ("ln_2", vec![d], d),
        ("mlp.c_fc", vec![d, d_mlp], d_mlp),
        ("mlp.c_proj", vec![d_mlp, d], d),
    ];
    parts
        .into_iter()
        .flat_map(move |(part, weight, bias)| pair(&format!("h.{layer}.{part}"), weight, bias))
}

/// Returns the shapes of a weight and its bias.
pub(super) fn pair(name: &str, weight: Vec<usize>, bias: usize) -> [Shape; 2] {
    [(format!("{name}.weight"), weight), (format!("{name}.bias"), vec![bias])]
}

/// Reads all weights.
pub fn read(t: &mut TensorReader, config: &Config) -> Result<Weights> {
    check(t, config)?;
    let embed = t.take(if t.has(EMBED) { EMBED } else { HEAD })?;
    let pos_embed = t.take("wpe.weight")?;
    let blocks = (0..config.n_layers).map(|l| block(t, l)).collect::<Result<_>>()?;
    let ln_final = norm(t, "ln_f")?;
    check_tied_head(t, &embed)?;
    Ok(Weights { embed, pos_embed, blocks, ln_final, unembed: None })
}

fn block(t: &mut TensorReader, layer: usize) -> Result<Block> {
    let name = |part| format!("h.{layer}.{part}");
    Ok(Block {
        ln_1: norm(t, &name("ln_1"))?,
        qkv: linear(t, &name("attn.c_attn"))?,
        attn_out: linear(t, &name("attn.c_proj"))?,
        ln_2: norm(t, &name("ln_2"))?,
        mlp_in: linear(t, &name("mlp.c_fc"))?,
        mlp_out: linear(t, &name("mlp.c_proj"))?,
    })
}

pub(super) fn norm(t: &mut TensorReader, name: &str) -> Result<Norm> {
    let gain = t.take(&format!("{name}.weight"))?;
    Ok(Norm { gain, bias: t.take(&format!("{name}.bias"))? })
}

fn linear(t: &mut TensorReader, name: &str) -> Result<Linear> {
    let weight = t.take(&format!("{name}.weight"))?;
    Ok(Linear { weight, bias: t.take(&format!("{name}.bias"))? })
}

/// Checks that an unembedding stored in addition to the embedding equals it.
fn check_tied_head(t: &mut TensorReader, embed: &[f32]) -> Result<()> {
    if !(t.has(EMBED) && t.has(HEAD)) {
        return Ok(());
    }
    let head = t.take(HEAD)?;
    // Bits are compared, so that NaN equals itself.
    if head.iter().zip(embed).all(|(a, b)| a.to_bits() == b.to_bits()) {
        return Ok(());
    }
    Err(t.error(format!("tensor `{HEAD}` differs from the embedding it is tied to")))
}
