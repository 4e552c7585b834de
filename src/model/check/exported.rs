//! Activations that another program exported, as safetensors.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::super::{Config, HookPoint, Site};
use crate::error::{Error, Kind, Result};
use crate::input::InputFile;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 8 << 30;
/// Name of the tensor of token ids.
const TOKENS: &str = "tokens";

/// What another program computed for one row of tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// The token ids.
    pub tokens: Vec<u32>,
    /// Values by name of the point, each `[tokens, width]`.
    pub values: BTreeMap<String, Vec<f64>>,
}

impl Exported {
    /// Reads a file with a tensor `tokens` of integers, `[tokens]` or `[1, tokens]`, and tensors of
    /// hooks, such as `blocks.0.mlp.hook_post`, or `logits`, `[tokens, width]` or
    /// `[1, tokens, width]` in f16, bf16, f32 or f64. Other tensors are not read.
    ///
    /// # Errors
    /// Returns an error naming the file and the tensor if the file is not one of safetensors, has no
    /// tokens of the model or no activations of it, or a tensor has another shape or type.
    pub fn read(path: &Path, config: &Config) -> Result<Self> {
        let bytes = InputFile::open(Kind::Evidence, path)?.read(MAX_FILE)?;
        let refused = |tensor: &str, problem: String| {
            let remedy = "export `tokens` and hooks, such as `blocks.0.mlp.hook_post`, of one row";
            Error::new(Kind::Evidence, format_args!("{}{tensor}", path.display()), problem, remedy)
        };
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|e| refused("", format!("is not a file of safetensors: {e}")))?;
        let of = |name: &str| format!(": tensor `{name}`");
        let tokens =
            file.tensor(TOKENS).map_err(|_| refused("", "has no tensor `tokens`".into()))?;
        let tokens = ids(&tokens, config).map_err(|problem| refused(&of(TOKENS), problem))?;
        let mut values = BTreeMap::new();
        for (name, width) in points(config) {
            let Ok(tensor) = file.tensor(&name) else { continue };
            let found = floats(&tensor, tokens.len(), width);
            values.insert(name.clone(), found.map_err(|problem| refused(&of(&name), problem))?);
        }
        if values.is_empty() {
            return Err(refused("", "has no hook or logits of this model".into()));
        }
        Ok(Self { tokens, values })
    }
}

/// Returns the name and width of every point.
fn points(config: &Config) -> impl Iterator<Item = (String, usize)> {
    let (d, d_mlp) = (config.d_model, config.d_mlp());
    let sites =
        [(Site::ResidPre, d), (Site::MlpPre, d_mlp), (Site::MlpPost, d_mlp), (Site::ResidPost, d)];
    let of_layer = move |layer: usize| {
        sites.map(|(site, width)| (HookPoint { layer, site }.to_string(), width))
    };
    (0..config.n_layers).flat_map(of_layer).chain([("logits".to_owned(), config.d_vocab)])
}

fn ids(tensor: &TensorView, config: &Config) -> Result<Vec<u32>, String> {
    let shape = tensor.shape();
    let length = match shape {
        [length] | [1, length] if *length > 0 => *length,
        _ => return Err(format!("has the shape {shape:?}, expected [tokens] or [1, tokens]")),
    };
    if length > config.n_ctx {
        return Err(format!("has {length} tokens, the model reads at most {}", config.n_ctx));
    }
    let data = tensor.data();
    let ids: Vec<i64> = match tensor.dtype() {
        Dtype::I64 => data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
        Dtype::I32 => data.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect(),
        Dtype::U32 => data.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b).into()).collect(),
        other => return Err(format!("is of type {other:?}, expected integers of 32 or 64 bits")),
    };
    let known = |id: i64| u32::try_from(id).ok().filter(|&id| (id as usize) < config.d_vocab);
    let outside = |id: i64| format!("has the id {id}, the vocabulary has {} ids", config.d_vocab);
    ids.into_iter().map(|id| known(id).ok_or_else(|| outside(id))).collect()
}

fn floats(tensor: &TensorView, tokens: usize, width: usize) -> Result<Vec<f64>, String> {
    let shape = tensor.shape();
    if shape != [tokens, width] && shape != [1, tokens, width] {
        return Err(format!("has the shape {shape:?}, expected [{tokens}, {width}]"));
    }
    let data = tensor.data();
    Ok(match tensor.dtype() {
        Dtype::F64 => data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        Dtype::F32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect(),
        Dtype::F16 => data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).into()).collect(),
        Dtype::BF16 => data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).into()).collect(),
        other => return Err(format!("is of type {other:?}, expected floating-point numbers")),
    })
}
