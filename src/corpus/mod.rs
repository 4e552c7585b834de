//! Text: samples with labels, and the rows of tokens that models read.

pub mod cache;
pub mod documents;
mod parquet;
pub mod tokenizer;
pub mod tokens;

pub use documents::Sample;
pub use tokens::{Batch, Row, Tokens};
