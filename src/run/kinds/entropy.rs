//! `kind: entropy`: neurons that change how sure the model is, and little else (§5.2).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::Experiment;
use crate::error::Result;
use crate::findings::{Figures, TextTable};
use crate::model::fold::preprocess;
use crate::model::intervene::{Action, Intervention, Interventions};
use crate::model::{HookPoint, Site};
use crate::roles::predictions::Predictions;
use crate::stats::percentile::{mean, ranks};
use crate::stats::weights::{WeightStatistics, output_cosine, weight_statistics};
use crate::table::NeuronId;

/// Layers, from the last, in which neurons are looked for.
const LAYERS: usize = 2;
/// Percentile of norm above which, and of variance below which, a neuron is no control.
const DECILE: f64 = 10.0;

/// A neuron whose activation is fixed.
struct Fixed {
    id: NeuronId,
    control: bool,
    norm_rank: f64,
    variance_rank: f64,
    /// Per value: Σ entropy, loss, reciprocal rank and scale.
    sums: Vec<[f64; 4]>,
}

/// Runs the experiment.
///
/// # Errors
/// If the run was stopped.
pub fn run(experiment: &mut Experiment) -> Result<Figures> {
    let spec = experiment.plan.spec.entropy.clone().unwrap_or_default();
    let mut fixed = choose(experiment);
    fixed.iter_mut().for_each(|f| f.sums = vec![[0.0; 4]; spec.values.len()]);
    let mut positions = 0.0;
    experiment.read("fixing activations", |model, batch| {
        let rows = batch.ids();
        for fixed in &mut fixed {
            for (value, sums) in spec.values.iter().zip(&mut fixed.sums) {
                let point = HookPoint { layer: fixed.id.layer, site: Site::MlpPost };
                let columns = vec![fixed.id.neuron];
                let change = [Intervention { point, columns, action: Action::Set(*value) }];
                let mut hooks = Interventions { interventions: &change, tokens: None, then: () };
                let found = Predictions::of(model, &model.forward(&rows, &mut hooks), &rows);
                let of = [&found.entropy, &found.loss, &found.reciprocal_rank, &found.scale];
                sums.iter_mut().zip(of).for_each(|(s, v)| *s += v.iter().sum::<f64>());
            }
        }
        positions += rows.iter().map(|row| row.len() as f64 - 1.0).sum::<f64>();
    })?;
    let pairs = antipodes(experiment, &fixed);
    Ok(figures(&fixed, &spec.values, positions, &pairs))
}

/// Candidates, best first, and controls.
fn choose(experiment: &Experiment) -> Vec<Fixed> {
    let spec = experiment.plan.spec.entropy.clone().unwrap_or_default();
    let config = &experiment.model.config;
    let folded = preprocess(&experiment.model.weights, config, &experiment.plan.spec.weights);
    let statistics = weight_statistics(&folded, config);
    let first = config.n_layers.saturating_sub(LAYERS) * config.d_mlp();
    let late = &statistics[first..];
    let of =
        |value: fn(&WeightStatistics) -> f64| ranks(&late.iter().map(value).collect::<Vec<_>>());
    let (norms, variances) = (of(|s| s.w_out_norm), of(|s| s.vocab.var));
    let fixed = |i: usize, control| Fixed {
        id: NeuronId::of(first + i, config.d_mlp()),
        control,
        norm_rank: norms[i],
        variance_rank: variances[i],
        sums: Vec::new(),
    };
    let mut order: Vec<usize> = (0..late.len()).collect();
    order.sort_by(|&a, &b| (norms[b] - variances[b]).total_cmp(&(norms[a] - variances[a])));
    let candidates = order[..spec.candidates.min(order.len())].iter().map(|&i| fixed(i, false));
    let mut chosen: Vec<Fixed> = candidates.collect();
    let plain = |i: &usize| norms[*i] < 100.0 - DECILE && variances[*i] > DECILE;
    let mut others: Vec<usize> = (0..late.len()).filter(plain).collect();
    let mut random = ChaCha8Rng::seed_from_u64(spec.seed);
    for _ in 0..spec.controls.min(others.len()) {
        let j = (random.next_u64() % others.len() as u64) as usize;
        chosen.push(fixed(others.swap_remove(j), true));
    }
    chosen
}

/// The neuron of the last two layers that each candidate is most opposed to.
fn antipodes(experiment: &Experiment, fixed: &[Fixed]) -> Vec<(NeuronId, f64)> {
    let config = &experiment.model.config;
    let folded = preprocess(&experiment.model.weights, config, &experiment.plan.spec.weights);
    let first = config.n_layers.saturating_sub(LAYERS) * config.d_mlp();
    let all = first..config.n_layers * config.d_mlp();
    let opposed = |f: &Fixed| {
        let own = f.id.layer * config.d_mlp() + f.id.neuron;
        let cosine = |i: usize| output_cosine(&folded, config, own, i);
        let pairs = all.clone().filter(|&i| i != own).map(|i| (i, cosine(i)));
        let least = pairs.fold((own, 2.0), |best, pair| if pair.1 < best.1 { pair } else { best });
        (NeuronId::of(least.0, config.d_mlp()), least.1)
    };
    fixed.iter().filter(|f| !f.control).map(opposed).collect()
}

fn figures(fixed: &[Fixed], values: &[f32], positions: f64, pairs: &[(NeuronId, f64)]) -> Figures {
    let mut figures = Figures::default();
    let change = |f: &Fixed, q: usize| (f.sums[values.len() - 1][q] - f.sums[0][q]) / positions;
    let controls = |q: usize| mean(fixed.iter().filter(|f| f.control).map(move |f| change(f, q)));
    figures.add("entropy-effect", vec![change(&fixed[0], 0) - controls(0)]);
    figures.add("entropy-antipode", vec![pairs.first().map_or(f64::NAN, |pair| pair.1)]);
    figures.lines.push(format!(
        "fixed at {} and at {}: change of entropy, loss, reciprocal rank, final scale",
        values[0],
        values[values.len() - 1]
    ));
    for (f, (opposed, cos)) in fixed.iter().zip(pairs) {
        let of: Vec<String> = (0..4).map(|q| format!("{:+.4}", change(f, q))).collect();
        figures.lines.push(format!(
            "  {:<10} {}  most opposed: {opposed} (cos {cos:.3})",
            f.id.to_string(),
            of.join(" ")
        ));
    }
    let of: Vec<String> = (0..4).map(|q| format!("{:+.4}", controls(q))).collect();
    figures.lines.push(format!("  controls   {}", of.join(" ")));
    let header = vec![
        "layer",
        "neuron",
        "control",
        "norm_percentile",
        "variance_percentile",
        "value",
        "entropy",
        "loss",
        "reciprocal_rank",
        "scale",
    ];
    let rows = fixed.iter().flat_map(|f| {
        f.sums.iter().zip(values).map(move |(sums, value)| {
            let mut row =
                vec![f.id.layer.to_string(), f.id.neuron.to_string(), f.control.to_string()];
            row.extend([f.norm_rank, f.variance_rank].map(|v| format!("{v:.2}")));
            row.push(value.to_string());
            row.extend(sums.map(|s| format!("{:.6}", s / positions)));
            row
        })
    });
    figures.tables.push(TextTable { name: "entropy", header, rows: rows.collect() });
    figures
}
