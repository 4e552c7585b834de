//! Activations that another program recorded, in place of a model: one tensor per layer, over the
//! same tokens for every member of a family. The id of a token is its index in the files.

mod files;
mod layers;
mod limits;
mod names;
mod npy;
mod parquet;
mod sparse;

use std::path::Path;

use safetensors::Dtype;

use self::files::{RecordedFiles, integers};
use self::layers::{RecordedLayer, layers_of};
use self::names::{DOCUMENTS, MASK, TOKENS};
use super::forward::ResidualStream;
use super::hooks::Hooks;
use super::weights::Tensor;
use super::{Config, Decoder, HookPoint, Site};
use crate::error::{Error, Result};
use crate::input::Stamp;

pub use self::sparse::Entries;

/// Recorded activations, opened for reading. Values are read when they are asked for.
#[derive(Debug)]
pub struct Recording {
    config: Config,
    files: RecordedFiles,
    layers: Vec<RecordedLayer>,
    /// Length of a row of tokens, if the tensors are `[rows, positions, units]`.
    row: Option<usize>,
}

impl Recording {
    /// Opens a file, or a folder of files, and reads the positions of the tensors.
    ///
    /// # Errors
    /// Returns an error naming file and tensor if a file is damaged, holds an unknown tensor, or
    /// layers are missing or differ in their numbers of tokens or units.
    pub fn open(path: &Path) -> Result<Self> {
        let files = RecordedFiles::open(path)?;
        let (layers, shape) = layers_of(&files)?;
        let config = Config::of_recording(layers.len(), shape.units, shape.tokens);
        Ok(Self { config, files, layers, row: shape.row })
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
        self.token_integers(DOCUMENTS)
    }

    /// Reads the id of each token in the vocabulary; `None` if the files hold none.
    ///
    /// # Errors
    /// Returns an error if there is another number of them, or they are not integers.
    pub fn token_ids(&self) -> Result<Option<Vec<i64>>> {
        self.token_integers(TOKENS)
    }

    /// Reads a tensor with one integer for each token.
    fn token_integers(&self, name: &'static str) -> Result<Option<Vec<i64>>> {
        let read = |(name, tensor): (&str, &Tensor)| {
            let bytes = self.files.bytes(tensor)?;
            match integers(tensor.dtype, &bytes) {
                Some(numbers) => Ok(numbers),
                None => Err(self.of_another_type(name, tensor.dtype, "I64, I32, U32 or U8")),
            }
        };
        self.token_tensor(name)?.map(read).transpose()
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

    /// Returns the number of stored entries of all layers, if only those that are not zero are
    /// stored; `None` if every value is.
    pub fn sparse_entries(&self) -> Option<usize> {
        let entries = |layer: &RecordedLayer| match layer {
            RecordedLayer::Dense { .. } => None,
            RecordedLayer::Sparse(tensor) => Some(tensor.entries),
        };
        self.layers.iter().map(entries).sum()
    }

    /// Reads the entries of one layer at some tokens of sparse activations, token by token.
    ///
    /// # Errors
    /// Returns an error if an entry lies outside the matrix, or a file cannot be read.
    ///
    /// # Panics
    /// Panics if every value is stored, or a token lies outside the recording.
    pub fn entries(&self, layer: usize, tokens: &[u32]) -> Result<Vec<Entries>> {
        let RecordedLayer::Sparse(tensor) = &self.layers[layer] else {
            panic!("layer {layer} is not sparse");
        };
        let mut all = Vec::with_capacity(tokens.len());
        for run in self.runs(tokens) {
            all.extend(tensor.read(&self.files, run)?);
        }
        Ok(all)
    }

    /// Cuts tokens into runs of consecutive ones.
    fn runs<'a>(&self, tokens: &'a [u32]) -> impl Iterator<Item = std::ops::Range<usize>> + 'a {
        let last = tokens.iter().max().map_or(0, |&token| token as usize + 1);
        assert!(last <= self.tokens(), "a token outside the recording");
        let runs = tokens.chunk_by(|a, b| a.checked_add(1) == Some(*b));
        runs.map(|run| run[0] as usize..run[0] as usize + run.len())
    }

    /// Reads a tensor at the tokens of some rows, `[tokens, units]`.
    fn read(&self, tensor: &Tensor, rows: &[&[u32]]) -> Result<Vec<f32>> {
        let units = self.config.d_mlp();
        let tokens: usize = rows.iter().map(|row| row.len()).sum();
        let mut values = Vec::with_capacity(tokens * units);
        for run in rows.iter().flat_map(|row| self.runs(row)) {
            self.files.append(tensor, run.start * units..run.end * units, &mut values)?;
        }
        Ok(values)
    }

    /// Reads the entries of a layer at the tokens of some rows, and the zeros between them.
    fn filled(&self, layer: usize, rows: &[&[u32]]) -> Result<Vec<f32>> {
        let units = self.config.d_mlp();
        let entries = self.entries(layer, &rows.concat())?;
        let mut values = vec![0.0; entries.len() * units];
        for (entries, row) in entries.iter().zip(values.chunks_exact_mut(units)) {
            entries.iter().for_each(|&(unit, value)| row[unit as usize] = value);
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
        for (layer, recorded) in self.layers.iter().enumerate() {
            for site in [Site::MlpPre, Site::MlpPost] {
                let point = HookPoint { layer, site };
                if !hooks.wants(point) {
                    continue;
                }
                let mut values = match recorded {
                    RecordedLayer::Sparse(_) => self.filled(layer, rows),
                    RecordedLayer::Dense { pre: Some(pre), .. } if site == Site::MlpPre => {
                        self.read(pre, rows)
                    }
                    RecordedLayer::Dense { post, .. } => self.read(post, rows),
                }?;
                hooks.at(point, &mut values, units);
            }
        }
        Ok(Vec::new())
    }

    fn forward_from(
        &self,
        _: ResidualStream<'_>,
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
    /// Returns the error for a computation that needs a model.
    pub fn needs_a_model(&self) -> Error {
        let problem = "holds activations, and this needs the weights of a model";
        self.files.error(None, problem, "give the folder of the model in `models.family[].path`")
    }
}

#[cfg(test)]
mod tests;
