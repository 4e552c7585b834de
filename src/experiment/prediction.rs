//! `kind: prediction`: which tokens neurons promote and suppress, and whether the neurons fire
//! before these tokens (paper §5.1).

mod classes;
mod effects;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::classes::class_table;
use self::effects::RoleNeuron;
use super::cost::KindCost;
use super::kind::{Desk, Experiment, FigureName, drawn, figure, say_none};
use super::named::{distinct, neurons_in_model};
use crate::charts::{Chart, by_depth};
use crate::error::Result;
use crate::families::check;
use crate::findings::Figures;
use crate::model::fold::preprocess;
use crate::model::weights::Weights;
use crate::model::{Config, HookPoint, Site};
use crate::plan::{Plan, Workload};
use crate::record::{Tables, TextTable};
use crate::run::Session;
use crate::spec::{Finding, Spec};
use crate::stats::WeightStatistics;
use crate::stats::percentile::{mean, ranks_within};
use crate::stats::weights::{vocabulary_effects, weight_statistics};
use crate::table::{NeuronId, fixed_cell};

/// Number of tokens of a neuron's set that are shown.
const SHOWN: usize = 5;

/// What a neuron does to the vocabulary.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Makes a few tokens much more likely.
    Prediction,
    /// Makes a few tokens much less likely.
    Suppression,
    /// Makes one part of the vocabulary more likely and the rest less likely.
    Partition,
    /// None of these: a neuron that the spec names.
    Other,
}

impl Role {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Prediction, "prediction"),
        (Self::Suppression, "suppression"),
        (Self::Partition, "partition"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(role, _)| *role == self).map_or("other", |(_, name)| name)
    }
}

/// A neuron of large vocabulary kurtosis or variance.
struct Neuron {
    index: usize,
    id: NeuronId,
    role: Role,
    kurtosis: f64,
    variance: f64,
    /// Whether each token of the vocabulary is in the neuron's set.
    set: Vec<bool>,
    /// The tokens of the set, those with the largest effect first.
    tokens: Vec<usize>,
    /// Σ activation and the number of tokens: `[0]` if the next token is not in the set, `[1]` if
    /// it is.
    seen: [[f64; 2]; 2],
}

impl Neuron {
    /// Returns the neuron with the name of its role.
    fn with_role(&self) -> RoleNeuron {
        RoleNeuron { index: self.index, role: self.role.name() }
    }

    /// Returns the mean activation before a token of the set, minus the mean elsewhere.
    fn difference(&self) -> f64 {
        let mean = |in_set: usize| self.seen[in_set][0] / self.seen[in_set][1];
        mean(1) - mean(0)
    }
}

/// `kind: prediction`: neurons that promote or suppress tokens (§5.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PredictionSettings {
    /// Vocabulary kurtosis above which a neuron is a prediction or suppression neuron.
    pub kurtosis: f64,
    /// Percentile within the layer of the variance of cos(W_U, w_out) above which any other
    /// neuron is a partition neuron.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub partition: f64,
    /// Variance of cos(W_U, w_out) above which any other neuron is a partition neuron, in place of
    /// `partition`; the authors' notebook uses 0.005.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub partition_variance: Option<f64>,
    /// File of token tests, as of `kind: families`: the classes of tokens that a neuron promotes or
    /// suppresses are looked for among them. A relative path starts at the spec. No classes when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tests: Option<PathBuf>,
    /// Number of tokens in a neuron's set: those with the largest effect on their logits.
    #[schemars(range(min = 1, max = 10_000))]
    pub tokens: usize,
    /// The only neurons to look at, whatever their kurtosis and variance, such as `[L18.N10]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10_000))]
    pub neurons: Vec<NeuronId>,
}

impl Default for PredictionSettings {
    fn default() -> Self {
        Self {
            kurtosis: 10.0,
            partition: 99.0,
            partition_variance: None,
            tests: None,
            tokens: 20,
            neurons: Vec::new(),
        }
    }
}

/// The prediction experiment.
pub struct Prediction;

