//! Measures of a model's prediction of the next token: loss, entropy and rank.

use rayon::prelude::*;

use crate::backend::parts::add_in_parts;
use crate::backend::wide::widened;
use crate::error::Result;
use crate::model::{Decoder, exp, largest};

/// Measures of the prediction at every position that has a next token in its row, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Predictions {
    /// Index of the row in the batch.
    pub row: Vec<usize>,
    /// −log p of the next token, in nats.
    pub loss: Vec<f64>,
    /// Entropy of the prediction, in nats.
    pub entropy: Vec<f64>,
    /// 1 / rank of the next token.
    pub reciprocal_rank: Vec<f64>,
    /// Standard deviation of the final residual stream, by which the final LayerNorm divides.
    pub scale: Vec<f64>,
    /// log p of every token, `[positions, d_vocab]`.
    pub log_probs: Vec<f32>,
}

/// The measures at one position.
struct One {
    loss: f64,
    entropy: f64,
    reciprocal_rank: f64,
    scale: f64,
}

impl Predictions {
    /// Computes the measures from the final residual stream `[tokens, d_model]` of rows of token
    /// ids.
    ///
    /// # Errors
    /// Returns an error if the device that the model runs on fails.
    pub fn of(model: &dyn Decoder, resid: &[f32], rows: &[&[u32]]) -> Result<Self> {
        let config = model.config();
        let (d, d_vocab, eps) = (config.d_model, config.d_vocab, config.layer_norm_eps.into());
        let mut places = Vec::new();
        let mut start = 0;
        for (r, row) in rows.iter().enumerate() {
            places.extend(row.windows(2).enumerate().map(|(p, pair)| (r, start + p, pair[1])));
            start += row.len();
        }
        let with_next: Vec<f32> =
            places.iter().flat_map(|&(_, t, _)| &resid[t * d..(t + 1) * d]).copied().collect();
        let mut log_probs = model.logits(&with_next)?;
        let ones: Vec<One> = log_probs
            .par_chunks_exact_mut(d_vocab)
            .zip(with_next.par_chunks_exact(d))
            .zip(&places)
            .map(|((logits, resid), &(_, _, next))| One {
                scale: spread(resid, eps),
                ..one(logits, next as usize)
            })
            .collect();
        Ok(Self {
            row: places.iter().map(|place| place.0).collect(),
            loss: ones.iter().map(|one| one.loss).collect(),
            entropy: ones.iter().map(|one| one.entropy).collect(),
            reciprocal_rank: ones.iter().map(|one| one.reciprocal_rank).collect(),
            scale: ones.iter().map(|one| one.scale).collect(),
            log_probs,
        })
    }

    /// Returns the KL divergence `Σ p (log p − log q)` of other predictions q from these at each
    /// position, in nats. p is computed in f32, with a relative error of 2.4e-7, and added in f64.
    pub fn divergence(&self, other: &Self, d_vocab: usize) -> Vec<f64> {
        let kl = |(p, q): (&[f32], &[f32])| -> f64 {
            let mut parts = [0.0; PARTS];
            add_divergences(p, q, &mut parts);
            parts.iter().sum()
        };
        let rows = self.log_probs.par_chunks_exact(d_vocab);
        rows.zip(other.log_probs.par_chunks_exact(d_vocab)).map(kl).collect()
    }

    /// Returns the sums of a quantity over the positions of each row.
    pub fn by_row(&self, values: &[f64], rows: usize) -> Vec<f64> {
        let mut sums = vec![0.0; rows];
        self.row.iter().zip(values).for_each(|(&row, value)| sums[row] += value);
        sums
    }
}

/// Turns logits into log-probabilities in place. Returns the measures of the prediction of `next`,
/// except for the scale. The exponentials are computed in f32, with a relative error of 2.4e-7, and
/// added in f64.
fn one(logits: &mut [f32], next: usize) -> One {
    let wanted = logits[next];
    let (mut top, mut before) = (f32::NEG_INFINITY, 0);
    find_top(logits, wanted, &mut top, &mut before);
    let mut parts = [[0.0; PARTS]; 2];
    add_exponentials(logits, top, &mut parts);
    let [total, weighted] = parts.map(|parts| parts.iter().sum::<f64>());
    let log_total = f64::from(top) + total.ln();
    subtract(logits, log_total);
    One {
        loss: log_total - f64::from(wanted),
        // −Σ p log p, with log p = l − top − ln Σ e^(l − top).
        entropy: total.ln() - weighted / total,
        reciprocal_rank: 1.0 / (f64::from(before) + 1.0),
        scale: 0.0,
    }
}

