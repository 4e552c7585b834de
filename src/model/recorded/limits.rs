//! Limits of recordings.

use super::files::RecordedFiles;
use super::names;
use crate::error::{Error, Result};

/// Largest number of layers of a recording.
const MAX_LAYERS: usize = 1 << 10;
/// Largest number of units per layer of a recording.
pub const MAX_UNITS: usize = 1 << 18;

/// Checks the number of layers.
///
/// # Errors
/// Returns an error naming the file if there are none, or too many.
pub fn check_layers(files: &RecordedFiles, n: usize) -> Result<()> {
    if (1..=MAX_LAYERS).contains(&n) {
        return Ok(());
    }
    let problem = format!("holds activations of {n} layers, expected 1 to {MAX_LAYERS}");
    Err(files.error(None, problem, names::REMEDY))
}

/// Returns the error for a layer that is missing among `n` layers.
pub fn missing(files: &RecordedFiles, n: usize, layer: usize) -> Error {
    let problem = format!("holds layer {}, and no activations of layer {layer}", n - 1);
    files.error(None, problem, "number the layers from 0 on, without gaps")
}
