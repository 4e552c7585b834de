//! The claims of the papers as data, judged on evidence.
//!
//! Each file uses only files above it:
//!
//! | file | content |
//! |---|---|
//! | `tier` | the kinds of evidence |
//! | `values` | values as text |
//! | [`measure`] | what a claim measures |
//! | [`claim`] | claims, read from `expected/claims/` |
//! | `published` | reads the authors' tables |
//! | [`prediction_table`] | reads the authors' table of prediction neurons |
//! | `origin` | whose weights a run was made with |
//! | `evidence` | evidence about one model |
//! | [`sources`] | finds evidence |
//! | `prediction_labels` | takes the quantities of the table of prediction neurons |
//! | `measurement` | takes measures from evidence |
//! | `chance` | the chance that a claim would hold under another order of labels |
//! | `judge` | compares measured with expected values |
//! | [`ledger`] | claims with their verdicts |
//! | `collection` | [`Claims`], which judges all claims |

mod chance;
pub mod claim;
mod collection;
mod evidence;
mod judge;
pub mod ledger;
pub mod measure;
mod measurement;
mod origin;
mod prediction_labels;
pub mod prediction_table;
mod published;
pub mod sources;
mod tier;
mod values;

pub use chance::Chance;
pub use claim::{Claim, Judgement, registry};
pub use collection::Claims;
pub use evidence::Evidence;
pub use ledger::{Entry, Ledger};
pub use origin::RunWeights;
pub use sources::Evidences;
pub use tier::Tier;
