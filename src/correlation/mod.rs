//! Finds, for every neuron of a reference model, the neuron of another model that correlates best
//! with it, and how much better than chance (paper §4.1, eq. 2 and 3).
//!
//! [`Correlator`] takes the activations of a family of models chunk by chunk. It keeps sums over
//! tokens, or the activations themselves if they are smaller. [`Correlator::end_pass`] turns them
//! into best matches and chance levels, two layers at a time.

mod candidates;
mod compare;
mod correlator;
mod device_state;
pub mod excess;
mod fast_rotation;
mod on_device;
pub mod oracle;
mod pair;
mod plan;
mod random;
mod rotation;
mod rows;
mod screening;
mod source;
mod sums;
mod surrogate;
#[cfg(test)]
mod tests;

pub use compare::Watch;
pub use correlator::Correlator;
pub use on_device::DeviceCorrelator;
pub use pair::{NeuronMatch, PairResult};
pub use plan::{ComparisonPlan, Keep};
pub use random::{Purpose, RandomStream};
pub use rotation::random_rotation;
pub use screening::{Margin, ScreenedCorrelator, ScreeningCounts};
pub use sums::{Layout, NeuronSums};

use crate::checkpoint::State;
use crate::error::Result;

/// A comparison of the neurons of several models over a stream of tokens.
pub trait NeuronComparison: State {
    /// Adds the activations of the same tokens in every model, each `[tokens, n_neurons]`. Every
    /// call of a pass but the last has [`TOKENS_AT_ONCE`] tokens. The pilot is subtracted from the
    /// values in place.
    fn absorb(&mut self, tokens: &mut [&mut [f32]]);

    /// Returns whether this pass reads tokens that an earlier pass has read.
    fn is_repeated_pass(&self) -> bool;

    /// Returns the sums over the neurons of a model.
    fn neuron_sums(&self, model: usize) -> &NeuronSums;

    /// Ends a pass over the tokens. Returns whether another pass is needed.
    ///
    /// # Errors
    ///
    /// Returns the error of `watch` if it asks to stop. The comparison cannot be used after that.
    fn end_pass(&mut self, watch: Watch) -> Result<bool>;

    /// Returns the results as `[reference][partner]`, in the order of the plan.
    fn finish(self) -> Vec<Vec<PairResult>>;
}

/// Number of tokens whose products are added in f32 before they are added to the f64 sums. Part of
/// the method: it depends on neither the batch size nor the number of threads, so the bits of the
/// result do not either.
pub const CHUNK: usize = 1024;

/// Number of tokens added in one call: several chunks, so that the sums, which are larger than any
/// cache, are read and written less often. Changes no bit of the result.
pub const TOKENS_AT_ONCE: usize = 4 * CHUNK;
