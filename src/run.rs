//! The pipeline: models read tokens, sums are kept, findings are drawn.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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

/// Runs a plan.
///
/// # Errors
/// If a model cannot be loaded, no neuron can be correlated, or `stop` was set.
pub fn run(plan: &Plan, progress: &Progress, stop: &AtomicBool) -> Result<Findings> {
    let start = Instant::now();
    progress.stage("loading models", plan.models.len() as u64);
    let models = load_models(plan, progress)?;
    let loaded = start.elapsed();
    let mut sums = Sums::new(plan);
    progress.stage("reading tokens", plan.tokens.count().used as u64);
    for batch in plan.tokens.batches(plan.spec.batch.tokens) {
        interruptible(stop)?;
        progress.advance(sums.read(plan, &models, batch));
    }
    sums.absorb_rest();
    let read = start.elapsed();
    progress.stage("matching neurons", 1);
    let findings = sums.finish(plan, &models[plan.reference], stop)?;
    progress.finish();
    Ok(findings.timed(timing(loaded, read, start.elapsed())))
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
        return Err(Error::new(Kind::Interrupted, "the run", problem, "start it again when ready"));
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

    /// Runs every model once over a batch; returns how many tokens count.
    fn read(&mut self, plan: &Plan, models: &[Gpt2], batch: &[Row]) -> u64 {
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
        keep.iter().filter(|&&k| k).count() as u64
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
