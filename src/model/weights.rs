//! Weights of a GPT-2: what they are, and reading them from safetensors.

use std::collections::BTreeSet;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::Config;
use crate::backend::map::map_file;
use crate::error::{Error, Kind, Result};

/// Gain and bias of a LayerNorm, each `[d_model]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Norm {
    /// γ
    pub gain: Vec<f32>,
    /// β
    pub bias: Vec<f32>,
}

/// A linear layer `y = x W + b`: weight `[d_in, d_out]` row-major, bias `[d_out]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// W, as GPT-2's Conv1D stores it: one row per input.
    pub weight: Vec<f32>,
    /// b
    pub bias: Vec<f32>,
}

/// One transformer block.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// LayerNorm before attention.
    pub ln_1: Norm,
    /// Queries, keys and values side by side, `[d_model, 3 d_model]`.
    pub qkv: Linear,
    /// W_O, `[d_model, d_model]`.
    pub attn_out: Linear,
    /// LayerNorm before the MLP.
    pub ln_2: Norm,
    /// W_in, `[d_model, d_mlp]`: neuron j reads with column j.
    pub mlp_in: Linear,
    /// W_out, `[d_mlp, d_model]`: neuron j writes row j.
    pub mlp_out: Linear,
}

/// All weights of a GPT-2, in f32, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// W_E, `[d_vocab, d_model]`.
    pub embed: Vec<f32>,
    /// W_pos, `[n_ctx, d_model]`.
    pub pos_embed: Vec<f32>,
    /// The blocks, in order.
    pub blocks: Vec<Block>,
    /// LayerNorm before the unembedding.
    pub ln_final: Norm,
    /// The unembedding where it is not the embedding itself.
    pub unembed: Option<Unembed>,
}

/// An unembedding of its own: what preprocessing makes of a tied one.
#[derive(Debug, Clone, PartialEq)]
pub struct Unembed {
    /// W_Uᵀ, `[d_vocab, d_model]`: row t writes the logit of token t.
    pub weight: Vec<f32>,
    /// b_U, `[d_vocab]`.
    pub bias: Vec<f32>,
}

impl Weights {
    /// The unembedding, `[d_vocab, d_model]`: the embedding where they are tied.
    pub fn unembedding(&self) -> &[f32] {
        self.unembed.as_ref().map_or(&self.embed, |u| &u.weight)
    }

    /// Reads a safetensors file in f32, f16 or bf16, with or without the
    /// `transformer.` prefix.
    ///
    /// # Errors
    /// If the file is missing or damaged; if a tensor is missing, superfluous,
    /// or of another shape or type than the config says.
    pub fn load(path: &Path, config: &Config) -> Result<Self> {
        let map = map_file(path)?;
        let mut tensors = Tensors::parse(path, &map)?;
        let weights = read_all(&mut tensors, config)?;
        tensors.refuse_leftovers(config)?;
        Ok(weights)
    }
}

fn read_all(t: &mut Tensors, config: &Config) -> Result<Weights> {
    let (d, vocab) = (config.d_model, config.d_vocab);
    let embed = t.take("wte.weight", &[vocab, d])?;
    let pos_embed = t.take("wpe.weight", &[config.n_ctx, d])?;
    let blocks = (0..config.n_layers).map(|l| read_block(t, l, config)).collect::<Result<_>>()?;
    let ln_final = read_norm(t, "ln_f", d)?;
    t.check_tied_head(&embed, &[vocab, d])?;
    Ok(Weights { embed, pos_embed, blocks, ln_final, unembed: None })
}

fn read_block(t: &mut Tensors, layer: usize, config: &Config) -> Result<Block> {
    let (d, d_mlp) = (config.d_model, config.d_mlp());
    let name = |part| format!("h.{layer}.{part}");
    Ok(Block {
        ln_1: read_norm(t, &name("ln_1"), d)?,
        qkv: read_linear(t, &name("attn.c_attn"), d, 3 * d)?,
        attn_out: read_linear(t, &name("attn.c_proj"), d, d)?,
        ln_2: read_norm(t, &name("ln_2"), d)?,
        mlp_in: read_linear(t, &name("mlp.c_fc"), d, d_mlp)?,
        mlp_out: read_linear(t, &name("mlp.c_proj"), d_mlp, d)?,
    })
}

