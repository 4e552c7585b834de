//! Experiments that are no universality study: each reads what it needs through one
//! model and says it in figures and tables.

mod ablation;
mod attention;
mod convergence;
mod dynamics;
mod entropy;
mod families;
mod prediction;
mod reliability;

use std::sync::atomic::Ordering;

use super::{Control, run_on_cpu};
use crate::corpus::{Batch, Tokens};
use crate::error::{Error, Kind, Result};
use crate::findings::{Figures, Findings, Universal};
use crate::model::Transformer;
use crate::plan::Plan;
use crate::spec::ExperimentKind;

/// An experiment at work.
pub struct Experiment<'a> {
    /// What is to be done.
    pub plan: &'a Plan,
    /// The reference model.
    pub model: Transformer,
    /// How it is watched and stopped.
    pub control: &'a mut Control,
    /// The universal neurons, if somebody has found them already.
    pub universal: Option<Universal>,
}

/// Runs an experiment of another kind than universality. Which neurons are universal is
/// taken from `universal`, or else found first by the study that the spec describes.
///
/// # Errors
/// If the model cannot be loaded, a file of the experiment is wrong, or the run was
/// stopped.
pub fn run_kind(
    plan: &Plan,
    universal: Option<Universal>,
    control: &mut Control,
) -> Result<Figures> {
    control.progress.stage("loading models", 1);
    let model = Transformer::load(&plan.reference().folder)?;
    let mut experiment = Experiment { plan, model, control, universal };
    let figures = match plan.spec.kind {
        ExperimentKind::Universality => {
            unreachable!("a universality study has an outcome of its own")
        }
        ExperimentKind::Families => families::run(&mut experiment),
        ExperimentKind::Prediction => prediction::run(&mut experiment),
        ExperimentKind::Entropy => entropy::run(&mut experiment),
        ExperimentKind::Attention => attention::run(&mut experiment),
        ExperimentKind::Ablation => ablation::run(&mut experiment),
        ExperimentKind::SplitHalf => reliability::split_half(&mut experiment),
        ExperimentKind::Convergence => convergence::run(&mut experiment),
        ExperimentKind::Dynamics => dynamics::run(&mut experiment),
        ExperimentKind::Perturbed => reliability::perturbed(&mut experiment),
    }?;
    control.progress.finish();
    Ok(figures)
}

impl Experiment<'_> {
    /// Which neurons are universal, counted over all layers.
    fn universal(&mut self) -> Result<Vec<bool>> {
        let found = match &self.universal {
            Some(universal) => universal.clone(),
            None => {
                self.control.progress.say("finding the universal neurons first");
                let outcome = super::run(self.plan, self.control)?;
                let found = Universal::of(&outcome.reference, self.plan.spec.correlation.threshold);
                self.universal.insert(found).clone()
            }
        };
        let expected = self.plan.reference().layout().n_neurons();
        if found.0.len() == expected {
            return Ok(found.0);
        }
        let problem = format!("{} neurons, the model has {expected}", found.0.len());
        let remedy = "give the folder of a run with the same reference model";
        Err(Error::new(Kind::Evidence, "--universal", problem, remedy))
    }

    /// Runs a study of its own, on the CPU and without progress but for its name.
    fn study(&self, plan: &Plan, name: &str) -> Result<Findings> {
        self.control.progress.say(name);
        let mut quiet = Control { stop: self.control.stop.clone(), ..Control::default() };
        Ok(run_on_cpu(plan, &mut quiet)?.reference)
    }

    /// Shows every batch to `see`, unless the run is stopped.
    fn read(&mut self, what: &str, mut see: impl FnMut(&Transformer, &Batch)) -> Result<()> {
        let tokens: &Tokens = &self.plan.tokens;
        let used = tokens.count().used;
        self.control.progress.stage(what, used as u64);
        for batch in &tokens.batches(self.plan.spec.batch.tokens, 0..used) {
            if self.control.stop.load(Ordering::Relaxed) {
                let problem = "interrupted before the end; nothing was written";
                return Err(Error::new(Kind::Interrupted, "the run", problem, "start it again"));
            }
            see(&self.model, batch);
            self.control.progress.advance(batch.used.len() as u64);
        }
        Ok(())
    }
}
