//! The forward pass of a decoder in f64, written as its definitions are: what the fast forward passes
//! are compared with. It takes one row, and no care of speed.

use rayon::prelude::*;

use super::weights::{Linear, Norm, Weights};
use super::{Activation, Config, HookPoint, Rotary, Site};

/// Values `[tokens, width]`.
type Rows = Vec<Vec<f64>>;

/// Runs one row of token ids through all blocks. Returns the logits, `[tokens, d_vocab]`. `see` is
/// called with the values `[tokens, width]` at every hook point, in the order of the forward pass.
///
/// # Panics
///
/// Panics if the row is longer than the context or an id lies outside the vocabulary.
pub fn logits(
    config: &Config,
    weights: &Weights,
    ids: &[u32],
    see: &mut dyn FnMut(HookPoint, &[Vec<f64>]),
) -> Rows {
    let d = config.d_model;
    let mut resid: Rows = ids.iter().enumerate().map(|at| embedding(weights, d, at)).collect();
    for (layer, block) in weights.blocks.iter().enumerate() {
        let at = |site| HookPoint { layer, site };
        see(at(Site::ResidPre), &resid);
        let norm = |rows: &Rows, norm| layer_norm(rows, norm, config);
        let qkv = linear(&norm(&resid, &block.ln_1), &block.qkv);
        let attended = linear(&attention(qkv, config, layer), &block.attn_out);
        let after_attention = sum(&resid, &attended);
        let read = if config.parallel_residual { &resid } else { &after_attention };
        let pre = linear(&norm(read, &block.ln_2), &block.mlp_in);
        see(at(Site::MlpPre), &pre);
        let function = gelu_of(config.activation);
        let post: Rows = pre.iter().map(|row| row.iter().map(|&v| function(v)).collect()).collect();
        see(at(Site::MlpPost), &post);
        resid = sum(&after_attention, &linear(&post, &block.mlp_out));
        see(at(Site::ResidPost), &resid);
    }
    unembed(&layer_norm(&resid, &weights.ln_final, config), weights, d)
}

/// Returns the logarithms of the probabilities that logits give, `[tokens, d_vocab]`.
pub fn log_probabilities(logits: &[Vec<f64>]) -> Rows {
    let of_token = |logits: &Vec<f64>| {
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = logits.iter().map(|v| (v - largest).exp()).sum();
        logits.iter().map(|v| v - largest - total.ln()).collect()
    };
    logits.iter().map(of_token).collect()
}

fn embedding(weights: &Weights, d: usize, (position, &id): (usize, &u32)) -> Vec<f64> {
    let row = |all: &[f32], i: usize| all.get(i * d..(i + 1) * d).map(<[f32]>::to_vec);
    let token = row(&weights.embed, id as usize).expect("an id of the vocabulary");
    // Models with rotary positions have no embedding of positions.
    let place = match weights.pos_embed.is_empty() {
        true => vec![0.0; d],
        false => row(&weights.pos_embed, position).expect("a position of the context"),
    };
    token.iter().zip(&place).map(|(t, p)| f64::from(*t) + f64::from(*p)).collect()
}

fn sum(a: &Rows, b: &Rows) -> Rows {
    let row = |(a, b): (&Vec<f64>, &Vec<f64>)| a.iter().zip(b).map(|(a, b)| a + b).collect();
    a.iter().zip(b).map(row).collect()
}

/// `(x − mean) / √(var + eps) · γ + β` for each row.
fn layer_norm(rows: &Rows, norm: &Norm, config: &Config) -> Rows {
    let of_row = |row: &Vec<f64>| {
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let var = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / row.len() as f64;
        let scale = (var + f64::from(config.layer_norm_eps)).sqrt();
        let parameters = norm.gain.iter().zip(&norm.bias);
        let value = |(v, (gain, bias)): (&f64, (&f32, &f32))| {
            (v - mean) / scale * f64::from(*gain) + f64::from(*bias)
        };
        row.iter().zip(parameters).map(value).collect()
    };
    rows.iter().map(of_row).collect()
}

/// `x W + b` for each row.
fn linear(rows: &Rows, layer: &Linear) -> Rows {
    let width = layer.bias.len();
    let of_row = |row: &Vec<f64>| {
        let mut out: Vec<f64> = layer.bias.iter().map(|&b| f64::from(b)).collect();
        for (x, weights) in row.iter().zip(layer.weight.chunks_exact(width)) {
            out.iter_mut().zip(weights).for_each(|(o, &w)| *o += x * f64::from(w));
        }
        out
    };
    rows.par_iter().map(of_row).collect()
}

/// Causal attention of every head over queries, keys and values side by side, `[tokens, 3 d_model]`.
/// Returns the mixed values, `[tokens, d_model]`.
fn attention(mut qkv: Rows, config: &Config, layer: usize) -> Rows {
    let (d, width) = (config.d_model, config.d_head());
    if let Some(rotary) = config.rotary {
        let places = qkv.iter_mut().enumerate();
        places.for_each(|(position, token)| turn(&mut token[..2 * d], (rotary, width), position));
    }
    let depth = if config.scale_attn_by_inverse_layer_idx { layer + 1 } else { 1 };
    let scale = (width as f64).sqrt() * depth as f64;
    let of_token = |t: usize| {
        let mut mixed = vec![0.0; d];
        for (head, out) in mixed.chunks_exact_mut(width).enumerate() {
            let part =
                |token: usize, which: usize| &qkv[token][which * d + head * width..][..width];
            let score = |s: usize| {
                part(t, 0).iter().zip(part(s, 1)).map(|(q, k)| q * k).sum::<f64>() / scale
            };
            let scores: Rows = vec![(0..=t).map(score).collect()];
            for (s, log) in log_probabilities(&scores)[0].iter().enumerate() {
                let share = log.exp();
                out.iter_mut().zip(part(s, 2)).for_each(|(o, v)| *o += share * v);
            }
        }
        mixed
    };
    (0..qkv.len()).into_par_iter().map(of_token).collect()
}

/// Rotates the first dimensions of every head of the queries and keys of one token. Dimension i is
/// paired with dimension i + dims / 2.
fn turn(heads: &mut [f64], (Rotary { dims, base }, width): (Rotary, usize), position: usize) {
    let pairs = dims / 2;
    for head in heads.chunks_exact_mut(width) {
        for i in 0..pairs {
            let angle = position as f64 * base.powf(-2.0 * i as f64 / dims as f64);
            let (a, b) = (head[i], head[i + pairs]);
            head[i] = a * angle.cos() - b * angle.sin();
            head[i + pairs] = b * angle.cos() + a * angle.sin();
        }
    }
}

fn gelu_of(activation: Activation) -> fn(f64) -> f64 {
    match activation {
        Activation::GeluNew => |x| {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + u.tanh())
        },
        Activation::Gelu => |x| 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
    }
}

fn unembed(rows: &Rows, weights: &Weights, d: usize) -> Rows {
    let bias = weights.unembed.as_ref().map(|unembed| &unembed.bias);
    let of_row = |row: &Vec<f64>| {
        let logit = |(token, weights): (usize, &[f32])| {
            let product: f64 = row.iter().zip(weights).map(|(x, &w)| x * f64::from(w)).sum();
            product + bias.map_or(0.0, |bias| f64::from(bias[token]))
        };
        weights.unembedding().chunks_exact(d).enumerate().map(logit).collect()
    };
    rows.par_iter().map(of_row).collect()
}
