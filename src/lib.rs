//! Universal neurons: are the same neurons found again in a model trained from
//! another seed?
//!
//! Data runs one way, and each module is one room that knows only the rooms
//! before it:
//!
//! [`spec`] says what an experiment is, [`plan`] makes it real, [`corpus`] gives
//! tokens, [`model`] activations, [`correlation`] and [`stats`] sums over them,
//! [`table`] and [`findings`] what follows, [`cards`] look closely, [`claims`] judges, and [`report`]
//! shows it. [`run`] is the pipeline, [`experiment`] holds the kinds of experiment, [`record`] what a
//! run's folder holds, [`charts`] draws; [`estimate`] and [`hostbench`] tell what it costs on
//! this machine; [`backend`] holds the arithmetic and all
//! `unsafe`; [`input`] opens files that a user gives; [`printable`] shows text from them;
//! [`nullable`] reads numbers that may not exist; [`store`] and [`checkpoint`] write files that are whole or not there;
//! [`hub`] alone opens a socket.
#![warn(missing_docs)]

pub mod backend;
pub mod cards;
pub mod charts;
pub mod checkpoint;
pub mod claims;
pub mod cli;
pub mod compare;
pub mod corpus;
pub mod correlation;
pub mod error;
pub mod estimate;
pub mod experiment;
pub mod families;
pub mod findings;
pub mod guide;
pub mod hostbench;
pub mod hub;
pub mod input;
pub mod model;
pub mod nullable;
pub mod output;
pub mod plan;
pub mod printable;
pub mod progress;
pub mod record;
pub mod report;
pub mod roles;
pub mod run;
pub mod spec;
pub mod stats;
pub mod store;
pub mod table;

pub use error::{Error, Result};
