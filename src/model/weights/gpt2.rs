//! The tensors of a GPT-2: linear layers as `[d_in, d_out]`, with or without the prefix
//! `transformer.`.

use super::source::{Source, Taker};
use super::{Block, Linear, Norm, Weights};
use crate::error::Result;
use crate::model::Config;

/// Reads all weights.
pub fn read(source: &mut Source, config: &Config) -> Result<Weights> {
    let mut t = Taker::new(source, "transformer.");
    let (d, vocab) = (config.d_model, config.d_vocab);
    let embed = t.take("wte.weight", &[vocab, d])?;
    let pos_embed = t.take("wpe.weight", &[config.n_ctx, d])?;
    let blocks = (0..config.n_layers).map(|l| block(&mut t, l, config)).collect::<Result<_>>()?;
    let ln_final = norm(&mut t, "ln_f", d)?;
    check_tied_head(&mut t, &embed, &[vocab, d])?;
    // Causal masks, which old checkpoints hold beside the weights.
    t.refuse_others(|name| {
        let mut parts = name.split('.');
        let block =
            parts.next() == Some("h") && parts.next().is_some_and(|l| l.parse::<usize>().is_ok());
        block && matches!(parts.collect::<Vec<_>>()[..], ["attn", "bias" | "masked_bias"])
    })?;
    Ok(Weights { embed, pos_embed, blocks, ln_final, unembed: None })
}

fn block(t: &mut Taker, layer: usize, config: &Config) -> Result<Block> {
    let (d, d_mlp) = (config.d_model, config.d_mlp());
    let name = |part| format!("h.{layer}.{part}");
    Ok(Block {
        ln_1: norm(t, &name("ln_1"), d)?,
        qkv: linear(t, &name("attn.c_attn"), d, 3 * d)?,
        attn_out: linear(t, &name("attn.c_proj"), d, d)?,
        ln_2: norm(t, &name("ln_2"), d)?,
        mlp_in: linear(t, &name("mlp.c_fc"), d, d_mlp)?,
        mlp_out: linear(t, &name("mlp.c_proj"), d_mlp, d)?,
    })
}

pub(super) fn norm(t: &mut Taker, name: &str, d: usize) -> Result<Norm> {
    let gain = t.take(&format!("{name}.weight"), &[d])?;
    Ok(Norm { gain, bias: t.take(&format!("{name}.bias"), &[d])? })
}

fn linear(t: &mut Taker, name: &str, d_in: usize, d_out: usize) -> Result<Linear> {
    let weight = t.take(&format!("{name}.weight"), &[d_in, d_out])?;
    Ok(Linear { weight, bias: t.take(&format!("{name}.bias"), &[d_out])? })
}

/// A head that is stored must be the embedding that it is tied to.
fn check_tied_head(t: &mut Taker, embed: &[f32], shape: &[usize]) -> Result<()> {
    const HEAD: &str = "lm_head.weight";
    match t.take_unprefixed(HEAD, shape)? {
        Some(head) if head != embed => {
            Err(t.error(format!("tensor `{HEAD}` differs from the embedding it is tied to")))
        }
        _ => Ok(()),
    }
}
