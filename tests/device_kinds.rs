//! Every kind of experiment on a device gives the figures of the CPU, within rounding.

use std::path::Path;

use serde_yaml::Value;
use universal_neurons::compare::Tolerance;
use universal_neurons::experiment::{self, KINDS, STUDY, load_spec};
use universal_neurons::findings::{Figures, Universal};
use universal_neurons::plan::Plan;
use universal_neurons::run::{Accelerator, Control, Session};
use universal_neurons::spec::Spec;
use universal_neurons::table::{HeadId, NeuronId};

use crate::kernels::{card, machine};
use crate::ptx_vm::Machine;
use crate::support::{Bench, assert_close, settings_of, varied_corpus};

/// Sums of f32 values in pairs of f16, over about 200 tokens and two layers.
const ROUNDING: Tolerance = Tolerance { absolute: 2e-3, relative: 2e-3 };

fn plan(kind: &str) -> (Bench, Plan) {
    match kind {
        // Each size and each resample is a study: one of a sample, one of all tokens and two resamples.
        "convergence" => plan_with(kind, "convergence: { tokens: [100], resamples: 2, seed: 1 }"),
        _ => plan_with(kind, &settings_of(kind)),
    }
}

fn plan_with(kind: &str, settings: &str) -> (Bench, Plan) {
    let bench = Bench::new();
    bench.write("corpus.jsonl", varied_corpus(20));
    bench.set_kind(kind, settings);
    let loaded = load_spec(&bench.path().join("spec.yaml")).unwrap_or_else(|e| panic!("{e}"));
    let plan = Plan::make(loaded).unwrap_or_else(|e| panic!("{e}"));
    (bench, plan)
}

/// Runs an experiment with every tenth neuron for a universal one.
fn figures(plan: &Plan, card: Option<&dyn Accelerator>) -> Figures {
    let neurons = plan.reference().layout().n_neurons();
    let universal = Universal((0..neurons).map(|i| i % 10 == 0).collect());
    let mut control = Control::default();
    let session = Session::new(plan, &mut control).on(card);
    let found = experiment::run_in(&mut session.with_universal(Some(universal)));
    found.unwrap_or_else(|e| panic!("{e}"))
}

/// Returns the numbers of all figures and tables, and everything else as text.
fn parts(figures: &Figures) -> (Vec<f64>, Vec<String>) {
    let named = figures.named.values().flatten();
    let mut numbers: Vec<f64> = named.clone().copied().filter(|v| v.is_finite()).collect();
    let mut texts: Vec<String> = figures.named.keys().cloned().collect();
    texts.extend(named.filter(|v| !v.is_finite()).map(f64::to_string));
    for (name, table) in &figures.tables {
        texts.push(name.clone());
        for cell in table.rows.iter().flatten() {
            match cell.parse() {
                Ok(number) => numbers.push(number),
                Err(_) => texts.push(cell.clone()),
            }
        }
    }
    (numbers, texts)
}

fn assert_same(kind: &str, card: &dyn Accelerator) {
    let (_bench, plan) = plan(kind);
    let (on_card, on_cpu) = (figures(&plan, Some(card)), figures(&plan, None));
    assert!(on_card.device.starts_with("cuda") && on_cpu.device.starts_with("cpu"), "{kind}");
    let ((got, got_texts), (want, want_texts)) = (parts(&on_card), parts(&on_cpu));
    assert_eq!(got_texts, want_texts, "{kind}");
    assert!(want.len() > 2, "{kind}: too few numbers");
    assert_close(kind, got, &want, ROUNDING);
}

#[test]
fn every_kind_gives_the_figures_of_the_cpu() {
    for kind in KINDS.map(|kind| kind.rules.name).into_iter().filter(|kind| *kind != STUDY) {
        assert_same(kind, machine());
        if let Some(card) = card() {
            assert_same(kind, &card);
        }
    }
}

/// Counts in settings that each cost a pass over the tokens or more.
const COUNTS: [&str; 6] = ["controls", "candidates", "pairs", "directions", "copies", "resamples"];

/// Puts neurons and heads of the tiny models in place of those that settings name, and makes lists
/// and counts small.
fn shrink(settings: &mut Value) {
    match settings {
        Value::String(text) => {
            if let Ok(NeuronId { layer, neuron }) = text.parse() {
                *text = NeuronId { layer: layer % 2, neuron: neuron % 72 }.to_string();
            } else if let Ok(HeadId { layer, head }) = text.parse() {
                *text = HeadId { layer: layer % 2, head: head % 2 }.to_string();
            }
        }
        Value::Sequence(items) => {
            items.truncate(2);
            items.iter_mut().for_each(shrink);
        }
        Value::Mapping(map) => {
            for (key, value) in map {
                let is_count = key.as_str().is_some_and(|key| COUNTS.contains(&key));
                match value.as_u64() {
                    Some(n) if is_count => *value = n.min(2).into(),
                    _ => shrink(value),
                }
            }
        }
        _ => {}
    }
}

