//! Which neuron of another model does what this neuron does, and by how much
//! more than chance (paper §4.1, eq. 2 and 3).
//!
//! [`Correlator`] takes activations of a family of models as they come and keeps
//! sums, or the activations where these are smaller; [`Correlator::end_pass`]
//! turns them into best matches and chance levels, two layers at a time.

mod correlator;
pub mod excess;
pub mod oracle;
mod pair;
mod random;
mod rotation;
mod source;
mod sums;
mod surrogate;
#[cfg(test)]
mod tests;

pub use correlator::{Correlator, Keep, Study};
pub use pair::{BINS, Best, Pair, Stopped};
pub use sums::{Layout, NeuronSums};

/// Tokens whose products are added in f32 before they enter the f64 sums. Part
/// of the method: it does not depend on batch size or thread count, so neither
/// do the bits of the result.
pub const CHUNK: usize = 1024;

/// Tokens that are added at once: several chunks, so that the sums, which are
/// larger than any cache, are read and written less often. Changes no bit.
pub const TOKENS_AT_ONCE: usize = 4 * CHUNK;
