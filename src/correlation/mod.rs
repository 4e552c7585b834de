//! Which neuron of another model does what this neuron does, and by how much
//! more than chance (paper §4.1, eq. 2 and 3).
//!
//! [`Correlator`] takes activations chunk by chunk and keeps sums only;
//! [`Correlator::finish`] turns them into best matches and chance levels.

mod best;
mod correlator;
pub mod excess;
pub mod oracle;
mod random;
mod rotation;
mod sums;
#[cfg(test)]
mod tests;

pub use best::Best;
pub use correlator::{Correlator, Pair, Partner};
pub use sums::{Layout, NeuronSums};

/// Tokens whose products are added in f32 before they enter the f64 sums. Part
/// of the method: it does not depend on batch size or thread count, so neither
/// do the bits of the result.
pub const CHUNK: usize = 1024;
