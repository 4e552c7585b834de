//! `kind: dynamics`: the study at several steps of training (arXiv 2508.00903).

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cost::KindCost;
use super::kind::{Desk, Experiment, FigureName, drawn, figure};
use crate::charts::canvas::{Axis, Panel, draw};
use crate::charts::{Chart, ONE_PANEL, lines, range_of, with_margin};
use crate::error::{Error, Kind, Result};
use crate::findings::Figures;
use crate::plan::{Plan, PlannedModel, Workload};
use crate::record::{Tables, TextTable};
use crate::run::Session;
use crate::spec::{Finding, Section, Spec, finding};
use crate::stats::percentile::mean;
use crate::table::{NeuronId, fixed_cell};

/// `kind: dynamics`: the study at several steps of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DynamicsSettings {
    /// The steps, in the order of training; at least two.
    #[schemars(length(min = 2, max = 10_000))]
    pub steps: Vec<Step>,
}

/// Checkpoints of all models at one step of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Number of the training step.
    pub step: u64,
    /// Folder of a checkpoint, relative to the spec. `{model}` is replaced by the name of each
    /// model of the family.
    pub path: PathBuf,
}

/// The dynamics experiment.
pub struct Dynamics;

impl Experiment for Dynamics {
    type Settings = DynamicsSettings;
    const KIND: &'static str = "dynamics";
    const PURPOSE: &'static str = "Repeats the study at several steps of training.";
    const SECTION: Section = Section::Required;
    const PATHS: &'static [&'static str] = &["path"];
    const FIGURES: &'static [FigureName] = &[
        figure("training-trend", "universal share in percent, by step"),
        figure("training-last", "universal share at the last step, in percent"),
        figure(
            "training-late-gain",
            "gain of universal share in the last third of the layers minus in the first, in percentage points",
        ),
        figure(
            "training-persistence",
            "share of universal neurons that are universal at the next step too, minus chance",
        ),
    ];
    const EXAMPLE: &'static str = include_str!("dynamics.yaml");
    const DESK: Desk = Desk::Nothing(
        "checkpoints from the training of the bundled models, 30 MB a step, are not included",
    );

    fn check(settings: &Self::Settings, _: &Spec) -> Result<(), Finding> {
        match settings.steps.windows(2).position(|pair| pair[0].step >= pair[1].step) {
            None => Ok(()),
            Some(i) => finding(
                format!("dynamics.steps[{}].step", i + 1),
                "is not later than the one before",
                "list steps in the order of training",
            ),
        }
    }

    fn check_files(settings: &Self::Settings, plan: &Plan) -> Result<()> {
        plans(settings, plan).map(drop)
    }

    fn cost(settings: &Self::Settings, _: &Workload) -> KindCost {
        KindCost::of_studies(vec![1.0; settings.steps.len()])
    }

    fn run(settings: &Self::Settings, session: &mut Session) -> Result<Figures> {
        let plan = session.plan;
        // Checks that all checkpoints exist before the first study runs.
        let plans = plans(settings, plan)?;
        let mut sets: Vec<Vec<bool>> = Vec::new();
        for (step, plan) in settings.steps.iter().zip(&plans) {
            sets.push(session.universal_in(plan, &format!("step {}", step.step))?.0);
        }
        Ok(figures(plan, &settings.steps, &sets))
    }

    fn charts(tables: &Tables) -> Result<Vec<Chart>> {
        drawn(tables, "dynamics", chart)
    }
}

/// Returns the plan of each step, and records the digests of its weights.
///
/// # Errors
/// Returns an error if a checkpoint is missing, malformed or of another shape, or is that of another
/// step and the spec does not say that it is meant.
fn plans(settings: &DynamicsSettings, plan: &Plan) -> Result<Vec<Plan>> {
    let steps = &settings.steps;
    let plans = steps.iter().map(|step| at(plan, step)).collect::<Result<Vec<Plan>>>()?;
    for (i, later) in plans.iter().enumerate() {
        for (j, earlier) in plans[..i].iter().enumerate() {
            let same = later
                .models
                .iter()
                .zip(&earlier.models)
                .find(|(a, b)| a.weights_digest == b.weights_digest);
            if let Some((model, _)) = same.filter(|_| !plan.spec.models.same_weights) {
                let (name, first, second) = (&model.name, steps[j].step, steps[i].step);
                let problem =
                    format!("model `{name}` has the same weights at steps {first} and {second}");
                let remedy = "correct `dynamics.steps[].path`, or set `models.same_weights: true`";
                return Err(Error::new(Kind::Spec, plan.spec_path.display(), problem, remedy));
            }
        }
        later
            .models
            .iter()
            .for_each(|model| plan.files.weights(&model.folder, &model.weights_digest));
    }
    Ok(plans)
}

/// Returns the plan with every model replaced by its checkpoint at a step.
fn at(plan: &Plan, step: &Step) -> Result<Plan> {
    let checkpoint = |model: &PlannedModel| {
        let folder = step.path.to_string_lossy().replace("{model}", &model.name);
        let checkpoint = PlannedModel::find(&model.name, folder.as_ref())?;
        match checkpoint.layout() == model.layout() {
            true => Ok(checkpoint),
            false => Err(checkpoint.another_shape()),
        }
    };
    plan.with_models(plan.models.iter().map(checkpoint).collect::<Result<_>>()?)
}

