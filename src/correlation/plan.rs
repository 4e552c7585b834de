//! What is compared with what, and what that costs.

use std::ops::Range;

use super::CHUNK;
use super::sums::Layout;
use crate::backend::kernel::CpuKernel;
use crate::backend::matmul::Product;
use crate::spec::{Baseline, BaselineKind, Precision};

/// Which models there are, which of them are judged, and how.
#[derive(Debug, Clone)]
pub struct ComparisonPlan {
    /// The family, in the order of the spec.
    pub models: Vec<Layout>,
    /// The activation function of each model, which the `gaussian` baseline applies to
    /// standard normal noise.
    pub activations: Vec<fn(f32) -> f32>,
    /// Indices of the models whose neurons are judged against all other models.
    pub references: Vec<usize>,
    /// Chance level.
    pub baseline: Baseline,
    /// Precision of factors.
    pub precision: Precision,
    /// Best partners kept for each neuron.
    pub top: usize,
}

/// What is kept of tokens that have gone by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Their activations; sums are made at the end, layer by layer.
    Tokens,
    /// Sums alone, of a share of the layers in each of so many passes over the tokens.
    Sums {
        /// Passes; 1 where all sums fit into memory.
        passes: usize,
    },
}

impl ComparisonPlan {
    /// Partners of a judged model, in the order of the family.
    pub fn partners(&self, reference: usize) -> impl Iterator<Item = usize> + Clone {
        (0..self.models.len()).filter(move |&i| i != reference)
    }

    /// Every judged model with each of its partners, in order.
    pub(super) fn directed_pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        self.references.iter().flat_map(|&x| self.partners(x).map(move |y| (x, y)))
    }

    /// The same without regard to direction, each once, the first model before the second.
    pub(super) fn unordered_pairs(&self) -> Vec<(usize, usize)> {
        let mut pairs: Vec<_> = self.directed_pairs().map(|(x, y)| (x.min(y), x.max(y))).collect();
        pairs.sort_unstable();
        pairs.dedup();
        pairs
    }

    /// Models that are some judged model's partner.
    pub(super) fn partner_models(&self) -> Vec<usize> {
        let mut partners: Vec<usize> = self.directed_pairs().map(|(_, y)| y).collect();
        partners.sort_unstable();
        partners.dedup();
        partners
    }

    /// Whether chance is a rotation, which needs no tokens of its own.
    pub fn uses_rotation(&self) -> bool {
        matches!(self.baseline.kind, BaselineKind::Rotation | BaselineKind::Orthogonal)
    }

    pub(super) fn product(&self) -> Product {
        Product { kernel: CpuKernel::best(self.precision), chain: CHUNK }
    }

    /// Layers of a model whose rows are summed in a pass.
    pub(super) fn layers(&self, model: usize, pass: usize, passes: usize) -> Range<usize> {
        let n = self.models[model].n_layers;
        n * pass / passes..n * (pass + 1) / passes
    }

    /// Floating-point operations of all sums over so many tokens, and of all that
    /// follows the last token.
    pub fn operations(&self, keep: Keep, tokens: usize) -> (f64, f64) {
        let n = |model: usize| self.models[model].n_neurons() as f64;
        let d = |model: usize| self.models[model].d_mlp as f64;
        let (draws, tokens) = (self.baseline.draws as f64, tokens as f64);
        let product = |(x, y): (usize, usize)| 2.0 * n(x) * n(y);
        // Of a symmetric product, half is computed.
        let gram = |y: usize| n(y) * d(y);
        let cross: f64 = match keep {
            Keep::Tokens => self.directed_pairs().map(product).sum(),
            Keep::Sums { .. } => self.unordered_pairs().into_iter().map(product).sum(),
        };
        let all: f64 = self.directed_pairs().map(product).sum();
        if !self.uses_rotation() {
            return (tokens * (cross + draws * all), 0.0);
        }
        let grams: f64 = match keep {
            Keep::Tokens => self.directed_pairs().map(|(_, y)| gram(y)).sum(),
            Keep::Sums { .. } => self.partner_models().into_iter().map(gram).sum(),
        };
        let rotation = |(x, y): (usize, usize)| 2.0 * n(y) * d(y) * (n(x) + d(y));
        (tokens * (cross + grams), draws * self.directed_pairs().map(rotation).sum::<f64>())
    }

    /// Floating-point operations of so many candidates of every neuron.
    pub fn candidate_operations(&self, candidates: usize, tokens: usize) -> f64 {
        let neurons: usize = self.directed_pairs().map(|(x, _)| self.models[x].n_neurons()).sum();
        2.0 * (neurons * candidates) as f64 * tokens as f64
    }

    /// Pairs of layers that are compared, and as many again for each surrogate.
    pub fn steps(&self) -> usize {
        let surrogates = if self.uses_rotation() { 0 } else { self.baseline.draws };
        let layers = |model: usize| self.models[model].n_layers;
        let pairs: usize = self.directed_pairs().map(|(x, y)| layers(x) * layers(y)).sum();
        pairs * (1 + surrogates)
    }

    /// Most passes that make sense: a layer in each.
    pub fn max_passes(&self) -> usize {
        self.models.iter().map(|m| m.n_layers).max().unwrap_or(1)
    }

    /// Bytes that are kept of so many tokens.
    pub fn kept_bytes(&self, keep: Keep, tokens: usize) -> usize {
        let n = |model: usize| self.models[model].n_neurons();
        let surrogates = if self.uses_rotation() { 0 } else { self.baseline.draws };
        match keep {
            Keep::Tokens => {
                let largest = (0..self.models.len()).map(n).max().unwrap_or(0);
                let all: usize = (0..self.models.len()).map(n).sum();
                4 * tokens * (all + largest * surrogates.min(1))
            }
            Keep::Sums { passes } => {
                let rows = |model: usize| {
                    let most = (0..passes).map(|pass| self.layers(model, pass, passes).len()).max();
                    most.unwrap_or(0) * self.models[model].d_mlp
                };
                let cross: usize =
                    self.unordered_pairs().iter().map(|&(x, y)| rows(x) * n(y)).sum();
                let chance: usize =
                    self.directed_pairs().map(|(x, y)| rows(x) * n(y) * surrogates).sum();
                let gram = |model: usize| n(model) * self.models[model].d_mlp;
                let grams: usize = self.partner_models().into_iter().map(gram).sum();
                8 * (cross + chance + if self.uses_rotation() { grams } else { 0 })
            }
        }
    }

    /// Bytes of all sums where they are kept in f32 on a device, for every direction.
    pub fn device_sums_bytes(&self) -> usize {
        let n = |model: usize| self.models[model].n_neurons();
        let cross: usize = self.directed_pairs().map(|(x, y)| n(x) * n(y)).sum();
        let gram = |model: usize| n(model) * self.models[model].d_mlp;
        4 * (cross + self.partner_models().into_iter().map(gram).sum::<usize>())
    }

    /// Bytes that comparing two layers takes, beside what is kept.
    pub fn comparison_bytes(&self) -> usize {
        let d = self.models.iter().map(|m| m.d_mlp).max().unwrap_or(0);
        // Sums in f64; scaled, rotated and packed values; Gram sums in both; rotations.
        d * d * (8 + 4 * 4 + 12 + 4 * self.baseline.draws)
    }
}
