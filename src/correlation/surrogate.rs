//! Surrogates of a partner's activations for the chance level: the same tokens in random order, or
//! the activation function applied to standard normal noise.

use super::CHUNK;
use super::plan::ComparisonPlan;
use super::random::{Purpose, RandomStream};
use crate::spec::BaselineKind;

/// Identifies a surrogate by model and draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SurrogateId {
    /// Index of the model in the family.
    pub model: usize,
    /// Draw of the baseline.
    pub draw: usize,
}

impl SurrogateId {
    /// Returns the surrogate of activations `y` `[tokens, n_neurons]`, the first of which is that of
    /// token `first` of the corpus.
    pub fn surrogate(self, plan: &ComparisonPlan, y: &[f32], first: u64) -> Vec<f32> {
        let width = plan.models[self.model].n_neurons();
        let tokens = y.len() / width;
        match plan.baseline.kind {
            BaselineKind::Permutation => {
                let order = self.order(plan, first, tokens).into_iter();
                order.flat_map(|t| &y[t * width..(t + 1) * width]).copied().collect()
            }
            _ => self.noise(plan, first, tokens),
        }
    }

    /// Returns the order of `tokens` tokens from token `first` of the corpus on: the tokens of each
    /// chunk are permuted among themselves.
    pub fn order(self, plan: &ComparisonPlan, first: u64, tokens: usize) -> Vec<usize> {
        let of_chunk = |part: ChunkPart| {
            let order = self.stream(plan, Purpose::Permutation, part.chunk).permutation(part.len);
            order.into_iter().map(move |t| part.start + t)
        };
        chunks(first, tokens).flat_map(of_chunk).collect()
    }

    /// Returns the activation function of noise, `[tokens, n_neurons]`, for `tokens` tokens from
    /// token `first` of the corpus on.
    pub fn noise(self, plan: &ComparisonPlan, first: u64, tokens: usize) -> Vec<f32> {
        let width = plan.models[self.model].n_neurons();
        let mut all = Vec::with_capacity(tokens * width);
        for part in chunks(first, tokens) {
            let mut noise = vec![0.0; (part.skipped + part.len) * width];
            self.stream(plan, Purpose::Gaussian, part.chunk).normals(&mut noise);
            all.extend_from_slice(&noise[part.skipped * width..]);
        }
        let activation = plan.activations[self.model];
        all.iter_mut().for_each(|v| *v = activation(*v));
        all
    }

    fn stream(self, plan: &ComparisonPlan, purpose: Purpose, chunk: u64) -> RandomStream {
        let id = (self.draw as u64) << 48 | (self.model as u64) << 40 | chunk;
        RandomStream { seed: plan.baseline.seed, purpose, id }
    }
}

/// The tokens that a range of tokens has in common with one chunk of the corpus.
struct ChunkPart {
    /// Number of the chunk.
    chunk: u64,
    /// Number of tokens of the chunk before these.
    skipped: usize,
    /// First token, counted from the start of the range.
    start: usize,
    /// Number of tokens.
    len: usize,
}

/// Cuts `tokens` tokens from token `first` of the corpus on where chunks of the corpus begin.
fn chunks(first: u64, tokens: usize) -> impl Iterator<Item = ChunkPart> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let at = first + start as u64;
        let (chunk, skipped) = (at / CHUNK as u64, (at % CHUNK as u64) as usize);
        let len = (CHUNK - skipped).min(tokens - start);
        let part = ChunkPart { chunk, skipped, start, len };
        start += len;
        (len > 0).then_some(part)
    })
}
