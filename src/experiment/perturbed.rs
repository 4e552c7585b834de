//! `kind: perturbed`: compares the reference model with copies of its own activations to
//! which noise and a partial rotation were applied (replication note). Shows what disturbed copies
//! of one model can say instead of other models.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cost::KindCost;
use super::kind::{Desk, Experiment, FigureName, drawn, figure};
use crate::backend::matmul::matmul_all_cores;
use crate::backend::pack::MatrixView;
use crate::charts::canvas::{Axis, Cell, Mark, PAPER, Panel, Series, draw};
use crate::charts::{Chart, ONE_PANEL, binned};
use crate::correlation::{
    ComparisonPlan, Correlator, Keep, Layout, NeuronComparison, PairResult, Purpose, RandomStream,
    TOKENS_AT_ONCE, random_rotation,
};
use crate::error::Result;
use crate::findings::Figures;
use crate::model::Site;
use crate::model::capture::{Activations, Capture};
use crate::plan::{Plan, Workload};
use crate::record::{Tables, TextTable};
use crate::run::Session;
use crate::spec::{BaselineKind, MomentKind, SparsityKind};
use crate::stats::ActivationSums;
use crate::stats::percentile::mean;
use crate::table::{NeuronId, fixed_cell};

/// `kind: perturbed`: disturbed copies of one model's activations instead of other models (the
/// replication note's experiment).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PerturbedSettings {
    /// Number of disturbed copies.
    #[schemars(range(min = 1, max = 100))]
    pub copies: usize,
    /// Standard deviation of the noise, in units of each neuron's standard deviation.
    #[schemars(
        range(min = 0.0),
        extend("x-remedy" = "it is in units of a neuron's own spread")
    )]
    pub noise: f64,
    /// Share of a random rotation in each copy: 0 for none, 1 for only the rotation.
    #[schemars(
        range(min = 0.0, max = 1.0),
        extend("x-remedy" = "0 is no rotation, 1 is only the rotation")
    )]
    pub rotation: f64,
    /// Seed of the noise and the rotations.
    pub seed: u64,
}

impl Default for PerturbedSettings {
    fn default() -> Self {
        Self { copies: 4, noise: 0.3, rotation: 0.3, seed: 1 }
    }
}

/// The experiment with disturbed copies.
pub struct Perturbed;

impl Experiment for Perturbed {
    type Settings = PerturbedSettings;
    const KIND: &'static str = "perturbed";
    const PURPOSE: &'static str = "Compares the reference model with disturbed copies of itself.";
    const FIGURES: &'static [FigureName] = &[
        figure("perturbed-match", "mean best match with disturbed copies of the same model"),
        figure(
            "perturbed-above",
            "share of neurons whose mean best match is above the threshold, in percent",
        ),
    ];
    const EXAMPLE: &'static str = include_str!("../../experiments/perturbed.yaml");
    const DESK: Desk = Desk::Spec("experiments/perturbed.yaml");

    fn cost(settings: &Self::Settings, work: &Workload) -> KindCost {
        let kept = KindCost::of_kept_copies(work, settings.copies);
        let of = work.reference();
        let rotations = 2.0 * (settings.copies * of.n_neurons() * of.d_mlp) as f64;
        KindCost { operations: kept.operations + rotations * work.used as f64, ..kept }
    }

    fn run(settings: &Self::Settings, session: &mut Session) -> Result<Figures> {
        let layout = session.plan.reference().layout();
        let tokens = activations(session)?;
        let spreads = spreads(&tokens, layout.n_neurons());
        let scales: Vec<f32> = spreads.iter().map(|sd| (settings.noise * sd) as f32).collect();
        let mut models = vec![tokens.clone()];
        for copy in 0..settings.copies {
            let address = (settings.seed, copy as u64);
            models.push(perturb(&tokens, layout, (&scales, settings.rotation), address));
        }
        let pairs = compare(session.plan, layout, models)?;
        let of = |i: usize| {
            let best: Vec<f64> = pairs.iter().filter_map(|pair| Some(pair.best(i)?.rho)).collect();
            (best.len() == pairs.len()).then(|| mean(best.into_iter()))
        };
        let matches: Vec<Option<f64>> = (0..layout.n_neurons()).map(of).collect();
        let known = || matches.iter().flatten().copied();
        let threshold = session.plan.spec.correlation.threshold;
        let above = known().filter(|m| *m > threshold).count() as f64 / known().count() as f64;
        let average = mean(known());
        let spread = mean(known().map(|m| (m - average).powi(2))).sqrt();
        let mut figures = Figures::default();
        figures.add("perturbed-match", vec![average]);
        figures.add("perturbed-above", vec![100.0 * above]);
        figures.lines.push(format!(
            "{} copies with noise {} and rotation {}: mean best match {average:.3} (sd {spread:.3}), {:.1} % above {threshold}",
            settings.copies, settings.noise, settings.rotation, 100.0 * above
        ));
        let row = |(i, m): (usize, &Option<f64>)| {
            let id = NeuronId::of(i, layout.d_mlp);
            let shown = m.map_or(String::new(), |m| fixed_cell(m, 6));
            vec![id.layer.to_string(), id.neuron.to_string(), shown]
        };
        let header = ["layer", "neuron", "mean_best_match"];
        figures.add_table("perturbed", &header, matches.iter().enumerate().map(row));
        Ok(figures)
    }

    fn charts(tables: &Tables) -> Result<Vec<Chart>> {
        drawn(tables, "perturbed", chart)
    }
}

