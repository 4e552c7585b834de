//! `config.json` of a model in Hugging Face form.
//!
//! Read, never assumed: a field that would change numbers and that this forward
//! pass does not know is refused, not ignored.

mod fields;
mod gpt2;
mod known;
mod neox;

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::input::InputFile;
use crate::store::digest;

/// Longest `config.json` that is read, in bytes; real files have a few thousand.
const MAX_CONFIG: u64 = 1 << 20;
const NOT_A_CONFIG: &str = "give the config.json of the model as Transformers writes it";

/// Problem and remedy.
type Problem = (String, &'static str);

/// Shape and options of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Which family of models it is of.
    pub architecture: Architecture,
    /// Number of blocks.
    pub n_layers: usize,
    /// Attention heads per block.
    pub n_heads: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Neurons per layer.
    d_mlp: usize,
    /// Size of the vocabulary.
    pub d_vocab: usize,
    /// Longest row, in tokens.
    pub n_ctx: usize,
    /// Added to the variance by every LayerNorm.
    pub layer_norm_eps: f32,
    /// What is between pre- and post-activations.
    pub activation: Activation,
    /// Divide attention scores of layer l by l + 1 as well (true for the Stanford models).
    pub scale_attn_by_inverse_layer_idx: bool,
    /// How positions enter attention; learned positions enter the embedding where there is none.
    pub rotary: Option<Rotary>,
    /// Attention and MLP of a block read the same residual stream.
    pub parallel_residual: bool,
    /// Id of the token that begins every row.
    pub bos_token_id: u32,
}

/// Families of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// GPT-2: learned positions, tied unembedding.
    Gpt2,
    /// GPT-NeoX (Pythia): rotary positions, unembedding of its own.
    Neox,
}

/// Forms of GELU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// By tanh.
    GeluNew,
    /// By the error function.
    Gelu,
}

impl Activation {
    fn named(name: &str, field: &str) -> Result<Self, Problem> {
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
    /// Dimensions of a head that are rotated, the first ones.
    pub dims: usize,
    /// Base of the angles: position · base^(−2i / dims).
    pub base: f64,
}

fn unsupported(field: &str, expected: &str) -> Problem {
    let problem = format!("field `{field}` is unsupported, expected {expected}");
    (problem, "this program runs GPT-2 and GPT-NeoX; convert or choose another model")
}

/// Refuses the first option that is not as this forward pass has it.
fn require(options: &[(&str, bool, &str)]) -> Result<(), Problem> {
    match options.iter().find(|(_, as_expected, _)| !as_expected) {
        Some((field, _, expected)) => Err(unsupported(field, expected)),
        None => Ok(()),
    }
}

fn unknown(field: &str) -> Problem {
    (
        format!("unknown field `{field}`, which may change the numbers"),
        "remove the field if it does not alter inference",
    )
}

/// Refuses fields that may change the numbers: unknown ones, and options that are on and
/// that this forward pass does not have.
fn refuse_unknown(other: &Map<String, Value>, neutral: &[&str]) -> Result<(), Problem> {
    for (field, value) in other {
        if known::is_on(field, value) {
            return Err(unsupported(field, "false, null or empty"));
        }
        let known = known::is_neutral(field)
            || known::is_off(field, value)
            || neutral.contains(&field.as_str());
        if !known {
            return Err(unknown(field));
        }
    }
    Ok(())
}

fn fields<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Problem> {
    serde_json::from_value(Value::Object(fields)).map_err(|e| (e.to_string(), NOT_A_CONFIG))
}

impl Config {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// Returns an error if the file is missing or malformed, a shape is impossible, or a
    /// field asks for something that this forward pass does not compute.
    pub fn load(path: &Path) -> Result<Self> {
        Self::load_digested(path).map(|(config, _)| config)
    }

    /// Reads `config.json`, and returns the SHA-256 of the bytes that were read beside it.
    ///
    /// # Errors
    /// Returns an error as [`Self::load`] does.
    pub fn load_digested(path: &Path) -> Result<(Self, String)> {
        let bytes = InputFile::open(Kind::Model, path)?.read(MAX_CONFIG)?;
        let text = str::from_utf8(&bytes).map_err(|e| (e.to_string(), "save the file as UTF-8"));
        let config = text.and_then(|text| Self::parse(text.trim_start_matches('\u{feff}')));
        let named =
            |(problem, remedy): Problem| Error::new(Kind::Model, path.display(), problem, remedy);
        Ok((config.map_err(named)?, digest(&bytes)))
    }

    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// Returns what is wrong, and what to do about it, in the cases of [`Self::load`].
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let read = serde_json::from_str(text);
        let fields::ConfigFields(mut all) = read.map_err(|e| (e.to_string(), NOT_A_CONFIG))?;
        let config = match all.remove("model_type") {
            Some(Value::String(kind)) if kind == "gpt2" => gpt2::read(all),
            Some(Value::String(kind)) if kind == "gpt_neox" => neox::read(all),
            None if gpt2::is_likely(&all) => gpt2::read(all),
            _ => Err(unsupported("model_type", "\"gpt2\" or \"gpt_neox\"")),
        }?;
        config.check_shape()?;
        Ok(config)
    }

    fn check_shape(&self) -> Result<(), Problem> {
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
                format!("d_model {} is no multiple of {} heads", self.d_model, self.n_heads);
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

    /// Width of an attention head.
    pub fn d_head(&self) -> usize {
        self.d_model / self.n_heads
    }

    /// Weights of all blocks, biases aside: two operations each per token.
    pub fn block_weights(&self) -> usize {
        self.n_layers * self.d_model * (4 * self.d_model + 2 * self.d_mlp())
    }

    /// What attention scores of a layer are multiplied by: `1/√d_head`, and
    /// `1/(layer + 1)` where the config asks for it.
    pub fn attention_scale(&self, layer: usize) -> f32 {
        let depth = if self.scale_attn_by_inverse_layer_idx { layer + 1 } else { 1 };
        1.0 / ((self.d_head() as f32).sqrt() * depth as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(extra: &str) -> Result<Config, (String, &'static str)> {
        Config::parse(&format!(
            r#"{{"model_type":"gpt2","n_layer":2,"n_head":2,"n_embd":8,"vocab_size":16,
                "n_positions":4,"bos_token_id":15{extra}}}"#
        ))
    }

    #[test]
    fn defaults_are_those_of_gpt2() {
        let config = with("").expect("minimal config");
        assert_eq!((config.d_mlp(), config.d_head()), (32, 4));
        assert_eq!(config.attention_scale(1), 0.5);
    }

    #[test]
    fn inverse_layer_scaling_divides_by_layer_plus_one() {
        let config = with(r#","scale_attn_by_inverse_layer_idx":true"#).expect("config");
        assert_eq!((config.attention_scale(0), config.attention_scale(1)), (0.5, 0.25));
    }

    #[test]
    fn fields_that_would_change_numbers_are_refused() {
        for (extra, named) in [
            (r#","activation_function":"relu""#, "activation_function"),
            (r#","rope_theta":10000"#, "rope_theta"),
            (r#","tie_word_embeddings":false"#, "tie_word_embeddings"),
            (r#","n_inner":0"#, "d_mlp"),
            (r#","layer_norm_epsilon":0"#, "LayerNorm"),
        ] {
            let (problem, _) = with(extra).expect_err(extra);
            assert!(problem.contains(named), "{problem}");
        }
    }
}
