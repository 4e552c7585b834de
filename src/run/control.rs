//! Progress, cancellation and checkpoints of a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::checkpoint::{Checkpoints, State};
use crate::error::{Error, Kind, Result};
use crate::output::tell;
use crate::progress::Progress;
use crate::spec::DeviceChoice;

/// Progress, cancellation, device and checkpoints of a run. Only the device changes a number, within
/// the rounding of its products.
#[derive(Default)]
pub struct Control {
    /// Where progress is shown.
    pub progress: Progress,
    /// Set to stop the run after the current batch.
    pub stop: Arc<AtomicBool>,
    /// The device that multiplies; the CPU if none is given.
    pub device: Option<DeviceChoice>,
    /// Where checkpoints of the sums are written; `None` if the run writes none.
    pub checkpoints: Option<Checkpoints>,
    /// Whether to resume from the checkpoint.
    pub resume: bool,
}

impl Control {
    /// Returns a control that shows no progress and shares this one's stop flag.
    pub(super) fn quiet(&self) -> Self {
        Self { stop: Arc::clone(&self.stop), ..Self::default() }
    }

    /// Returns whether the run was asked to stop.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Marks one step of the current stage as done.
    ///
    /// # Errors
    /// Returns an error of kind interrupted if the run was stopped.
    pub(super) fn step(&self) -> Result<()> {
        self.progress.advance(1);
        match (self.is_stopped(), &self.checkpoints) {
            (false, _) => Ok(()),
            (true, Some(checkpoints)) => Err(checkpoints.keeps(interrupted(WITH_CHECKPOINT))),
            (true, None) => Err(interrupted(WITH_CHECKPOINT)),
        }
    }

    /// Writes a checkpoint of the first `batches` batches if one is due. If it cannot be written,
    /// warns and lets the run continue, because no result is lost.
    pub(super) fn keep_if_due(&mut self, state: Option<&mut dyn State>, batches: usize) {
        if let (Some(checkpoints), Some(state)) = (&mut self.checkpoints, state) {
            warn(checkpoints.write_if_due(state, batches));
        }
    }

    /// Writes a checkpoint of the first `batches` batches. Warns if it cannot be written.
    pub(super) fn keep(&mut self, state: &mut dyn State, batches: usize) {
        if let Some(checkpoints) = &mut self.checkpoints {
            warn(checkpoints.write(state, batches));
        }
    }

    /// Adds to an error where the sums of the last checkpoint are.
    pub(super) fn keeps(&self, error: Error) -> Error {
        match &self.checkpoints {
            Some(checkpoints) => checkpoints.keeps(error),
            None => error,
        }
    }

    /// Saves the state of a run that was stopped after `batches` batches. Returns the error that
    /// ends the run.
    pub(super) fn end_early(&mut self, state: Option<&mut dyn State>, batches: usize) -> Error {
        let Some(checkpoints) = &mut self.checkpoints else { return interrupted(WITH_CHECKPOINT) };
        // An earlier pass may have written one.
        let Some(state) = state else { return checkpoints.keeps(interrupted(WITH_CHECKPOINT)) };
        match checkpoints.write(state, batches) {
            Ok(()) => checkpoints.keeps(interrupted(WITH_CHECKPOINT)),
            Err(error) => checkpoints.keeps(error),
        }
    }
}

const WITH_CHECKPOINT: &str =
    "run the command again; a run that was started with `run --checkpoint` can be resumed";

fn interrupted(remedy: &str) -> Error {
    let problem = "interrupted before the end; no results were written";
    Error::new(Kind::Interrupted, "the run", problem, remedy)
}

fn warn(written: Result<()>) {
    if let Err(error) = written {
        tell(format_args!("warning: no checkpoint was written: {error}"));
    }
}
