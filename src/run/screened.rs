//! A screened run: reads a sample to find candidates, then all tokens for the candidates only.

use std::time::Instant;

use super::Session;
use super::passes::{READING, match_neurons, read_and_match, refuse_screened};
use super::study_sums::Matching;
use crate::correlation::{ComparisonPlan, Keep, Margin};
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
    let plan = session.plan;
    if session.control.checkpoints.is_some() {
        refuse_screened(plan, "--checkpoint")?;
    }
    let statistics = session.separate_statistics()?;
    let begun = Instant::now();
    let comparison = ComparisonPlan {
        top: screen.candidates.max(plan.comparison_plan().top),
        ..plan.comparison_plan()
    };
    let tokens = plan.tokens.sample(screen.sample);
    let used = tokens.count().used;
    let matching = Matching::All { plan: comparison.clone(), keep: Keep::Tokens, tokens: used };
    let mut sample = session.sums_of(matching)?;
    sample.begin(plan, false)?;
    let batches = tokens.batches(plan.spec.batch.tokens, 0..usize::MAX);
    session.read_batches(READING, &batches, 0, sample.as_mut())?;
    match_neurons(session, sample.as_mut())?;
    let sample = sample.matches();
    let sample_s = begun.elapsed().as_secs_f64();
    let margin = Margin::new(used, screen.standard_errors, plan.thresholds().collect());
    let room = plan.room();
    let mut sums =
        session.sums_of(Matching::Candidates { plan: comparison, margin, sample, room })?;
    sums.begin(plan, false)?;
    let spent = read_and_match(session, sums.as_mut(), 0)?;
    let outcome = sums.finish(plan, statistics);
    session.control.progress.finish();
    let finish_s = sample_s + spent.matching;
    Ok(outcome.timed(Timing { load_s, tokens_s: spent.reading, finish_s }))
}
