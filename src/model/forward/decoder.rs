//! Models as experiments see them.

use super::super::Config;
use super::super::hooks::Hooks;
use crate::error::Result;

/// A model that is ready to run, on the host or on a device.
pub trait Decoder {
    /// Returns the shape and options of the model.
    fn config(&self) -> &Config;

    /// Runs rows of token ids through all blocks, and calls the hooks. Returns the residual stream
    /// after the last block, `[tokens, d_model]`.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    ///
    /// # Panics
    /// Panics if a row is longer than the context or an id lies outside the vocabulary.
    fn forward(&self, rows: &[&[u32]], hooks: &mut dyn Hooks) -> Result<Vec<f32>>;

    /// Returns the logits `[tokens, d_vocab]` of a final residual stream `[tokens, d_model]`.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn logits(&self, resid: &[f32]) -> Result<Vec<f32>>;
}
