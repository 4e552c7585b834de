//! Weights of a model: what they are, and reading them from the files of a checkpoint.

mod archive;
mod convert;
mod gpt2;
mod neox;
mod pickle;
mod reader;
mod source;

use std::collections::BTreeMap;
use std::path::Path;

use super::Config;
use super::config::Architecture;
use crate::error::Result;
pub use convert::convert;
pub use pickle::tensors_of_pickle;
pub use reader::NonFinite;
use reader::TensorReader;
pub use source::{Source, Tensor};

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
    /// W: one row per input.
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

/// All weights of a model, in f32, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// W_E, `[d_vocab, d_model]`.
    pub embed: Vec<f32>,
    /// W_pos, `[n_ctx, d_model]`; empty where positions are rotary.
    pub pos_embed: Vec<f32>,
    /// The blocks, in order.
    pub blocks: Vec<Block>,
    /// LayerNorm before the unembedding.
    pub ln_final: Norm,
    /// The unembedding where it is not the embedding itself.
    pub unembed: Option<Unembed>,
}

/// An unembedding of its own: GPT-NeoX has one, and preprocessing makes one of a tied one.
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

    /// Reads the checkpoint in a folder, in whichever of the formats of [`Source`].
    ///
    /// # Errors
    /// Returns an error naming the file and the tensor if one is missing, of another shape or
    /// type, or not part of the model.
    pub fn load(folder: &Path, config: &Config) -> Result<Self> {
        Self::read(&Source::open(folder)?, config).map(|(weights, _)| weights)
    }

    /// Reads all tensors, and returns those beside them that hold NaN or infinity.
    ///
    /// # Errors
    /// Returns an error as [`Self::check`] does, or if a file changed since it was opened.
    pub fn read(source: &Source, config: &Config) -> Result<(Self, Vec<NonFinite>)> {
        let mut reader = TensorReader::new(source)?;
        let weights = match config.architecture {
            Architecture::Gpt2 => gpt2::read(&mut reader, config),
            Architecture::Neox => neox::read(&mut reader, config),
        }?;
        source.unchanged()?;
        Ok((weights, reader.non_finite))
    }

    /// Checks that the tensors are those of the model, without reading their values.
    ///
    /// # Errors
    /// Returns an error naming the tensor if one is missing, of another shape or type, or not
    /// part of the model.
    pub fn check(source: &Source, config: &Config) -> Result<()> {
        let reader = TensorReader::new(source)?;
        match config.architecture {
            Architecture::Gpt2 => gpt2::check(&reader, config),
            Architecture::Neox => neox::check(&reader, config),
        }
    }
}

/// The names and places of the tensors of an archive that `torch.save` wrote.
///
/// # Errors
/// Returns what is wrong with it.
pub fn tensors_of_archive(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    archive::tensors(std::io::Cursor::new(bytes), bytes.len() as u64)
}
