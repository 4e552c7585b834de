//! `kind: split-half` and `kind: perturbed`: the replication note's own experiments. How
//! far are correlations a matter of the tokens, and what does one model disturbed say in
//! place of others?

use super::Experiment;
use crate::backend::matmul::matmul_all_cores;
use crate::backend::pack::MatrixView;
use crate::correlation::{
    ComparisonPlan, Correlator, Keep, Layout, NeuronComparison, NeuronMatch, PairResult, Purpose,
    RandomStream, TOKENS_AT_ONCE, random_rotation,
};
use crate::error::Result;
use crate::findings::{Figures, TextTable};
use crate::model::Site;
use crate::model::capture::{Activations, Capture};
use crate::plan::Plan;
use crate::spec::BaselineKind;
use crate::stats::percentile::{mean, ranks};
use crate::table::{Column, NeuronId};

/// `kind: split-half`: the study on every other row, on the rows between, and the model
/// against itself.
///
/// # Errors
/// If the run was stopped.
pub fn split_half(experiment: &mut Experiment) -> Result<Figures> {
    let plan = experiment.plan;
    let mut halves = Vec::new();
    for half in 0..2 {
        let name = format!("half {} of the rows", half + 1);
        halves.push(experiment.study(&halved(plan, half), &name)?.table);
    }
    let column = |i: usize, c: Column| halves[i].column(c);
    let agreement = rank_correlation(column(0, Column::ExcessCorr), column(1, Column::ExcessCorr));
    let tokens = activations(experiment)?;
    let layout = plan.reference().layout();
    let itself = compare(plan, layout, vec![tokens.clone(), tokens]);
    let own = |(i, best): (usize, Option<NeuronMatch>)| match best {
        Some(best) if best.neuron == i => Some(best.rho),
        Some(_) => Some(0.0),
        None => None,
    };
    let own = (0..layout.n_neurons()).map(|i| (i, itself[0].best(i))).filter_map(own);
    let mut figures = Figures::default();
    figures.add("split-half", vec![agreement]);
    figures.add("self-match", vec![mean(own)]);
    figures
        .lines
        .push(format!("rank correlation of excess on two halves of the rows: {agreement:.4}"));
    let header =
        vec!["layer", "neuron", "excess_first", "excess_second", "corr_first", "corr_second"];
    let row = |i: usize| {
        let id = NeuronId::of(i, layout.d_mlp);
        let mut row = vec![id.layer.to_string(), id.neuron.to_string()];
        for c in [Column::ExcessCorr, Column::MeanCorr] {
            row.extend([0, 1].map(|half| format!("{:.6}", column(half, c)[i])));
        }
        row
    };
    let rows = (0..layout.n_neurons()).map(row).collect();
    figures.tables.push(TextTable { name: "split-half", header, rows });
    Ok(figures)
}

/// The plan over every second row, with one draw of the baseline.
fn halved(plan: &Plan, half: usize) -> Plan {
    let mut halved = plan.clone();
    halved.tokens.rows = plan.tokens.rows.iter().skip(half).step_by(2).cloned().collect();
    halved.spec.correlation.baseline.draws = 1;
    halved
}

/// Spearman's ρ over neurons that have both values.
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

