//! A screened run: reads a sample to find candidates, then all tokens for the candidates only.

use std::time::Instant;

use super::Session;
use super::passes::{READING, match_neurons, read_and_match, refuse_screened};
use super::sums::Sums;
use crate::correlation::{
    ComparisonPlan, Correlator, Keep, Margin, NeuronComparison, ScreenedCorrelator,
};
use crate::error::Result;
use crate::findings::Outcome;
use crate::record::Timing;
use crate::spec::Screen;

/// Runs a plan that asks for screening. `load_s` is the time that loading the models took, in
/// seconds.
///
/// # Errors
/// Returns an error as [`Session::study`] does, or if the run writes checkpoints.
pub fn run(session: &mut Session, screen: &Screen, load_s: f64) -> Result<Outcome> {
    let (plan, models) = (session.plan, session.models()?);
    if session.control.checkpoints.is_some() {
        refuse_screened(plan, "--checkpoint")?;
    }
    let begun = Instant::now();
    let comparison_plan = ComparisonPlan {
        top: screen.candidates.max(plan.comparison_plan().top),
        ..plan.comparison_plan()
    };
    let sampled = Correlator::new(comparison_plan.clone(), Keep::Tokens);
    let mut sample = Sums::new(plan, models.clone(), sampled);
    let tokens = plan.tokens.sample(screen.sample);
    let batches = tokens.batches(plan.spec.batch.tokens, 0..usize::MAX);
    session.read_batches(READING, &batches, 0, &mut sample)?;
    match_neurons(session, &mut sample)?;
    let sample_s = begun.elapsed().as_secs_f64();
    let thresholds = plan.thresholds().collect();
    let margin = Margin::new(tokens.count().used, screen.standard_errors, thresholds);
    let comparison =
        ScreenedCorrelator::new(comparison_plan, margin, sample.comparison.finish(), plan.room());
    let mut sums = Sums::new(plan, models, comparison);
    let spent = read_and_match(session, &mut sums, 0)?;
    let report = sums.comparison.report();
    let outcome = sums.outcome(plan, &report);
    session.control.progress.finish();
    let finish_s = sample_s + spent.matching;
    Ok(outcome.timed(Timing { load_s, tokens_s: spent.reading, finish_s }))
}