impl Experiment for Prediction {
    type Settings = PredictionSettings;
    const KIND: &'static str = "prediction";
    const PURPOSE: &'static str =
        "Finds tokens that neurons promote or suppress, and whether the neurons fire before them.";
    const PATHS: &'static [&'static str] = &["tests"];
    const FIGURES: &'static [FigureName] = &[
        figure(
            "prediction-fires",
            "mean activation of prediction neurons before a token of their set, minus elsewhere",
        ),
        figure(
            "suppression-fires",
            "mean activation of suppression neurons before a token of their set, minus elsewhere",
        ),
        figure(
            "partition-fires",
            "mean activation of partition neurons before a token of their set, minus elsewhere",
        ),
    ];
    const EXAMPLE: &'static str = include_str!("../../experiments/prediction.yaml");
    const DESK: Desk = Desk::Spec("experiments/prediction.yaml");

    fn check(settings: &Self::Settings, _: &Spec) -> Result<(), Finding> {
        distinct("prediction.neurons", &settings.neurons)
    }

    fn check_files(settings: &Self::Settings, plan: &Plan) -> Result<()> {
        neurons_in_model("prediction.neurons", &settings.neurons, plan)?;
        settings.tests.as_ref().map_or(Ok(()), |path| check(path, plan))
    }

    fn cost(_: &Self::Settings, work: &Workload) -> KindCost {
        let passes = KindCost { universal: true, ..KindCost::of_passes(1.0) };
        passes.with_vocabulary(work)
    }

    fn run(settings: &Self::Settings, session: &mut Session) -> Result<Figures> {
        Self::check_files(settings, session.plan)?;
        let vocabulary = session.plan.vocabulary()?;
        let universal = session.universal()?;
        let model = session.reference()?;
        let folded = preprocess(&model.weights, &model.config, &session.plan.spec.weights);
        let mut neurons = find(settings, &folded, &model.config);
        session.read("reading tokens", |model, batch| {
            let rows = batch.ids();
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
            model.forward(&rows, &mut hooks).map(drop)
        })?;
        let mut found = figures(&neurons, &universal, &vocabulary, model.config.n_layers);
        if let Some(path) = &settings.tests {
            let model = (&folded, &model.config);
            // Partition neurons are not about one class of tokens.
            let labelled = neurons.iter().filter(|neuron| neuron.role != Role::Partition);
            let labelled = labelled.map(Neuron::with_role);
            let table = class_table((path, session.plan), model, labelled, &vocabulary)?;
            found.tables.insert("prediction-classes".into(), table);
        }
        say_none(&mut found, session.plan, &universal);
        let examples = examples(settings, &neurons, &universal);
        found.tables.insert(effects::TABLE.into(), effects::distributions(session, &examples)?);
        Ok(found)
    }

    fn charts(tables: &Tables) -> Result<Vec<Chart>> {
        let depth = drawn(tables, "roles-by-layer", chart)?;
        Ok([depth, drawn(tables, effects::TABLE, effects::chart)?].concat())
    }
}

/// Returns the neurons that have a role, with their sets of tokens.
fn find(spec: &PredictionSettings, folded: &Weights, config: &Config) -> Vec<Neuron> {
    let statistics = weight_statistics(folded, config);
    let layers: Vec<usize> = (0..statistics.len()).map(|i| i / config.d_mlp()).collect();
    let variances: Vec<f64> = statistics.iter().map(|s| s.vocab.var).collect();
    let ranks = ranks_within(&layers, &variances);
    let wanted = |id| spec.neurons.is_empty() || spec.neurons.contains(&id);
    let named = (!spec.neurons.is_empty()).then_some(Role::Other);
    let divides = |index: usize, s: &WeightStatistics| match spec.partition_variance {
        Some(variance) => s.vocab.var > variance,
        None => ranks[index] > spec.partition,
    };
    let role = |index: usize, s: &WeightStatistics| match s.vocab.kurt > spec.kurtosis {
        true if s.vocab.skew < 0.0 => Some(Role::Suppression),
        true => Some(Role::Prediction),
        false => divides(index, s).then_some(Role::Partition).or(named),
    };
    let of = |(index, s): (usize, &WeightStatistics)| {
        let id = NeuronId::of(index, config.d_mlp());
        let role = wanted(id).then(|| role(index, s)).flatten()?;
        let suppresses = role == Role::Suppression;
        let effects = vocabulary_effects(folded, config, index);
        let mut tokens: Vec<usize> = (0..effects.len()).collect();
        tokens.sort_by(|&a, &b| match suppresses {
            true => effects[a].total_cmp(&effects[b]),
            false => effects[b].total_cmp(&effects[a]),
        });
        tokens.truncate(spec.tokens);
        let mut set = vec![false; effects.len()];
        tokens.iter().for_each(|&t| set[t] = true);
        let seen = [[0.0; 2]; 2];
        let (kurtosis, variance) = (s.vocab.kurt, s.vocab.var);
        Some(Neuron { index, id, role, kurtosis, variance, set, tokens, seen })
    };
    statistics.iter().enumerate().filter_map(of).collect()
}

