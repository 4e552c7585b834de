//! Hooks that read and change activations during the forward pass.

use std::fmt;

/// The place of a hook within a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Site {
    /// The residual stream before the block (`hook_resid_pre`).
    ResidPre,
    /// MLP pre-activations, before GELU (`mlp.hook_pre`).
    MlpPre,
    /// MLP post-activations, after GELU (`mlp.hook_post`). The paper correlates these.
    MlpPost,
    /// The residual stream after the block (`hook_resid_post`).
    ResidPost,
}

impl Site {
    fn name(self) -> &'static str {
        match self {
            Self::ResidPre => "hook_resid_pre",
            Self::MlpPre => "mlp.hook_pre",
            Self::MlpPost => "mlp.hook_post",
            Self::ResidPost => "hook_resid_post",
        }
    }
}

/// A named point in the forward pass, displayed as `blocks.{layer}.{site}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HookPoint {
    /// Block index, from 0.
    pub layer: usize,
    /// Place within the block.
    pub site: Site,
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blocks.{}.{}", self.layer, self.site.name())
    }
}

/// Receives every activation when it is computed. The forward pass keeps none itself.
pub trait Hooks {
    /// Called once per hook point and batch, in the order of the forward pass.
    ///
    /// `values` is row-major `[tokens, width]`; `width` is d_model or d_mlp, and the tokens of all
    /// rows of the batch follow one another. The rest of the forward pass sees any change made
    /// here.
    fn at(&mut self, point: HookPoint, values: &mut [f32], width: usize);

    /// Returns whether [`Self::at`] has to be called at a point. Elsewhere a forward pass on a
    /// device need not copy activations to the host.
    fn wants(&self, _: HookPoint) -> bool {
        true
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
