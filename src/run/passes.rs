//! Passes over the tokens: reading tokens and matching neurons.

use std::time::Instant;

use super::Session;
use super::batches::batches_in_shares;
use super::study_sums::{StudySums, TokenSums};
use crate::corpus::Batch;
use crate::correlation::sparse_steps;
use crate::error::{Error, Kind, Result};
use crate::plan::Plan;

/// Name of the stage that reads tokens.
pub const READING: &str = "reading tokens";

/// Seconds spent on each part of a run.
pub struct Spent {
    /// Reading tokens.
    pub reading: f64,
    /// Matching neurons.
    pub matching: f64,
}

/// Reads all tokens and matches neurons, pass by pass. The first pass skips the first `done`
/// batches, which the sums already hold.
///
/// # Errors
/// Returns an error if the run was stopped.
pub fn read_and_match(
    session: &mut Session,
    sums: &mut (impl TokenSums + ?Sized),
    mut done: usize,
) -> Result<Spent> {
    let plan = session.plan;
    let batches = batches_in_shares(plan, sums.at_once());
    let mut spent = Spent { reading: 0.0, matching: 0.0 };
    loop {
        let begun = Instant::now();
        session.read_batches(READING, &batches, done, sums)?;
        // Matching cannot be resumed halfway, so the state that it starts from is saved.
        if let Some(state) = sums.state() {
            session.control.keep(state, batches.len());
        }
        spent.reading += begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let again = match_neurons(session, sums)?;
        spent.matching += begun.elapsed().as_secs_f64();
        if !again {
            return Ok(spent);
        }
        done = 0;
    }
}

/// Matches neurons. Returns whether another pass over the tokens is needed.
///
/// # Errors
/// Returns an error if the run was stopped.
pub fn match_neurons(session: &mut Session, sums: &mut (impl TokenSums + ?Sized)) -> Result<bool> {
    let comparison = session.plan.comparison_plan();
    let steps = match session.plan.is_sparse() {
        true => sparse_steps(&comparison),
        false => comparison.steps(),
    };
    let control = &*session.control;
    control.progress.stage("matching neurons", steps as u64);
    sums.absorb_rest()?;
    sums.end_pass(&|| control.step())
}

/// Reads the checkpoint if the run is to be resumed, and otherwise begins the run or, if `share` is
/// true, a share of it. Returns how many of the `batches` the sums already hold.
///
/// # Errors
/// Returns an error if the checkpoint is not that of a run over these batches, or the device fails.
pub fn resume_or_begin(
    session: &Session,
    sums: &mut dyn StudySums,
    batches: &[Batch],
    share: bool,
) -> Result<usize> {
    let control = &*session.control;
    let Some(checkpoints) = control.checkpoints.as_ref().filter(|_| control.resume) else {
        return sums.begin(session.plan, share).map(|()| 0);
    };
    let done = checkpoints.read(sums)?;
    let tokens = |batches: &[Batch]| batches.iter().map(|b| b.used.len() as u64).sum::<u64>();
    let held = batches.get(..done).map(tokens).ok_or_else(|| {
        let why = format!("it counts {done} batches of {}", batches.len());
        checkpoints.inconsistent(&why)
    })?;
    sums.check(held, tokens(batches)).map_err(|why| checkpoints.inconsistent(&why))?;
    Ok(done)
}

/// Refuses `option` for a run of sparse activations, which writes no checkpoints.
///
/// # Errors
/// Returns an error for such a plan.
pub fn refuse_sparse(plan: &Plan, option: &str) -> Result<()> {
    if !plan.is_sparse() {
        return Ok(());
    }
    let problem = format!("sparse activations cannot be combined with {option}");
    let remedy = "remove the option: such a run is short";
    Err(Error::new(Kind::Spec, plan.spec_path.display(), problem, remedy))
}
