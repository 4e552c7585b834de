//! Hooks: looking at, and changing, activations while the forward pass makes them.

use std::fmt;

/// Where in a block a hook sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Site {
    /// The residual stream that enters the block.
    ResidPre,
    /// MLP pre-activations, before GELU.
    MlpPre,
    /// MLP post-activations, after GELU: what the paper correlates.
    MlpPost,
    /// The residual stream that leaves the block.
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

/// A named place in the forward pass, displayed as `blocks.{layer}.{site}`.
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

/// Receives every activation as it is made; the forward pass keeps none itself.
pub trait Hooks {
    /// Called once per hook point and batch, in the order of the forward pass.
    ///
    /// `values` is row-major `[tokens, width]`, width being d_model or d_mlp,
    /// tokens those of all rows of the batch, one row after the other. A change
    /// made here is what the rest of the forward pass sees.
    fn at(&mut self, point: HookPoint, values: &mut [f32], width: usize);
}

/// No hooks.
impl Hooks for () {
    fn at(&mut self, _: HookPoint, _: &mut [f32], _: usize) {}
}

/// A closure as hooks.
impl<F: FnMut(HookPoint, &mut [f32], usize)> Hooks for F {
    fn at(&mut self, point: HookPoint, values: &mut [f32], width: usize) {
        self(point, values, width);
    }
}
