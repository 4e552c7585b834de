//! The operations that the forward pass consists of.

use super::super::change::Changes;
use super::super::{Activation, Config};

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
        heads: HeadShape,
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

    /// Changes values, `[tokens, width]`.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn change(
        &self,
        values: &mut Self::Values,
        width: usize,
        changes: Changes<'_>,
    ) -> Result<(), Self::Error>;

    /// Changes the post-activations of a layer, `[tokens, d_mlp]`.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn change_factor(
        &self,
        factor: &mut Self::Factor,
        width: usize,
        changes: Changes<'_>,
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

/// Shape of the attention heads of a layer, and the factor of their scores.
#[derive(Debug, Clone, Copy)]
pub struct HeadShape {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of a head.
    pub d_head: usize,
    /// Factor of the scores.
    pub scale: f32,
}

impl HeadShape {
    /// Returns the shape of the heads of a layer.
    pub fn of(config: &Config, layer: usize) -> Self {
        let scale = config.attention_scale(layer);
        Self { d_model: config.d_model, d_head: config.d_head(), scale }
    }
}
