//! The weights of a model, and reading them from the files of a checkpoint.

mod archive;
mod convert;
mod gpt2;
mod neox;
mod parameters;
mod pickle;
mod reader;
mod source;
mod tensor;

use std::collections::BTreeMap;
use std::path::Path;

use super::Config;
use super::config::Architecture;
use crate::error::Result;
pub use convert::convert;
pub use parameters::{Block, Linear, Norm, Unembed, Weights};
pub use pickle::tensors_of_pickle;
pub use reader::NonFinite;
use reader::TensorReader;
pub use source::Source;
pub(super) use source::{AT_ONCE, append_f32, safetensors_of};
pub use tensor::Tensor;

impl Weights {
    /// Reads the checkpoint in a folder, in whichever of the formats of [`Source`].
    ///
    /// # Errors
    /// Returns an error naming the file and the tensor if one is missing, of another shape or
    /// type, or not part of the model.
    pub fn load(folder: &Path, config: &Config) -> Result<Self> {
        Self::read(&Source::open(folder)?, config).map(|(weights, _)| weights)
    }

    /// Reads all tensors. Also returns those that contain NaN or infinity.
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

/// Returns the names and positions of the tensors of an archive that `torch.save` wrote.
///
/// # Errors
/// Returns an error that describes the problem if the archive is malformed.
pub fn tensors_of_archive(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    archive::tensors(std::io::Cursor::new(bytes), bytes.len() as u64)
}
