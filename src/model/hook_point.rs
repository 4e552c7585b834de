//! Named points of the forward pass.

use std::fmt;

/// The place of a hook within a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Site {
    /// The residual stream before the block (`hook_resid_pre`).
    ResidPre,
    /// The attention weight that each head gives the first token, `[tokens, n_heads]`: column 0 of
    /// `attn.hook_pattern`.
    AttentionToFirst,
    /// The norm of what each head adds to the residual stream, `[tokens, n_heads]`: that of
    /// `attn.hook_result`, `‖W_O z‖`.
    HeadOutputNorm,
    /// MLP pre-activations, before GELU (`mlp.hook_pre`).
    MlpPre,
    /// MLP post-activations, after GELU (`mlp.hook_post`). The paper correlates these.
    MlpPost,
    /// The residual stream after the block (`hook_resid_post`).
    ResidPost,
}

impl Site {
    /// Returns whether the values are computed only for hooks that ask for them, since the forward pass
    /// itself does not need them.
    pub fn is_on_demand(self) -> bool {
        matches!(self, Self::AttentionToFirst | Self::HeadOutputNorm)
    }

    fn name(self) -> &'static str {
        match self {
            Self::ResidPre => "hook_resid_pre",
            Self::AttentionToFirst => "attn.hook_pattern[0]",
            Self::HeadOutputNorm => "attn.hook_result.norm",
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
