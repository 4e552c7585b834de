//! Matrix products and device kernels.
//!
//! The only module with `unsafe`. Everything it exports is safe: shapes are checked before a
//! pointer is formed.

mod aligned;
mod cache;
pub mod device;
pub mod kernel;
pub mod matmul;
pub mod pack;
pub(crate) mod parts;
mod precision;
pub mod wide;

pub use precision::Precision;
