//! All integration tests in one binary, since linking is the slow part.

mod cli;
mod desk;
mod golden;
mod specs;
mod support;
