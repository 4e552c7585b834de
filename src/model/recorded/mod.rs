//! Activations that another program recorded, in place of a model: one tensor per layer, over the
//! same tokens for every member of a family. The id of a token is its index in the files.

mod files;
mod names;
mod npy;

use std::path::Path;

use safetensors::Dtype;

use self::files::RecordedFiles;
use self::names::{LayerPart, layer_part};
use super::hooks::Hooks;
use super::weights::Tensor;
use super::{Config, Decoder, HookPoint, Site};
use crate::error::{Error, Result};
use crate::input::Stamp;

/// Largest number of layers of a recording.
const MAX_LAYERS: usize = 1 << 10;
/// Largest number of units per layer of a recording.
const MAX_UNITS: usize = 1 << 18;
/// Names of the tensors that are about tokens.
const MASK: &str = "mask";
const DOCUMENTS: &str = "documents";

/// Recorded activations, opened for reading. Values are read when they are asked for.
#[derive(Debug)]
pub struct Recording {
    config: Config,
    files: RecordedFiles,
    layers: Vec<RecordedLayer>,
    /// Length of a row of tokens, if the tensors are `[rows, positions, units]`.
    row: Option<usize>,
}

/// The tensors of one layer, each `[tokens, units]`.
#[derive(Debug, Clone)]
struct RecordedLayer {
    post: Tensor,
    pre: Option<Tensor>,
}

impl Recording {
    /// Opens a file, or a folder of files, and reads the positions of the tensors.
    ///
    /// # Errors
    /// Returns an error naming file and tensor if a file is damaged, holds an unknown tensor, or
    /// layers are missing or differ in their numbers of tokens or units.
    pub fn open(path: &Path) -> Result<Self> {
        let files = RecordedFiles::open(path)?;
        let layers = layers_of(&files)?;
        let first = &layers[0].post;
        let shape = &first.shape;
        let row = (shape.len() == 3).then(|| shape[1]);
        let tokens = shape[..shape.len() - 1].iter().product();
        let config = Config::of_recording(layers.len(), shape[shape.len() - 1], tokens);
        Ok(Self { config, files, layers, row })
    }

    /// Leaves out all layers but the first `n`.
    pub fn truncate(&mut self, n: usize) {
        self.layers.truncate(n);
        self.config.n_layers = self.layers.len();
    }

    /// Returns the number of tokens.
    pub fn tokens(&self) -> usize {
        self.config.d_vocab
    }

    /// Returns the number of tokens in a row, if the tensors are `[rows, positions, units]`.
    pub fn row(&self) -> Option<usize> {
        self.row
    }

    /// Reads which tokens take part in statistics; `None` if the files hold no mask.
    ///
    /// # Errors
    /// Returns an error if the mask is of another number of tokens or another type.
    pub fn mask(&self) -> Result<Option<Vec<bool>>> {
        let read = |(name, tensor): (&str, &Tensor)| {
            let bytes = self.files.bytes(tensor)?;
            match tensor.dtype {
                Dtype::BOOL | Dtype::U8 => Ok(bytes.iter().map(|&b| b != 0).collect()),
                other => Err(self.of_another_type(name, other, "BOOL or U8")),
            }
        };
        self.token_tensor(MASK)?.map(read).transpose()
    }

    /// Reads the number of each token's document; `None` if the files hold none.
    ///
    /// # Errors
    /// Returns an error if there is another number of them, or they are not integers.
    pub fn documents(&self) -> Result<Option<Vec<i64>>> {
        let read = |(name, tensor): (&str, &Tensor)| {
            let bytes = self.files.bytes(tensor)?;
            match integers(tensor.dtype, &bytes) {
                Some(numbers) => Ok(numbers),
                None => Err(self.of_another_type(name, tensor.dtype, "I64, I32, U32 or U8")),
            }
        };
        self.token_tensor(DOCUMENTS)?.map(read).transpose()
    }

