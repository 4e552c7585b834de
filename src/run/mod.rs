//! The pipeline: models read tokens, sums are kept, findings are drawn.

mod device;
mod screened;
mod session;
mod shard;
mod sums;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::checkpoint::{Checkpoints, State};
use crate::corpus::Batch;
use crate::correlation::{Correlator, NeuronComparison, ScreeningCounts};
use crate::error::{Error, Kind, Result};
use crate::findings::Outcome;
use crate::model::Transformer;
use crate::output::tell;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::record::Timing;
use crate::spec::DeviceChoice;

pub use device::{refuse as refuse_device, run as run_on_device};
pub use session::Session;
pub use shard::{Shard, merge, run_shard};
use sums::Sums;

/// How a run is watched, stopped and gone on with; nothing here changes a number.
#[derive(Default)]
pub struct Control {
    /// Where progress is shown.
    pub progress: Progress,
    /// Set to stop the run after the current batch.
    pub stop: Arc<AtomicBool>,
    /// What multiplies; the CPU where nothing is said.
    pub device: Option<DeviceChoice>,
    /// Where sums are kept, if they are.
    pub checkpoints: Option<Checkpoints>,
    /// Whether to go on from the checkpoint.
    pub resume: bool,
}

/// Runs a plan on the device that `control` asks for.
///
/// # Errors
/// If the device is missing or cannot do what the plan asks, if a model cannot be loaded, no neuron can be correlated, a checkpoint cannot
/// be written or read, or the run was stopped.
pub fn run(plan: &Plan, control: &mut Control) -> Result<Outcome> {
    match device::choose(plan, control)? {
        Some(card) => device::run(plan, &card, control),
        None => run_on_cpu(plan, control),
    }
}

fn run_on_cpu(plan: &Plan, control: &mut Control) -> Result<Outcome> {
    let begun = Instant::now();
    let models = load_models(plan, &control.progress)?;
    let load_s = begun.elapsed().as_secs_f64();
    if let Some(screen) = &plan.spec.correlation.screen {
        return screened::run(plan, screen, &models, load_s, control);
    }
    let mut sums = Sums::new(plan, Correlator::new(plan.comparison_plan(), plan.keep));
    let batches = plan.tokens.batches(plan.spec.batch.tokens, 0..plan.tokens.count().used);
    let done = resume(&mut sums, &batches, control)?;
    let spent = read_and_match(plan, &models, &mut sums, done, control)?;
    let begun = Instant::now();
    let outcome = end(plan, &models, sums, &[], control)?;
    let finish_s = spent.matching + begun.elapsed().as_secs_f64();
    Ok(outcome.timed(Timing { load_s, tokens_s: spent.reading, finish_s }))
}

/// Seconds.
struct Spent {
    reading: f64,
    matching: f64,
}

/// Reads all tokens and compares what was kept, pass by pass, but for the first
/// batches, which are done.
fn read_and_match<C: NeuronComparison>(
    plan: &Plan,
    models: &[Transformer],
    sums: &mut Sums<C>,
    mut done: usize,
    control: &mut Control,
) -> Result<Spent> {
    let batches = plan.tokens.batches(plan.spec.batch.tokens, 0..plan.tokens.count().used);
    let mut spent = Spent { reading: 0.0, matching: 0.0 };
    loop {
        let begun = Instant::now();
        read_all(models, sums, &batches, done, control)?;
        // Matching cannot be stopped half-way, so what it starts from is kept.
        if let Some(checkpoints) = &mut control.checkpoints {
            warn(checkpoints.write(sums, batches.len()));
        }
        spent.reading += begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let again = match_neurons(plan, sums, control)?;
        spent.matching += begun.elapsed().as_secs_f64();
        if !again {
            return Ok(spent);
        }
        done = 0;
    }
}

