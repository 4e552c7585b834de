//! What neurons do to the model's prediction (paper §5).

pub mod bootstrap;
pub mod heads;
pub mod predictions;
