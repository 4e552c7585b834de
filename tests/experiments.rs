//! Experiments of other kinds than universality, on the bundled models.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tempfile::TempDir;
use universal_neurons::compare::Tolerance;
use universal_neurons::findings::{Figures, Universal};
use universal_neurons::plan::Plan;
use universal_neurons::run::{Control, run_kind};
use universal_neurons::spec::{Replacement, Spec};

use crate::support::{assert_close, expected, path, run as program, stderr};

/// An experiment of `experiments/`, changed; every tenth neuron counts as universal.
fn figures(spec: &str, change: impl FnOnce(&mut Spec)) -> Figures {
    let mut loaded = Spec::load(&path("experiments").join(spec)).unwrap_or_else(|e| panic!("{e}"));
    change(&mut loaded.spec);
    let plan = Plan::make(loaded).unwrap_or_else(|e| panic!("{e}"));
    let neurons = plan.reference().layout().n_neurons();
    let universal = Universal((0..neurons).map(|i| i % 10 == 0).collect());
    run_kind(&plan, Some(universal), &mut Control::default()).unwrap_or_else(|e| panic!("{e}"))
}

/// A column of a table of figures.
fn column<'a>(figures: &'a Figures, table: &str, column: &str) -> Vec<&'a str> {
    let table = figures.tables.iter().find(|t| t.name == table).expect("a table");
    let at = table.header.iter().position(|h| *h == column).expect("a column");
    table.rows.iter().map(|row| row[at].as_str()).collect()
}

