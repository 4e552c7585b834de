//! What a neuron is like by itself: moments of its activation, its weights, its
//! effect on the vocabulary, and where it stands among its layer.

pub mod activation;
pub mod moments;
pub mod percentile;
pub mod weights;

pub use activation::ActivationSums;
pub use moments::{Moments, PowerSums};
pub use weights::WeightStatistics;
