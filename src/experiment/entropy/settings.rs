//! The settings of `kind: entropy`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::table::NeuronId;

/// How random neurons are chosen from the last two layers. Both ways leave out the top decile of
/// weight norm and the bottom decile of the variance of the logit effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Controls {
    /// Norm is ‖w_out‖, and the deciles are those of the last two layers.
    #[default]
    LateLayers,
    /// Norm is ‖w_in‖² + ‖w_out‖², and the deciles are those of all neurons of the model, as in
    /// the authors' code.
    AllLayers,
}

/// `kind: entropy`: neurons that change the entropy of the prediction (§5.2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EntropySettings {
    /// Number of candidates: the neurons of the last two layers with the largest weight norm and
    /// the smallest variance of the logit effect.
    #[schemars(range(min = 1, max = 1000))]
    pub candidates: usize,
    /// Neurons to fix in place of the automatically chosen candidates, such as `[L23.N945]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub neurons: Vec<NeuronId>,
    /// Number of random neurons of the last two layers that the candidates are compared with.
    #[schemars(range(min = 1, max = 10_000))]
    pub controls: usize,
    /// How random neurons are chosen.
    pub choice: Controls,
    /// Whether predictions that are made at beginning-of-sequence tokens count. The authors' code
    /// leaves them out.
    pub count_bos: bool,
    /// Seed of the choice of random neurons.
    pub seed: u64,
    /// Values that the activation is fixed to, smallest first.
    #[schemars(length(min = 2), extend("x-remedy" = "the paper uses 0 to 6"))]
    pub values: Vec<f32>,
}

impl Default for EntropySettings {
    fn default() -> Self {
        let values = [0, 1, 2, 3, 4, 5, 6].map(|v: u8| f32::from(v)).to_vec();
        let (choice, count_bos) = (Controls::LateLayers, true);
        Self {
            candidates: 3,
            neurons: Vec::new(),
            controls: 20,
            choice,
            count_bos,
            seed: 1,
            values,
        }
    }
}
