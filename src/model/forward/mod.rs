//! The forward pass of a decoder: LayerNorm before attention and MLP, causal attention with
//! learned or rotary positions, GELU. It is written once, for every [`Backend`].

mod cpu;
mod gpu;
mod gpu_transformer;
mod keep;
mod tap;

use super::hooks::{HookPoint, Hooks, Site};
use super::weights::Block;
use super::{Activation, Config};

pub use cpu::{Cpu, normalize};
pub use gpu::Gpu;
pub use gpu_transformer::GpuTransformer;
pub use keep::{BatchSums, KeepNeurons, NeuronPilot, NeuronPilots};
pub use tap::{HookTap, Tap};

/// The operations of the forward pass, on one kind of memory. Activations are row-major
/// `[tokens, width]`, with the tokens of all rows of a batch one after another.
pub trait Backend {
    /// Why an operation fails.
    type Error;
    /// Activations in f32.
    type Values;
    /// Activations as the left factor of a product.
    type Factor;
    /// Gain and bias of a LayerNorm.
    type Norm;
    /// Weight and bias of a linear layer.
    type Linear;
    /// Token embeddings, and learned positions if the model has them.
    type Embeddings;
    /// The rows of a batch: their ids, lengths and positions.
    type Rows;

    /// Prepares the rows of a batch.
    ///
    /// # Errors
    /// Returns an error if the memory fails.
    fn rows(&self, config: &Config, rows: &[&[u32]]) -> Result<Self::Rows, Self::Error>;

    /// Allocates room for `len` values of undefined content.
    ///
    /// # Errors
    /// Returns an error if there is too little memory.
    fn values(&self, len: usize) -> Result<Self::Values, Self::Error>;

    /// Allocates a factor `[tokens, width]` of undefined content.
    ///
    /// # Errors
    /// Returns an error if there is too little memory.
    fn factor(&self, tokens: usize, width: usize) -> Result<Self::Factor, Self::Error>;

    /// Returns the embedding of every token plus, if learned, that of its position.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn embed(
        &self,
        embeddings: &Self::Embeddings,
        rows: &Self::Rows,
        d_model: usize,
    ) -> Result<Self::Values, Self::Error>;

    /// Computes `out = (x − mean) / √(var + eps) · gain + bias`.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn norm(
        &self,
        x: &Self::Values,
        norm: &Self::Norm,
        eps: f32,
        out: &mut Self::Factor,
    ) -> Result<(), Self::Error>;

    /// Computes `out = x W + b`.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn linear(
        &self,
        x: &Self::Factor,
        layer: &Self::Linear,
        out: &mut Self::Values,
    ) -> Result<(), Self::Error>;

    /// Computes `out += x W + b`.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn add_linear(
        &self,
        x: &Self::Factor,
        layer: &Self::Linear,
        out: &mut Self::Values,
    ) -> Result<(), Self::Error>;

    /// Computes causal attention of every head within every row, from queries, keys and values side
    /// by side, `[tokens, 3 d_model]`. Rotary positions turn queries and keys in place.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn attention(
        &self,
        qkv: &mut Self::Values,
        rows: &Self::Rows,
        heads: Heads,
        out: &mut Self::Factor,
    ) -> Result<(), Self::Error>;

    /// Applies the activation function. The content of `pre` is undefined afterwards.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn activate(
        &self,
        function: Activation,
        pre: &mut Self::Values,
        post: &mut Self::Factor,
    ) -> Result<(), Self::Error>;

    /// Shows values to a function on the host, and keeps the changes that it makes.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn visit(
        &self,
        values: &mut Self::Values,
        see: &mut dyn FnMut(&mut [f32]),
    ) -> Result<(), Self::Error>;

    /// Shows a factor to a function on the host, and keeps the changes that it makes.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn visit_factor(
        &self,
        factor: &mut Self::Factor,
        see: &mut dyn FnMut(&mut [f32]),
    ) -> Result<(), Self::Error>;
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
    fn forward(&self, rows: &[&[u32]], hooks: &mut dyn Hooks) -> crate::Result<Vec<f32>>;

    /// Returns the logits `[tokens, d_vocab]` of a final residual stream `[tokens, d_model]`.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn logits(&self, resid: &[f32]) -> crate::Result<Vec<f32>>;
}

/// The attention heads of a layer.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of a head.
    pub d_head: usize,
    /// Factor of the scores.
    pub scale: f32,
}

/// A model whose weights are in the memory of a backend.
pub struct PlacedModel<'a, B: Backend> {
    /// Shape and options of the model.
    pub config: &'a Config,
    /// The embeddings.
    pub embeddings: &'a B::Embeddings,
    /// The blocks, in order.
    pub blocks: &'a [Block<B::Linear, B::Norm>],
}

impl<B: Backend> PlacedModel<'_, B> {
    /// Runs rows of token ids through all blocks. Returns the residual stream after the last block,
    /// `[tokens, d_model]`. Rows may differ in length and need no padding; rows do not see each
    /// other.
    ///
    /// # Errors
    /// Returns an error if the device fails, or the error of `tap`.
    ///
    /// # Panics
    /// Panics if a row is longer than the context or an id lies outside the vocabulary.
    pub fn forward(
        &self,
        backend: &B,
        rows: &[&[u32]],
        tap: &mut impl Tap<B>,
    ) -> Result<B::Values, B::Error> {
        let config = self.config;
        let (d, d_mlp, eps) = (config.d_model, config.d_mlp(), config.layer_norm_eps);
        self.check(rows);
        let tokens = rows.iter().map(|row| row.len()).sum();
        let rows = backend.rows(config, rows)?;
        let mut resid = backend.embed(self.embeddings, &rows, d)?;
        let mut normed = backend.factor(tokens, d)?;
        let mut mlp_input = backend.factor(tokens, d)?;
        let mut wide = backend.values(tokens * d_mlp.max(3 * d))?;
        let mut post = backend.factor(tokens, d_mlp)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            let point = |site| HookPoint { layer, site };
            tap.residual(backend, point(Site::ResidPre), &mut resid)?;
            if config.parallel_residual {
                backend.norm(&resid, &block.ln_2, eps, &mut mlp_input)?;
            }
            backend.norm(&resid, &block.ln_1, eps, &mut normed)?;
            backend.linear(&normed, &block.qkv, &mut wide)?;
            let (d_head, scale) = (config.d_head(), config.attention_scale(layer));
            backend.attention(
                &mut wide,
                &rows,
                Heads { d_model: d, d_head, scale },
                &mut normed,
            )?;
            backend.add_linear(&normed, &block.attn_out, &mut resid)?;
            if !config.parallel_residual {
                backend.norm(&resid, &block.ln_2, eps, &mut mlp_input)?;
            }
            backend.linear(&mlp_input, &block.mlp_in, &mut wide)?;
            tap.neurons(backend, layer, &mut wide, &mut post)?;
            backend.add_linear(&post, &block.mlp_out, &mut resid)?;
            tap.residual(backend, point(Site::ResidPost), &mut resid)?;
        }
        Ok(resid)
    }

    fn check(&self, rows: &[&[u32]]) {
        let Config { n_ctx, d_vocab, .. } = *self.config;
        for row in rows {
            assert!(row.len() <= n_ctx, "a row of {} tokens in a context of {n_ctx}", row.len());
            assert!(row.iter().all(|&id| (id as usize) < d_vocab), "an id outside the vocabulary");
        }
    }
}
