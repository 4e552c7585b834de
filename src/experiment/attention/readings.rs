//! What an experiment on attention heads reads from the forward pass.

use super::choice::Pair;
use crate::error::Result;
use crate::model::{Decoder, HookPoint, Site};

/// Activations captured from the forward pass of a batch.
pub struct BatchReadings {
    /// The residual stream before each layer (`hook_resid_pre`), `[tokens, d_model]`.
    resid: Vec<Vec<f32>>,
    /// Activations of each pair's neuron, `[pair][token]`.
    pub activations: Vec<Vec<f32>>,
}

impl BatchReadings {
    /// Runs the forward pass of some rows.
    ///
    /// # Errors
    /// Returns an error if the device that the model runs on fails.
    pub fn of(model: &dyn Decoder, rows: &[&[u32]], pairs: &[Pair]) -> Result<Self> {
        let mut seen = Self {
            resid: vec![Vec::new(); model.config().n_layers],
            activations: vec![Vec::new(); pairs.len()],
        };
        let mut hooks = |point: HookPoint, values: &mut [f32], width: usize| match point.site {
            Site::ResidPre => seen.resid[point.layer] = values.to_vec(),
            Site::MlpPost => {
                for (pair, activations) in pairs.iter().zip(&mut seen.activations) {
                    if pair.neuron.layer == point.layer {
                        let neuron = values.iter().skip(pair.neuron.neuron).step_by(width);
                        *activations = neuron.copied().collect();
                    }
                }
            }
            _ => {}
        };
        model.forward(rows, &mut hooks)?;
        Ok(seen)
    }

    /// Returns the residual stream before a layer for one row of tokens, `[len][d]`.
    pub fn row(&self, layer: usize, start: usize, len: usize, d: usize) -> Vec<Vec<f64>> {
        let rows = self.resid[layer][start * d..(start + len) * d].chunks_exact(d);
        rows.map(|row| row.iter().map(|&v| v.into()).collect()).collect()
    }
}

/// Returns the index of the first token and the number of tokens of each row.
pub fn places(rows: &[&[u32]]) -> Vec<(usize, usize)> {
    let mut next = 0;
    let place = |row: &&[u32]| {
        next += row.len();
        (next - row.len(), row.len())
    };
    rows.iter().map(place).collect()
}
