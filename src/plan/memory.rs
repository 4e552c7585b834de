//! The memory that a run needs.

use super::Plan;
use crate::correlation::Keep;
use crate::error::Result;

impl Plan {
    /// Returns what the run keeps of the tokens, as [`super::Workload::choose_keep`] does.
    ///
    /// # Errors
    /// Returns an error if nothing fits into the memory that the spec allows.
    pub(super) fn choose_keep(&self) -> Result<Keep> {
        self.workload().choose_keep()
    }

    /// Returns the bytes that weights, activations, and the data kept of the tokens need.
    pub fn bytes(&self) -> usize {
        self.workload().bytes(self.keep)
    }

    /// Returns the bytes that a screened run may use for neurons that it compares exactly: the
    /// rest of the memory that the spec allows, or without a limit as much as the rest of the run.
    pub fn room(&self) -> usize {
        let limit = self.spec.batch.memory_gib.map(|gib| (gib * f64::from(1 << 30)) as usize);
        limit.map_or(self.bytes(), |limit| limit.saturating_sub(self.bytes()))
    }
}
