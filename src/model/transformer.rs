//! A model on the host: loading it, its activations and its logits, all in f32.

use std::path::Path;

use super::forward::{Cpu, Decoder, HookTap, PlacedModel, ResidualStream, normalize};
use super::hooks::Hooks;
use super::weights::Weights;
use super::{Config, snapshot};
use crate::backend::matmul::{affine, matmul_all_cores};
use crate::backend::pack::MatrixView;
use crate::error::Result;

/// A model with its weights, ready to run.
///
/// # Examples
///
/// Takes the post-activations of all MLP neurons of a bundled model on three tokens.
///
/// ```
/// use universal_neurons::Transformer;
/// use universal_neurons::model::Site;
/// use universal_neurons::model::capture::{Activations, Capture};
///
/// let model = Transformer::load("experiments/desk/a".as_ref())?;
/// let mut post = Activations::new(model.config.n_layers * model.config.d_mlp());
/// let mut hooks = Capture::new(&[true; 3], vec![(Site::MlpPost, &mut post)]);
/// model.forward(&[&[15, 7, 300]], &mut hooks);
/// assert_eq!(post.tokens(), 3);
/// assert!(post.values.iter().all(|v| *v > -0.2), "GELU is never far below zero");
/// # Ok::<(), universal_neurons::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Transformer {
    /// Shape and options of the model.
    pub config: Config,
    /// Weights in f32.
    pub weights: Weights,
}

impl Transformer {
    /// Loads `config.json` and the weights from a folder in Hugging Face form.
    ///
    /// # Errors
    ///
    /// Returns an error if either file is missing, malformed, or does not fit the other.
    pub fn load(folder: &Path) -> Result<Self> {
        let folder = snapshot::resolve(folder)?;
        let config = Config::load(&folder.join("config.json"))?;
        let weights = Weights::load(&folder, &config)?;
        Ok(Self { config, weights })
    }

    /// Runs rows of token ids through all blocks. Returns the residual stream after the last block,
    /// `[tokens, d_model]`, with the tokens of all rows one after another. Rows may differ in
    /// length and need no padding; rows do not see each other.
    ///
    /// # Panics
    ///
    /// Panics if a row is longer than the context or an id lies outside the vocabulary.
    pub fn forward(&self, rows: &[&[u32]], hooks: &mut dyn Hooks) -> Vec<f32> {
        let tap = &mut self.tap(rows, hooks);
        let Ok(resid) = self.placed().forward(&Cpu, rows, tap);
        resid
    }

    /// Returns what calls the hooks while the model reads rows.
    pub(super) fn tap<'a>(
        &'a self,
        rows: &'a [&'a [u32]],
        hooks: &'a mut dyn Hooks,
    ) -> HookTap<'a> {
        HookTap { config: &self.config, weights: &self.weights, rows, hooks }
    }

    fn placed(&self) -> PlacedModel<'_, Cpu> {
        let Self { config, weights } = self;
        PlacedModel { config, embeddings: weights, blocks: &weights.blocks }
    }

    /// Returns the logits `[tokens, d_vocab]` of a final residual stream `[tokens, d_model]`.
    pub fn logits(&self, resid: &[f32]) -> Vec<f32> {
        let (d, vocab) = (self.config.d_model, self.config.d_vocab);
        let tokens = resid.len() / d;
        let mut normed = Vec::new();
        normalize(resid, &self.weights.ln_final, self.config.layer_norm_eps, &mut normed);
        let mut logits = vec![0.0; tokens * vocab];
        let normed = MatrixView::new(&normed, tokens, d);
        let w_u = MatrixView::new(self.weights.unembedding(), vocab, d).t();
        match &self.weights.unembed {
            Some(unembed) => affine(normed, w_u, &unembed.bias, &mut logits),
            None => matmul_all_cores(normed, w_u, &mut logits),
        }
        logits
    }
}

impl Decoder for Transformer {
    fn config(&self) -> &Config {
        &self.config
    }

    fn forward(&self, rows: &[&[u32]], hooks: &mut dyn Hooks) -> Result<Vec<f32>> {
        Ok(Self::forward(self, rows, hooks))
    }

    fn forward_from(
        &self,
        start: ResidualStream<'_>,
        rows: &[&[u32]],
        hooks: &mut dyn Hooks,
    ) -> Result<Vec<f32>> {
        start.check(rows, self.config.d_model);
        let tap = &mut self.tap(rows, hooks);
        let from = (start.layer, start.values.to_vec());
        let Ok(resid) = self.placed().forward_from(&Cpu, from, rows, tap);
        Ok(resid)
    }

    fn logits(&self, resid: &[f32]) -> Result<Vec<f32>> {
        Ok(Self::logits(self, resid))
    }
}
