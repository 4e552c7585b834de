//! The pipeline: models read tokens, their activations are summed, and findings are computed from
//! the sums. A [`Session`] owns all of it.

mod control;
mod device;
mod passes;
mod screened;
mod session;
mod shard;
mod study;
mod sums;

use crate::error::Result;
use crate::findings::Outcome;
use crate::plan::Plan;

pub use control::Control;
pub use device::{Card, open_card, refuse as refuse_device};
pub use session::Session;
pub use shard::Shard;

/// Runs the study of a plan.
///
/// # Errors
/// Returns an error as [`Session::study`] does.
pub fn run(plan: &Plan, control: &mut Control) -> Result<Outcome> {
    let card = open_card(plan, control)?;
    Session::new(plan, control).on(card.as_ref().map(|card| card as _)).study()
}
