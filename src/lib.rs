//! Finds universal neurons: neurons of a language model that respond to the same tokens as neurons
//! of models which were trained from other random seeds.
//!
//! Most users need only the command line, which the [guide] describes. The library has five types
//! to start from, each with an example:
//!
//! - [`Spec`] is an experiment, as a file describes it.
//! - [`Session`] runs an experiment.
//! - [`Transformer`] is a model that computes activations.
//! - [`Correlator`] compares the neurons of models by their activations.
//! - [`Claims`] are the claims of the papers, which are judged on a neuron table.
//!
//! # Examples
//!
//! Runs a small study: two of the bundled models on a few texts.
//!
//! ```
//! use universal_neurons::experiment::load_spec;
//! use universal_neurons::plan::Plan;
//! use universal_neurons::run::{self, Control};
//!
//! let mut loaded = load_spec("experiments/desk-universality.yaml".as_ref())?;
//! loaded.spec.models.family.truncate(2);
//! loaded.spec.corpus.limit = Some(3);
//! let plan = Plan::make(loaded)?;
//! let findings = run::run(&plan, &mut Control::default())?.reference;
//! println!("{:.1} % of neurons are universal", findings.summary.shares[0].percent);
//! # assert_eq!((findings.table.ids.len(), findings.summary.partners.len()), (3072, 1));
//! # Ok::<(), universal_neurons::Error>(())
//! ```
//!
//! # Modules
//!
//! A module uses only modules listed above it.
//!
//! | module | what it does |
//! |---|---|
//! | `printable` | shows text of files safely |
//! | `nullable` | numbers that may not exist |
//! | [`error`] | subject, problem, remedy |
//! | `output` | writes to the terminal |
//! | `compare` | compares within tolerances |
//! | `progress` | tells how far a run is |
//! | `digest` | digests of bytes |
//! | `input` | opens files that users give |
//! | `store` | writes whole files |
//! | `checkpoint` | keeps sums of a run |
//! | `backend` | products, cards, unsafe |
//! | [`spec`] | reads experiment files |
//! | [`corpus`] | reads and tokenises text |
//! | [`model`] | runs the forward pass |
//! | `hub` | downloads |
//! | `roles` | heads and predictions |
//! | `stats` | statistics of a neuron |
//! | [`correlation`] | sums, baselines, matches |
//! | [`table`] | columns of a neuron |
//! | [`plan`] | resolves a spec |
//! | [`record`] | files of a run folder |
//! | `families` | token tests |
//! | [`findings`] | draws conclusions |
//! | `charts` | draws figures |
//! | [`run`] | the pipeline of a study |
//! | [`experiment`] | one file per kind |
//! | `cards` | looks at single neurons |
//! | [`claims`] | judges claims |
//! | `estimate` | predicts cost |
//! | `hostbench` | measures this machine |
//! | [`report`] | page, files, terminal |
//! | `cli` | the command line |
//! | `commands` | what each command does |
#![warn(missing_docs)]

// A module with `doc(hidden)` is public only for the program and for the project's own tests and
// benches.
#[doc(hidden)]
pub mod backend;
#[doc(hidden)]
pub mod cards;
pub(crate) mod charts;
#[doc(hidden)]
pub mod checkpoint;
pub mod claims;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod compare;
pub mod corpus;
pub mod correlation;
#[doc(hidden)]
pub mod digest;
pub mod error;
#[doc(hidden)]
pub mod estimate;
pub mod experiment;
#[doc(hidden)]
pub mod families;
pub mod findings;
pub mod guide;
#[doc(hidden)]
pub mod hostbench;
#[doc(hidden)]
pub mod hub;
pub(crate) mod input;
pub mod model;
pub(crate) mod nullable;
#[doc(hidden)]
pub mod output;
pub mod plan;
#[doc(hidden)]
pub mod printable;
#[doc(hidden)]
pub mod progress;
pub mod record;
pub mod report;
pub(crate) mod roles;
pub mod run;
pub mod spec;
#[doc(hidden)]
pub mod stats;
#[doc(hidden)]
pub mod store;
pub mod table;

pub use claims::Claims;
pub use correlation::Correlator;
pub use error::{Error, Result};
pub use model::Transformer;
pub use run::Session;
pub use spec::Spec;
