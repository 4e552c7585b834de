//! The parts of one attention head: its queries, keys and values, the norm of its output, and how
//! its attention to the first token changes when a neuron is removed from its query (§5.3).
//! Everything is computed in f64 directly from the definition, independently of the forward pass.

use crate::model::Transformer;
use crate::model::weights::Norm;

/// An attention head of a model.
#[derive(Debug, Clone, Copy)]
pub struct AttentionHead<'a> {
    /// The model.
    pub model: &'a Transformer,
    /// Layer of the head.
    pub layer: usize,
    /// Index of the head in its layer.
    pub head: usize,
}

/// A vector that a head computes for a token.
#[derive(Debug, Clone, Copy)]
enum HeadPart {
    Query,
    Key,
    Value,
}

/// Results for one destination token: attention to the first token, and norm of the output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attends {
    /// Attention weight of the first token.
    pub first: f64,
    /// ‖W_O Σ p_s v_s‖
    pub norm: f64,
}

impl AttentionHead<'_> {
    fn d_head(&self) -> usize {
        self.model.config.d_head()
    }

    fn norm(&self) -> &Norm {
        &self.model.weights.blocks[self.layer].ln_1
    }

    /// Returns LN1 of a row of the residual stream.
    fn normed(&self, resid: &[f64]) -> Vec<f64> {
        let n = resid.len() as f64;
        let mean = resid.iter().sum::<f64>() / n;
        let var = resid.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        let scale = (var + f64::from(self.model.config.layer_norm_eps)).sqrt();
        let Norm { gain, bias } = self.norm();
        let of =
            |((v, g), b): ((&f64, &f32), &f32)| (v - mean) / scale * f64::from(*g) + f64::from(*b);
        resid.iter().zip(gain).zip(bias).map(of).collect()
    }

    fn read(&self, part: HeadPart, normed: &[f64]) -> Vec<f64> {
        let d = self.model.config.d_model;
        let first = part as usize * d + self.head * self.d_head();
        let qkv = &self.model.weights.blocks[self.layer].qkv;
        let column = |c: usize| {
            let products =
                normed.iter().enumerate().map(|(i, v)| v * f64::from(qkv.weight[i * 3 * d + c]));
            products.sum::<f64>() + f64::from(qkv.bias[c])
        };
        (first..first + self.d_head()).map(column).collect()
    }

    /// Returns ‖W_O v‖ of a value.
    fn written(&self, value: &[f64]) -> f64 {
        let d = self.model.config.d_model;
        let w_o = &self.model.weights.blocks[self.layer].attn_out.weight;
        let mut out = vec![0.0; d];
        for (i, v) in value.iter().enumerate() {
            let row = &w_o[(self.head * self.d_head() + i) * d..][..d];
            out.iter_mut().zip(row).for_each(|(o, w)| *o += v * f64::from(*w));
        }
        out.iter().map(|v| v * v).sum::<f64>().sqrt()
    }

    /// Returns ‖W_O v‖ of the value of a token with this residual stream.
    pub fn value_norm(&self, resid: &[f64]) -> f64 {
        self.written(&self.read(HeadPart::Value, &self.normed(resid)))
    }

    /// Returns `γ ⊙ W_Q k` for the key k of a token. Its dot product with a direction of the
    /// residual stream shows how much the direction raises the head's attention to the token.
    /// The mean is subtracted, because LayerNorm subtracts the mean of the direction.
    pub fn drawn_by(&self, key_resid: &[f64]) -> Vec<f64> {
        let d = self.model.config.d_model;
        let key = self.read(HeadPart::Key, &self.normed(key_resid));
        let qkv = &self.model.weights.blocks[self.layer].qkv.weight;
        let first = self.head * self.d_head();
        let of = |i: usize| {
            let row = &qkv[i * 3 * d + first..][..self.d_head()];
            let product: f64 = row.iter().zip(&key).map(|(w, k)| f64::from(*w) * k).sum();
            product * f64::from(self.norm().gain[i])
        };
        let drawn: Vec<f64> = (0..d).map(of).collect();
        let mean = drawn.iter().sum::<f64>() / d as f64;
        drawn.into_iter().map(|v| v - mean).collect()
    }

    /// Returns the results for the destination tokens of a row, each unchanged and with `removed`
    /// subtracted from what the query reads. `resid` is the residual stream before the layer.
    pub fn attends(
        &self,
        resid: &[Vec<f64>],
        destinations: std::ops::Range<usize>,
        removed: impl Fn(usize) -> Vec<f64>,
    ) -> Vec<[Attends; 2]> {
        let normed: Vec<Vec<f64>> = resid.iter().map(|row| self.normed(row)).collect();
        let keys: Vec<Vec<f64>> = normed.iter().map(|row| self.read(HeadPart::Key, row)).collect();
        let values: Vec<Vec<f64>> =
            normed.iter().map(|row| self.read(HeadPart::Value, row)).collect();
        let one = |t: usize| {
            let without: Vec<f64> = resid[t].iter().zip(removed(t)).map(|(x, r)| x - r).collect();
            [&normed[t], &self.normed(&without)].map(|normed| {
                let query = self.read(HeadPart::Query, normed);
                self.attend(&query, &keys[..=t], &values[..=t])
            })
        };
        destinations.map(one).collect()
    }

    fn attend(&self, query: &[f64], keys: &[Vec<f64>], values: &[Vec<f64>]) -> Attends {
        let scale = f64::from(self.model.config.attention_scale(self.layer));
        let dot = |key: &Vec<f64>| query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>() * scale;
        let scores: Vec<f64> = keys.iter().map(dot).collect();
        let top = scores.iter().copied().fold(f64::MIN, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mixed =
            |c: usize| weights.iter().zip(values).map(|(w, v)| w * v[c]).sum::<f64>() / total;
        let mixed: Vec<f64> = (0..self.d_head()).map(mixed).collect();
        Attends { first: weights[0] / total, norm: self.written(&mixed) }
    }
}