/// `kind: perturbed`: the reference against copies of its own activations with noise and
/// a partial rotation.
///
/// # Errors
/// If the run was stopped.
pub fn perturbed(experiment: &mut Experiment) -> Result<Figures> {
    let spec = experiment.plan.spec.perturbed.clone().unwrap_or_default();
    let layout = experiment.plan.reference().layout();
    let tokens = activations(experiment)?;
    let mut models = vec![tokens.clone()];
    for copy in 0..spec.copies {
        let address = (spec.seed, copy as u64);
        models.push(perturb(&tokens, layout, (spec.noise, spec.rotation), address));
    }
    let pairs = compare(experiment.plan, layout, models);
    let of = |i: usize| {
        let best: Vec<f64> = pairs.iter().filter_map(|pair| Some(pair.best(i)?.rho)).collect();
        (best.len() == pairs.len()).then(|| mean(best.into_iter()))
    };
    let matches: Vec<Option<f64>> = (0..layout.n_neurons()).map(of).collect();
    let known = || matches.iter().flatten().copied();
    let threshold = experiment.plan.spec.correlation.threshold;
    let above = known().filter(|m| *m > threshold).count() as f64 / known().count() as f64;
    let average = mean(known());
    let spread = mean(known().map(|m| (m - average).powi(2))).sqrt();
    let mut figures = Figures::default();
    figures.add("perturbed-match", vec![average]);
    figures.add("perturbed-above", vec![100.0 * above]);
    figures.lines.push(format!(
        "{} copies with noise {} and rotation {}: mean best match {average:.3} (sd {spread:.3}), {:.1} % above {threshold}",
        spec.copies, spec.noise, spec.rotation, 100.0 * above
    ));
    let row = |(i, m): (usize, &Option<f64>)| {
        let id = NeuronId::of(i, layout.d_mlp);
        let shown = m.map_or(String::new(), |m| format!("{m:.6}"));
        vec![id.layer.to_string(), id.neuron.to_string(), shown]
    };
    let header = vec!["layer", "neuron", "mean_best_match"];
    let rows = matches.iter().enumerate().map(row).collect();
    figures.tables.push(TextTable { name: "perturbed", header, rows });
    Ok(figures)
}

/// `(1 − r) v + r R v + noise · sd(v) · ε`, layer by layer, R with rows of unit norm.
fn perturb(
    tokens: &[f32],
    layout: Layout,
    (noise, share): (f64, f64),
    (seed, copy): (u64, u64),
) -> Vec<f32> {
    let (width, d) = (layout.n_neurons(), layout.d_mlp);
    let count = tokens.len() / width;
    let mut out = vec![0.0; tokens.len()];
    RandomStream { seed, purpose: Purpose::Noise, id: copy }.normals(&mut out);
    let (sums, squares) = tokens.chunks_exact(width).fold(
        (vec![0.0_f64; width], vec![0.0_f64; width]),
        |(mut s, mut q), row| {
            for ((s, q), &v) in s.iter_mut().zip(&mut q).zip(row) {
                *s += f64::from(v);
                *q += f64::from(v) * f64::from(v);
            }
            (s, q)
        },
    );
    let spread = |i: usize| {
        let mean = sums[i] / count as f64;
        (squares[i] / count as f64 - mean * mean).max(0.0).sqrt()
    };
    let scales: Vec<f32> = (0..width).map(|i| (noise * spread(i)) as f32).collect();
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

/// Post-activations of the reference, `[tokens, n_neurons]`.
fn activations(experiment: &mut Experiment) -> Result<Vec<f32>> {
    let n = experiment.plan.reference().layout().n_neurons();
    let mut post = Activations::new(n);
    experiment.read("reading tokens", |model, batch| {
        let rows = batch.ids();
        let keep = batch.kept();
        model.forward(&rows, &mut Capture::new(&keep, vec![(Site::MlpPost, &mut post)]));
    })?;
    Ok(post.values)
}

/// The first of several models against the others, all of one layout, over the same tokens.
fn compare(plan: &Plan, layout: Layout, mut models: Vec<Vec<f32>>) -> Vec<PairResult> {
    let mut baseline = plan.spec.correlation.baseline.clone();
    baseline.draws = 1;
    let study = ComparisonPlan {
        models: vec![layout; models.len()],
        judged: vec![0],
        baseline,
        precision: plan.spec.correlation.precision,
        top: 1,
    };
    let mut correlator = Correlator::new(study, Keep::Sums { passes: 1 });
    let at_once = TOKENS_AT_ONCE * layout.n_neurons();
    for start in (0..models[0].len()).step_by(at_once) {
        let end = (start + at_once).min(models[0].len());
        let mut chunk: Vec<&mut [f32]> = models.iter_mut().map(|m| &mut m[start..end]).collect();
        correlator.absorb(&mut chunk);
    }
    let ended = correlator.end_pass(&|| Ok(()));
    assert_eq!(ended, Ok(false), "one pass was asked for");
    correlator.finish().swap_remove(0)
}