/// Puts tiny models and a little text in place of those of a spec.
fn at_toy_size(mut spec: Spec, folder: &Path) -> Spec {
    spec.models.reference = "a".into();
    spec.models.also_reference.clear();
    let places = ["a", "b"].into_iter().zip(&mut spec.models.family);
    places.for_each(|(name, model)| {
        (model.name, model.path) = (name.into(), folder.join(name));
    });
    spec.models.family.truncate(2);
    spec.corpus.path = folder.join("corpus.jsonl");
    spec.corpus.fields = None;
    (spec.corpus.context, spec.corpus.limit, spec.corpus.sample) = (16, Some(3), None);
    // Two draws of a baseline show that there may be several.
    spec.correlation.baseline.draws = spec.correlation.baseline.draws.min(2);
    spec.settings.values_mut().for_each(shrink);
    // Labels of syntax belong to a text of their own, and no device reads them.
    if let Some(Value::Mapping(families)) = spec.settings.get_mut("families") {
        families.remove("syntax");
    }
    // As many studies as resamples: two show that they run.
    if let Some(settings) = spec.settings.get_mut("convergence") {
        let few = "{ tokens: [16, 32], resamples: 2, seed: 1 }";
        *settings = serde_yaml::from_str(few).expect("YAML");
    }
    spec
}

#[test]
fn every_spec_of_the_project_runs_on_a_device() {
    let folder = tempfile::tempdir().expect("folder");
    crate::device::family(folder.path());
    let mut ran = 0;
    for file in ["experiments", "experiments/paper/stanford-gpt2-medium"]
        .into_iter()
        .flat_map(crate::specs::yaml_files)
    {
        let mut loaded = load_spec(&file).unwrap_or_else(|e| panic!("{e}"));
        loaded.spec = at_toy_size(loaded.spec, folder.path());
        let plan = Plan::make(loaded).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        if !plan.has_exact_neurons() {
            // Devices compare neurons only, and refuse other units.
            continue;
        }
        let mut control = Control::default();
        let mut session = Session::new(&plan, &mut control).on(Some(machine()));
        if plan.spec.kind == STUDY {
            session.study().unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        } else {
            figures(&plan, Some(machine()));
        }
        ran += 1;
    }
    assert!(ran >= 14, "{ran} specs");
}

/// A pass whose first changed block is the second of two runs one block. Blocks are counted as
/// launches of the attention kernel.
#[test]
fn changes_run_only_the_blocks_from_the_first_that_they_change() {
    let cases = [
        ("entropy", "entropy: { neurons: [L1.N0, L0.N3], controls: 1, values: [0, 1, 2], seed: 1 }"),
        (
            "ablation",
            "ablation: { replacement: zero, resamples: 5, seed: 1, controls: 1, sets: [
                { name: second, neurons: [L1.N0, L1.N3] }, { name: both, neurons: [L0.N1, L1.N0] }] }",
        ),
        (
            "intervention",
            "intervention: { sets: [{ name: x, neurons: [L0.N3, L1.N5] }], each: true, resamples: 5,
                changes: [{ action: add, values: [1, 2] }, { action: zero }] }",
        ),
    ];
    for (kind, settings) in cases {
        let (_bench, plan) = plan_with(kind, settings);
        let machine = Machine::new();
        let found = figures(&plan, Some(&machine));
        let blocks = match kind {
            "entropy" => {
                let layers = column(&found, "entropy-neurons", "layer");
                assert!(layers.len() == 3 && layers.contains(&1.0), "{layers:?}");
                layers.iter().map(|layer| 3 * (2 - *layer as usize)).sum()
            }
            "ablation" => 1 + 2,
            _ => 3 * 2 + 3,
        };
        let batches = plan.tokens.batches(plan.spec.batch.tokens, 0..plan.tokens.count().used);
        // Two blocks of the unchanged model for each batch, and two when it is checked at first.
        let want = 2 + batches.len() * (2 + blocks);
        assert_eq!(machine.launches("attention"), want, "{kind}");
    }
}

fn column(figures: &Figures, table: &str, name: &str) -> Vec<f64> {
    let (_, table) = figures.tables.iter().find(|(n, _)| *n == table).expect("the table");
    let at = table.header.iter().position(|column| column == name).expect("the column");
    table.rows.iter().map(|row| row[at].parse().expect("a number")).collect()
}
