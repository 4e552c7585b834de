//! Models with neurons that have no correlation: constant ones, and ones that are NaN or
//! infinite. A run with them ends, names them model by model, and leaves their cells empty.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support::{path, run, set_f32, stderr};

const CORPUS: &str = r#"{"id": "one", "domain": "x", "text": "the quick brown fox, jumps"}
{"id": "two", "domain": "y", "text": "over. the lazy dog!\nand off it goes"}
"#;

/// Values to set in a tensor: `(tensor, indices, value)`.
type Fault = (&'static str, Vec<usize>, f32);

/// A folder with a sound model `b`, and a model `a` of 2 layers of 40 neurons with faults.
fn bench(models: &str, faults: &[Fault]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("folder");
    let at = |name: &str| root.path().join(name);
    for (name, source) in [("a", "tiny"), ("b", "tiny-prefixed"), ("c", "tiny-prefixed")] {
        std::fs::create_dir(at(name)).expect("folder");
        for file in ["config.json", "model.safetensors", "tokenizer.json"] {
            let from = path("expected/golden").join(source).join(file);
            std::fs::copy(from, at(name).join(file)).expect("copy");
        }
    }
    for (tensor, indices, value) in faults {
        set_f32(&at("a/model.safetensors"), tensor, indices, *value);
    }
    let family = "family: [{ name: a, path: a }, { name: b, path: b }, { name: c, path: c }]";
    let spec = format!(
        "version: 1\nname: bench\nkind: universality\nquestion: Does it run?\nsource: none\n\
         models:\n  {models}\n  same_weights: true\n  {family}\n\
         corpus: {{ path: corpus.jsonl, context: 12 }}\n\
         correlation: {{ baseline: {{ draws: 1 }} }}\n"
    );
    std::fs::write(at("spec.yaml"), spec).expect("write");
    std::fs::write(at("corpus.jsonl"), CORPUS).expect("write");
    root
}

fn json(root: &Path, name: &str) -> Value {
    let text = std::fs::read_to_string(root.join("runs/bench").join(name)).expect(name);
    serde_json::from_str(&text).expect(name)
}

fn names(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).expect("a list of names")
}

/// Rows of a table: the neuron, and its cells by column.
fn rows(root: &Path, name: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let text = std::fs::read_to_string(root.join("runs/bench").join(name)).expect(name);
    let mut lines = text.lines().map(|l| l.split(',').map(String::from).collect::<Vec<_>>());
    (lines.next().expect("a header"), lines.collect())
}

/// Names of all neurons of a layer of the small models.
fn layer(l: usize) -> Vec<String> {
    (0..40).map(|n| format!("L{l}.N{n}")).collect()
}

