//! Experiments of other kinds than universality, on the bundled models.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tempfile::TempDir;
use universal_neurons::compare::Tolerance;
use universal_neurons::findings::{Figures, Universal};
use universal_neurons::plan::Plan;
use universal_neurons::run::{Control, run_kind};
use universal_neurons::spec::Spec;

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