    /// Returns a tensor with one value for each token.
    fn token_tensor(&self, name: &'static str) -> Result<Option<(&'static str, &Tensor)>> {
        let Some(tensor) = self.files.tensor(name) else { return Ok(None) };
        let values = tensor.shape.iter().try_fold(1_usize, |n, d| n.checked_mul(*d));
        if values == Some(self.tokens()) && !tensor.shape.is_empty() {
            return Ok(Some((name, tensor)));
        }
        let (shape, tokens) = (&tensor.shape, self.tokens());
        let problem =
            format!("has shape {shape:?}, expected one value for each of {tokens} tokens");
        Err(self.files.error(Some(name), problem, "export it for the tokens of the activations"))
    }

    fn of_another_type(&self, name: &str, found: Dtype, expected: &str) -> Error {
        let problem = format!("is of type {found:?}, expected {expected}");
        self.files.error(Some(name), problem, "convert it where it was made")
    }

    /// Returns the SHA-256 of the only file, or if there are several, the SHA-256 of their digests.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read.
    pub fn digest(&mut self) -> Result<String> {
        self.files.digest()
    }

    /// Returns stamps that identify the files.
    pub fn stamps(&self) -> Vec<Stamp> {
        self.files.stamps()
    }

    /// Checks that no file was changed since it was opened.
    ///
    /// # Errors
    /// Returns an error naming the file that changed.
    pub fn unchanged(&self) -> Result<()> {
        self.files.unchanged()
    }

    /// Reads the activations of the tokens of some rows, `[tokens, units]`.
    fn read(&self, tensor: &Tensor, rows: &[&[u32]]) -> Result<Vec<f32>> {
        let units = self.config.d_mlp();
        let tokens: usize = rows.iter().map(|row| row.len()).sum();
        let mut values = Vec::with_capacity(tokens * units);
        for row in rows {
            for run in row.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
                let from = run[0] as usize;
                assert!(from + run.len() <= self.tokens(), "a token outside the recording");
                self.files.append(tensor, from * units..(from + run.len()) * units, &mut values)?;
            }
        }
        Ok(values)
    }
}

impl Decoder for Recording {
    fn config(&self) -> &Config {
        &self.config
    }

    /// Reads the activations of the tokens, and calls the hooks of the MLP. Where no pre-activations
    /// were recorded, the activations take their place. The residual stream has no dimensions.
    fn forward(&self, rows: &[&[u32]], hooks: &mut dyn Hooks) -> Result<Vec<f32>> {
        let units = self.config.d_mlp();
        for (layer, RecordedLayer { post, pre }) in self.layers.iter().enumerate() {
            let sites = [(Site::MlpPre, pre.as_ref().unwrap_or(post)), (Site::MlpPost, post)];
            for (site, tensor) in sites {
                let point = HookPoint { layer, site };
                if hooks.wants(point) {
                    hooks.at(point, &mut self.read(tensor, rows)?, units);
                }
            }
        }
        Ok(Vec::new())
    }

    fn forward_from(
        &self,
        _: super::forward::ResidualStream<'_>,
        _: &[&[u32]],
        _: &mut dyn Hooks,
    ) -> Result<Vec<f32>> {
        Err(self.needs_a_model())
    }

    fn logits(&self, _: &[f32]) -> Result<Vec<f32>> {
        Err(self.needs_a_model())
    }
}

impl Recording {
    /// Returns the error for what only a model can compute.
    pub fn needs_a_model(&self) -> Error {
        let problem = "holds activations, and this needs the weights of a model";
        self.files.error(None, problem, "give the folder of the model in `models.family[].path`")
    }
}

/// Returns the integers of a tensor, or `None` if it is of another type.
fn integers(dtype: Dtype, bytes: &[u8]) -> Option<Vec<i64>> {
    let fours = bytes.as_chunks::<4>().0.iter();
    Some(match dtype {
        Dtype::I64 => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
        Dtype::I32 => fours.map(|b| i32::from_le_bytes(*b).into()).collect(),
        Dtype::U32 => fours.map(|b| u32::from_le_bytes(*b).into()).collect(),
        Dtype::U8 => bytes.iter().map(|&b| b.into()).collect(),
        _ => return None,
    })
}

