//! The parts of one attention head: its queries, keys and values, the norm of its output, and how
//! its attention to the first token changes when a neuron is removed from its query (§5.3).
//! Everything is computed in f64 directly from the definition, independently of the forward pass.

use std::ops::Range;

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

/// The keys and values of a row, `[token][d_head]`.
struct KeysAndValues {
    keys: Vec<Vec<f64>>,
    values: Vec<Vec<f64>>,
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

    /// Rotates a query or a key by the angles of a position, which may be negative, if positions
    /// are rotary: dimension i of a head is paired with dimension i + dims / 2.
    fn turned(&self, mut vector: Vec<f64>, position: f64) -> Vec<f64> {
        let Some(rotary) = self.model.config.rotary else { return vector };
        let pairs = rotary.dims / 2;
        for i in 0..pairs {
            let rate = rotary.base.powf(-2.0 * i as f64 / rotary.dims as f64);
            let (sin, cos) = (position * rate).sin_cos();
            let (a, b) = (vector[i], vector[i + pairs]);
            (vector[i], vector[i + pairs]) = (a * cos - b * sin, b * cos + a * sin);
        }
        vector
    }

    /// Returns ‖W_O v‖ of a value.
    fn written(&self, value: &[f64]) -> f64 {
        self.output(value).iter().map(|v| v * v).sum::<f64>().sqrt()
    }

    /// Returns W_O v of a value.
    fn output(&self, value: &[f64]) -> Vec<f64> {
        let d = self.model.config.d_model;
        let w_o = &self.model.weights.blocks[self.layer].attn_out.weight;
        let mut out = vec![0.0; d];
        for (i, v) in value.iter().enumerate() {
            let row = &w_o[(self.head * self.d_head() + i) * d..][..d];
            out.iter_mut().zip(row).for_each(|(o, w)| *o += v * f64::from(*w));
        }
        out
    }

    /// Returns ‖W_O v‖ of the value of a token with this residual stream.
    pub fn value_norm(&self, resid: &[f64]) -> f64 {
        self.written(&self.read(HeadPart::Value, &self.normed(resid)))
    }

