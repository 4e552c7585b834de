//! Text: samples with labels, and the rows of tokens that models read.

pub mod samples;
pub mod tokenizer;
pub mod tokens;

pub use samples::Sample;
pub use tokens::{Batch, Row, Tokens};
