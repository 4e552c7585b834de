//! The forward pass of a decoder: LayerNorm before attention and MLP, causal attention with
//! learned or rotary positions, GELU.

use super::super::Config;
use super::super::hook_point::{HookPoint, Site};
use super::super::weights::Block;
use super::backend::{Backend, HeadShape};
use super::tap::Tap;

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
        self.run(backend, None, rows, tap)
    }

    /// Runs rows of token ids through the blocks from `layer` on. `resid` is the residual stream
    /// before that block, `[tokens, d_model]`. Returns what [`Self::forward`] does.
    ///
    /// # Errors
    /// Returns an error if the device fails, or the error of `tap`.
    ///
    /// # Panics
    /// Panics if a row is longer than the context or an id lies outside the vocabulary.
    pub fn forward_from(
        &self,
        backend: &B,
        (layer, resid): (usize, B::Values),
        rows: &[&[u32]],
        tap: &mut impl Tap<B>,
    ) -> Result<B::Values, B::Error> {
        self.run(backend, Some((layer, resid)), rows, tap)
    }

    /// Runs rows from a block and the residual stream before it, or else from the embedding.
    fn run(
        &self,
        backend: &B,
        start: Option<(usize, B::Values)>,
        rows: &[&[u32]],
        tap: &mut impl Tap<B>,
    ) -> Result<B::Values, B::Error> {
        let config = self.config;
        let (d, d_mlp, eps) = (config.d_model, config.d_mlp(), config.layer_norm_eps);
        self.check(rows);
        let tokens = rows.iter().map(|row| row.len()).sum();
        let rows = backend.rows(config, rows)?;
        let (first, mut resid) = match start {
            Some(start) => start,
            None => (0, backend.embed(self.embeddings, &rows, d)?),
        };
        let mut normed = backend.factor(tokens, d)?;
        let mut mlp_input = backend.factor(tokens, d)?;
        let mut wide = backend.values(tokens * d_mlp.max(3 * d))?;
        let mut post = backend.factor(tokens, d_mlp)?;
        for (layer, block) in self.blocks.iter().enumerate().skip(first) {
            let point = |site| HookPoint { layer, site };
            tap.residual(backend, point(Site::ResidPre), &mut resid)?;
            if config.parallel_residual {
                backend.norm(&resid, &block.ln_2, eps, &mut mlp_input)?;
            }
            backend.norm(&resid, &block.ln_1, eps, &mut normed)?;
            backend.linear(&normed, &block.qkv, &mut wide)?;
            backend.attention(&mut wide, &rows, HeadShape::of(config, layer), &mut normed)?;
            tap.heads(backend, layer, &mut wide, &mut normed)?;
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