/// What is wrong, the faults, and which neurons they make constant and not finite.
type FaultyModel = (&'static str, Vec<Fault>, Vec<String>, Vec<String>);

fn faults() -> Vec<FaultyModel> {
    let one = |name: &str| vec![name.to_owned()];
    let below = [one("L0.N3"), layer(1)].concat();
    let (weight, bias) = ("h.1.mlp.c_fc.weight", "h.1.mlp.c_fc.bias");
    let zero = ("h.0.mlp.c_fc.weight", (0..640).collect(), 0.0);
    let row = (0..16).map(|d| 40 * d + 7).collect();
    vec![
        ("a NaN weight", vec![(weight, vec![3], f32::NAN)], vec![], one("L1.N3")),
        ("an infinite bias", vec![(bias, vec![5], f32::INFINITY)], vec![], one("L1.N5")),
        ("a bias of -inf", vec![(bias, vec![39], f32::NEG_INFINITY)], vec![], one("L1.N39")),
        ("an early NaN", vec![("h.0.mlp.c_fc.bias", vec![3], f32::NAN)], vec![], below),
        ("a constant layer", vec![zero], layer(0), vec![]),
        ("a constant neuron", vec![(weight, row, 0.0)], one("L1.N7"), vec![]),
    ]
}

fn finished(root: &Path, what: &str) -> Output {
    let output = run(root, &["run", "spec.yaml", "--quiet"]);
    assert_eq!(output.status.code(), Some(0), "{what}: {}", stderr(&output));
    output
}

/// Whichever part the model with a fault plays, it is named for itself alone, in the summary,
/// on the page and on the terminal, and what the run wrote can be read.
#[test]
fn a_fault_is_named_for_its_model_wherever_it_is_in_the_family() {
    let parts =
        [("reference: a", ""), ("reference: b", ""), ("reference: b\n  also_reference: [a]", "-a")];
    for (models, suffix) in parts {
        for (what, faults, dead, non_finite) in faults() {
            let root = bench(models, &faults);
            let what = format!("{what}, {models}");
            let output = finished(root.path(), &what);
            let summary = json(root.path(), "summary.json");
            for model in summary["models"].as_array().expect("models") {
                let faulty = model["model"] == "a";
                let want = |list: &[String]| if faulty { list.to_vec() } else { Vec::new() };
                assert_eq!(names(&model["dead"]), want(&dead), "{what}: {model}");
                assert_eq!(names(&model["non_finite"]), want(&non_finite), "{what}: {model}");
                assert_eq!(model["neurons"], 80);
            }
            let own =
                if models == "reference: a" || !suffix.is_empty() { Some(suffix) } else { None };
            if let Some(suffix) = own {
                empty_cells(root.path(), suffix, &dead, &non_finite, &what);
                let own = json(root.path(), &format!("summary{suffix}.json"));
                assert_eq!(names(&own["dead"]), dead, "{what}");
                assert_eq!(names(&own["non_finite"]), non_finite, "{what}");
            } else {
                assert!(
                    names(&summary["dead"]).is_empty() && names(&summary["non_finite"]).is_empty()
                );
            }
            let page = root.path().join("runs/bench/report.html");
            let page = std::fs::read_to_string(page).expect("a page");
            let printed = String::from_utf8(output.stdout).expect("UTF-8");
            let said = if dead.is_empty() {
                format!("{} not finite", non_finite.len())
            } else {
                format!("{} never vary", dead.len())
            };
            assert!(page.contains(&said) && page.contains("They have no correlation"), "{what}");
            assert!(
                printed.contains(&format!("model a: of 80 neurons {said}")),
                "{what}: {printed}"
            );
            for again in [vec!["report", "runs/bench"], vec!["compare", "runs/bench", "runs/bench"]]
            {
                let output = run(root.path(), &again);
                assert_eq!(output.status.code(), Some(0), "{what}: {}", stderr(&output));
            }
            let neuron = dead.iter().chain(&non_finite).next().expect("a neuron");
            let shown = run(
                root.path(),
                &["inspect", neuron, "--run", "runs/bench", "--spec", "spec.yaml"],
            );
            assert_eq!(shown.status.code(), Some(0), "{what}: {}", stderr(&shown));
        }
    }
}

/// Cells of neurons without a correlation are empty; a constant has a mean, and a neuron that
/// is not finite has no statistic.
fn empty_cells(root: &Path, suffix: &str, dead: &[String], non_finite: &[String], what: &str) {
    let (header, table) = rows(root, &format!("neurons{suffix}.csv"));
    assert_eq!(table.len(), 80);
    let correlations = ["max_corr", "mean_corr", "min_corr", "mean_baseline", "excess_corr"];
    let statistics = ["mean", "var", "skew", "kurt", "sparsity"];
    for row in table {
        let id = format!("L{}.N{}", row[0], row[1]);
        let cell = |column: &str| &row[header.iter().position(|h| h == column).expect(column)];
        let no_correlation = dead.contains(&id) || non_finite.contains(&id);
        for column in correlations {
            assert_eq!(cell(column).is_empty(), no_correlation, "{what}: {id} {column}");
        }
        for column in statistics {
            assert_eq!(cell(column).is_empty(), non_finite.contains(&id), "{what}: {id} {column}");
        }
        assert!(row.iter().all(|c| !c.contains(['N', 'i'])), "{what}: {row:?}");
    }
    let (header, extra) = rows(root, &format!("neurons-extra{suffix}.csv"));
    for row in extra {
        let id = format!("L{}.N{}", row[0], row[1]);
        let cell = |column: &str| &row[header.iter().position(|h| h == column).expect(column)];
        assert_eq!(cell("dead") == "true", dead.contains(&id), "{what}: {id}");
        assert_eq!(cell("non_finite") == "true", non_finite.contains(&id), "{what}: {id}");
        assert_eq!(cell("note_sparsity").is_empty(), non_finite.contains(&id), "{what}: {id}");
    }
}

/// Without any correlation there is nothing to judge, but what was computed is kept.
#[test]
fn a_model_without_any_correlation_is_named_and_the_run_is_kept() {
    let everything = ("wte.weight", (0..16).map(|d| 16 * 5 + d).chain(0..512).collect(), f32::NAN);
    for models in ["reference: a", "reference: b", "reference: b\n  also_reference: [a]"] {
        let root = bench(models, std::slice::from_ref(&everything));
        let output = run(root.path(), &["run", "spec.yaml", "--quiet"]);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{models}: {error}");
        for part in [
            "has a correlation with every partner",
            "model a",
            "80 are not finite",
            "runs/bench",
            "help:",
        ] {
            assert!(error.contains(part), "{models}: no `{part}` in {error}");
        }
        let summary = json(root.path(), "summary.json");
        assert_eq!(summary["models"][0]["non_finite"].as_array().map(Vec::len), Some(80));
        assert_eq!(rows(root.path(), "neurons.csv").1.len(), 80);
        let again = run(root.path(), &["report", "runs/bench"]);
        assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    }
}
