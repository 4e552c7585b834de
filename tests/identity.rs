//! Runs are told apart by their models and tokens: what belongs to another run is refused, even if
//! it has the same shape.

use serde_json::Value;

use crate::support::{Bench, run, settings_of, stderr, varied_corpus};

/// Returns a folder with a run on model a in `of-a` and one on model b in `of-b`.
fn runs_on_both() -> Bench {
    let bench = Bench::new();
    let spec = std::fs::read_to_string(bench.path().join("spec.yaml")).expect("a spec");
    bench.write("b.yaml", spec.replace("reference: a", "reference: b"));
    for (spec, out) in [("spec.yaml", "of-a"), ("b.yaml", "of-b")] {
        succeeds(&bench, &["run", spec, "--quiet", "--out", out]);
    }
    bench
}

fn succeeds(bench: &Bench, arguments: &[&str]) -> String {
    let done = run(bench.path(), arguments);
    assert_eq!(done.status.code(), Some(0), "{arguments:?}: {}", stderr(&done));
    String::from_utf8(done.stdout).expect("UTF-8")
}

fn is_refused(bench: &Bench, arguments: &[&str], parts: &[&str]) {
    let refused = run(bench.path(), arguments);
    let error = stderr(&refused);
    assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {error}");
    assert!(parts.iter().all(|part| error.contains(part)), "{arguments:?}: {error}");
}

#[test]
fn a_neuron_is_inspected_on_the_model_and_tokens_of_its_run() {
    let bench = runs_on_both();
    let inspect = |run: &str| succeeds(&bench, &["inspect", "L1.N3", "--run", run]);
    assert!(inspect("of-a").contains("L1.N3 of model a"));
    // The spec that the run recorded is read, not that of the bundled models.
    assert!(inspect("of-b").contains("L1.N3 of model b"));
    let parts = ["of-b", "`b` is not the model `a`", "weights or config differ"];
    is_refused(&bench, &["inspect", "L1.N3", "--run", "of-b", "--spec", "spec.yaml"], &parts);
    bench.edit("corpus.jsonl", "the lazy dog!", "the lazy brown fox!");
    is_refused(&bench, &["inspect", "L1.N3", "--run", "of-a"], &["of-a", "other tokens"]);
}

#[test]
fn universal_neurons_of_another_model_are_refused() {
    let bench = runs_on_both();
    let spec = std::fs::read_to_string(bench.path().join("spec.yaml")).expect("a spec");
    bench.write("other.yaml", spec.replace("kind: universality", "kind: prediction"));
    let arguments = |run| ["run", "other.yaml", "--quiet", "--out", "x", "--universal", run];
    is_refused(&bench, &arguments("of-b"), &["of-b", "`b` is not the model `a`"]);
    assert!(!bench.path().join("x").exists(), "a refused run left a folder");
    succeeds(&bench, &arguments("of-a"));
}

#[test]
fn a_comparison_begins_with_what_differs_in_the_specs() {
    let bench = runs_on_both();
    is_refused(&bench, &["compare", "of-a", "of-b"], &["of-b", "`b` has other weights than `a`"]);
    bench.edit("spec.yaml", "{ draws: 1 }", "{ draws: 2, kind: orthogonal }");
    bench.edit("spec.yaml", "name: bench", "name: renamed");
    succeeds(&bench, &["run", "spec.yaml", "--quiet", "--out", "again"]);
    let text = succeeds(&bench, &["compare", "of-a", "again"]);
    let lines: Vec<&str> = text.lines().take_while(|line| line.starts_with("differs: ")).collect();
    assert_eq!(
        lines,
        [
            "differs: correlation.baseline.draws: 1 -> 2",
            "differs: correlation.baseline.kind: \"rotation\" -> \"orthogonal\"",
        ],
        "{text}"
    );
    let same = succeeds(&bench, &["compare", "of-a", "of-a"]);
    assert!(!same.contains("differs"), "{same}");
}

/// Copies the first model of a bench to the place of the second.
fn copied() -> Bench {
    let bench = Bench::new();
    bench.write("corpus.jsonl", varied_corpus(12));
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        let to = bench.path().join("b").join(file);
        std::fs::copy(bench.path().join("a").join(file), to).expect("copy");
    }
    bench
}

#[test]
fn a_model_is_compared_with_itself_only_if_that_is_meant() {
    let bench = copied();
    bench.refuses(&["`a` and `b` have the same weights", "models.same_weights: true"]);
    bench.edit("spec.yaml", "reference: a", "reference: a\n  same_weights: true");
    let done = run(bench.path(), &["run", "spec.yaml", "--quiet"]);
    assert!(done.status.success(), "{}", stderr(&done));
    let mut table =
        csv::Reader::from_path(bench.path().join("runs/bench/neurons.csv")).expect("a table");
    let at = table.headers().expect("headers").iter().position(|c| c == "max_corr").expect("ρ");
    let best: Vec<f64> =
        table.records().map(|row| row.expect("a row")[at].parse().expect("ρ")).collect();
    assert!(best.iter().all(|rho| (rho - 1.0).abs() < 1e-5), "{best:?}");
}

#[test]
fn steps_of_training_with_the_same_weights_are_refused() {
    let bench = Bench::new();
    bench.write("corpus.jsonl", varied_corpus(12));
    bench.edit(
        "spec.yaml",
        "kind: universality",
        &format!("kind: dynamics\n{}", settings_of("dynamics")),
    );
    bench.refuses(&["model `a` has the same weights at steps 1 and 2", "dynamics.steps[].path"]);
    bench.edit("spec.yaml", "reference: a", "reference: a\n  same_weights: true");
    let done = run(bench.path(), &["run", "spec.yaml", "--quiet"]);
    assert!(done.status.success(), "{}", stderr(&done));
    let provenance = std::fs::read_to_string(bench.path().join("runs/bench/provenance.json"));
    let provenance: Value = serde_json::from_str(&provenance.expect("a file")).expect("JSON");
    let (models, files) = (&provenance["models"], &provenance["files_sha256"]);
    let named = files.as_object().expect("digests of files").iter();
    let mut of_b = named.filter(|(_, digest)| **digest == models[1]["weights_sha256"]);
    assert!(of_b.next().is_some(), "the digest of a step's weights: {files}");
}
