//! Finds, for every neuron of a reference model, the neuron of another model that correlates best
//! with it, and how much better than chance (paper §4.1, eq. 2 and 3).
//!
//! [`Correlator`] takes the activations of a family of models chunk by chunk. It keeps sums over
//! tokens, or the activations themselves if they are smaller. [`Correlator::end_pass`] turns them
//! into best matches and chance levels, two layers at a time.

mod block_sums;
mod candidates;
mod compare;
mod correlator;
mod device;
mod engine;
pub mod excess;
mod fast_rotation;
mod half_tokens;
mod host;
mod layer_similarity;
mod neuron_comparison;
pub mod oracle;
mod pair;
mod pass_sums;
mod plan;
mod product_sums;
mod random;
mod rotation;
mod rows;
mod screening;
mod sparse;
mod sums;
mod surrogate;
#[cfg(test)]
mod tests;

pub use block_sums::{BlockDraws, BlockSums, PairCandidates};
pub use compare::Watch;
pub use correlator::Correlator;
pub use device::DeviceEngine;
pub use engine::Engine;
pub use half_tokens::HalfTokens;
pub use host::HostEngine;
pub use neuron_comparison::{NeuronComparison, ScreeningCounts, TokensOf};
pub use pair::{NeuronMatch, PairResult};
pub use plan::{ComparisonPlan, Keep};
pub use random::{Purpose, RandomStream};
pub use rotation::random_rotation;
pub use screening::{Margin, ScreenedCorrelator};
pub use sparse::{SparseModel, SparseTokens, compare_sparse, sparse_steps};
pub use sums::{Layout, NeuronSums};

/// Number of tokens whose products are added in f32 before they are added to the f64 sums. Part of
/// the method: it depends on neither the batch size nor the number of threads, so the bits of the
/// result do not either.
pub const CHUNK: usize = 1024;

/// Number of tokens added in one call: several chunks, so that the sums, which are larger than any
/// cache, are read and written less often. Changes no bit of the result.
pub const TOKENS_AT_ONCE: usize = 4 * CHUNK;