fn figures(plan: &Plan, steps: &[Step], sets: &[Vec<bool>]) -> Figures {
    let layout = plan.reference().layout();
    let share = |set: &[bool], layers: std::ops::Range<usize>| {
        let neurons = layers.start * layout.d_mlp..layers.end * layout.d_mlp;
        let of = &set[neurons];
        100.0 * of.iter().filter(|u| **u).count() as f64 / of.len() as f64
    };
    let all = 0..layout.n_layers;
    let third = layout.n_layers.div_ceil(3);
    let shares: Vec<f64> = sets.iter().map(|set| share(set, all.clone())).collect();
    let gain = |layers: std::ops::Range<usize>| match sets {
        [first, .., last] => share(last, layers.clone()) - share(first, layers),
        _ => f64::NAN,
    };
    let late = gain(layout.n_layers - third..layout.n_layers) - gain(0..third);
    let kept: Vec<f64> = sets.windows(2).map(|pair| persistence(&pair[0], &pair[1])).collect();
    let chance = shares[1..].iter().map(|share| share / 100.0);
    let more: Vec<f64> = kept.iter().zip(chance).map(|(kept, chance)| kept - chance).collect();
    let mut figures = Figures::default();
    figures.add("training-trend", shares.clone());
    figures.add("training-last", vec![shares.last().copied().unwrap_or(f64::NAN)]);
    figures.add("training-late-gain", vec![late]);
    figures.add("training-persistence", vec![mean(more.into_iter())]);
    let header = vec!["step", "layer", "universal", "percent", "kept_from_before", "jaccard"];
    let mut table = TextTable::with_header(header);
    for (i, (step, set)) in steps.iter().zip(sets).enumerate() {
        let before = i.checked_sub(1).map(|before| &sets[before]);
        let shown = |value: Option<f64>| value.map_or(String::new(), |v| fixed_cell(v, 6));
        let kept = before.map(|before| persistence(before, set));
        figures.lines.push(format!(
            "  step {:>8}  {:.2} % universal, {} % of those before",
            step.step,
            shares[i],
            kept.map_or("-".into(), |kept| format!("{:.1}", 100.0 * kept))
        ));
        for layer in all.clone() {
            let neurons = layout.neurons(layer);
            let count = set[neurons.clone()].iter().filter(|u| **u).count();
            let of = |f: fn(&[bool], &[bool]) -> f64| {
                shown(before.map(|before| f(&before[neurons.clone()], &set[neurons.clone()])))
            };
            let percent = fixed_cell(share(set, layer..layer + 1), 4);
            let counts = [step.step.to_string(), layer.to_string(), count.to_string(), percent];
            table.rows.push(counts.into_iter().chain([of(persistence), of(jaccard)]).collect());
        }
    }
    figures.tables.insert("dynamics".into(), table);
    figures.tables.insert("memberships".into(), memberships(steps, sets, layout.d_mlp));
    figures
}

/// Returns a table of the steps at which each neuron is universal. Neurons that never are have
/// no row.
fn memberships(steps: &[Step], sets: &[Vec<bool>], d_mlp: usize) -> TextTable {
    let mut rows = Vec::new();
    for i in (0..sets[0].len()).filter(|&i| sets.iter().any(|set| set[i])) {
        let at = steps.iter().zip(sets).filter(|(_, set)| set[i]);
        let at: Vec<String> = at.map(|(step, _)| step.step.to_string()).collect();
        rows.push(vec![NeuronId::of(i, d_mlp).to_string(), at.join(" ")]);
    }
    TextTable { rows, ..TextTable::with_header(["neuron", "universal_at"]) }
}

/// Returns the share of the first set that is also in the second; NaN if the first is empty.
fn persistence(before: &[bool], after: &[bool]) -> f64 {
    let both = before.iter().zip(after).filter(|(b, a)| **b && **a).count() as f64;
    both / before.iter().filter(|b| **b).count() as f64
}

/// Returns the Jaccard index, |A ∩ B| / |A ∪ B|; NaN if both sets are empty.
fn jaccard(before: &[bool], after: &[bool]) -> f64 {
    let both = before.iter().zip(after).filter(|(b, a)| **b && **a).count() as f64;
    both / before.iter().zip(after).filter(|(b, a)| **b || **a).count() as f64
}

fn chart(table: &TextTable) -> Result<Chart> {
    let mut series = lines(table, "layer", "step", "percent");
    series.iter_mut().for_each(|s| s.name = format!("layer {}", s.name));
    let panel = Panel {
        title: String::new(),
        x: Axis::of("step of training", with_margin(&range_of(table.numbers("step")))),
        y: Axis::of(
            "percent universal",
            0.0..1.4 * range_of(table.numbers("percent")).end.max(1e-3),
        ),
        series,
    };
    Ok(Chart {
        name: "dynamics".into(),
        title: "Universal neurons while a model is trained",
        caption: "Share of universal neurons of each layer at several steps. Source: arXiv \
                  2508.00903."
            .into(),
        alt: "A line for each layer over steps of training.".into(),
        svg: draw(ONE_PANEL, 1, &[panel])?,
        data: table.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_compared_by_definition() {
        let (before, after) = ([true, true, false, false], [true, false, true, true]);
        assert_eq!(persistence(&before, &after), 0.5);
        assert_eq!(jaccard(&before, &after), 0.25);
        assert!(persistence(&[false], &[true]).is_nan());
    }
}
