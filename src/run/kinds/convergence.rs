//! `kind: convergence`: how sure the universal share is, by number of tokens, by
//! threshold, and over resampled sequences.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::Experiment;
use crate::error::Result;
use crate::findings::{Figures, TextTable};
use crate::plan::Plan;
use crate::table::Column;

/// Thresholds of the table: 0.05, 0.10 … 0.95.
const THRESHOLDS: std::ops::Range<u32> = 1..20;
/// A neuron is near a threshold within this.
const NEAR: f64 = 0.02;

/// Runs the experiment.
///
/// # Errors
/// If the run was stopped.
pub fn run(experiment: &mut Experiment) -> Result<Figures> {
    let plan = experiment.plan;
    let spec = plan.spec.convergence.clone().unwrap_or_default();
    let all = plan.tokens.count().used;
    let mut sizes: Vec<usize> = spec.tokens.iter().copied().filter(|&n| n < all).collect();
    sizes.push(all);
    let mut figures = Figures::default();
    let header = vec!["tokens", "threshold", "universal", "percent", "near_threshold"];
    let mut table = TextTable { name: "convergence", header, rows: Vec::new() };
    let mut shares = Vec::new();
    for &size in &sizes {
        let mut some = plan.clone();
        some.tokens = plan.tokens.sample(size);
        let used = some.tokens.count().used;
        let excess = excess(experiment, &some, &format!("{used} tokens"))?;
        for step in THRESHOLDS {
            let threshold = f64::from(step) / 20.0;
            let near = excess.iter().filter(|e| (**e - threshold).abs() <= NEAR).count();
            let universal = above(&excess, threshold);
            let percent = 100.0 * universal as f64 / excess.len() as f64;
            let numbers = [used.to_string(), format!("{threshold:.2}"), universal.to_string()];
            table.rows.push(
                numbers.into_iter().chain([format!("{percent:.4}"), near.to_string()]).collect(),
            );
        }
        let share = share(&excess, plan.spec.correlation.threshold);
        figures.lines.push(format!("  {used:>9} tokens  {share:.2} % universal"));
        shares.push(share);
    }
    figures.add("convergence", shares);
    figures.tables.push(table);
    resample(experiment, &mut figures)?;
    Ok(figures)
}

/// The share over sequences drawn again and again, as many as there are.
fn resample(experiment: &mut Experiment, figures: &mut Figures) -> Result<()> {
    let plan = experiment.plan;
    let spec = plan.spec.convergence.clone().unwrap_or_default();
    let mut random = ChaCha8Rng::seed_from_u64(spec.seed);
    let rows = &plan.tokens.rows;
    let mut shares = Vec::new();
    for i in 1..=spec.resamples {
        let mut drawn = plan.clone();
        let mut draw = || rows[(random.next_u64() % rows.len() as u64) as usize].clone();
        drawn.tokens.rows = (0..rows.len()).map(|_| draw()).collect();
        let excess = excess(experiment, &drawn, &format!("resample {i} of {}", spec.resamples))?;
        shares.push(share(&excess, plan.spec.correlation.threshold));
    }
    if shares.is_empty() {
        return Ok(());
    }
    let row = |(i, share): (usize, &f64)| vec![(i + 1).to_string(), format!("{share:.4}")];
    let rows = shares.iter().enumerate().map(row).collect();
    figures.tables.push(TextTable { name: "resamples", header: vec!["resample", "percent"], rows });
    shares.sort_by(f64::total_cmp);
    let at = |part: f64| shares[((shares.len() - 1) as f64 * part).round() as usize];
    figures.add("resampled-share", vec![at(0.025), at(0.5), at(0.975)]);
    figures.lines.push(format!(
        "  {} resamples of the sequences: {:.2} to {:.2} % (95 %), median {:.2} %",
        shares.len(),
        at(0.025),
        at(0.975),
        at(0.5)
    ));
    Ok(())
}

/// Excess of every neuron over the tokens of a plan; NaN where there is none.
fn excess(experiment: &mut Experiment, plan: &Plan, what: &str) -> Result<Vec<f64>> {
    Ok(experiment.study(plan, what)?.table.column(Column::ExcessCorr).to_vec())
}

fn above(excess: &[f64], threshold: f64) -> usize {
    excess.iter().filter(|e| **e > threshold).count()
}

fn share(excess: &[f64], threshold: f64) -> f64 {
    100.0 * above(excess, threshold) as f64 / excess.len() as f64
}
