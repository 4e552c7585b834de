//! `export`: the tables of a run as the authors published theirs.

use std::path::{Path, PathBuf};

use universal_neurons::claims::prediction_table::read_labels;
use universal_neurons::record::{
    PREDICTION_COLUMNS, Sheet, StudyRecord, neurons, population_columns,
};
use universal_neurons::table::Column;

use crate::support::{Bench, run, stderr};

/// A bench with a run of the study and one of prediction neurons. So small a model has universal
/// neurons and prediction neurons only with low thresholds.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.edit("spec.yaml", "correlation: {", "correlation: { threshold: -0.05,");
    let text = std::fs::read_to_string(bench.path().join("spec.yaml")).expect("a spec");
    let text = text.replace("name: bench", "name: roles").replace("universality", "prediction");
    bench.write("roles.yaml", text + "prediction: { kurtosis: 2.0 }\n");
    succeed(&bench, &["run", "spec.yaml", "--quiet"]);
    succeed(&bench, &["run", "roles.yaml", "--quiet", "--universal", "runs/bench"]);
    bench
}

fn succeed(bench: &Bench, arguments: &[&str]) -> String {
    let output = run(bench.path(), arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

const EXPORT: [&str; 6] = ["export", "runs/bench", "--prediction", "runs/roles", "--out", "tables"];

#[test]
fn an_export_read_back_has_the_numbers_of_the_run() {
    let bench = bench();
    let shown = succeed(&bench, &EXPORT);
    assert!(shown.contains("80 rows in tables/neuron_dfs.csv"), "{shown}");
    let study = StudyRecord::read(&bench.path().join("runs/bench")).expect("a run");
    let tables = bench.path().join("tables");
    let read = |name: &str, columns: &[&str]| {
        Sheet::read(&tables.join(name), columns, study.layout).expect("a published table")
    };
    let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let all = read("neuron_dfs.csv", &population_columns());
    let universal = read("universal.csv", &neurons::columns());
    let chosen: Vec<usize> = (0..80).filter(|&row| study.universal()[row]).collect();
    assert!(!chosen.is_empty() && chosen.len() < 80, "{} universal neurons", chosen.len());
    for column in Column::ALL {
        let values = study.column(*column);
        let of_chosen: Vec<f64> = chosen.iter().map(|&row| values[row]).collect();
        let read = universal.column(column.name()).expect("a column");
        assert_eq!(bits(read), bits(&of_chosen), "{}", column.name());
        if let Some(read) = all.column(column.name()) {
            assert_eq!(bits(read), bits(values), "{}", column.name());
        }
    }
    let file = tables.join("prediction_neurons.csv");
    let labels = read_labels(&file, &std::fs::read(&file).expect("a file"), study.layout);
    let labels = labels.expect("the authors' table of prediction neurons");
    let found = std::fs::read_to_string(bench.path().join("runs/roles/prediction.csv"));
    let found = found.expect("a table");
    let count = |role: &str| found.lines().filter(|l| l.contains(&format!(",{role},"))).count();
    let suppressing = labels.iter().filter(|label| label.suppresses).count();
    assert_eq!(suppressing, count("suppression"));
    assert_eq!(labels.len() - suppressing, count("prediction"));
    assert!(labels.len() > 2 && labels.iter().all(|label| label.feature.is_empty()));
}

/// What Python reads a column of cells as.
fn kind_of<'a>(cells: impl Iterator<Item = &'a String>) -> &'static str {
    let cells: Vec<&String> = cells.filter(|cell| !cell.is_empty()).collect();
    match () {
        () if cells.iter().all(|c| c.parse::<u32>().is_ok()) => "whole numbers",
        () if cells.iter().all(|c| c.parse::<f64>().is_ok()) => "numbers",
        () if cells.iter().all(|c| ["True", "False"].contains(&c.as_str())) => "booleans",
        () => "text",
    }
}

/// Header and kinds of columns of a CSV file.
fn form(path: &Path) -> Vec<(String, &'static str)> {
    let mut reader = csv::Reader::from_path(path).expect("a table");
    let header: Vec<String> =
        reader.headers().expect("a header").iter().map(String::from).collect();
    let rows: Vec<Vec<String>> = reader
        .records()
        .map(|record| record.expect("a row").iter().map(String::from).collect())
        .collect();
    let kind = |column: usize| kind_of(rows.iter().map(|row| &row[column]));
    header.iter().enumerate().map(|(i, name)| (name.clone(), kind(i))).collect()
}

#[test]
fn exports_have_the_form_of_the_authors_tables() {
    let Some(data) = std::env::var_os("UNIVERSAL_NEURONS_DATA").map(PathBuf::from) else {
        println!("skipped: UNIVERSAL_NEURONS_DATA names no folder with the authors' tables");
        return;
    };
    let bench = bench();
    succeed(&bench, &EXPORT);
    for (own, authors) in [
        ("universal.csv", "stanford-gpt2-small-a.universal.csv"),
        ("universal.csv", "pythia-160m.universal.csv"),
        ("neuron_dfs.csv", "stanford-gpt2-small-a.sub_gaussian_activation_kurtosis.csv"),
        ("prediction_neurons.csv", "stanford-gpt2-medium-a.prediction_neurons.csv"),
    ] {
        let authors = data.join(authors);
        if !authors.exists() {
            println!("skipped: there is no {}", authors.display());
            continue;
        }
        let (own, authors) = (form(&bench.path().join("tables").join(own)), form(&authors));
        let names = |form: &[(String, &str)]| form.iter().map(|c| c.0.clone()).collect::<Vec<_>>();
        assert_eq!(names(&own), names(&authors));
        for (own, authors) in own.iter().zip(&authors).filter(|(own, _)| own.0 != "feature") {
            assert_eq!(own, authors);
        }
    }
}

#[test]
fn an_export_that_cannot_be_made_leaves_nothing() {
    let bench = bench();
    assert_eq!(PREDICTION_COLUMNS.len(), 4);
    std::fs::create_dir(bench.path().join("kept")).expect("folder");
    bench.write("kept/thesis.tex", "years of work");
    for (arguments, problem) in [
        (&["export", "runs/roles", "--out", "tables"][..], "is not a run of `kind: universality`"),
        (&["export", "nowhere", "--out", "tables"], "nowhere"),
        (
            &["export", "runs/bench", "--prediction", "runs/bench", "--out", "tables"],
            "`kind: prediction`",
        ),
        (&["export", "runs/bench", "--out", "kept"], "already exists"),
    ] {
        let output = run(bench.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(problem), "{}", stderr(&output));
        assert!(!bench.path().join("tables").exists(), "{arguments:?}");
    }
    assert!(bench.path().join("kept/thesis.tex").exists());
    succeed(&bench, &["export", "runs/bench", "--out", "tables"]);
    assert!(!bench.path().join("tables/prediction_neurons.csv").exists());
}