/// Returns the neurons whose effects are shown: those that the spec names, or of each role the one with
/// the largest kurtosis or variance, a universal one if there is one.
fn examples(spec: &PredictionSettings, neurons: &[Neuron], universal: &[bool]) -> Vec<RoleNeuron> {
    if !spec.neurons.is_empty() {
        return neurons.iter().map(Neuron::with_role).collect();
    }
    let size = |n: &Neuron| if n.role == Role::Partition { n.variance } else { n.kurtosis };
    let rank = |a: &&Neuron, b: &&Neuron| {
        let first = universal[a.index].cmp(&universal[b.index]);
        first.then(size(a).total_cmp(&size(b)))
    };
    let best = |role| neurons.iter().filter(|n| n.role == role).max_by(rank).map(Neuron::with_role);
    Role::ALL.iter().filter_map(|(role, _)| best(*role)).collect()
}

fn figures(
    neurons: &[Neuron],
    universal: &[bool],
    vocabulary: &[String],
    layers: usize,
) -> Figures {
    let mut figures = Figures::default();
    let mut depth = TextTable::with_header(["role", "layer", "neurons", "universal"]);
    for (role, name) in Role::ALL {
        let of: Vec<&Neuron> = neurons.iter().filter(|n| n.role == role).collect();
        let known = || of.iter().map(|n| n.difference()).filter(|d| d.is_finite());
        figures.add(&format!("{name}-fires"), vec![mean(known())]);
        let more = known().filter(|d| *d > 0.0).count();
        figures.lines.push(format!(
            "{} {name} neurons; {more} of {} fire more before a token of their set",
            of.len(),
            known().count()
        ));
        for layer in 0..layers {
            let here = of.iter().filter(|n| n.id.layer == layer);
            let chosen = here.clone().filter(|n| universal[n.index]).count();
            let counts = [layer, here.count(), chosen].map(|n| n.to_string());
            depth.rows.push(std::iter::once(name.to_owned()).chain(counts).collect());
        }
    }
    figures.tables.insert("roles-by-layer".into(), depth);
    let header = vec![
        "layer",
        "neuron",
        "universal",
        "kind",
        "vocab_kurt",
        "vocab_var",
        "tokens",
        "mean_before",
        "mean_else",
    ];
    let row = |n: &Neuron| {
        let shown: Vec<String> =
            n.tokens.iter().take(SHOWN).map(|&t| format!("{:?}", vocabulary[t])).collect();
        let mean = |i: usize| fixed_cell(n.seen[i][0] / n.seen[i][1], 6);
        vec![
            n.id.layer.to_string(),
            n.id.neuron.to_string(),
            universal[n.index].to_string(),
            n.role.name().into(),
            fixed_cell(n.kurtosis, 4),
            fixed_cell(n.variance, 6),
            shown.join(" "),
            mean(1),
            mean(0),
        ]
    };
    figures.add_table("prediction", &header, neurons.iter().map(row));
    figures
}

fn chart(table: &TextTable) -> Result<Chart> {
    Ok(Chart {
        name: "roles-by-depth".into(),
        title: "Prediction and suppression neurons by depth",
        caption: "Neurons of large vocabulary kurtosis that promote tokens (prediction), suppress \
                  them (suppression), and partition neurons, by layer. Paper: §5.1."
            .into(),
        alt: "Lines for three roles over layers.".into(),
        svg: by_depth(table, "role", "neurons")?,
        data: table.clone(),
    })
}
