//! Claims of papers as data, judged against evidence.
//!
//! [`claim`] is what the files in `expected/claims/` say; [`evidence`] is what
//! can judge them; [`measure`] takes a number from evidence; [`judge`] compares;
//! [`ledger`] is the result, ready to be shown.

pub mod claim;
pub mod evidence;
pub mod judge;
pub mod ledger;
pub mod measure;
pub mod sheet;

pub use claim::{Claim, Judgement, Tier, registry};
pub use evidence::{Evidence, Evidences};
pub use ledger::{Entry, Ledger};