    /// Returns `γ ⊙ W_Q k` for the key k of a token. Its dot product with a direction of the
    /// residual stream shows how much the direction raises the head's attention to the token.
    /// The mean is subtracted, because LayerNorm subtracts the mean of the direction.
    ///
    /// The token is the first of its row. With rotary positions, the product depends on the
    /// distance between the query and the key, so k is replaced by its mean over the
    /// `destinations` of queries, each rotated back by the angles of the query's position.
    pub fn drawn_by(&self, key_resid: &[f64], destinations: Range<usize>) -> Vec<f64> {
        let d = self.model.config.d_model;
        let key = self.read(HeadPart::Key, &self.normed(key_resid));
        let key = self.seen_from(key, destinations);
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

    /// Returns the mean over destinations of the key of a row's first token, rotated back by the
    /// angles of the destination; the key itself if positions are not rotary.
    fn seen_from(&self, key: Vec<f64>, destinations: Range<usize>) -> Vec<f64> {
        if self.model.config.rotary.is_none() || destinations.is_empty() {
            return key;
        }
        let n = destinations.len() as f64;
        let mut mean = vec![0.0; key.len()];
        for t in destinations {
            let seen = self.turned(key.clone(), -(t as f64));
            mean.iter_mut().zip(seen).for_each(|(mean, v)| *mean += v / n);
        }
        mean
    }

    /// Returns the results for the destination tokens of a row, each unchanged and with `removed`
    /// subtracted from what the query reads. `resid` is the residual stream before the layer.
    pub fn attends(
        &self,
        resid: &[Vec<f64>],
        destinations: Range<usize>,
        removed: impl Fn(usize) -> Vec<f64>,
    ) -> Vec<[Attends; 2]> {
        let row = self.sources(resid);
        let one = |t: usize| {
            let without: Vec<f64> = resid[t].iter().zip(removed(t)).map(|(x, r)| x - r).collect();
            [self.at(&row, t, &resid[t]), self.at(&row, t, &without)]
        };
        destinations.map(one).collect()
    }

    /// Returns the results for the destination tokens of a row. `resid` is the residual stream
    /// before the layer.
    pub fn attends_unchanged(
        &self,
        resid: &[Vec<f64>],
        destinations: Range<usize>,
    ) -> Vec<Attends> {
        let row = self.sources(resid);
        destinations.map(|t| self.at(&row, t, &resid[t])).collect()
    }

    /// Returns the results for the token at position `t` of a row, whose query reads `resid`.
    fn at(&self, row: &KeysAndValues, t: usize, resid: &[f64]) -> Attends {
        let query = self.read(HeadPart::Query, &self.normed(resid));
        let query = self.turned(query, t as f64);
        let (first, mixed) = self.attend(&query, &row.keys[..=t], &row.values[..=t]);
        Attends { first, norm: self.written(&mixed) }
    }

    /// Reads the keys and values of a row of tokens.
    fn sources(&self, resid: &[Vec<f64>]) -> KeysAndValues {
        let normed: Vec<Vec<f64>> = resid.iter().map(|row| self.normed(row)).collect();
        let key =
            |(t, row): (usize, &Vec<f64>)| self.turned(self.read(HeadPart::Key, row), t as f64);
        KeysAndValues {
            keys: normed.iter().enumerate().map(key).collect(),
            values: normed.iter().map(|row| self.read(HeadPart::Value, row)).collect(),
        }
    }

    /// Returns the attention weight of the first token, and the mean of the values by attention
    /// weight, `[d_head]`.
    fn attend(&self, query: &[f64], keys: &[Vec<f64>], values: &[Vec<f64>]) -> (f64, Vec<f64>) {
        let scale = f64::from(self.model.config.attention_scale(self.layer));
        let dot = |key: &Vec<f64>| query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>() * scale;
        let scores: Vec<f64> = keys.iter().map(dot).collect();
        let top = scores.iter().copied().fold(f64::MIN, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mixed =
            |c: usize| weights.iter().zip(values).map(|(w, v)| w * v[c]).sum::<f64>() / total;
        (weights[0] / total, (0..self.d_head()).map(mixed).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{HookPoint, Hooks, Site};

    /// The residual stream around a block and the post-activations in it, for one row.
    #[derive(Default)]
    struct AroundBlock {
        before: Vec<f32>,
        post: Vec<f32>,
        after: Vec<f32>,
    }

    /// What every hook point of a forward pass saw.
    #[derive(Default)]
    struct AllHooks(std::collections::HashMap<HookPoint, Vec<f32>>);

    impl Hooks for AllHooks {
        fn wants(&self, _: HookPoint) -> bool {
            true
        }

        fn at(&mut self, point: HookPoint, values: &mut [f32], _: usize) {
            self.0.insert(point, values.to_vec());
        }
    }

    fn around(model: &Transformer, ids: &[u32], layer: usize) -> AroundBlock {
        let mut seen = AroundBlock::default();
        let mut hooks = |point: HookPoint, values: &mut [f32], _: usize| {
            let target = match point.site {
                Site::ResidPre => &mut seen.before,
                Site::MlpPost => &mut seen.post,
                Site::ResidPost => &mut seen.after,
                _ => return,
            };
            if point.layer == layer {
                *target = values.to_vec();
            }
        };
        model.forward(&[ids], &mut hooks);
        seen
    }

    /// Adds `x W + b` to a row of the residual stream.
    fn add_linear(resid: &mut [f64], x: &[f64], weight: &[f32], bias: &[f32]) {
        for (i, resid) in resid.iter_mut().enumerate() {
            let column =
                x.iter().enumerate().map(|(j, x)| x * f64::from(weight[j * bias.len() + i]));
            *resid += column.sum::<f64>() + f64::from(bias[i]);
        }
    }

    /// A block adds the outputs of its heads and of its MLP, with learned and with rotary positions.
    #[test]
    fn heads_add_up_to_the_forward_pass() {
        let ids = [31, 3, 9, 4, 4, 17, 2];
        for name in ["tiny", "neox"] {
            let folder = format!("{}/expected/golden/{name}", env!("CARGO_MANIFEST_DIR"));
            let model = Transformer::load(folder.as_ref()).unwrap_or_else(|e| panic!("{e}"));
            let (d, d_mlp) = (model.config.d_model, model.config.d_mlp());
            for layer in 0..model.config.n_layers {
                let seen = around(&model, &ids, layer);
                let rows = |values: &[f32], width: usize| -> Vec<Vec<f64>> {
                    values
                        .chunks_exact(width)
                        .map(|r| r.iter().map(|&v| v.into()).collect())
                        .collect()
                };
                let (resid, post) = (rows(&seen.before, d), rows(&seen.post, d_mlp));
                let block = &model.weights.blocks[layer];
                for (t, after) in rows(&seen.after, d).into_iter().enumerate() {
                    let mut sum = resid[t].clone();
                    add_linear(&mut sum, &post[t], &block.mlp_out.weight, &block.mlp_out.bias);
                    add_linear(&mut sum, &[], &[], &block.attn_out.bias);
                    for head in 0..model.config.n_heads {
                        let head = AttentionHead { model: &model, layer, head };
                        let row = head.sources(&resid);
                        let query = head.read(HeadPart::Query, &head.normed(&resid[t]));
                        let query = head.turned(query, t as f64);
                        let (_, mixed) = head.attend(&query, &row.keys[..=t], &row.values[..=t]);
                        sum.iter_mut().zip(head.output(&mixed)).for_each(|(s, o)| *s += o);
                    }
                    let off = sum.iter().zip(&after).map(|(a, b)| (a - b).abs());
                    assert!(off.fold(0.0, f64::max) < 1e-4, "{name}, layer {layer}, token {t}");
                }
            }
        }
    }

    /// What hooks see of the heads, for several rows of different lengths, is what the definition says.
    #[test]
    fn hooks_see_the_attention_and_the_output_of_each_head() {
        let rows: [&[u32]; 3] = [&[31, 3, 9, 4, 4, 17, 2], &[5], &[8, 1, 30, 2]];
        for name in ["tiny", "neox"] {
            let folder = format!("{}/expected/golden/{name}", env!("CARGO_MANIFEST_DIR"));
            let model = Transformer::load(folder.as_ref()).unwrap_or_else(|e| panic!("{e}"));
            let (d, heads) = (model.config.d_model, model.config.n_heads);
            let mut hooks = AllHooks::default();
            model.forward(&rows, &mut hooks);
            for layer in 0..model.config.n_layers {
                let of = |site| &hooks.0[&HookPoint { layer, site }];
                let resid: Vec<Vec<f64>> = of(Site::ResidPre)
                    .chunks_exact(d)
                    .map(|row| row.iter().map(|&v| v.into()).collect())
                    .collect();
                let mut start = 0;
                for row in rows {
                    let own = &resid[start..start + row.len()];
                    for head in 0..heads {
                        let want = AttentionHead { model: &model, layer, head }
                            .attends_unchanged(own, 0..row.len());
                        for (t, want) in want.into_iter().enumerate() {
                            let at = (start + t) * heads + head;
                            let first = f64::from(of(Site::AttentionToFirst)[at]);
                            let norm = f64::from(of(Site::HeadOutputNorm)[at]);
                            let off = (first - want.first).abs().max((norm - want.norm).abs());
                            assert!(off < 1e-5, "{name} L{layer}.H{head} token {t}: {off}");
                        }
                    }
                    start += row.len();
                }
            }
        }
    }

    /// The direction gives the scores of a key, as queries at the destinations see it.
    #[test]
    fn a_direction_draws_attention_as_the_scores_say() {
        for name in ["tiny", "neox"] {
            let folder = format!("{}/expected/golden/{name}", env!("CARGO_MANIFEST_DIR"));
            let model = Transformer::load(folder.as_ref()).unwrap_or_else(|e| panic!("{e}"));
            let head = AttentionHead { model: &model, layer: 1, head: 1 };
            let wave = |from: f64| (0..model.config.d_model).map(move |i| (from + i as f64).sin());
            let (key, direction): (Vec<f64>, Vec<f64>) = (wave(0.3).collect(), wave(2.0).collect());
            let centred = |v: &[f64]| {
                let mean = v.iter().sum::<f64>() / v.len() as f64;
                v.iter().map(|v| v - mean).collect::<Vec<f64>>()
            };
            // LayerNorm's gain without its scale and bias; a query without its bias.
            let gain = centred(&direction).into_iter().zip(&head.norm().gain);
            let normed: Vec<f64> = gain.map(|(v, g)| v * f64::from(*g)).collect();
            let zero = vec![0.0; normed.len()];
            let bias = head.read(HeadPart::Query, &zero);
            let query = head.read(HeadPart::Query, &normed);
            let query: Vec<f64> = query.iter().zip(&bias).map(|(q, b)| q - b).collect();
            let k = head.read(HeadPart::Key, &head.normed(&key));
            let score = |t: usize| {
                let turned = head.turned(query.clone(), t as f64);
                turned.iter().zip(&k).map(|(q, k)| q * k).sum::<f64>()
            };
            let want = (5..9).map(score).sum::<f64>() / 4.0;
            let drawn = head.drawn_by(&key, 5..9);
            let got: f64 = drawn.iter().zip(&direction).map(|(u, v)| u * v).sum();
            assert!((got - want).abs() < 1e-12, "{name}: {got}, expected {want}");
        }
    }
}
