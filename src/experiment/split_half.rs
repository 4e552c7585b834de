//! `kind: split-half`: repeats the study on the even and on the odd rows, and compares the
//! reference model with itself (replication note). Shows how much correlations depend on the
//! tokens that were read.

use super::cost::KindCost;
use super::kind::{Desk, Experiment, FigureName, drawn, figure};
use super::perturbed::{best_matches, finish};
use super::universality::NoSettings;
use crate::charts::canvas::{Axis, Mark, OTHERS, Panel, Series, UNIVERSAL, draw};
use crate::charts::{Chart, range_of, with_margin};
use crate::correlation::{NeuronComparison, NeuronMatch, PairResult, TOKENS_AT_ONCE};
use crate::error::Result;
use crate::findings::Figures;
use crate::model::Site;
use crate::model::capture::{Activations, Capture};
use crate::plan::{Plan, Workload};
use crate::record::{Tables, TextTable};
use crate::run::Session;
use crate::spec::Section;
use crate::stats::percentile::{mean, ranks};
use crate::table::{Column, NeuronId, fixed_cell};

/// The split-half experiment.
pub struct SplitHalf;

impl Experiment for SplitHalf {
    type Settings = NoSettings;
    const KIND: &'static str = "split-half";
    const PURPOSE: &'static str = "Repeats the study on two halves of the rows, and compares the reference model with itself.";
    const SECTION: Section = Section::None;
    const READS_RECORDED: bool = true;
    const FIGURES: &'static [FigureName] = &[
        figure("split-half", "rank correlation of the excess on two halves of the rows"),
        figure(
            "self-match",
            "mean best match of a neuron with its own model, counted as 0 if the match is another neuron",
        ),
    ];
    const EXAMPLE: &'static str = include_str!("../../experiments/split-half.yaml");
    const DESK: Desk = Desk::Spec("experiments/split-half.yaml");

    fn cost(_: &NoSettings, work: &Workload) -> KindCost {
        let n = work.reference().n_neurons() as f64;
        // The products of the reference model with itself, whose sums are kept in f64.
        let (operations, bytes) = (2.0 * n * n * work.used as f64, 8.0 * n * n);
        KindCost { studies: vec![0.5; 2], operations, bytes, ..KindCost::of_passes(1.0) }
    }

    fn run(_: &NoSettings, session: &mut Session) -> Result<Figures> {
        let plan = session.plan;
        let mut halves = Vec::new();
        for half in 0..2 {
            let name = format!("half {} of the rows", half + 1);
            halves.push(session.study_of(&halved(plan, half)?, &name)?.table);
        }
        let column = |i: usize, c: Column| halves[i].column(c);
        let agreement =
            rank_correlation(column(0, Column::ExcessCorr), column(1, Column::ExcessCorr));
        let layout = plan.reference().layout();
        let itself = with_itself(session)?;
        let own = |(i, best): (usize, Option<NeuronMatch>)| match best {
            Some(best) if best.neuron == i => Some(best.rho),
            Some(_) => Some(0.0),
            None => None,
        };
        let own = (0..layout.n_neurons()).map(|i| (i, itself.best(i))).filter_map(own);
        let mut figures = Figures::default();
        figures.add("split-half", vec![agreement]);
        figures.add("self-match", vec![mean(own)]);
        figures
            .lines
            .push(format!("rank correlation of excess on two halves of the rows: {agreement:.4}"));
        let header =
            ["layer", "neuron", "excess_first", "excess_second", "corr_first", "corr_second"];
        let row = |i: usize| {
            let id = NeuronId::of(i, layout.d_mlp);
            let mut row = vec![id.layer.to_string(), id.neuron.to_string()];
            for c in [Column::ExcessCorr, Column::MeanCorr] {
                row.extend([0, 1].map(|half| fixed_cell(column(half, c)[i], 6)));
            }
            row
        };
        figures.add_table("split-half", &header, (0..layout.n_neurons()).map(row));
        Ok(figures)
    }

    fn charts(tables: &Tables) -> Result<Vec<Chart>> {
        drawn(tables, "split-half", chart)
    }
}

/// Compares the reference model with itself. Keeps sums only, and the activations that are not summed
/// yet, as a study does.
fn with_itself(session: &mut Session) -> Result<PairResult> {
    let (plan, layout) = (session.plan, session.plan.reference().layout());
    let mut correlator = best_matches(plan, layout, 2);
    let mut post = Activations::new(layout.n_neurons());
    let mut absorb = |post: &mut Activations, tokens: usize| -> Result<()> {
        let first = &mut post.values[..tokens * layout.n_neurons()];
        let mut copy = first.to_vec();
        correlator.absorb(&mut [first, &mut copy])?;
        post.discard(tokens);
        Ok(())
    };
    session.read("reading tokens", |model, batch| {
        let (rows, keep) = (batch.ids(), batch.kept());
        model.forward(&rows, &mut Capture::new(&keep, vec![(Site::MlpPost, &mut post)]))?;
        while post.tokens() >= TOKENS_AT_ONCE {
            absorb(&mut post, TOKENS_AT_ONCE)?;
        }
        Ok(())
    })?;
    if post.tokens() > 0 {
        let rest = post.tokens();
        absorb(&mut post, rest)?;
    }
    Ok(finish(correlator)?.swap_remove(0))
}

/// Returns the plan over every second row, with one draw of the baseline.
fn halved(plan: &Plan, half: usize) -> Result<Plan> {
    let rows = plan.tokens.rows.iter().skip(half).step_by(2).cloned().collect();
    plan.with_tokens(plan.tokens.with_rows(rows))?.with_draws(1)
}

/// Returns Spearman's ρ over the neurons that have both values.
fn rank_correlation(a: &[f64], b: &[f64]) -> f64 {
    let both = a.iter().zip(b).filter(|(a, b)| a.is_finite() && b.is_finite());
    let (a, b): (Vec<f64>, Vec<f64>) = both.map(|(a, b)| (*a, *b)).unzip();
    let (a, b) = (ranks(&a), ranks(&b));
    let (mean_a, mean_b) = (mean(a.iter().copied()), mean(b.iter().copied()));
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        a.iter().zip(&b).map(|(a, b)| f(a - mean_a, b - mean_b)).sum()
    };
    sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
}

fn chart(table: &TextTable) -> Result<Chart> {
    let points: Vec<(f64, f64)> =
        table.numbers("excess_first").into_iter().zip(table.numbers("excess_second")).collect();
    let range = with_margin(&range_of(points.iter().flat_map(|p| [p.0, p.1])));
    let diagonal = vec![(range.start, range.start), (range.end, range.end)];
    let panel = Panel {
        title: String::new(),
        x: Axis::of("excess, first half of the text", range.clone()),
        y: Axis::of("excess, second half", range),
        series: vec![
            Series::new("", OTHERS, Mark::Line(diagonal)),
            Series::new("", UNIVERSAL, Mark::Points(thinned(points))),
        ],
    };
    Ok(Chart {
        name: "split-half".into(),
        title: "Whether two halves of the text agree",
        caption: "Every neuron's excess correlation over one half of the rows and over the other \
                  (at most 2,000 neurons are drawn; the data have all of them)."
            .into(),
        alt: "A narrow cloud along the diagonal.".into(),
        svg: draw((440, 400), 1, &[panel])?,
        data: table.clone(),
    })
}

/// Returns at most 2,000 evenly spaced points.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(2000).max(1);
    points.into_iter().step_by(step).collect()
}
