//! Surrogates of a partner's activations for the chance level: the same tokens in random order, or
//! the activation function applied to standard normal noise.

use super::random::{Purpose, RandomStream};
use super::sums::{CrossSums, Layout, NeuronSums};
use super::{CHUNK, ComparisonPlan};
use crate::checkpoint::{State, Visit};
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
    /// Returns the surrogate of activations `y` `[tokens, n_neurons]`. `chunk` is the index in the
    /// corpus of their first chunk.
    pub fn surrogate(self, plan: &ComparisonPlan, y: &[f32], chunk: u64) -> Vec<f32> {
        let width = plan.models[self.model].n_neurons();
        let chunks = (chunk..).zip(y.chunks(CHUNK * width));
        chunks.flat_map(|(chunk, y)| self.of_chunk(plan, y, width, chunk)).collect()
    }

    fn of_chunk(self, plan: &ComparisonPlan, y: &[f32], width: usize, chunk: u64) -> Vec<f32> {
        let id = (self.draw as u64) << 48 | (self.model as u64) << 40 | chunk;
        let stream = |purpose| RandomStream { seed: plan.baseline.seed, purpose, id };
        if plan.baseline.kind == BaselineKind::Permutation {
            let order = stream(Purpose::Permutation).permutation(y.len() / width);
            return order.iter().flat_map(|&t| &y[t * width..(t + 1) * width]).copied().collect();
        }
        let mut noise = vec![0.0; y.len()];
        stream(Purpose::Gaussian).normals(&mut noise);
        let activation = plan.activations[self.model];
        noise.iter_mut().for_each(|v| *v = activation(*v));
        noise
    }
}

/// The sums of one surrogate, and its products with every reference model.
pub struct SurrogateSums {
    /// The model and draw of the surrogate.
    pub id: SurrogateId,
    /// Sums over the neurons of the surrogate.
    pub own: NeuronSums,
    /// Reference model, and its sums of products with the surrogate.
    pub cross: Vec<(usize, CrossSums)>,
}

impl SurrogateSums {
    /// Creates zero sums.
    pub fn new(id: SurrogateId, y: Layout, cross: Vec<(usize, CrossSums)>) -> Self {
        Self { id, own: NeuronSums::around_zero(y.n_neurons()), cross }
    }
}

impl State for SurrogateSums {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        self.own.parts(visit)?;
        self.cross.iter_mut().try_for_each(|(_, cross)| cross.parts(visit))
    }
}