fn write_tests(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("tests.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    layer: usize,
    neuron: usize,
    test: String,
    reduction: f64,
    difference: f64,
    support: usize,
}

#[test]
fn explanations_are_those_recomputed_elsewhere() {
    let golden: Golden = expected("golden/families.json");
    let folder = TempDir::new().unwrap();
    // The tests of the cases alone, so that each is the best explanation.
    let tests = write_tests(
        folder.path(),
        "tests:\n\
         - { name: letter m, family: alphabet, matches: '(?i)^ ?m$' }\n\
         - { name: contains ., family: symbol, matches: '\\.' }\n\
         - { name: 'contains ,', family: symbol, matches: ',' }\n\
         - { name: a digit, family: number, matches: '[0-9]' }\n\
         - { name: beyond ASCII, family: shape, matches: '[^\\x00-\\x7F]' }\n",
    );
    let found = figures("families.yaml", |spec| {
        let families = spec.families.as_mut().unwrap();
        (families.path, families.frequent) = (tests, usize::MAX);
    });
    let tolerance = Tolerance::absolute(1e-5);
    for case in &golden.cases {
        let row = case.layer * 1024 + case.neuron;
        let cell = |name: &str| column(&found, "families", name)[row].to_owned();
        assert_eq!(cell("test"), case.test);
        let number = |name: &str| cell(name).parse::<f64>().unwrap();
        let (got, want) =
            ([number("reduction"), number("mean_difference")], [case.reduction, case.difference]);
        assert_close(&case.test, got, &want, tolerance);
        assert_eq!(cell("support"), case.support.to_string());
    }
    assert_eq!(found.named["alphabet-letters"], [1.0]);
}

#[test]
fn a_new_token_test_needs_no_rust() {
    let folder = TempDir::new().unwrap();
    write_tests(folder.path(), "tests: [{ name: mine, family: mine, matches: '^ ?[fF]$' }]\n");
    let text = std::fs::read_to_string(path("experiments/desk-universality.yaml")).unwrap();
    let text = text
        .replace("desk/", &format!("{}/desk/", path("experiments").display()))
        .replace("kind: universality", "kind: families")
        + "\nfamilies: { path: tests.yaml, frequent: 1000000 }\n";
    std::fs::write(folder.path().join("mine.yaml"), text).unwrap();
    let valid = program(folder.path(), &["validate", "mine.yaml"]);
    assert!(valid.status.success(), "{}", stderr(&valid));
    std::fs::write(
        folder.path().join("tests.yaml"),
        "tests: [{ name: x, family: y, matches: '(' }]",
    )
    .unwrap();
    let broken = program(folder.path(), &["run", "mine.yaml", "--quiet", "--device", "cpu"]);
    assert_eq!(broken.status.code(), Some(2));
    assert!(stderr(&broken).contains("tests.yaml: `x`"), "{}", stderr(&broken));
    assert!(!folder.path().join("runs/desk-universality").exists());
}

#[derive(Deserialize)]
struct Roles {
    ablation: serde_json::Value,
    entropy: serde_json::Value,
    attention: serde_json::Value,
    heads: serde_json::Value,
}

/// The row of a table in which some columns have these values.
fn row_of(found: &Figures, table: &str, wanted: &[(&str, &str)]) -> usize {
    let rows = found.tables.iter().find(|t| t.name == table).expect("a table").rows.len();
    let fits = |row: &usize| wanted.iter().all(|(c, v)| column(found, table, c)[*row] == *v);
    (0..rows).find(fits).unwrap_or_else(|| panic!("no row with {wanted:?} in {table}"))
}

fn assert_row(found: &Figures, table: &str, wanted: &[(&str, &str)], golden: &serde_json::Value) {
    let row = row_of(found, table, wanted);
    for (name, want) in golden.as_object().unwrap().iter().filter(|(name, _)| *name != "what") {
        let got: f64 = column(found, table, name)[row].parse().unwrap();
        let tolerance = Tolerance { absolute: 2e-5, relative: 2e-4 };
        assert_close(&format!("{table} {name}"), [got], &[want.as_f64().unwrap()], tolerance);
    }
}

fn few(spec: &mut Spec) {
    (spec.corpus.limit, spec.corpus.sample) = (Some(8), None);
}

#[test]
fn interventions_do_what_they_do_elsewhere() {
    let golden: Roles = expected("golden/roles.json");
    let ablation = figures("ablation.yaml", |spec| {
        few(spec);
        spec.ablation.as_mut().unwrap().controls = 1;
    });
    assert_row(&ablation, "ablation", &[("set", "universal")], &golden.ablation);
    let entropy = figures("entropy.yaml", |spec| {
        few(spec);
        spec.entropy.as_mut().unwrap().controls = 1;
    });
    let fixed = [("layer", "2"), ("neuron", "970"), ("value", "4")];
    assert_row(&entropy, "entropy", &fixed, &golden.entropy);
    let attention = figures("attention.yaml", few);
    let pair = [("neuron", "L0.N942"), ("head", "L1.H0")];
    assert_row(&attention, "attention", &pair, &golden.attention);
    assert_row(&attention, "heads", &[("head", "L1.H0")], &golden.heads);
}

#[test]
fn random_sets_have_as_many_neurons_in_each_layer() {
    let found = figures("ablation.yaml", |spec| {
        few(spec);
        let ablation = spec.ablation.as_mut().unwrap();
        (ablation.controls, ablation.replacement) = (2, Replacement::Mean);
    });
    let neurons = column(&found, "ablation", "neurons");
    assert_eq!(neurons, ["308", "308", "308", "103", "102", "103"]);
    let loss = |row: usize| column(&found, "ablation", "loss")[row].parse::<f64>().unwrap();
    assert!(loss(1) != loss(2), "two draws");
}

#[test]
fn a_model_beside_itself_and_beside_noise() {
    let found = figures("perturbed.yaml", |spec| {
        spec.corpus.sample = Some(1000);
        let perturbed = spec.perturbed.as_mut().unwrap();
        (perturbed.noise, perturbed.rotation, perturbed.copies) = (0.0, 0.0, 1);
    });
    // Nothing disturbed: every neuron finds itself.
    assert!((found.named["perturbed-match"][0] - 1.0).abs() < 1e-6);
    let noisy = figures("perturbed.yaml", |spec| {
        spec.corpus.sample = Some(1000);
        let perturbed = spec.perturbed.as_mut().unwrap();
        (perturbed.noise, perturbed.rotation, perturbed.copies) = (0.75, 0.0, 1);
    });
    // ρ of v with v + 0.75 sd ε is 1 / √(1 + 0.75²) = 0.8.
    assert!((noisy.named["perturbed-match"][0] - 0.8).abs() < 0.02);
}

#[test]
fn neurons_fire_before_what_they_promote() {
    let found = figures("prediction.yaml", |spec| spec.corpus.sample = Some(4000));
    let kinds = column(&found, "prediction", "kind");
    assert!(kinds.contains(&"prediction") && kinds.contains(&"suppression"));
    let shown = column(&found, "prediction", "tokens");
    assert!(shown.iter().all(|tokens| tokens.matches('"').count() >= 10), "{shown:?}");
    assert!(found.named["prediction-fires"][0].is_finite());
}

#[test]
fn a_section_belongs_to_its_kind() {
    let folder = TempDir::new().unwrap();
    let base = std::fs::read_to_string(path("experiments/desk-universality.yaml")).unwrap();
    let base = base.replace("desk/", &format!("{}/desk/", path("experiments").display()));
    for (change, wanted) in [
        ("\nentropy: { controls: 0 }\n", "belongs to `kind: entropy`"),
        ("\nperturbed: { noise: 1 }\n", "belongs to `kind: perturbed`"),
    ] {
        std::fs::write(folder.path().join("x.yaml"), format!("{base}{change}")).unwrap();
        let done = program(folder.path(), &["validate", "x.yaml"]);
        assert_eq!(done.status.code(), Some(2));
        assert!(stderr(&done).contains(wanted), "{}", stderr(&done));
    }
    let families = base.replace("kind: universality", "kind: families");
    std::fs::write(folder.path().join("x.yaml"), families).unwrap();
    let done = program(folder.path(), &["validate", "x.yaml"]);
    assert!(stderr(&done).contains("needs a section `families`"), "{}", stderr(&done));
}
