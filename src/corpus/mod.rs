//! Reads the corpus: samples with labels, and the rows of tokens that models read.

pub mod cache;
mod compressed;
pub mod documents;
mod format;
mod json;
mod lines;
mod pages;
mod parquet;
pub mod rows;
#[cfg(test)]
mod tests;
pub mod tokenizer;
pub mod tokens;

pub use documents::Sample;
pub(crate) use parquet::ParquetTable;
pub use rows::{Row, SamplePart};
pub use tokens::{Batch, Tokens};
