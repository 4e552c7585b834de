//! Universal neurons: are the same neurons found again in a model trained from
//! another seed?
//!
//! Data runs one way, and each module is one room that knows only the rooms
//! before it: [`spec`] → [`plan`](crate) → corpus → model → correlation and
//! stats → table → report.
#![warn(missing_docs)]

pub mod error;
pub mod spec;

pub use error::{Error, Result};
