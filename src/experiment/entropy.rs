//! `kind: entropy`: neurons that change the entropy of the prediction, and little else (§5.2).

mod choice;
mod settings;

use std::collections::BTreeMap;

use self::choice::{Fixed, LAYERS, antipodes, choose};
use self::settings::EntropySettings;
use super::cost::{KindCost, from_layer};
use super::kind::{Desk, Experiment, FigureName, drawn, figure};
use super::named::{distinct, neurons_in_model};
use crate::charts::canvas::{Axis, Mark, OTHERS, Panel, Series, draw};
use crate::charts::{Chart, grouped, lines, range_of, with_margin};
use crate::error::Result;
use crate::findings::Figures;
use crate::model::fold::preprocess;
use crate::model::intervene::{Action, Intervention, Interventions};
use crate::model::prefix::KeptStreams;
use crate::model::{Decoder, HookPoint, Site};
use crate::plan::{Plan, Workload};
use crate::record::{Tables, TextTable};
use crate::roles::predictions::Predictions;
use crate::run::Session;
use crate::spec::{Finding, Spec};
use crate::stats::percentile::mean;
use crate::stats::weights::{output_cosine, weight_statistics};
use crate::table::{NeuronId, cell, fixed_cell};

/// The entropy experiment.
pub struct Entropy;

impl Experiment for Entropy {
    type Settings = EntropySettings;
    const KIND: &'static str = "entropy";
    const PURPOSE: &'static str =
        "Fixes late neurons that may change the entropy of the prediction.";
    const FIGURES: &'static [FigureName] = &[
        figure(
            "entropy-effect",
            "change of next-token entropy when the first candidate is fixed high, minus that of random neurons, in nats",
        ),
        figure(
            "entropy-antipode",
            "cosine of the first candidate's output weights with the most opposed neuron's",
        ),
        figure("entropy-cosine", "cosine of the output weights of the first two named neurons"),
        figure(
            "entropy-ranks",
            "ranks of the first named neuron among all neurons: by ‖w_in‖² + ‖w_out‖² from the largest, by variance of the logit effect from the smallest",
        ),
    ];
    const EXAMPLE: &'static str = include_str!("../../experiments/entropy.yaml");
    const DESK: Desk = Desk::Spec("experiments/entropy.yaml");

    fn check(settings: &Self::Settings, _: &Spec) -> Result<(), Finding> {
        distinct("entropy.neurons", &settings.neurons)
    }

    fn check_files(settings: &Self::Settings, plan: &Plan) -> Result<()> {
        neurons_in_model("entropy.neurons", &settings.neurons, plan)
    }

    fn cost(settings: &Self::Settings, work: &Workload) -> KindCost {
        // Candidates and controls are neurons of the last two layers.
        let late = from_layer(work, work.reference().n_layers.saturating_sub(LAYERS));
        let named = settings.neurons.iter().map(|id| from_layer(work, id.layer));
        let mut shares: Vec<f64> = named.collect();
        if shares.is_empty() {
            shares = vec![late; settings.candidates];
        }
        shares.resize(shares.len() + settings.controls, late);
        let values = settings.values.len() as f64;
        let passes = KindCost::of_passes(1.0 + values * shares.iter().sum::<f64>());
        let predictions = values * shares.len() as f64;
        KindCost { predictions, ..passes }.with_vocabulary(work)
    }

    fn run(settings: &Self::Settings, session: &mut Session) -> Result<Figures> {
        Self::check_files(settings, session.plan)?;
        let model = session.reference()?;
        let folded = preprocess(&model.weights, &model.config, &session.plan.spec.weights);
        let statistics = weight_statistics(&folded, &model.config);
        let mut fixed = choose(settings, &statistics, &model.config);
        fixed.iter_mut().for_each(|f| f.sums = vec![[0.0; 4]; settings.values.len()]);
        let mut positions = 0.0;
        session.read("fixing activations", |decoder, batch| {
            let rows = batch.ids();
            let bos = model.config.bos_token_id;
            let made_at = rows.iter().flat_map(|row| &row[..row.len() - 1]);
            let counts: Vec<bool> = made_at.map(|&id| settings.count_bos || id != bos).collect();
            let mut kept = KeptStreams::before(fixed.iter().map(|fixed| fixed.id.layer));
            decoder.forward(&rows, &mut kept)?;
            for fixed in &mut fixed {
                for (value, sums) in settings.values.iter().zip(&mut fixed.sums) {
                    let found = fixed_at(decoder, (fixed.id, *value), &rows, &kept)?;
                    let of = [&found.entropy, &found.loss, &found.reciprocal_rank, &found.scale];
                    // Added token by token, so that no sum depends on where a batch ends.
                    sums.iter_mut().zip(of).for_each(|(s, v)| {
                        v.iter().zip(&counts).filter(|(_, c)| **c).for_each(|(v, _)| *s += v);
                    });
                }
            }
            positions += counts.iter().filter(|counts| **counts).count() as f64;
            Ok(())
        })?;
        let pairs = antipodes(&folded, &model.config, &fixed);
        let mut figures = figures(&fixed, &settings.values, positions, &pairs);
        figures.add_table("entropy-neurons", &WEIGHT_COLUMNS, weight_rows(&fixed));
        if let Some(first) = fixed.first().filter(|_| !settings.neurons.is_empty()) {
            figures.add("entropy-ranks", [first.norm_place, first.variance_place]);
        }
        if let [first, second, ..] = settings.neurons[..] {
            let [a, b] = [first, second].map(|id| id.index(model.config.d_mlp()));
            figures.add("entropy-cosine", [output_cosine(&folded, &model.config, a, b)]);
        }
        Ok(figures)
    }

    fn charts(tables: &Tables) -> Result<Vec<Chart>> {
        drawn(tables, "entropy", chart)
    }
}