fn read_norm(t: &mut Tensors, name: &str, d: usize) -> Result<Norm> {
    let gain = t.take(&format!("{name}.weight"), &[d])?;
    Ok(Norm { gain, bias: t.take(&format!("{name}.bias"), &[d])? })
}

fn read_linear(t: &mut Tensors, name: &str, d_in: usize, d_out: usize) -> Result<Linear> {
    let weight = t.take(&format!("{name}.weight"), &[d_in, d_out])?;
    Ok(Linear { weight, bias: t.take(&format!("{name}.bias"), &[d_out])? })
}

/// The tensors of one file, each to be taken exactly once.
struct Tensors<'a> {
    path: &'a Path,
    file: SafeTensors<'a>,
    prefix: &'static str,
    left: BTreeSet<String>,
}

impl<'a> Tensors<'a> {
    fn parse(path: &'a Path, bytes: &'a [u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| {
            let problem = format!("is not a whole safetensors file ({e})");
            Error::new(Kind::Model, path.display(), problem, "copy or download the file again")
        })?;
        let left: BTreeSet<String> = file.names().iter().map(|n| (*n).to_string()).collect();
        let prefix =
            if left.iter().any(|n| n.starts_with("transformer.")) { "transformer." } else { "" };
        Ok(Self { path, file, prefix, left })
    }

    fn error(&self, problem: String) -> Error {
        let remedy = "check that config.json and the weights belong to the same GPT-2";
        Error::new(Kind::Model, self.path.display(), problem, remedy)
    }

    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let name = format!("{}{name}", self.prefix);
        let tensor = self
            .file
            .tensor(&name)
            .map_err(|_| self.error(format!("tensor `{name}` is missing")))?;
        if tensor.shape() != shape {
            let got = tensor.shape();
            return Err(
                self.error(format!("tensor `{name}` has shape {got:?}, expected {shape:?}"))
            );
        }
        self.left.remove(&name);
        to_f32(&tensor).ok_or_else(|| {
            let dtype = tensor.dtype();
            self.error(format!("tensor `{name}` is of type {dtype:?}, expected F32, F16 or BF16"))
        })
    }

    /// Some files repeat the tied head; it must then be the embedding.
    fn check_tied_head(&mut self, embed: &[f32], shape: &[usize]) -> Result<()> {
        const HEAD: &str = "lm_head.weight";
        if !self.left.contains(HEAD) {
            return Ok(());
        }
        let prefix = std::mem::take(&mut self.prefix);
        let head = self.take(HEAD, shape)?;
        self.prefix = prefix;
        if head != embed {
            return Err(
                self.error(format!("tensor `{HEAD}` differs from the embedding it is tied to"))
            );
        }
        Ok(())
    }

    /// Causal masks are stored by old versions of Transformers and carry no weights.
    fn refuse_leftovers(&self, config: &Config) -> Result<()> {
        let is_mask = |name: &str| {
            (0..config.n_layers).any(|l| {
                let attn = format!("{}h.{l}.attn.", self.prefix);
                matches!(name.strip_prefix(&attn), Some("bias" | "masked_bias"))
            })
        };
        match self.left.iter().find(|name| !is_mask(name)) {
            Some(name) => Err(self.error(format!("tensor `{name}` is not part of this model"))),
            None => Ok(()),
        }
    }
}

fn to_f32(tensor: &TensorView) -> Option<Vec<f32>> {
    let bytes = tensor.data();
    let pairs = bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    Some(match tensor.dtype() {
        Dtype::F32 => {
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        Dtype::F16 => pairs.map(|b| f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => pairs.map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
        _ => return None,
    })
}
