//! The pipeline: models read tokens, sums are kept, findings are drawn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::checkpoint::{Checkpoints, Part, State, Visit};
use crate::corpus::Row;
use crate::correlation::{CHUNK, Correlator, Pair, Partner};
use crate::error::{Error, Kind, Result};
use crate::findings::{Findings, Timing};
use crate::model::capture::{Activations, Capture};
use crate::model::fold::preprocess;
use crate::model::{Gpt2, Site};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::stats::ActivationSums;
use crate::stats::weights::weight_statistics;

/// How a run is watched, stopped and gone on with; nothing here changes a number.
#[derive(Default)]
pub struct Control {
    /// Where progress is shown.
    pub progress: Progress,
    /// Set to stop the run after the current batch.
    pub stop: Arc<AtomicBool>,
    /// Where sums are kept, if they are.
    pub checkpoints: Option<Checkpoints>,
    /// Whether to go on from the checkpoint.
    pub resume: bool,
}

/// Runs a plan.
///
/// # Errors
/// If a model cannot be loaded, no neuron can be correlated, a checkpoint cannot
/// be written or read, or the run was stopped.
pub fn run(plan: &Plan, control: &mut Control) -> Result<Findings> {
    let start = Instant::now();
    control.progress.stage("loading models", plan.models.len() as u64);
    let models = load_models(plan, &control.progress)?;
    let loaded = start.elapsed();
    let mut sums = Sums::new(plan);
    read_all(plan, &models, &mut sums, control)?;
    let read = start.elapsed();
    control.progress.stage("matching neurons", 1);
    let findings = sums.finish(plan, &models[plan.reference], &control.stop)?;
    control.progress.finish();
    control.checkpoints.as_ref().map_or(Ok(()), Checkpoints::remove)?;
    Ok(findings.timed(timing(loaded, read, start.elapsed())))
}

/// Runs all models over all tokens, from the checkpoint if there is one to go on from.
fn read_all(plan: &Plan, models: &[Gpt2], sums: &mut Sums, control: &mut Control) -> Result<()> {
    let batches = plan.tokens.batches(plan.spec.batch.tokens);
    let done = match &control.checkpoints {
        Some(checkpoints) if control.resume => checkpoints.read(sums)?,
        _ => 0,
    };
    control.progress.stage("reading tokens", plan.tokens.count().used as u64);
    batches[..done].iter().for_each(|b| control.progress.advance(plan.tokens.used_in(b)));
    for (i, batch) in batches.iter().enumerate().skip(done) {
        if control.stop.load(Ordering::Relaxed) {
            return Err(stopped(control.checkpoints.as_mut(), sums, i));
        }
        sums.read(plan, models, batch);
        control.progress.advance(plan.tokens.used_in(batch));
        if let Some(checkpoints) = &mut control.checkpoints {
            checkpoints.write_if_due(sums, i + 1)?;
        }
    }
    sums.absorb_rest();
    Ok(())
}

/// What is said of a run that was stopped, after its sums are kept if they are to be.
fn stopped(checkpoints: Option<&mut Checkpoints>, sums: &mut Sums, batches: usize) -> Error {
    let said =
        |problem: &str, remedy: &str| Error::new(Kind::Interrupted, "the run", problem, remedy);
    let Some(checkpoints) = checkpoints else {
        let remedy = "start it again; with --checkpoint, an interrupted run can go on";
        return said("interrupted before the end; nothing was written", remedy);
    };
    match checkpoints.write(sums, batches) {
        Ok(()) => {
            let problem = format!("interrupted; its sums are in {}", checkpoints.path().display());
            said(&problem, "go on with --resume")
        }
        Err(error) => error,
    }
}

fn timing(loaded: Duration, read: Duration, all: Duration) -> Timing {
    Timing {
        load_s: loaded.as_secs_f64(),
        tokens_s: (read - loaded).as_secs_f64(),
        finish_s: (all - read).as_secs_f64(),
    }
}

fn interruptible(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) {
        let problem = "interrupted before the end; nothing was written";
        return Err(Error::new(Kind::Interrupted, "the run", problem, "start it again"));
    }
    Ok(())
}

fn load_models(plan: &Plan, progress: &Progress) -> Result<Vec<Gpt2>> {
    let load = |model: &crate::plan::PlannedModel| {
        progress.advance(1);
        Gpt2::load(&model.folder)
    };
    plan.models.iter().map(load).collect()
}

/// Everything that one pass over the tokens feeds.
struct Sums {
    reference: usize,
    /// Post-activations waiting to fill a chunk, one buffer per model.
    post: Vec<Activations>,
    /// Pre-activations of the reference, likewise.
    pre: Activations,
    correlator: Correlator,
    statistics: ActivationSums,
}

impl Sums {
    fn new(plan: &Plan) -> Self {
        let partner = |index: usize| Partner { index, layout: plan.models[index].layout() };
        let partners: Vec<_> = plan.partners().map(partner).collect();
        let layout = plan.reference().layout();
        Self {
            reference: plan.reference,
            post: plan.models.iter().map(|m| Activations::new(m.layout().n_neurons())).collect(),
            pre: Activations::new(layout.n_neurons()),
            correlator: Correlator::new(layout, &partners, &plan.spec.correlation.baseline),
            statistics: ActivationSums::new(layout.n_neurons(), plan.spec.statistics.moments),
        }
    }

    /// Runs every model once over a batch.
    fn read(&mut self, plan: &Plan, models: &[Gpt2], batch: &[Row]) {
        let rows: Vec<&[u32]> = batch.iter().map(|row| row.ids.as_slice()).collect();
        let keep: Vec<bool> =
            rows.iter().flat_map(|row| row.iter().map(|&id| plan.tokens.counts(id))).collect();
        for (i, (model, post)) in models.iter().zip(&mut self.post).enumerate() {
            let mut targets = vec![(Site::MlpPost, post)];
            if i == self.reference {
                targets.push((Site::MlpPre, &mut self.pre));
            }
            model.forward(&rows, &mut Capture::new(&keep, targets));
        }
        while self.pre.tokens() >= CHUNK {
            self.absorb(CHUNK);
        }
    }

    fn absorb_rest(&mut self) {
        if self.pre.tokens() > 0 {
            self.absorb(self.pre.tokens());
        }
    }

    /// Feeds the first tokens of every buffer to the sums and drops them.
    fn absorb(&mut self, tokens: usize) {
        let mut chunks: Vec<&mut [f32]> =
            self.post.iter_mut().map(|a| &mut a.values[..tokens * a.n_neurons]).collect();
        let reference = chunks.remove(self.reference);
        self.statistics.absorb(&self.pre.values[..reference.len()], reference);
        self.correlator.absorb(reference, &mut chunks);
        self.post.iter_mut().chain([&mut self.pre]).for_each(|a| a.discard(tokens));
    }

    fn finish(self, plan: &Plan, reference: &Gpt2, stop: &AtomicBool) -> Result<Findings> {
        interruptible(stop)?;
        let folded = preprocess(&reference.weights, &reference.config, &plan.spec.weights);
        let weights = weight_statistics(&folded, &reference.config);
        let own = self.correlator.reference().clone();
        let pairs: Vec<Pair> = self.correlator.finish();
        interruptible(stop)?;
        Findings::draw(plan, &pairs, &own, &self.statistics, &weights)
    }
}

impl State for Sums {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        let waiting = self.post.iter_mut().chain([&mut self.pre]);
        for activations in waiting {
            visit(Part::Values(&mut activations.values))?;
        }
        self.statistics.parts(visit)?;
        self.correlator.parts(visit)
    }
}
