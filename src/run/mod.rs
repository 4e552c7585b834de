//! The pipeline: models read tokens, their activations are summed, and findings are computed from
//! the sums. A [`Session`] owns all of it.

mod accelerator;
mod batches;
mod control;
mod decoders;
mod device_group;
mod device_memory;
mod device_sums;
mod intervals;
mod member;
mod open;
mod outcome;
mod passes;
mod screened;
mod self_check;
mod session;
mod shard;
mod sparse_sums;
mod statistics;
mod study;
mod study_sums;
mod sums;

use crate::error::Result;
use crate::findings::Outcome;
use crate::plan::Plan;

pub use accelerator::Accelerator;
pub use control::Control;
pub use decoders::Decoders;
pub use device_group::DeviceGroup;
pub use open::open_card;
pub use session::{ModelMatches, Session, identity};
pub use shard::Shard;

/// Runs the study of a plan.
///
/// # Errors
/// Returns an error as [`Session::study`] does.
pub fn run(plan: &Plan, control: &mut Control) -> Result<Outcome> {
    let card = open_card(plan, control)?;
    Session::new(plan, control).on(card.as_deref()).study()
}