/// Reads rows with the activation of a neuron fixed at a value. `kept` are the residual streams of
/// the unchanged model.
fn fixed_at(
    model: &dyn Decoder,
    (id, value): (NeuronId, f32),
    rows: &[&[u32]],
    kept: &KeptStreams,
) -> Result<Predictions> {
    let point = HookPoint { layer: id.layer, site: Site::MlpPost };
    let change = [Intervention { point, columns: vec![id.neuron], action: Action::Set(value) }];
    let mut hooks = Interventions { interventions: &change, tokens: None, then: () };
    Predictions::of(model, &hooks.forward(model, rows, kept)?, rows)
}

/// Columns of the table of the weights of fixed neurons.
const WEIGHT_COLUMNS: [&str; 8] = [
    "layer",
    "neuron",
    "control",
    "l2_penalty",
    "l2_penalty_rank",
    "w_out_norm",
    "vocab_var",
    "vocab_var_rank",
];

fn weight_rows(fixed: &[Fixed]) -> Vec<Vec<String>> {
    let row = |f: &Fixed| {
        vec![
            f.id.layer.to_string(),
            f.id.neuron.to_string(),
            f.control.to_string(),
            fixed_cell(f.weights.l2_penalty(), 6),
            fixed_cell(f.norm_place, 0),
            fixed_cell(f.weights.w_out_norm, 6),
            cell(f.weights.vocab.var),
            fixed_cell(f.variance_place, 0),
        ]
    };
    fixed.iter().map(row).collect()
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
            row.extend([f.norm_rank, f.variance_rank].map(|v| fixed_cell(v, 2)));
            row.push(value.to_string());
            row.extend(sums.map(|s| fixed_cell(s / positions, 6)));
            row
        })
    });
    figures.add_table("entropy", &header, rows);
    figures
}

/// Returns the mean of a column over the controls, for each value.
fn control_means(table: &TextTable, column: &str) -> Vec<(f64, f64)> {
    let (values, numbers) = (table.numbers("value"), table.numbers(column));
    let mut sums: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for (row, control) in table.text("control").into_iter().enumerate() {
        if control == "true" {
            // The values are few and exact, so thousandths distinguish them.
            let sum = sums.entry((values[row] * 1000.0).round() as i64).or_default();
            *sum = (sum.0 + numbers[row], sum.1 + 1.0);
        }
    }
    sums.into_iter().map(|(value, (sum, n))| (value as f64 / 1000.0, sum / n)).collect()
}

fn chart(table: &TextTable) -> Result<Chart> {
    let mut named = table.clone();
    named.header.push("name".into());
    for (row, cells) in named.rows.iter_mut().enumerate() {
        let name = format!("L{}.N{}", table.cell(row, "layer"), table.cell(row, "neuron"));
        cells.push(if table.cell(row, "control") == "true" { String::new() } else { name });
    }
    let candidates = TextTable {
        header: named.header.clone(),
        rows: named
            .rows
            .iter()
            .filter(|r| r.last().is_some_and(|n| !n.is_empty()))
            .cloned()
            .collect(),
    };
    // A legend of many names would hide the figure. The data of the figure have all names.
    let few = grouped(&candidates, "name").into_iter().take(5).map(|(name, _)| name.to_owned());
    let few: Vec<String> = few.collect();
    let panel = |column: &str, label: &str, legend: bool| {
        let mut series = lines(&candidates, "name", "value", column);
        series.retain(|s| few.contains(&s.name));
        series.push(Series::new(
            "random neurons, mean",
            OTHERS,
            Mark::Line(control_means(table, column)),
        ));
        if !legend {
            series.iter_mut().for_each(|s| s.name.clear());
        }
        let values = series.iter().flat_map(|s| match &s.mark {
            Mark::Line(points) => points.iter().map(|p| p.1).collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        let mut range = with_margin(&range_of(values));
        if legend {
            range.end += 0.6 * (range.end - range.start);
        }
        Panel {
            title: String::new(),
            x: Axis::of("activation fixed at", range_of(table.numbers("value"))),
            y: Axis::of(label, range),
            series,
        }
    };
    let panels = [
        panel("entropy", "entropy of the prediction, nats", true),
        panel("scale", "scale of the final LayerNorm", false),
    ];
    Ok(Chart {
        name: "entropy-sweep".into(),
        title: "What fixing late neurons does to certainty",
        caption:
            "Next-token entropy and the scale of the final LayerNorm while one neuron is held \
                  at a value; the first candidates, and the mean over random neurons of the same \
                  layers. Paper: §5.2."
                .into(),
        alt: "Lines of entropy and of scale against the activation that is fixed.".into(),
        svg: draw((780, 360), 2, &panels)?,
        data: table.clone(),
    })
}
