//! `config.json` of a model in Hugging Face form.
//!
//! Nothing is assumed: an unknown field that could change numbers is refused, not ignored.

mod fields;
mod gpt2;
mod known;
mod neox;
mod shape;

use std::path::Path;

use serde_json::Value;

use crate::digest::digest;
use crate::error::{Error, Kind, Result};
use crate::input::InputFile;
use fields::{NOT_A_CONFIG, Problem, unsupported};

pub use shape::{Activation, Architecture, Config, ModelShape, Rotary};

/// Longest `config.json` that is read, in bytes; real files have a few thousand.
const MAX_CONFIG: u64 = 1 << 20;

impl Config {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// Returns an error if the file is missing or malformed, a shape is impossible, or a
    /// field asks for something that this forward pass does not compute.
    pub fn load(path: &Path) -> Result<Self> {
        Self::load_digested(path).map(|(config, _)| config)
    }

    /// Reads `config.json`. Also returns the SHA-256 of its bytes.
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
    /// Returns the problem and the remedy, in the cases of [`Self::load`].
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
