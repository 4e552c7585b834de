//! Hooks that read and change activations during the forward pass.

use super::change::Changes;
use super::hook_point::HookPoint;

/// Receives every activation when it is computed. The forward pass keeps none itself.
pub trait Hooks {
    /// Called once per hook point and batch, in the order of the forward pass.
    ///
    /// `values` is row-major `[tokens, width]`; `width` is d_model, d_mlp or n_heads, and the tokens of all
    /// rows of the batch follow one another. The rest of the forward pass sees any change made
    /// here.
    fn at(&mut self, point: HookPoint, values: &mut [f32], width: usize);

    /// Returns the changes to make at a point before [`Self::at`] is called there. A device makes
    /// them without copying activations to the host.
    fn changes(&self, _: HookPoint) -> Option<Changes<'_>> {
        None
    }

    /// Returns whether [`Self::at`] has to be called at a point: by default, wherever the forward pass
    /// computes the values anyway. Elsewhere a forward pass on a device need not copy activations to
    /// the host.
    fn wants(&self, point: HookPoint) -> bool {
        !point.site.is_on_demand()
    }
}

/// No hooks.
impl Hooks for () {
    fn wants(&self, _: HookPoint) -> bool {
        false
    }

    fn at(&mut self, _: HookPoint, _: &mut [f32], _: usize) {}
}

/// A closure as hooks.
impl<F: FnMut(HookPoint, &mut [f32], usize)> Hooks for F {
    fn at(&mut self, point: HookPoint, values: &mut [f32], width: usize) {
        self(point, values, width);
    }
}