/// Number of interleaved parts of a sum: a fixed order that vectorises.
const PARTS: usize = 8;

widened! {
    /// Gives the largest logit, and the number of logits above the wanted one.
    fn find_top(logits: &[f32], wanted: f32, top: &mut f32, before: &mut u32) {
        *top = largest(logits);
        *before = logits.iter().fold(0, |before, &l| before + u32::from(l > wanted));
    }
}

widened! {
    /// Adds `Σ e^(l − top)` and `Σ e^(l − top) (l − top)` over logits l to two sums in parts.
    fn add_exponentials(logits: &[f32], top: f32, sums: &mut [[f64; PARTS]; 2]) {
        for logits in logits.chunks(PARTS) {
            for (part, &l) in logits.iter().enumerate() {
                let below = l - top;
                let e = f64::from(exp(below));
                sums[0][part] += e;
                sums[1][part] += e * f64::from(below);
            }
        }
    }
}

widened! {
    fn subtract(logits: &mut [f32], log_total: f64) {
        logits.iter_mut().for_each(|logit| *logit = (f64::from(*logit) - log_total) as f32);
    }
}

widened! {
    /// Adds `Σ p (log p − log q)` to a sum in parts, given log p and log q.
    fn add_divergences(p: &[f32], q: &[f32], sums: &mut [f64; PARTS]) {
        add_in_parts(p, q, sums, |p, q| f64::from(exp(p)) * (f64::from(p) - f64::from(q)));
    }
}

fn spread(x: &[f32], eps: f64) -> f64 {
    let n = x.len() as f64;
    let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    (x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n + eps).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn predictions_and_divergences_are_those_of_f64(
            (p, q) in (1_usize..60).prop_flat_map(|n| {
                let logits = || prop::collection::vec(-30.0_f32..30.0, n);
                (logits(), logits())
            }),
            next: prop::sample::Index,
        ) {
            let next = next.index(p.len());
            let (mut log_p, mut log_q) = (p.clone(), q);
            let (found, _) = (one(&mut log_p, next), one(&mut log_q, next));
            let total: f64 = p.iter().map(|&l| f64::from(l).exp()).sum();
            prop_assert!((found.loss - (total.ln() - f64::from(p[next]))).abs() < 1e-6);
            let rank = 1 + p.iter().filter(|&&l| l > p[next]).count();
            prop_assert_eq!(found.reciprocal_rank, 1.0 / rank as f64);
            let pairs = log_p.iter().zip(&log_q).map(|(&p, &q)| (f64::from(p), f64::from(q)));
            let want: f64 = pairs.clone().map(|(p, q)| p.exp() * (p - q)).sum();
            let size: f64 = pairs.map(|(p, q)| p.exp() * (p - q).abs()).sum();
            let with = |log_probs: Vec<f32>| Predictions { log_probs, ..Predictions::default() };
            let got = with(log_p).divergence(&with(log_q), p.len())[0];
            prop_assert!((got - want).abs() <= 3e-7 * size + 1e-12, "{got} {want}");
        }
    }

    #[test]
    fn a_prediction_is_its_definition() {
        let mut logits = [0.0, 2f32.ln(), 1.0, 1.0];
        let found = one(&mut logits, 1);
        let total = 1.0 + 2.0 + 2.0 * 1f64.exp();
        let p = [1.0 / total, 2.0 / total, 1f64.exp() / total, 1f64.exp() / total];
        assert_relative_eq!(found.loss, -p[1].ln(), epsilon = 1e-6);
        assert_relative_eq!(
            found.entropy,
            -p.iter().map(|p| p * p.ln()).sum::<f64>(),
            epsilon = 1e-6
        );
        assert_relative_eq!(found.reciprocal_rank, 1.0 / 3.0);
        assert_relative_eq!(f64::from(logits[0]), p[0].ln(), epsilon = 1e-6);
        assert_relative_eq!(spread(&[1.0, 3.0], 0.0), 1.0);
    }

    #[test]
    fn divergence_is_zero_of_itself_and_known_of_two_coins() {
        let coin = |p: f64| Predictions {
            log_probs: vec![p.ln() as f32, (1.0 - p).ln() as f32],
            ..Predictions::default()
        };
        assert_eq!(coin(0.25).divergence(&coin(0.25), 2), [0.0]);
        let want = 0.5 * (0.5_f64 / 0.25).ln() + 0.5 * (0.5_f64 / 0.75).ln();
        assert_relative_eq!(coin(0.5).divergence(&coin(0.25), 2)[0], want, epsilon = 1e-6);
    }
}
