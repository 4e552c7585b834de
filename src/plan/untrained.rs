//! Untrained networks: what the architecture and the tokens alone give.

use crate::correlation::{Purpose, RandomStream};
use crate::model::Config;
use crate::model::weights::{Block, Linear, Norm, Unembed, Weights};

/// Standard deviation of initial weights, as in the released code of GPT-2 (`initializer_range`).
const SPREAD: f32 = 0.02;

/// Returns the weights that training starts from: normal with standard deviation 0.02, those that write
/// to the residual stream divided by √(2 `n_layers`), no biases, and LayerNorms that only normalise
/// (Radford et al., 2019, §2.3). The same seed gives the same weights.
pub fn untrained(config: &Config, seed: u64) -> Weights {
    let (d, d_mlp) = (config.d_model, config.d_mlp());
    let mut draw = Draws { seed, next: 0 };
    let writing = SPREAD / (2.0 * config.n_layers as f32).sqrt();
    let norm = || Norm { gain: vec![1.0; d], bias: vec![0.0; d] };
    let embed = draw.normals(config.d_vocab * d, SPREAD);
    let positions = if config.rotary.is_some() { 0 } else { config.n_ctx };
    let pos_embed = draw.normals(positions * d, SPREAD);
    let mut block = |_| Block {
        ln_1: norm(),
        qkv: draw.linear(d, 3 * d, SPREAD),
        attn_out: draw.linear(d, d, writing),
        ln_2: norm(),
        mlp_in: draw.linear(d, d_mlp, SPREAD),
        mlp_out: draw.linear(d_mlp, d, writing),
    };
    let blocks = (0..config.n_layers).map(&mut block).collect();
    let is_tied = config.rotary.is_none();
    let unembed = (!is_tied).then(|| Unembed {
        weight: draw.normals(config.d_vocab * d, SPREAD),
        bias: vec![0.0; config.d_vocab],
    });
    Weights { embed, pos_embed, blocks, ln_final: norm(), unembed }
}

/// Draws the tensors of a model, each from its own stream.
struct Draws {
    seed: u64,
    /// The stream of the next tensor.
    next: u64,
}

impl Draws {
    fn normals(&mut self, n: usize, spread: f32) -> Vec<f32> {
        let mut values = vec![0.0; n];
        let stream = RandomStream { seed: self.seed, purpose: Purpose::Weights, id: self.next };
        stream.normals(&mut values);
        self.next += 1;
        values.iter_mut().for_each(|v| *v *= spread);
        values
    }

    fn linear(&mut self, d_in: usize, d_out: usize, spread: f32) -> Linear {
        Linear { weight: self.normals(d_in * d_out, spread), bias: vec![0.0; d_out] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &str) -> Config {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        Config::load(&root.join(folder).join("config.json")).expect("a config")
    }

    /// Returns the standard deviation around zero.
    fn spread(values: &[f32]) -> f64 {
        let sum: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
        (sum / values.len() as f64).sqrt()
    }

    #[test]
    fn weights_are_those_of_the_first_step() {
        for folder in ["experiments/desk/a", "expected/golden/neox"] {
            let config = config(folder);
            let weights = untrained(&config, 1);
            let writing = 0.02 / (2.0 * config.n_layers as f64).sqrt();
            for block in &weights.blocks {
                for (linear, want) in [
                    (&block.qkv, 0.02),
                    (&block.attn_out, writing),
                    (&block.mlp_in, 0.02),
                    (&block.mlp_out, writing),
                ] {
                    let got = spread(&linear.weight);
                    // The standard error of a standard deviation is σ/√(2n); five of them.
                    let off = 5.0 / (2.0 * linear.weight.len() as f64).sqrt();
                    assert!((got / want - 1.0).abs() < off, "{folder}: {got}, expected {want}");
                    assert!(linear.bias.iter().all(|b| *b == 0.0));
                }
                assert!(block.ln_1.gain.iter().all(|g| *g == 1.0));
            }
            let first = &weights.blocks[0];
            assert_ne!(first.mlp_in.weight[..8], weights.blocks[1].mlp_in.weight[..8]);
            assert_eq!(weights, untrained(&config, 1), "the same seed");
            assert_ne!(weights.embed, untrained(&config, 2).embed, "another seed");
        }
    }

    #[test]
    fn an_untrained_network_has_the_shape_of_the_trained_one() {
        for folder in ["experiments/desk/a", "expected/golden/neox", "expected/golden/tiny"] {
            let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
            let trained = crate::Transformer::load(&root.join(folder)).expect("a model").weights;
            let own = untrained(&config(folder), 3);
            let sizes = |w: &Weights| {
                let block = |b: &Block| {
                    [&b.qkv, &b.attn_out, &b.mlp_in, &b.mlp_out]
                        .map(|l| (l.weight.len(), l.bias.len()))
                };
                let unembed = w.unembed.as_ref().map(|u| (u.weight.len(), u.bias.len()));
                (
                    w.embed.len(),
                    w.pos_embed.len(),
                    w.blocks.iter().map(block).collect::<Vec<_>>(),
                    unembed,
                    w.ln_final.gain.len(),
                )
            };
            assert_eq!(sizes(&own), sizes(&trained), "{folder}");
        }
    }
}
