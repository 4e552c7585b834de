//! Statistics of single neurons: moments of the activation, weights, effect on the vocabulary, and
//! percentile ranks within the layer.

pub mod activation;
pub mod histogram;
pub mod moments;
pub mod percentile;
pub mod similar;
pub mod weights;

pub use activation::ActivationSums;
pub use moments::{Moments, PowerSums};
pub use weights::WeightStatistics;

/// Number of tokens at the start of the corpus over which each neuron's pilot is computed: the mean
/// that is subtracted from every activation before summing, so that a large mean costs no digits. Part of the
/// method: the pilot depends on neither the batch size nor the number of threads.
pub const PILOT_TOKENS: usize = 1024;
