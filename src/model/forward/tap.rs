//! What sees and changes activations during the forward pass, wherever they are stored.

use super::super::Config;
use super::super::hook_point::{HookPoint, Site};
use super::super::hooks::Hooks;
use super::backend::Backend;

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
