//! Universal neurons: are the same neurons found again in a model trained from
//! another seed?
//!
//! Data runs one way, and each module is one room that knows only the rooms
//! before it: [`spec`] → [`plan`](crate) → corpus → model → correlation and
//! stats → table → report.
#![warn(missing_docs)]

pub mod backend;
pub mod checkpoint;
pub mod claims;
pub mod cli;
pub mod compare;
pub mod corpus;
pub mod correlation;
pub mod error;
pub mod estimate;
pub mod findings;
pub mod hub;
pub mod model;
pub mod plan;
pub mod progress;
pub mod report;
pub mod run;
pub mod spec;
pub mod stats;
pub mod store;
pub mod table;

pub use error::{Error, Result};
