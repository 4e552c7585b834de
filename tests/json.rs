//! `--json`: one document on standard output, with the fields that the guide lists.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Bench, path, program, stderr};

/// Runs a command that must end with `code`, and parses all of its standard output.
fn document(bench: &Bench, code: i32, arguments: &[&str]) -> Value {
    let mut command = program(bench.path(), arguments);
    let output = command.env_remove("UNIVERSAL_NEURONS_DATA").output().expect("it starts");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!("{arguments:?}: {e}: {}", String::from_utf8_lossy(&output.stdout))
    })
}

/// The content of a file of a run.
fn file(bench: &Bench, name: &str) -> Value {
    let bytes = std::fs::read(bench.path().join(name)).expect("a file");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// Asserts that the guide's row about a command names every field of an object, and that the
/// object is not empty.
fn assert_documented(command: &str, object: &Value) {
    let guide = std::fs::read_to_string(path("src/guide/files-of-a-run.md")).expect("the guide");
    let row = guide.lines().find(|line| line.starts_with(&format!("| `{command}` |")));
    let named: BTreeSet<&str> = row.expect("a row").split('`').skip(1).step_by(2).collect();
    let fields: Vec<&String> = object.as_object().expect("an object").keys().collect();
    assert!(!fields.is_empty());
    for field in fields {
        assert!(named.contains(field.as_str()), "`{command}` does not document `{field}`");
    }
}

#[test]
fn a_run_and_a_merge_print_their_summary() {
    let bench = Bench::new();
    let printed = document(&bench, 0, &["run", "spec.yaml", "--json", "--quiet", "--out", "whole"]);
    assert_eq!(printed, file(&bench, "whole/summary.json"));
    for share in ["1/2", "2/2"] {
        let arguments = ["run", "spec.yaml", "--shard", share, "--json", "--out", "half"];
        let printed = document(&bench, 0, &arguments);
        assert_documented("run --shard", &printed);
        assert_eq!(format!("{}/{}", printed["share"], printed["shares"]), share);
        assert!(bench.path().join(printed["file"].as_str().expect("a path")).exists());
    }
    let shares = ["half.shard-1-of-2", "half.shard-2-of-2"];
    let arguments = ["merge", "spec.yaml", shares[0], shares[1], "--json", "--out", "merged"];
    assert_eq!(document(&bench, 0, &arguments), file(&bench, "merged/summary.json"));
}

#[test]
fn a_dry_run_and_a_check_print_fields_of_the_guide() {
    let bench = Bench::new();
    let cost = document(&bench, 0, &["run", "spec.yaml", "--dry-run", "--json"]);
    assert_documented("run --dry-run", &cost);
    assert_eq!((&cost["keeps"], &cost["passes"]), (&"activations".into(), &1.into()));
    assert!(cost["operations"]["forward"].as_f64().expect("a number") > 0.0, "{cost}");
    bench.assert_nothing_written();

    bench.write("broken.yaml", "version: 1\nname: broken\n");
    let found = document(&bench, 2, &["validate", "spec.yaml", "broken.yaml", "--json"]);
    let found = found.as_array().expect("a list");
    found.iter().for_each(|one| assert_documented("validate", one));
    assert_eq!((&found[0]["valid"], &found[1]["valid"]), (&true.into(), &false.into()));
    assert_eq!(found[0]["models"], serde_json::json!(["a", "b"]));
    assert!(found[1]["error"]["remedy"].is_string(), "{}", found[1]);
}

#[test]
fn commands_that_look_at_runs_print_fields_of_the_guide() {
    let bench = Bench::new();
    document(&bench, 0, &["run", "spec.yaml", "--json", "--quiet", "--out", "out"]);
    let neuron = document(&bench, 0, &["inspect", "L1.N3", "--run", "out", "--json"]);
    assert_documented("inspect", &neuron);
    assert_eq!((&neuron["neuron"], &neuron["model"]), (&"L1.N3".into(), &"a".into()));
    assert_documented("inspect", &neuron["columns"]["excess_corr"]);
    assert_documented("inspect", &neuron["partners"][0]);
    let text = ["--text", "the quick fox", "--without", "L0.N1", "--json"];
    let read = document(&bench, 0, &[&["inspect", "L1.N3", "--run", "out"], &text[..]].concat());
    let without = &read["without"];
    for object in [&read, &read["tokens"][0], without, &without["next"][0]] {
        assert_documented("inspect --text", object);
    }
    assert_eq!(neuron["card"]["neuron"], "L1.N3");

    // The best match of L1.N3 in b knows that it is one.
    let best = neuron["partners"][0]["neuron"].as_str().expect("a match");
    let of_b = ["inspect", best, "--model", "b", "--run", "out", "--json"];
    let partner = document(&bench, 0, &of_b);
    assert_documented("inspect --model", &partner);
    assert_documented("inspect --model", &partner["matched_by"][0]);
    assert_eq!((&partner["neuron"], &partner["model"]), (&best.into(), &"b".into()));
    let matched = partner["matched_by"].as_array().expect("a list");
    let found = matched.iter().find(|m| m["neuron"] == "L1.N3").expect("it is listed");
    assert_eq!(found["rho"], neuron["partners"][0]["rho"]);
    assert_eq!(partner["card"]["neuron"], best);
    let of_b = ["inspect", "L1.N3", "--model", "b", "--run", "out", "--text", "a fox", "--json"];
    assert_eq!(document(&bench, 0, &of_b)["model"], "b");

    let same = document(&bench, 0, &["compare", "out", "out", "--json"]);
    assert_documented("compare", &same);

    let ledger = document(&bench, 2, &["verify", "--json", "-"]);
    assert_documented("verify --json -", &ledger);
    assert_documented("verify --json -", &ledger["entries"][0]);
    assert_eq!(ledger["entries"][0]["verdict"], "not-run");
    assert!(!bench.path().join("-").exists(), "a file of this name was written");
}

#[test]
fn a_check_of_a_model_prints_fields_of_the_guide() {
    let bench = Bench::new();
    let model = path("expected/golden/tiny").display().to_string();
    let check = document(&bench, 0, &["check-model", &model, "--json"]);
    assert_documented("check-model", &check);
    assert_documented("check-model", &check["points"][0]);
    let columns = check["columns"].as_array().expect("columns").len();
    assert_eq!(check["points"][0]["differences"].as_array().expect("differences").len(), columns);
}
