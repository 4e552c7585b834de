//! `kind: prediction`: what neurons promote and suppress, and whether they fire when it
//! comes next (paper §5.1).

use super::Experiment;
use crate::error::Result;
use crate::findings::{Figures, TextTable};
use crate::model::fold::preprocess;
use crate::model::{HookPoint, Site};
use crate::stats::percentile::mean;
use crate::stats::weights::{vocabulary_effects, weight_statistics};
use crate::table::NeuronId;

/// Tokens shown of a neuron's set.
const SHOWN: usize = 5;

/// A neuron of large vocabulary kurtosis.
struct Neuron {
    index: usize,
    id: NeuronId,
    suppresses: bool,
    kurtosis: f64,
    /// Whether each token of the vocabulary is in its set.
    set: Vec<bool>,
    /// Most moved first.
    tokens: Vec<usize>,
    /// Σ activation and tokens, where the next token is not in the set, and where it is.
    seen: [[f64; 2]; 2],
}

impl Neuron {
    /// Mean activation where the next token is in the set, minus elsewhere.
    fn difference(&self) -> f64 {
        let mean = |in_set: usize| self.seen[in_set][0] / self.seen[in_set][1];
        mean(1) - mean(0)
    }
}

/// Runs the experiment.
///
/// # Errors
/// If the tokenizer cannot be read, or the run was stopped.
pub fn run(experiment: &mut Experiment) -> Result<Figures> {
    let vocabulary = experiment.plan.vocabulary()?;
    let universal = experiment.universal()?;
    let mut neurons = find(experiment);
    experiment.read("reading tokens", |model, batch| {
        let rows: Vec<&[u32]> = batch.rows.iter().map(|row| row.ids.as_slice()).collect();
        let next: Vec<Option<u32>> =
            rows.iter().flat_map(|row| (1..=row.len()).map(|p| row.get(p).copied())).collect();
        let keep = batch.kept();
        let mut hooks = |point: HookPoint, values: &mut [f32], width: usize| {
            if point.site != Site::MlpPost {
                return;
            }
            for neuron in neurons.iter_mut().filter(|n| n.id.layer == point.layer) {
                for ((row, next), _) in
                    values.chunks_exact(width).zip(&next).zip(&keep).filter(|(_, keep)| **keep)
                {
                    let Some(next) = next else { continue };
                    let seen = &mut neuron.seen[usize::from(neuron.set[*next as usize])];
                    seen[0] += f64::from(row[neuron.id.neuron]);
                    seen[1] += 1.0;
                }
            }
        };
        model.forward(&rows, &mut hooks);
    })?;
    Ok(figures(&neurons, &universal, &vocabulary))
}

fn find(experiment: &Experiment) -> Vec<Neuron> {
    let spec = experiment.plan.spec.prediction.clone().unwrap_or_default();
    let (weights, config) = (&experiment.model.weights, &experiment.model.config);
    let folded = preprocess(weights, config, &experiment.plan.spec.weights);
    let statistics = weight_statistics(&folded, config);
    let extreme = |(_, s): &(usize, &crate::stats::WeightStatistics)| s.vocab.kurt > spec.kurtosis;
    let of = |(index, s): (usize, &crate::stats::WeightStatistics)| {
        let suppresses = s.vocab.skew < 0.0;
        let effects = vocabulary_effects(&folded, config, index);
        let mut tokens: Vec<usize> = (0..effects.len()).collect();
        tokens.sort_by(|&a, &b| match suppresses {
            true => effects[a].total_cmp(&effects[b]),
            false => effects[b].total_cmp(&effects[a]),
        });
        tokens.truncate(spec.tokens);
        let mut set = vec![false; effects.len()];
        tokens.iter().for_each(|&t| set[t] = true);
        let id = NeuronId::of(index, config.d_mlp());
        let seen = [[0.0; 2]; 2];
        Neuron { index, id, suppresses, kurtosis: s.vocab.kurt, set, tokens, seen }
    };
    statistics.iter().enumerate().filter(extreme).map(of).collect()
}

fn figures(neurons: &[Neuron], universal: &[bool], vocabulary: &[String]) -> Figures {
    let mut figures = Figures::default();
    for (name, kind, suppresses) in
        [("prediction-fires", "prediction", false), ("suppression-fires", "suppression", true)]
    {
        let of: Vec<&Neuron> = neurons.iter().filter(|n| n.suppresses == suppresses).collect();
        let known = || of.iter().map(|n| n.difference()).filter(|d| d.is_finite());
        figures.add(name, vec![mean(known())]);
        let more = known().filter(|d| *d > 0.0).count();
        figures.lines.push(format!(
            "{} {kind} neurons; {more} of {} fire more before a token of their set",
            of.len(),
            known().count()
        ));
    }
    let header = vec![
        "layer",
        "neuron",
        "universal",
        "kind",
        "vocab_kurt",
        "tokens",
        "mean_before",
        "mean_else",
    ];
    let row = |n: &Neuron| {
        let shown: Vec<String> =
            n.tokens.iter().take(SHOWN).map(|&t| format!("{:?}", vocabulary[t])).collect();
        let mean = |i: usize| format!("{:.6}", n.seen[i][0] / n.seen[i][1]);
        vec![
            n.id.layer.to_string(),
            n.id.neuron.to_string(),
            universal[n.index].to_string(),
            if n.suppresses { "suppression" } else { "prediction" }.into(),
            format!("{:.4}", n.kurtosis),
            shown.join(" "),
            mean(1),
            mean(0),
        ]
    };
    let rows = neurons.iter().map(row).collect();
    figures.tables.push(TextTable { name: "prediction", header, rows });
    figures
}
