//! The pipeline: models read tokens, sums are kept, findings are drawn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::checkpoint::{Checkpoints, Part, State, Visit};
use crate::corpus::Row;
use crate::correlation::{Correlator, Pair, Stopped, TOKENS_AT_ONCE};
use crate::error::{Error, Kind, Result};
use crate::findings::{Findings, Outcome, Sources, Timing};
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
pub fn run(plan: &Plan, control: &mut Control) -> Result<Outcome> {
    let start = Instant::now();
    control.progress.stage("loading models", plan.models.len() as u64);
    let models = load_models(plan, &control.progress)?;
    let loaded = start.elapsed();
    let mut sums = Sums::new(plan);
    let mut done = resume(&mut sums, control)?;
    let (mut reading, mut matching) = (Duration::ZERO, Duration::ZERO);
    loop {
        let begun = Instant::now();
        read_all(plan, &models, &mut sums, done, control)?;
        reading += begun.elapsed();
        let begun = Instant::now();
        let again = match_neurons(plan, &mut sums, control)?;
        matching += begun.elapsed();
        if !again {
            break;
        }
        done = 0;
    }
    let begun = Instant::now();
    let outcome = sums.finish(plan, &models)?;
    control.progress.finish();
    control.checkpoints.as_ref().map_or(Ok(()), Checkpoints::remove)?;
    let timing = Timing {
        load_s: loaded.as_secs_f64(),
        tokens_s: reading.as_secs_f64(),
        finish_s: (matching + begun.elapsed()).as_secs_f64(),
    };
    Ok(outcome.timed(timing))
}

/// Batches that the sums hold already.
fn resume(sums: &mut Sums, control: &Control) -> Result<usize> {
    match &control.checkpoints {
        Some(checkpoints) if control.resume => checkpoints.read(sums),
        _ => Ok(0),
    }
}

/// Runs all models over all tokens but for the first batches, which are done.
fn read_all(
    plan: &Plan,
    models: &[Gpt2],
    sums: &mut Sums,
    done: usize,
    control: &mut Control,
) -> Result<()> {
    let batches = plan.tokens.batches(plan.spec.batch.tokens);
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
    // Matching cannot be stopped half-way, so what it starts from is kept.
    control.checkpoints.as_mut().map_or(Ok(()), |c| c.write(sums, batches.len()))
}

/// Compares what was kept; whether the tokens are wanted again.
fn match_neurons(plan: &Plan, sums: &mut Sums, control: &mut Control) -> Result<bool> {
    control.progress.stage("matching neurons", plan.study().steps() as u64);
    sums.absorb_rest();
    let watch = || {
        control.progress.advance(1);
        if control.stop.load(Ordering::Relaxed) { Err(Stopped) } else { Ok(()) }
    };
    sums.correlator.end_pass(&watch).map_err(|Stopped| match &control.checkpoints {
        Some(checkpoints) => kept(checkpoints),
        None => lost(),
    })
}

/// What is said of a run that was stopped, after its sums are kept if they are to be.
fn stopped(checkpoints: Option<&mut Checkpoints>, sums: &mut Sums, batches: usize) -> Error {
    match checkpoints {
        None => lost(),
        Some(checkpoints) => match checkpoints.write(sums, batches) {
            Ok(()) => kept(checkpoints),
            Err(error) => error,
        },
    }
}

fn kept(checkpoints: &Checkpoints) -> Error {
    let problem = format!("interrupted; its sums are in {}", checkpoints.path().display());
    Error::new(Kind::Interrupted, "the run", problem, "go on with --resume")
}

fn lost() -> Error {
    let problem = "interrupted before the end; nothing was written";
    let remedy = "start it again; with --checkpoint, an interrupted run can go on";
    Error::new(Kind::Interrupted, "the run", problem, remedy)
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
    /// Post-activations waiting to be enough, one buffer per model.
    post: Vec<Activations>,
    judged: Vec<Judged>,
    correlator: Correlator,
}

