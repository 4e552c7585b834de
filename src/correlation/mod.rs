//! Which neuron of another model does what this neuron does, and by how much
//! more than chance (paper §4.1, eq. 2 and 3).
//!
//! [`Correlator`] takes activations of a family of models as they come and keeps
//! sums, or the activations where these are smaller; [`Correlator::end_pass`]
//! turns them into best matches and chance levels, two layers at a time.

mod candidates;
mod compare;
mod correlator;
pub mod excess;
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

/// Models compared over tokens that go by.
pub trait NeuronComparison: State {
    /// Adds the same tokens of every model, each `[tokens, n_neurons]`:
    /// [`TOKENS_AT_ONCE`] of them, any number in the last call of a pass. The
    /// values are shifted in place.
    fn absorb(&mut self, tokens: &mut [&mut [f32]]);

    /// Whether the tokens that come have come before.
    fn is_repeated_pass(&self) -> bool;

    /// Sums over the neurons of a model.
    fn neuron_sums(&self, model: usize) -> &NeuronSums;

    /// Ends a pass over the tokens; whether all of them are wanted again.
    ///
    /// # Errors
    /// If `watch` does not let it go on; nothing can be done with this then.
    fn end_pass(&mut self, watch: Watch) -> Result<bool>;

    /// What was found: of every judged model, and each of its partners in order.
    fn finish(self) -> Vec<Vec<PairResult>>;
}

/// Tokens whose products are added in f32 before they enter the f64 sums. Part
/// of the method: it does not depend on batch size or thread count, so neither
/// do the bits of the result.
pub const CHUNK: usize = 1024;

/// Tokens that are added at once: several chunks, so that the sums, which are
/// larger than any cache, are read and written less often. Changes no bit.
pub const TOKENS_AT_ONCE: usize = 4 * CHUNK;
