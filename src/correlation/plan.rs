//! Which models are compared with which, how, and at what cost.

use std::ops::Range;

use super::fast_rotation::FastRotation;
use super::sums::Layout;
use super::{CHUNK, TOKENS_AT_ONCE};
use crate::backend::kernel::CpuKernel;
use crate::backend::matmul::Product;
use crate::spec::{Baseline, BaselineKind, Precision};

/// The models of a comparison, the reference models among them, and the method.
#[derive(Debug, Clone)]
pub struct ComparisonPlan {
    /// Layouts of the models of the family, in the order of the spec.
    pub models: Vec<Layout>,
    /// The activation function of each model, which the `gaussian` baseline applies to
    /// standard normal noise.
    pub activations: Vec<fn(f32) -> f32>,
    /// Indices of the reference models, each of which is compared with all other models.
    pub references: Vec<usize>,
    /// The chance baseline.
    pub baseline: Baseline,
    /// Precision of the factors of products.
    pub precision: Precision,
    /// Number of best partners kept for each neuron.
    pub top: usize,
}

/// What is kept of the tokens that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The activations of all tokens. Sums are computed at the end, layer by layer.
    Tokens,
    /// Sums of products only. Each pass over the tokens sums a part of the layers.
    Sums {
        /// Number of passes; 1 if all sums fit into memory.
        passes: usize,
    },
}

impl ComparisonPlan {
    /// Plans to compare the first of some models with the others: with the paper's baseline, in
    /// the default precision, keeping one best match for each neuron.
    pub fn new(models: Vec<Layout>) -> Self {
        Self {
            activations: vec![std::convert::identity; models.len()],
            models,
            references: vec![0],
            baseline: Baseline::default(),
            precision: Precision::default(),
            top: 1,
        }
    }

    /// Returns the partners of a reference model, in the order of the family.
    pub fn partners(&self, reference: usize) -> impl Iterator<Item = usize> + Clone {
        (0..self.models.len()).filter(move |&i| i != reference)
    }

