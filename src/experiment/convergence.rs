//! `kind: convergence`: how certain the universal share is: by number of tokens, by threshold,
//! and over resampled sequences.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cost::KindCost;
use super::kind::{Desk, Experiment, FigureName, drawn, figure};
use crate::charts::canvas::{Axis, Panel, draw};
use crate::charts::{Chart, ONE_PANEL, lines, range_of, with_margin};
use crate::error::Result;
use crate::findings::Figures;
use crate::plan::{Plan, Workload};
use crate::record::{Tables, TextTable};
use crate::run::Session;
use crate::table::{Column, fixed_cell};

/// Thresholds of the table: 0.05, 0.10 … 0.95.
const THRESHOLDS: std::ops::Range<u32> = 1..20;
/// Maximum distance of an excess from a threshold that counts as near it.
const NEAR: f64 = 0.02;

/// `kind: convergence`: how certain the universal share is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConvergenceSettings {
    /// Sizes of the samples of the text, in tokens. The whole text is read too.
    #[schemars(inner(range(min = 100)))]
    pub tokens: Vec<usize>,
    /// Number of studies over sequences drawn with replacement.
    #[schemars(range(max = 10_000))]
    pub resamples: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for ConvergenceSettings {
    fn default() -> Self {
        Self { tokens: vec![2500, 5000, 10_000, 20_000], resamples: 20, seed: 1 }
    }
}

/// The convergence experiment.
pub struct Convergence;

impl Experiment for Convergence {
    type Settings = ConvergenceSettings;
    const KIND: &'static str = "convergence";
    const PURPOSE: &'static str = "Repeats the study over samples and resamples of the text.";
    const READS_RECORDED: bool = true;
    const FIGURES: &'static [FigureName] = &[
        figure("convergence", "universal share in percent, by size of the sample"),
        figure(
            "resampled-share",
            "2.5th percentile, median and 97.5th percentile of the universal share over resamples, in percent",
        ),
    ];
    const EXAMPLE: &'static str = include_str!("../../experiments/convergence.yaml");
    const DESK: Desk = Desk::Spec("experiments/convergence.yaml");

    fn cost(settings: &Self::Settings, work: &Workload) -> KindCost {
        let sizes = settings.tokens.iter().filter(|&&size| size < work.used);
        let mut studies: Vec<f64> = sizes.map(|&size| size as f64 / work.used as f64).collect();
        studies.resize(studies.len() + 1 + settings.resamples, 1.0);
        KindCost::of_studies(studies)
    }

    fn run(settings: &Self::Settings, session: &mut Session) -> Result<Figures> {
        let plan = session.plan;
        let all = plan.tokens.count().used;
        let mut sizes: Vec<usize> = settings.tokens.iter().copied().filter(|&n| n < all).collect();
        sizes.push(all);
        let mut figures = Figures::default();
        let header = ["tokens", "threshold", "universal", "percent", "near_threshold"];
        let mut table = TextTable::with_header(header);
        let mut shares = Vec::new();
        for &size in &sizes {
            let some = plan.with_tokens(plan.tokens.sample(size))?;
            let used = some.tokens.count().used;
            let excess = excess(session, &some, &format!("{used} tokens"))?;
            for step in THRESHOLDS {
                let threshold = f64::from(step) / 20.0;
                let near = excess.iter().filter(|e| (**e - threshold).abs() <= NEAR).count();
                let universal = above(&excess, threshold);
                let percent = 100.0 * universal as f64 / excess.len() as f64;
                let numbers = [used.to_string(), format!("{threshold:.2}"), universal.to_string()];
                table.rows.push(
                    numbers.into_iter().chain([fixed_cell(percent, 4), near.to_string()]).collect(),
                );
            }
            let share = share(&excess, plan.spec.correlation.threshold);
            figures.lines.push(format!("  {used:>9} tokens  {share:.2} % universal"));
            shares.push(share);
        }
        figures.add("convergence", shares);
        figures.tables.insert("convergence".into(), table);
        resample(settings, session, &mut figures)?;
        Ok(figures)
    }

    fn charts(tables: &Tables) -> Result<Vec<Chart>> {
        drawn(tables, "convergence", chart)
    }
}

/// Adds the universal share of each resample: as many sequences as the text has, drawn with
/// replacement.
fn resample(
    spec: &ConvergenceSettings,
    session: &mut Session,
    figures: &mut Figures,
) -> Result<()> {
    let plan = session.plan;
    let mut random = ChaCha8Rng::seed_from_u64(spec.seed);
    let rows = &plan.tokens.rows;
    let mut shares = Vec::new();
    for i in 1..=spec.resamples {
        let mut draw = || rows[(random.next_u64() % rows.len() as u64) as usize].clone();
        let drawn = plan.tokens.with_rows((0..rows.len()).map(|_| draw()).collect());
        let drawn = plan.with_tokens(drawn)?;
        let excess = excess(session, &drawn, &format!("resample {i} of {}", spec.resamples))?;
        shares.push(share(&excess, plan.spec.correlation.threshold));
    }
    if shares.is_empty() {
        return Ok(());
    }
    let row = |(i, share): (usize, &f64)| vec![(i + 1).to_string(), fixed_cell(*share, 4)];
    figures.add_table("resamples", &["resample", "percent"], shares.iter().enumerate().map(row));
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

/// Returns the excess correlation of every neuron over the tokens of a plan; NaN for a neuron
/// without correlation.
fn excess(session: &mut Session, plan: &Plan, what: &str) -> Result<Vec<f64>> {
    Ok(session.study_of(plan, what)?.table.column(Column::ExcessCorr).to_vec())
}

/// Returns the number of neurons above the threshold.
fn above(excess: &[f64], threshold: f64) -> usize {
    excess.iter().filter(|e| **e > threshold).count()
}

/// Returns the share of neurons above the threshold, in percent.
fn share(excess: &[f64], threshold: f64) -> f64 {
    100.0 * above(excess, threshold) as f64 / excess.len() as f64
}

fn chart(table: &TextTable) -> Result<Chart> {
    let wanted = ["0.30", "0.40", "0.50"];
    let rows = (0..table.rows.len()).filter(|&r| wanted.contains(&table.cell(r, "threshold")));
    let few = TextTable {
        header: table.header.clone(),
        rows: rows.map(|r| table.rows[r].clone()).collect(),
    };
    let mut series = lines(&few, "threshold", "tokens", "percent");
    series.iter_mut().for_each(|s| s.name = format!("above {}", s.name));
    let panel = Panel {
        title: String::new(),
        x: Axis::of("tokens", with_margin(&range_of(few.numbers("tokens")))),
        y: Axis::of("percent of neurons", 0.0..1.4 * range_of(few.numbers("percent")).end),
        series,
    };
    Ok(Chart {
        name: "convergence".into(),
        title: "How many tokens are enough",
        caption: "Share of neurons whose excess correlation lies above a threshold, over samples \
                  of the text of growing size."
            .into(),
        alt: "Three lines that level off as tokens grow.".into(),
        svg: draw(ONE_PANEL, 1, &[panel])?,
        data: table.clone(),
    })
}
