//! A screened run: reads a sample to find candidates, then all tokens for the candidates only.

use std::time::Instant;

use super::Session;
use super::batches::batches_in_shares;
use super::passes::{READING, match_neurons, read_and_match, resume_or_begin};
use super::study_sums::Matching;
use crate::correlation::{ComparisonPlan, Keep, Margin, PairResult};
use crate::error::Result;
use crate::findings::Outcome;
use crate::record::Timing;
use crate::spec::Screen;

/// Runs a plan that asks for screening. `load_s` is the time that loading the models took, in
/// seconds.
///
/// # Errors
/// Returns an error as [`Session::study`] does.
pub fn run(session: &mut Session, screen: &Screen, load_s: f64) -> Result<Outcome> {
    let plan = session.plan;
    let statistics = session.separate_statistics()?;
    let begun = Instant::now();
    let comparison = ComparisonPlan {
        top: screen.candidates.max(plan.comparison_plan().top),
        ..plan.comparison_plan()
    };
    // The sample has no checkpoint: a run that is resumed reads it again, with the same bits.
    let checkpoints = session.control.checkpoints.take();
    let sample = read_sample(session, screen, &comparison);
    session.control.checkpoints = checkpoints;
    let (sample, used) = sample?;
    let sample_s = begun.elapsed().as_secs_f64();
    let margin = Margin::new(used, screen.standard_errors, plan.thresholds().collect());
    let room = plan.room();
    let mut sums =
        session.sums_of(Matching::Candidates { plan: comparison, margin, sample, room })?;
    let batches = batches_in_shares(plan, sums.at_once());
    let done = resume_or_begin(session, sums.as_mut(), &batches, false)?;
    let spent = read_and_match(session, sums.as_mut(), done)?;
    let outcome = sums.finish(plan, statistics);
    session.control.progress.finish();
    let finish_s = sample_s + spent.matching;
    Ok(outcome.timed(Timing { load_s, tokens_s: spent.reading, finish_s }))
}

/// Compares all neurons over a sample of the tokens. Returns the matches, `[reference][partner]`, and the
/// number of tokens.
fn read_sample(
    session: &mut Session,
    screen: &Screen,
    comparison: &ComparisonPlan,
) -> Result<(Vec<Vec<PairResult>>, usize)> {
    let plan = session.plan;
    let tokens = plan.tokens.sample(screen.sample);
    let used = tokens.count().used;
    let plan_of_sample = comparison.clone();
    let matching = Matching::All { plan: plan_of_sample, keep: Keep::Tokens, tokens: used };
    let mut sample = session.sums_of(matching)?;
    sample.begin(plan, false)?;
    let batches = tokens.batches(plan.spec.batch.tokens, 0..usize::MAX);
    session.read_batches(READING, &batches, 0, sample.as_mut())?;
    match_neurons(session, sample.as_mut())?;
    Ok((sample.matches(), used))
}
