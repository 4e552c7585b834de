//! Shape and options of a model of any family.

use serde::Deserialize;

use super::fields::{Problem, unsupported};

/// Shape and options of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Family of models that the model belongs to.
    pub architecture: Architecture,
    /// Number of blocks.
    pub n_layers: usize,
    /// Attention heads per block.
    pub n_heads: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Neurons per layer.
    pub(super) d_mlp: usize,
    /// Size of the vocabulary.
    pub d_vocab: usize,
    /// Longest row, in tokens.
    pub n_ctx: usize,
    /// The epsilon that every LayerNorm adds to the variance.
    pub layer_norm_eps: f32,
    /// The function from pre- to post-activations.
    pub activation: Activation,
    /// Whether attention scores of layer l are also divided by l + 1 (true for the Stanford
    /// models).
    pub scale_attn_by_inverse_layer_idx: bool,
    /// Rotary positions; `None` for a model with learned positions, which enter the embedding.
    pub rotary: Option<Rotary>,
    /// Whether attention and MLP of a block read the same residual stream.
    pub parallel_residual: bool,
    /// Id of the token that begins every row.
    pub bos_token_id: u32,
}

/// The sizes of a model, which its cost and memory depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Family of models that the model belongs to.
    pub architecture: Architecture,
    /// Number of blocks.
    pub n_layers: usize,
    /// Attention heads per block.
    pub n_heads: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Neurons per layer.
    pub d_mlp: usize,
    /// Size of the vocabulary.
    pub d_vocab: usize,
    /// Longest row, in tokens.
    pub n_ctx: usize,
}

impl ModelShape {
    /// Returns the number of weights of all blocks, without biases. Each costs two operations per
    /// token.
    pub fn block_weights(&self) -> usize {
        self.n_layers * self.d_model * (4 * self.d_model + 2 * self.d_mlp)
    }

    /// Returns the number of neurons of all layers.
    pub fn n_neurons(&self) -> usize {
        self.n_layers * self.d_mlp
    }
}

/// Families of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// GPT-2: learned positions, tied unembedding.
    Gpt2,
    /// GPT-NeoX (Pythia): rotary positions, separate unembedding.
    #[serde(rename = "gpt-neox")]
    Neox,
}

/// Forms of GELU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// The approximation by tanh.
    GeluNew,
    /// The exact form, by the error function.
    Gelu,
}

impl Activation {
    /// Returns the activation with the given name, read from `field`.
    pub(super) fn named(name: &str, field: &str) -> Result<Self, Problem> {
        match name {
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Self::GeluNew),
            "gelu" | "gelu_python" => Ok(Self::Gelu),
            _ => Err(unsupported(field, "\"gelu_new\" or \"gelu\"")),
        }
    }
}

/// Rotary positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rotary {
    /// Number of dimensions of a head that are rotated: the first ones.
    pub dims: usize,
    /// Base of the angles: position · base^(−2i / dims).
    pub base: f64,
}

impl Config {
    /// Returns the shape of a model of which only activations were recorded. Its vocabulary is the
    /// indices of the tokens; it has neither weights nor a residual stream.
    pub fn of_recording(n_layers: usize, d_mlp: usize, tokens: usize) -> Self {
        Self {
            architecture: Architecture::Gpt2,
            n_layers,
            n_heads: 1,
            d_model: 0,
            d_mlp,
            d_vocab: tokens,
            n_ctx: 0,
            layer_norm_eps: 0.0,
            activation: Activation::GeluNew,
            scale_attn_by_inverse_layer_idx: false,
            rotary: None,
            parallel_residual: false,
            bos_token_id: 0,
        }
    }

    /// Checks that a model of this shape can exist.
    pub(super) fn check_shape(&self) -> Result<(), Problem> {
        let sizes = [
            ("layers", self.n_layers, 1 << 10),
            ("heads", self.n_heads, 1 << 10),
            ("d_model", self.d_model, 1 << 16),
            ("d_mlp", self.d_mlp, 1 << 18),
            ("vocabulary", self.d_vocab, 1 << 22),
            ("context", self.n_ctx, 1 << 20),
        ];
        const REMEDY: &str = "check that config.json belongs to these weights";
        if let Some((what, size, max)) =
            sizes.iter().find(|(_, size, max)| *size == 0 || size > max)
        {
            return Err((format!("the size of {what} is {size}, expected 1 to {max}"), REMEDY));
        }
        let eps = self.layer_norm_eps;
        if !(eps.is_finite() && eps > 0.0) {
            return Err((format!("the epsilon of LayerNorm is {eps}, expected above 0"), REMEDY));
        }
        if !self.d_model.is_multiple_of(self.n_heads) {
            let problem =
                format!("d_model {} is not a multiple of {} heads", self.d_model, self.n_heads);
            return Err((problem, REMEDY));
        }
        if self.bos_token_id as usize >= self.d_vocab {
            let problem = format!(
                "`bos_token_id` {} lies outside the vocabulary of {}",
                self.bos_token_id, self.d_vocab
            );
            return Err((problem, REMEDY));
        }
        match self.rotary {
            Some(r)
                if r.dims == 0
                    || r.dims > self.d_head()
                    || r.dims % 2 == 1
                    || r.base <= 1.0
                    || !r.base.is_finite() =>
            {
                let problem = format!(
                    "{} of the {} dimensions of a head are rotated with base {}",
                    r.dims,
                    self.d_head(),
                    r.base
                );
                Err((problem, "expected an even number of them, and a base above 1"))
            }
            _ => Ok(()),
        }
    }

    /// Neurons per layer.
    pub fn d_mlp(&self) -> usize {
        self.d_mlp
    }

    /// Returns the width of an attention head.
    pub fn d_head(&self) -> usize {
        self.d_model / self.n_heads
    }

    /// Returns the sizes of the model.
    pub fn shape(&self) -> ModelShape {
        let Self { architecture, n_layers, n_heads, d_model, d_mlp, d_vocab, n_ctx, .. } = *self;
        ModelShape { architecture, n_layers, n_heads, d_model, d_mlp, d_vocab, n_ctx }
    }

    /// Returns the factor of the attention scores of a layer: `1/√d_head`, times `1/(layer + 1)` if
    /// the config asks for it.
    pub fn attention_scale(&self, layer: usize) -> f32 {
        let depth = if self.scale_attn_by_inverse_layer_idx { layer + 1 } else { 1 };
        1.0 / ((self.d_head() as f32).sqrt() * depth as f32)
    }
}