/// What is wanted of a judged model beside its correlations.
struct Judged {
    model: usize,
    /// Pre-activations waiting to be enough.
    pre: Activations,
    statistics: ActivationSums,
}

impl Sums {
    fn new(plan: &Plan) -> Self {
        let n_neurons = |model: usize| plan.models[model].layout().n_neurons();
        let judged = |&model: &usize| Judged {
            model,
            pre: Activations::new(n_neurons(model)),
            statistics: ActivationSums::new(n_neurons(model), plan.spec.statistics.moments),
        };
        Self {
            post: (0..plan.models.len()).map(|model| Activations::new(n_neurons(model))).collect(),
            judged: plan.judged.iter().map(judged).collect(),
            correlator: Correlator::new(plan.study(), plan.keep),
        }
    }

    /// Runs every model once over a batch.
    fn read(&mut self, plan: &Plan, models: &[Gpt2], batch: &[Row]) {
        let rows: Vec<&[u32]> = batch.iter().map(|row| row.ids.as_slice()).collect();
        let keep: Vec<bool> =
            rows.iter().flat_map(|row| row.iter().map(|&id| plan.tokens.counts(id))).collect();
        for (i, (model, post)) in models.iter().zip(&mut self.post).enumerate() {
            let mut targets = vec![(Site::MlpPost, post)];
            let judged = self.judged.iter_mut().filter(|judged| judged.model == i);
            targets.extend(judged.map(|judged| (Site::MlpPre, &mut judged.pre)));
            model.forward(&rows, &mut Capture::new(&keep, targets));
        }
        while self.post[0].tokens() >= TOKENS_AT_ONCE {
            self.absorb(TOKENS_AT_ONCE);
        }
    }

    fn absorb_rest(&mut self) {
        if self.post[0].tokens() > 0 {
            self.absorb(self.post[0].tokens());
        }
    }

    /// Feeds the first tokens of every buffer to the sums and drops them.
    fn absorb(&mut self, tokens: usize) {
        let again = self.correlator.repeats();
        for Judged { model, pre, statistics } in &mut self.judged {
            if !again {
                let values = ..tokens * pre.n_neurons;
                statistics.absorb(&pre.values[values], &self.post[*model].values[values]);
            }
            pre.discard(tokens);
        }
        let mut all: Vec<&mut [f32]> =
            self.post.iter_mut().map(|a| &mut a.values[..tokens * a.n_neurons]).collect();
        self.correlator.absorb(&mut all);
        self.post.iter_mut().for_each(|a| a.discard(tokens));
    }

    fn finish(self, plan: &Plan, models: &[Gpt2]) -> Result<Outcome> {
        let own: Vec<_> = plan.judged.iter().map(|&i| self.correlator.own(i).clone()).collect();
        let pairs = self.correlator.finish();
        let found = self.judged.iter().zip(&own).zip(&pairs);
        let draw = |((judged, own), pairs): ((&Judged, _), &Vec<Pair>)| {
            let model = &models[judged.model];
            let folded = preprocess(&model.weights, &model.config, &plan.spec.weights);
            let weights = weight_statistics(&folded, &model.config);
            let evidence =
                Sources { pairs, own, activations: &judged.statistics, weights: &weights };
            Findings::draw(plan, judged.model, &evidence)
        };
        let mut findings = found.map(draw);
        let reference =
            findings.next().unwrap_or_else(|| unreachable!("a plan has a reference"))?;
        let also = findings.collect::<Result<_>>()?;
        Ok(Outcome { reference, also })
    }
}

impl State for Sums {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        for activations in &mut self.post {
            visit(Part::Values(&mut activations.values))?;
        }
        for judged in &mut self.judged {
            visit(Part::Values(&mut judged.pre.values))?;
            judged.statistics.parts(visit)?;
        }
        self.correlator.parts(visit)
    }
}
