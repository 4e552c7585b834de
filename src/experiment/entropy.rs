//! `kind: entropy`: neurons that change the entropy of the prediction, and little else (§5.2).

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kind::{Desk, Experiment, FigureName, drawn, figure};
use super::named::{distinct, neurons_in_model};
use crate::charts::canvas::{Axis, Mark, OTHERS, Panel, Series, draw};
use crate::charts::{Chart, grouped, lines, range_of, with_margin};
use crate::error::Result;
use crate::findings::Figures;
use crate::model::fold::preprocess;
use crate::model::intervene::{Action, Intervention, Interventions};
use crate::model::weights::Weights;
use crate::model::{Config, HookPoint, Site};
use crate::plan::Plan;
use crate::record::{Tables, TextTable};
use crate::roles::predictions::Predictions;
use crate::run::Session;
use crate::spec::{Finding, Spec};
use crate::stats::percentile::{mean, ranks};
use crate::stats::weights::{WeightStatistics, output_cosine, weight_statistics};
use crate::table::{NeuronId, fixed_cell};

/// Number of layers, counted from the last, in which neurons are chosen.
const LAYERS: usize = 2;
/// A control's norm lies below percentile `100 − DECILE`, its variance above percentile `DECILE`.
const DECILE: f64 = 10.0;

/// A neuron whose activation is fixed.
struct Fixed {
    id: NeuronId,
    control: bool,
    norm_rank: f64,
    variance_rank: f64,
    /// Sums of entropy, loss, reciprocal rank and scale, for each value.
    sums: Vec<[f64; 4]>,
}

/// `kind: entropy`: neurons that change the entropy of the prediction (§5.2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EntropySettings {
    /// Number of candidates: the neurons of the last two layers with the largest weight norm and
    /// the smallest variance of the logit effect.
    #[schemars(range(min = 1, max = 1000))]
    pub candidates: usize,
    /// Neurons to fix in place of the automatically chosen candidates, such as `[L23.N945]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    pub neurons: Vec<NeuronId>,
    /// Number of random neurons of the last two layers that the candidates are compared with.
    #[schemars(range(min = 1, max = 10_000))]
    pub controls: usize,
    /// Seed of the choice of random neurons.
    pub seed: u64,
    /// Values that the activation is fixed to, smallest first.
    #[schemars(length(min = 2), extend("x-remedy" = "the paper uses 0 to 6"))]
    pub values: Vec<f32>,
}

impl Default for EntropySettings {
    fn default() -> Self {
        let values = [0, 1, 2, 3, 4, 5, 6].map(|v: u8| f32::from(v)).to_vec();
        Self { candidates: 3, neurons: Vec::new(), controls: 20, seed: 1, values }
    }
}

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
    ];
    const EXAMPLE: &'static str = include_str!("../../experiments/entropy.yaml");
    const DESK: Desk = Desk::Spec("experiments/entropy.yaml");

    fn check(settings: &Self::Settings, _: &Spec) -> Result<(), Finding> {
        distinct("entropy.neurons", &settings.neurons)
    }

    fn check_files(settings: &Self::Settings, plan: &Plan) -> Result<()> {
        neurons_in_model("entropy.neurons", &settings.neurons, plan)
    }

    fn run(settings: &Self::Settings, session: &mut Session) -> Result<Figures> {
        Self::check_files(settings, session.plan)?;
        let model = session.reference()?;
        let folded = preprocess(&model.weights, &model.config, &session.plan.spec.weights);
        let mut fixed = choose(settings, &folded, &model.config);
        fixed.iter_mut().for_each(|f| f.sums = vec![[0.0; 4]; settings.values.len()]);
        let mut positions = 0.0;
        session.read("fixing activations", |model, batch| {
            let rows = batch.ids();
            for fixed in &mut fixed {
                for (value, sums) in settings.values.iter().zip(&mut fixed.sums) {
                    let point = HookPoint { layer: fixed.id.layer, site: Site::MlpPost };
                    let columns = vec![fixed.id.neuron];
                    let change = [Intervention { point, columns, action: Action::Set(*value) }];
                    let mut hooks =
                        Interventions { interventions: &change, tokens: None, then: () };
                    let found = Predictions::of(model, &model.forward(&rows, &mut hooks)?, &rows)?;
                    let of = [&found.entropy, &found.loss, &found.reciprocal_rank, &found.scale];
                    // Added token by token, so that no sum depends on where a batch ends.
                    sums.iter_mut().zip(of).for_each(|(s, v)| v.iter().for_each(|v| *s += v));
                }
            }
            positions += rows.iter().map(|row| row.len() as f64 - 1.0).sum::<f64>();
            Ok(())
        })?;
        let pairs = antipodes(&folded, &model.config, &fixed);
        Ok(figures(&fixed, &settings.values, positions, &pairs))
    }

    fn charts(tables: &Tables) -> Result<Vec<Chart>> {
        drawn(tables, "entropy", chart)
    }
}

/// Returns the candidates, best first, followed by the controls.
fn choose(spec: &EntropySettings, folded: &Weights, config: &Config) -> Vec<Fixed> {
    let statistics = weight_statistics(folded, config);
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
    // The percentiles are those of the last layers, so a neuron of an earlier layer has none.
    let named = |&id: &NeuronId| match id.index(config.d_mlp()).checked_sub(first) {
        Some(i) => fixed(i, false),
        None => Fixed { id, norm_rank: f64::NAN, variance_rank: f64::NAN, ..fixed(0, false) },
    };
    let mut chosen: Vec<Fixed> = match spec.neurons.is_empty() {
        true => candidates.collect(),
        false => spec.neurons.iter().map(named).collect(),
    };
    let is_named = |i: usize| spec.neurons.contains(&NeuronId::of(first + i, config.d_mlp()));
    let plain = |i: &usize| norms[*i] < 100.0 - DECILE && variances[*i] > DECILE && !is_named(*i);
    let mut others: Vec<usize> = (0..late.len()).filter(plain).collect();
    let mut random = ChaCha8Rng::seed_from_u64(spec.seed);
    for _ in 0..spec.controls.min(others.len()) {
        let j = (random.next_u64() % others.len() as u64) as usize;
        chosen.push(fixed(others.swap_remove(j), true));
    }
    chosen
}

/// Returns, for each candidate, the neuron of the last two layers whose output weights are most
/// opposed to the candidate's, and their cosine.
fn antipodes(folded: &Weights, config: &Config, fixed: &[Fixed]) -> Vec<(NeuronId, f64)> {
    let first = config.n_layers.saturating_sub(LAYERS) * config.d_mlp();
    let all = first..config.n_layers * config.d_mlp();
    let opposed = |f: &Fixed| {
        let own = f.id.layer * config.d_mlp() + f.id.neuron;
        let cosine = |i: usize| output_cosine(folded, config, own, i);
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