    /// Returns every pair (reference, partner), in order.
    pub(super) fn directed_pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        self.references.iter().flat_map(|&x| self.partners(x).map(move |y| (x, y)))
    }

    /// Returns the pairs of models whose products are summed: every pair (reference, partner), or,
    /// if sums can be transposed, every pair of compared models once, with the smaller index first.
    pub(super) fn stored_pairs(&self, transposes: bool) -> Vec<(usize, usize)> {
        let order = |(x, y): (usize, usize)| if transposes { (x.min(y), x.max(y)) } else { (x, y) };
        let mut pairs: Vec<_> = self.directed_pairs().map(order).collect();
        pairs.sort_unstable();
        pairs.dedup();
        pairs
    }

    /// Returns the models that are the partner of some reference model.
    pub(super) fn partner_models(&self) -> Vec<usize> {
        let mut partners: Vec<usize> = self.directed_pairs().map(|(_, y)| y).collect();
        partners.sort_unstable();
        partners.dedup();
        partners
    }

    /// Returns whether the baseline is a rotation, which is computed from sums and needs no tokens.
    pub fn uses_rotation(&self) -> bool {
        use BaselineKind::{FastRotation, Gaussian, Orthogonal, Permutation, Rotation};
        match self.baseline.kind {
            Rotation | Orthogonal | FastRotation => true,
            Permutation | Gaussian => false,
        }
    }

    /// Returns whether layers are compared as a whole: the Gram sums of every model are there, since
    /// every model is the partner of another one.
    pub(super) fn compares_layers(&self) -> bool {
        self.uses_rotation() && self.references.len() > 1
    }

    pub(super) fn product(&self) -> Product {
        Product { kernel: CpuKernel::best(self.precision), chain: CHUNK }
    }

    /// Returns the layers of a model that are summed in pass `pass` of `passes`.
    pub(super) fn layers(&self, model: usize, pass: usize, passes: usize) -> Range<usize> {
        let n = self.models[model].n_layers;
        n * pass / passes..n * (pass + 1) / passes
    }

    /// Returns the floating-point operations of all sums over `tokens` tokens, and those of the
    /// work after the last token.
    pub fn operations(&self, keep: Keep, tokens: usize) -> (f64, f64) {
        let n = |model: usize| self.models[model].n_neurons() as f64;
        let d = |model: usize| self.models[model].d_mlp as f64;
        let (draws, tokens) = (self.baseline.draws as f64, tokens as f64);
        let product = |(x, y): (usize, usize)| 2.0 * n(x) * n(y);
        // Only half of a symmetric product is computed.
        let gram = |y: usize| n(y) * d(y);
        let cross: f64 = match keep {
            Keep::Tokens => self.directed_pairs().map(product).sum(),
            Keep::Sums { .. } => self.stored_pairs(true).into_iter().map(product).sum(),
        };
        let all: f64 = self.directed_pairs().map(product).sum();
        if !self.uses_rotation() {
            return (tokens * (cross + draws * all), 0.0);
        }
        let grams: f64 = match keep {
            Keep::Tokens => self.directed_pairs().map(|(_, y)| gram(y)).sum(),
            Keep::Sums { .. } => self.partner_models().into_iter().map(gram).sum(),
        };
        // Every row of covariances is multiplied by the rotation: those with the neurons of x, and
        // those of the layer itself (twice, from both sides, if the rotation is fast).
        let rotation = |(x, y): (usize, usize)| match self.baseline.kind {
            BaselineKind::FastRotation => {
                let layers = n(y) / d(y);
                layers * FastRotation::operations(d(y) as usize) * (n(x) + 2.0 * d(y))
            }
            _ => 2.0 * n(y) * d(y) * (n(x) + d(y)),
        };
        (tokens * (cross + grams), draws * self.directed_pairs().map(rotation).sum::<f64>())
    }

    /// Returns the floating-point operations of the exact sums for `candidates` candidates of every
    /// neuron.
    pub fn candidate_operations(&self, candidates: usize, tokens: usize) -> f64 {
        let neurons: usize = self.directed_pairs().map(|(x, _)| self.models[x].n_neurons()).sum();
        2.0 * (neurons * candidates) as f64 * tokens as f64
    }

    /// Returns the number of pairs of layers that are compared, surrogates included.
    pub fn steps(&self) -> usize {
        let surrogates = if self.uses_rotation() { 0 } else { self.baseline.draws };
        let layers = |model: usize| self.models[model].n_layers;
        let pairs: usize = self.directed_pairs().map(|(x, y)| layers(x) * layers(y)).sum();
        pairs * (1 + surrogates)
    }

    /// Returns the largest useful number of passes: one layer in each.
    pub fn max_passes(&self) -> usize {
        self.models.iter().map(|m| m.n_layers).max().unwrap_or(1)
    }

    /// Returns the bytes of the activations that are packed for products at the same time: of kept
    /// tokens a model x as rows and a layer of y as columns, otherwise a model y as columns.
    fn packed_bytes(&self, keep: Keep, tokens: usize) -> usize {
        let most = self.models.iter().map(|m| m.n_neurons()).max().unwrap_or(0);
        let widest = self.models.iter().map(|m| m.d_mlp).max().unwrap_or(0);
        match keep {
            Keep::Tokens => 4 * tokens * (most + widest),
            Keep::Sums { .. } => 4 * tokens.min(TOKENS_AT_ONCE) * most,
        }
    }

    /// Returns the bytes that are kept of `tokens` tokens, and those of their products' factors.
    pub fn kept_bytes(&self, keep: Keep, tokens: usize) -> usize {
        self.packed_bytes(keep, tokens) + self.sums_bytes(keep, tokens)
    }

    fn sums_bytes(&self, keep: Keep, tokens: usize) -> usize {
        let n = |model: usize| self.models[model].n_neurons();
        let surrogates = if self.uses_rotation() { 0 } else { self.baseline.draws };
        match keep {
            Keep::Tokens => {
                let largest = (0..self.models.len()).map(n).max().unwrap_or(0);
                let all: usize = (0..self.models.len()).map(n).sum();
                4 * tokens * (all + largest * surrogates.min(1))
            }
            Keep::Sums { passes } => {
                let rows = |model: usize| self.most_rows(model, passes);
                let cross: usize =
                    self.stored_pairs(true).iter().map(|&(x, y)| rows(x) * n(y)).sum();
                let chance: usize =
                    self.directed_pairs().map(|(x, y)| rows(x) * n(y) * surrogates).sum();
                let gram = |model: usize| n(model) * self.models[model].d_mlp;
                let grams: usize = self.partner_models().into_iter().map(gram).sum();
                8 * (cross + chance + if self.uses_rotation() { grams } else { 0 })
            }
        }
    }

    /// Returns the bytes of the sums of one of `passes` passes, kept in f32 on a device.
    pub fn device_sums_bytes(&self, passes: usize) -> usize {
        let n = |model: usize| self.models[model].n_neurons();
        let rows = |model: usize| self.most_rows(model, passes);
        let cross: usize = self.directed_pairs().map(|(x, y)| rows(x) * n(y)).sum();
        if !self.uses_rotation() {
            return 4 * cross * (1 + self.baseline.draws);
        }
        let gram = |model: usize| n(model) * self.models[model].d_mlp;
        4 * (cross + self.partner_models().into_iter().map(gram).sum::<usize>())
    }

    /// Returns the largest number of neurons of a model whose products are summed in one pass.
    fn most_rows(&self, model: usize, passes: usize) -> usize {
        let layers = (0..passes).map(|pass| self.layers(model, pass, passes).len());
        layers.max().unwrap_or(0) * self.models[model].d_mlp
    }

    /// Returns the bytes needed to compare two layers, beside what is kept.
    pub fn comparison_bytes(&self) -> usize {
        let d = self.models.iter().map(|m| m.d_mlp).max().unwrap_or(0);
        let rotations = match self.baseline.kind {
            BaselineKind::FastRotation => 0,
            _ => 4 * self.baseline.draws,
        };
        // Sums in f64; scaled, rotated and packed values; Gram sums in both; rotations.
        d * d * (8 + 4 * 4 + 12 + rotations)
    }
}