/// Returns the standard deviation of each neuron.
fn spreads(tokens: &[f32], width: usize) -> Vec<f64> {
    let mut sums = ActivationSums::new(width, MomentKind::Exact);
    sums.absorb(tokens, tokens);
    (0..width).map(|i| sums.statistics(i, SparsityKind::AboveZero).moments.var.sqrt()).collect()
}

/// Returns `(1 − r) v + r R v + scale · ε`, computed layer by layer, with a scale for each neuron. The
/// rows of R have unit norm.
fn perturb(
    tokens: &[f32],
    layout: Layout,
    (scales, share): (&[f32], f64),
    (seed, copy): (u64, u64),
) -> Vec<f32> {
    let (width, d) = (layout.n_neurons(), layout.d_mlp);
    let count = tokens.len() / width;
    let mut out = vec![0.0; tokens.len()];
    RandomStream { seed, purpose: Purpose::Noise, id: copy }.normals(&mut out);
    let mut rotated = vec![0.0; count * d];
    for layer in 0..layout.n_layers {
        let first = layer * d;
        let id = copy << 16 | layer as u64;
        let stream = RandomStream { seed, purpose: Purpose::Rotation, id };
        let r = random_rotation(BaselineKind::Rotation, stream, d);
        let of_layer = MatrixView::strided(&tokens[first..], count, d, width);
        matmul_all_cores(of_layer, MatrixView::new(&r, d, d).t(), &mut rotated);
        for (t, turned) in rotated.chunks_exact(d).enumerate() {
            let at = t * width + first;
            for (j, turned) in turned.iter().enumerate() {
                let v = tokens[at + j];
                out[at + j] = (1.0 - share as f32) * v
                    + share as f32 * turned
                    + scales[first + j] * out[at + j];
            }
        }
    }
    out
}

/// Returns the post-activations of the reference model, `[tokens, n_neurons]`.
fn activations(session: &mut Session) -> Result<Vec<f32>> {
    let n = session.plan.reference().layout().n_neurons();
    let mut post = Activations::new(n);
    session.read("reading tokens", |model, batch| {
        let rows = batch.ids();
        let keep = batch.kept();
        let mut capture = Capture::new(&keep, vec![(Site::MlpPost, &mut post)]);
        model.forward(&rows, &mut capture).map(drop)
    })?;
    Ok(post.values)
}

/// Compares the first of several models with each of the others. All have the same layout and
/// the same tokens.
///
/// # Errors
/// Returns an error if the comparison fails.
fn compare(plan: &Plan, layout: Layout, mut models: Vec<Vec<f32>>) -> Result<Vec<PairResult>> {
    let mut correlator = best_matches(plan, layout, models.len());
    let at_once = TOKENS_AT_ONCE * layout.n_neurons();
    for start in (0..models[0].len()).step_by(at_once) {
        let end = (start + at_once).min(models[0].len());
        let mut chunk: Vec<&mut [f32]> = models.iter_mut().map(|m| &mut m[start..end]).collect();
        correlator.absorb(&mut chunk)?;
    }
    finish(correlator)
}

/// Creates a comparison of the first of some models of the same layout with each of the others,
/// without tokens. It finds best matches only: a surrogate that is never drawn costs nothing, whereas
/// a rotation would need the products of the neurons of each layer.
pub(super) fn best_matches(plan: &Plan, layout: Layout, models: usize) -> Correlator {
    let mut baseline = plan.spec.correlation.baseline.clone();
    (baseline.kind, baseline.draws) = (BaselineKind::Permutation, 0);
    let comparison = ComparisonPlan {
        models: vec![layout; models],
        activations: vec![plan.reference().config.activation.function(); models],
        references: vec![0],
        baseline,
        precision: plan.spec.correlation.precision,
        top: 1,
    };
    Correlator::new(comparison, Keep::Sums { passes: 1 })
}

/// Returns the results for the models that the first one was compared with.
///
/// # Errors
/// Returns an error if the comparison fails.
pub(super) fn finish(mut correlator: Correlator) -> Result<Vec<PairResult>> {
    let again = correlator.end_pass(&|| Ok(()))?;
    assert!(!again, "one pass was asked for");
    Ok(correlator.finish().swap_remove(0))
}

fn chart(table: &TextTable) -> Result<Chart> {
    const BINS: usize = 50;
    let counts = binned(&table.numbers("mean_best_match"), 0.0, 1.0, BINS);
    let most = counts.iter().fold(1.0_f64, |most, n| most.max(*n));
    let bar = |(i, n): (usize, &f64)| Cell {
        x: i as f64 / BINS as f64..(i + 1) as f64 / BINS as f64,
        y: 0.0..*n,
        opacity: 0.85,
    };
    let panel = Panel {
        title: String::new(),
        x: Axis::of("best match, mean over copies", 0.0..1.0),
        y: Axis::of("neurons", 0.0..1.05 * most),
        series: vec![Series::new(
            "",
            PAPER,
            Mark::Cells(counts.iter().enumerate().map(bar).collect()),
        )],
    };
    Ok(Chart {
        name: "perturbed".into(),
        title: "One model beside disturbed copies of itself",
        caption:
            "NeuronMatch matches among copies with noise and partial rotation: how universal a model \
                  looks where other seeds are simulated instead of trained."
                .into(),
        alt: "A histogram of best matches.".into(),
        svg: draw(ONE_PANEL, 1, &[panel])?,
        data: table.clone(),
    })
}
