//! How a run is watched, stopped, and gone on with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::checkpoint::{Checkpoints, State};
use crate::error::{Error, Kind, Result};
use crate::output::tell;
use crate::progress::Progress;
use crate::spec::DeviceChoice;

/// How a run is watched, stopped and gone on with. Nothing here changes a number.
#[derive(Default)]
pub struct Control {
    /// Where progress is shown.
    pub progress: Progress,
    /// Set to stop the run after the current batch.
    pub stop: Arc<AtomicBool>,
    /// The device that multiplies; the CPU if none is given.
    pub device: Option<DeviceChoice>,
    /// Where sums are kept, if they are.
    pub checkpoints: Option<Checkpoints>,
    /// Whether to go on from the checkpoint.
    pub resume: bool,
}

impl Control {
    /// Returns a control that shows no progress and is stopped together with this one.
    pub(super) fn quiet(&self) -> Self {
        Self { stop: Arc::clone(&self.stop), ..Self::default() }
    }

    /// Returns whether somebody asked for an end.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Counts one step of the stage as done.
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

    /// Writes a checkpoint of the first `batches` batches if it is time for one. A checkpoint
    /// that cannot be written costs no result, so that the run goes on.
    pub(super) fn keep_if_due(&mut self, state: Option<&mut dyn State>, batches: usize) {
        if let (Some(checkpoints), Some(state)) = (&mut self.checkpoints, state) {
            warn(checkpoints.write_if_due(state, batches));
        }
    }

    /// Writes a checkpoint of the first `batches` batches.
    pub(super) fn keep(&mut self, state: &mut dyn State, batches: usize) {
        if let Some(checkpoints) = &mut self.checkpoints {
            warn(checkpoints.write(state, batches));
        }
    }

    /// Keeps the state of a run that was stopped after `batches` batches; returns the error
    /// that ends it.
    pub(super) fn end_early(&mut self, state: Option<&mut dyn State>, batches: usize) -> Error {
        let Some(state) = state else { return interrupted("run the command again") };
        let Some(checkpoints) = &mut self.checkpoints else { return interrupted(WITH_CHECKPOINT) };
        match checkpoints.write(state, batches) {
            Ok(()) => checkpoints.keeps(interrupted(WITH_CHECKPOINT)),
            Err(error) => checkpoints.keeps(error),
        }
    }
}

const WITH_CHECKPOINT: &str =
    "run the command again; a run that `run --checkpoint` began can go on";

fn interrupted(remedy: &str) -> Error {
    let problem = "interrupted before the end; no results were written";
    Error::new(Kind::Interrupted, "the run", problem, remedy)
}

fn warn(written: Result<()>) {
    if let Err(error) = written {
        tell(format_args!("warning: no checkpoint was written: {error}"));
    }
}
