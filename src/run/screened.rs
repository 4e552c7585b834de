//! A screened run: a sample first, then all tokens for the candidates it found.

use super::sums::Sums;
use super::{Control, end, match_neurons, read_all, read_and_match, refuse_screened};
use crate::correlation::{
    ComparisonPlan, Correlator, Keep, Margin, NeuronComparison, ScreenedCorrelator,
};
use crate::error::Result;
use crate::findings::Outcome;
use crate::model::Transformer;
use crate::plan::Plan;
use crate::record::Timing;
use crate::spec::Screen;

/// Runs a plan that asks for screening; `load_s` is what loading the models took.
///
/// # Errors
/// As [`super::run`], or if checkpoints were asked for too.
pub fn run(
    plan: &Plan,
    screen: &Screen,
    models: &[Transformer],
    load_s: f64,
    control: &mut Control,
) -> Result<Outcome> {
    if control.checkpoints.is_some() {
        refuse_screened(plan, "--checkpoint")?;
    }
    let begun = std::time::Instant::now();
    let comparison_plan = ComparisonPlan {
        top: screen.candidates.max(plan.comparison_plan().top),
        ..plan.comparison_plan()
    };
    let mut sample = Sums::new(plan, Correlator::new(comparison_plan.clone(), Keep::Tokens));
    let tokens = plan.tokens.sample(screen.sample);
    let batches = tokens.batches(plan.spec.batch.tokens, 0..usize::MAX);
    read_all(models, &mut sample, &batches, 0, control)?;
    match_neurons(plan, &mut sample, control)?;
    let sample_s = begun.elapsed().as_secs_f64();
    let thresholds = plan.thresholds().collect();
    let margin = Margin::new(tokens.count().used, screen.standard_errors, thresholds);
    let comparison =
        ScreenedCorrelator::new(comparison_plan, margin, sample.comparison.finish(), plan.room());
    let mut sums = Sums::new(plan, comparison);
    let spent = read_and_match(plan, models, &mut sums, 0, control)?;
    let report = sums.comparison.report();
    let outcome = end(plan, models, sums, &report, control)?;
    let finish_s = sample_s + spent.matching;
    Ok(outcome.timed(Timing { load_s, tokens_s: spent.reading, finish_s }))
}