/// Finds the tensors of every layer.
fn layers_of(files: &RecordedFiles) -> Result<Vec<RecordedLayer>> {
    let parts = parts_of(files)?;
    let of = |layer: usize, wanted: LayerPart| {
        let found = parts.iter().find(|(_, at, part, _)| (*at, *part) == (layer, wanted));
        found.map(|(name, .., tensor)| (name.as_str(), *tensor))
    };
    let n = parts.iter().map(|(_, layer, ..)| layer + 1).max().unwrap_or(0);
    if n == 0 || n > MAX_LAYERS {
        let problem = format!("holds activations of {n} layers, expected 1 to {MAX_LAYERS}");
        return Err(files.error(None, problem, names::REMEDY));
    }
    let mut layers = Vec::new();
    let first = of(0, LayerPart::Post);
    for layer in 0..n {
        let Some((name, post)) = of(layer, LayerPart::Post) else {
            let problem = format!("holds layer {}, and no activations of layer {layer}", n - 1);
            return Err(files.error(None, problem, names::REMEDY));
        };
        check_activations(files, name, post, first)?;
        let pre = of(layer, LayerPart::Pre);
        pre.map_or(Ok(()), |(name, pre)| check_activations(files, name, pre, first))?;
        layers.push(RecordedLayer { post: post.clone(), pre: pre.map(|(_, pre)| pre.clone()) });
    }
    Ok(layers)
}

/// Returns the tensors that are activations: name, layer, part and position.
fn parts_of(files: &RecordedFiles) -> Result<Vec<(String, usize, LayerPart, &Tensor)>> {
    let mut parts = Vec::new();
    let mut unknown = Vec::new();
    for (name, tensor) in files.tensors() {
        match layer_part(name) {
            Some((layer, part)) => parts.push((name.clone(), layer, part, tensor)),
            None if [MASK, DOCUMENTS].contains(&name.as_str()) || names::is_other_hook(name) => {}
            None => unknown.push((name, tensor)),
        }
    }
    match &unknown[..] {
        // The only tensor needs no name.
        [(name, tensor)] if parts.is_empty() => {
            parts.push(((*name).clone(), 0, LayerPart::Post, *tensor));
        }
        [(name, _), ..] => {
            let problem = "is not the name of a layer's activations";
            return Err(files.error(Some(name), problem, names::REMEDY));
        }
        [] => {}
    }
    let twice = parts.iter().enumerate().find(|(i, (_, layer, part, _))| {
        parts[..*i].iter().any(|(_, l, p, _)| (l, p) == (layer, part))
    });
    if let Some((_, (name, layer, ..))) = twice {
        let problem = format!("is a second tensor of layer {layer}");
        return Err(files.error(Some(name), problem, "keep one tensor of activations per layer"));
    }
    Ok(parts)
}

/// Checks the type and shape of the activations of a layer, given the name and tensor of the first
/// layer.
fn check_activations(
    files: &RecordedFiles,
    name: &str,
    tensor: &Tensor,
    first: Option<(&str, &Tensor)>,
) -> Result<()> {
    let refused = |problem: String, remedy| Err(files.error(Some(name), problem, remedy));
    let (shape, dtype) = (&tensor.shape, tensor.dtype);
    if !matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        let problem = format!("is of type {dtype:?}, expected F64, F32, F16 or BF16");
        return refused(problem, "convert it where it was made");
    }
    if !matches!(shape.len(), 2 | 3) || shape.contains(&0) {
        let problem = format!("has shape {shape:?}, expected [tokens, units]");
        return refused(problem, "export one row of values for each token");
    }
    let units = shape[shape.len() - 1];
    let tokens: usize = shape[..shape.len() - 1].iter().product();
    if units > MAX_UNITS || u32::try_from(tokens).is_err() {
        let problem =
            format!("has shape {shape:?}, expected at most {MAX_UNITS} units and 2³² tokens");
        return refused(problem, "export a part of them");
    }
    match first {
        Some((of, expected)) if expected.shape != *shape => {
            let problem = format!("has shape {shape:?}, expected {:?} as `{of}`", expected.shape);
            refused(
                problem,
                "export all layers over the same tokens; layers of one member have one width",
            )
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
