//! What sees and changes activations during the forward pass, wherever they are stored.

use super::super::Config;
use super::super::hook_point::{HookPoint, Site};
use super::super::hooks::Hooks;
use super::super::weights::Weights;
use super::backend::{Backend, HeadShape};
use super::heads::{attention_to_first, head_output_norms};

/// Receives the activations of a forward pass in the memory of its backend.
pub trait Tap<B: Backend> {
    /// Receives the residual stream before or after a block.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn residual(
        &mut self,
        backend: &B,
        point: HookPoint,
        resid: &mut B::Values,
    ) -> Result<(), B::Error>;

    /// Receives the queries, keys and values of a layer after attention, `[tokens, 3 d_model]`, and what
    /// its heads read, `[tokens, d_model]`, one head after the other.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn heads(
        &mut self,
        _backend: &B,
        _layer: usize,
        _qkv: &mut B::Values,
        _read: &mut B::Factor,
    ) -> Result<(), B::Error> {
        Ok(())
    }

    /// Receives the pre-activations of a layer, `[tokens, d_mlp]`, and computes the
    /// post-activations. The content of `pre` is undefined afterwards.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn neurons(
        &mut self,
        backend: &B,
        layer: usize,
        pre: &mut B::Values,
        post: &mut B::Factor,
    ) -> Result<(), B::Error>;
}

/// Calls hooks, which see activations on the host.
pub struct HookTap<'a> {
    /// The model's shape and activation function.
    pub config: &'a Config,
    /// The weights on the host, which the norms of what heads write follow from.
    pub weights: &'a Weights,
    /// The rows of token ids.
    pub rows: &'a [&'a [u32]],
    /// The hooks.
    pub hooks: &'a mut dyn Hooks,
}

impl<B: Backend> Tap<B> for HookTap<'_> {
    fn residual(
        &mut self,
        backend: &B,
        point: HookPoint,
        resid: &mut B::Values,
    ) -> Result<(), B::Error> {
        if let Some(changes) = self.hooks.changes(point) {
            backend.change(resid, self.config.d_model, changes)?;
        }
        if !self.hooks.wants(point) {
            return Ok(());
        }
        backend.visit(resid, &mut |values| self.hooks.at(point, values, self.config.d_model))
    }

    fn heads(
        &mut self,
        backend: &B,
        layer: usize,
        qkv: &mut B::Values,
        read: &mut B::Factor,
    ) -> Result<(), B::Error> {
        let (config, heads) = (self.config, self.config.n_heads);
        let to_first = HookPoint { layer, site: Site::AttentionToFirst };
        if self.hooks.wants(to_first) {
            let lengths: Vec<usize> = self.rows.iter().map(|row| row.len()).collect();
            let shape = HeadShape::of(config, layer);
            backend.visit(qkv, &mut |values| {
                let mut weights = attention_to_first(values, &lengths, shape);
                self.hooks.at(to_first, &mut weights, heads);
            })?;
        }
        let norms = HookPoint { layer, site: Site::HeadOutputNorm };
        if self.hooks.wants(norms) {
            let w_o = &self.weights.blocks[layer].attn_out.weight;
            backend.visit_factor(read, &mut |values| {
                let mut norms_of_heads = head_output_norms(values, w_o, config);
                self.hooks.at(norms, &mut norms_of_heads, heads);
            })?;
        }
        Ok(())
    }

    fn neurons(
        &mut self,
        backend: &B,
        layer: usize,
        pre: &mut B::Values,
        post: &mut B::Factor,
    ) -> Result<(), B::Error> {
        let width = self.config.d_mlp();
        let pre_point = HookPoint { layer, site: Site::MlpPre };
        if let Some(changes) = self.hooks.changes(pre_point) {
            backend.change(pre, width, changes)?;
        }
        if self.hooks.wants(pre_point) {
            backend.visit(pre, &mut |values| self.hooks.at(pre_point, values, width))?;
        }
        backend.activate(self.config.activation, pre, post)?;
        let post_point = HookPoint { layer, site: Site::MlpPost };
        if let Some(changes) = self.hooks.changes(post_point) {
            backend.change_factor(post, width, changes)?;
        }
        if self.hooks.wants(post_point) {
            backend.visit_factor(post, &mut |values| self.hooks.at(post_point, values, width))?;
        }
        Ok(())
    }
}
