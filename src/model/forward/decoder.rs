//! Models as experiments see them.

use super::super::Config;
use super::super::hooks::Hooks;
use crate::error::Result;

/// The residual stream before a block (`hook_resid_pre`), on the host.
#[derive(Debug, Clone, Copy)]
pub struct ResidualStream<'a> {
    /// Index of the block, from 0.
    pub layer: usize,
    /// The values, `[tokens, d_model]`.
    pub values: &'a [f32],
}

impl ResidualStream<'_> {
    /// Panics unless the stream is that of the tokens of `rows`.
    pub fn check(&self, rows: &[&[u32]], d_model: usize) {
        let tokens: usize = rows.iter().map(|row| row.len()).sum();
        assert_eq!(self.values.len(), tokens * d_model, "the stream of other tokens");
    }
}

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

    /// Runs rows of token ids through the blocks from that of `start` on, as [`Self::forward`] runs
    /// them through all blocks. `start` is the residual stream of the same rows.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    ///
    /// # Panics
    /// Panics as [`Self::forward`] does, or if the stream is that of another number of tokens.
    fn forward_from(
        &self,
        start: ResidualStream<'_>,
        rows: &[&[u32]],
        hooks: &mut dyn Hooks,
    ) -> Result<Vec<f32>>;

    /// Returns the logits `[tokens, d_vocab]` of a final residual stream `[tokens, d_model]`.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn logits(&self, resid: &[f32]) -> Result<Vec<f32>>;
}
