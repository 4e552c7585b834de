//! Which simple property of a token explains a neuron best (paper §4.3).

mod explain;
mod reading;
mod sums;
mod syntax;
mod tests;

pub use explain::{Explained, Group, Grouped, best_explanations, reduction};
pub use reading::{Grouping, Groups, Readings, Suite, check};
pub use sums::GroupSums;
pub use syntax::Syntax;
pub use tests::{TokenTest, read, unigrams};
