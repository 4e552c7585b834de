//! The parameters of a model.

/// Gain and bias of a LayerNorm, each `[d_model]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Norm {
    /// γ
    pub gain: Vec<f32>,
    /// β
    pub bias: Vec<f32>,
}

/// A linear layer `y = x W + b`: weight `[d_in, d_out]` row-major, bias `[d_out]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// W: one row per input.
    pub weight: Vec<f32>,
    /// b
    pub bias: Vec<f32>,
}

/// One transformer block, on the host or, with other types of layers, on a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Block<L = Linear, N = Norm> {
    /// LayerNorm before attention.
    pub ln_1: N,
    /// Queries, keys and values side by side, `[d_model, 3 d_model]`.
    pub qkv: L,
    /// W_O, `[d_model, d_model]`.
    pub attn_out: L,
    /// LayerNorm before the MLP.
    pub ln_2: N,
    /// W_in, `[d_model, d_mlp]`: neuron j reads with column j.
    pub mlp_in: L,
    /// W_out, `[d_mlp, d_model]`: neuron j writes row j.
    pub mlp_out: L,
}

/// All weights of a model, in f32, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// W_E, `[d_vocab, d_model]`.
    pub embed: Vec<f32>,
    /// W_pos, `[n_ctx, d_model]`; empty if positions are rotary.
    pub pos_embed: Vec<f32>,
    /// The blocks, in order.
    pub blocks: Vec<Block>,
    /// LayerNorm before the unembedding.
    pub ln_final: Norm,
    /// The unembedding; `None` if it is tied to the embedding.
    pub unembed: Option<Unembed>,
}

/// An unembedding that is separate from the embedding, as in GPT-NeoX and after preprocessing.
#[derive(Debug, Clone, PartialEq)]
pub struct Unembed {
    /// W_Uᵀ, `[d_vocab, d_model]`: row t writes the logit of token t.
    pub weight: Vec<f32>,
    /// b_U, `[d_vocab]`.
    pub bias: Vec<f32>,
}

impl Weights {
    /// Returns the unembedding, `[d_vocab, d_model]`: the embedding if they are tied.
    pub fn unembedding(&self) -> &[f32] {
        self.unembed.as_ref().map_or(&self.embed, |u| &u.weight)
    }
}
