//! What experiments cost, counted from the sizes of models and text before anything is loaded.

use crate::plan::Workload;

/// The cost of an experiment beside that of loading models.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KindCost {
    /// The share of the tokens that each study of the family reads.
    pub studies: Vec<f64>,
    /// Whether universal neurons are needed, which a study of all tokens finds if no run is named.
    pub universal: bool,
    /// Passes of the reference model through all of its blocks, each over all tokens. A pass that
    /// starts at a later block counts as a part of one.
    pub passes: f64,
    /// Passes that also compute the logits of every token.
    pub predictions: f64,
    /// Other floating-point operations.
    pub operations: f64,
    /// Bytes of memory beside those of weights and of a batch.
    pub bytes: f64,
}

impl KindCost {
    /// Returns the cost of studies of these shares of the tokens.
    pub fn of_studies(studies: Vec<f64>) -> Self {
        Self { studies, ..Self::default() }
    }

    /// Returns the cost of some passes over the tokens.
    pub fn of_passes(passes: f64) -> Self {
        Self { passes, ..Self::default() }
    }

    /// Returns the cost of a pass that keeps the activations of all tokens, and of comparing them
    /// with those of some copies.
    pub fn of_kept_copies(work: &Workload, copies: usize) -> Self {
        let (n, used) = (work.reference().n_neurons() as f64, work.used as f64);
        let bytes = size_of::<f32>() as f64 * used * n * (2 + copies) as f64;
        Self { operations: 2.0 * n * n * used * copies as f64, bytes, ..Self::of_passes(1.0) }
    }

    /// Adds the operations of the effects of all neurons on the vocabulary.
    #[must_use]
    pub fn with_vocabulary(self, work: &Workload) -> Self {
        let of = work.reference();
        let effects = 2.0 * (of.n_neurons() * of.d_model) as f64 * of.d_vocab as f64;
        Self { operations: self.operations + effects, ..self }
    }
}

/// Returns the share of the blocks that a pass runs if a layer is the first that it changes.
pub fn from_layer(work: &Workload, layer: usize) -> f64 {
    let layers = work.reference().n_layers;
    layers.saturating_sub(layer) as f64 / layers as f64
}