/// A screened run is not cut: its candidates are not part of what is kept.
fn refuse_screened(plan: &Plan, option: &str) -> Result<()> {
    if plan.spec.correlation.screen.is_none() {
        return Ok(());
    }
    let problem = format!("`correlation.screen` does not go with {option}");
    let remedy = "leave one of them out";
    Err(Error::new(Kind::Spec, plan.spec_path.display(), problem, remedy))
}

/// A checkpoint that cannot be written costs no result, so that the run goes on.
fn warn(written: Result<()>) {
    if let Err(error) = written {
        tell(format_args!("warning: no checkpoint was written: {error}"));
    }
}

/// Draws the findings. The checkpoint stays until they are on the disk.
fn end<C: NeuronComparison>(
    plan: &Plan,
    models: &[Transformer],
    sums: Sums<C>,
    screening: &[ScreeningCounts],
    control: &Control,
) -> Result<Outcome> {
    let outcome = sums.finish(plan, models, screening);
    control.progress.finish();
    Ok(outcome)
}

/// Reads the checkpoint if the run is to go on from it. Returns the number of the `batches`
/// that the sums hold already.
///
/// # Errors
/// Returns an error if the checkpoint is not that of a run over these batches.
fn resume(sums: &mut Sums<Correlator>, batches: &[Batch], control: &Control) -> Result<usize> {
    let Some(checkpoints) = control.checkpoints.as_ref().filter(|_| control.resume) else {
        return Ok(0);
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

/// Runs all models over the tokens of some batches but for the first, which are done.
fn read_all<C: NeuronComparison>(
    models: &[Transformer],
    sums: &mut Sums<C>,
    batches: &[Batch],
    done: usize,
    control: &mut Control,
) -> Result<()> {
    let tokens: usize = batches.iter().map(|batch| batch.used.len()).sum();
    control.progress.stage("reading tokens", tokens as u64);
    batches[..done].iter().for_each(|b| control.progress.advance(b.used.len() as u64));
    for (i, batch) in batches.iter().enumerate().skip(done) {
        if control.stop.load(Ordering::Relaxed) {
            return Err(stopped(control.checkpoints.as_mut(), sums, i));
        }
        sums.read(models, batch);
        control.progress.advance(batch.used.len() as u64);
        if let Some(checkpoints) = &mut control.checkpoints {
            warn(checkpoints.write_if_due(sums, i + 1));
        }
    }
    Ok(())
}

/// Compares what was kept; whether the tokens are wanted again.
fn match_neurons<C: NeuronComparison>(
    plan: &Plan,
    sums: &mut Sums<C>,
    control: &mut Control,
) -> Result<bool> {
    control.progress.stage("matching neurons", plan.comparison_plan().steps() as u64);
    sums.absorb_rest();
    let watch = || {
        control.progress.advance(1);
        match (control.stop.load(Ordering::Relaxed), &control.checkpoints) {
            (false, _) => Ok(()),
            (true, Some(checkpoints)) => Err(checkpoints.keeps(lost())),
            (true, None) => Err(lost()),
        }
    };
    sums.comparison.end_pass(&watch)
}

/// What is said of a run that was stopped, after its sums are kept if they are to be.
fn stopped(checkpoints: Option<&mut Checkpoints>, sums: &mut dyn State, batches: usize) -> Error {
    match checkpoints {
        None => lost(),
        Some(checkpoints) => match checkpoints.write(sums, batches) {
            Ok(()) => checkpoints.keeps(lost()),
            Err(error) => checkpoints.keeps(error),
        },
    }
}

fn lost() -> Error {
    let problem = "interrupted before the end; no results were written";
    let remedy = "run the command again; a run that `run --checkpoint` began can go on";
    Error::new(Kind::Interrupted, "the run", problem, remedy)
}

fn load_models(plan: &Plan, progress: &Progress) -> Result<Vec<Transformer>> {
    progress.stage("loading models", plan.models.len() as u64);
    let load = |model: &crate::plan::PlannedModel| {
        progress.advance(1);
        model.load(progress)
    };
    plan.models.iter().map(load).collect()
}
