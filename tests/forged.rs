//! Folders of runs whose files were edited: every command that reads one refuses it in words or
//! shows it, and never panics.

use std::path::Path;
use std::sync::LazyLock;

use serde_json::{Value, json};
use universal_neurons::claims::{Claim, registry};
use universal_neurons::error::Result;
use universal_neurons::record::{RunFolder, RunResults};
use universal_neurons::report::comparison::compare;
use universal_neurons::report::{card, page};

use crate::support::{Bench, run, stderr};

/// Files of JSON that reports are made of.
const JSON: [&str; 4] = ["summary.json", "cards.json", "correlations.json", "provenance.json"];
/// What values of a file are replaced by.
fn extremes() -> [Value; 8] {
    let huge = 1_000_000_000_000_000_000_u64;
    [json!(null), json!(-1), json!(huge), json!(1e308), json!(""), json!("x"), json!([]), json!({})]
}

/// The claims, which are part of the program and not of a folder.
static CLAIMS: LazyLock<Vec<Claim>> = LazyLock::new(|| registry().expect("claims"));

/// Makes all that is made of a run's folder; the first error, if there is one.
fn shown(folder: &Path) -> Option<String> {
    let read = || -> Result<()> {
        let run = RunFolder::read(folder)?;
        universal_neurons::report::charts(&run)?;
        page::report(&run, &[], &CLAIMS, false)?;
        compare(folder, folder, &CLAIMS)?;
        if let RunResults::Study(study) = &run.results {
            let cards = study.cards.iter().flat_map(|file| &file.cards);
            cards.for_each(|it| drop(card::text(study, 0, it)));
        }
        Ok(())
    };
    read().err().map(|error| error.to_string())
}

/// Pointers to all values of a JSON tree but those beyond the second item of a list.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            pointers(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
        }),
        Value::Array(items) => items.iter().take(2).enumerate().for_each(|(i, value)| {
            pointers(value, &format!("{at}/{i}"), found);
        }),
        _ => {}
    }
}

fn run_of_a_bench() -> Bench {
    let bench = Bench::new();
    let output = run(bench.path(), &["run", "spec.yaml", "--quiet"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    bench
}

#[test]
fn a_changed_value_of_any_file_never_panics() {
    let bench = run_of_a_bench();
    let folder = bench.path().join("runs/bench");
    assert_eq!(shown(&folder), None, "the run itself is sound");
    let (mut tried, mut refused) = (0, 0);
    for file in JSON {
        let name = format!("runs/bench/{file}");
        let text = std::fs::read_to_string(bench.path().join(&name)).expect("read");
        let whole: Value = serde_json::from_str(&text).expect("JSON");
        let mut all = Vec::new();
        pointers(&whole, "", &mut all);
        for pointer in all {
            for extreme in extremes() {
                let mut changed = whole.clone();
                *changed.pointer_mut(&pointer).expect("a value") = extreme.clone();
                bench.write(&name, changed.to_string());
                let made = std::panic::catch_unwind(|| shown(&folder));
                let made = made.unwrap_or_else(|_| panic!("{file}{pointer} = {extreme} panics"));
                if let Some(error) = made {
                    assert!(error.contains("help: "), "{file}{pointer} = {extreme}: {error}");
                    refused += 1;
                }
                tried += 1;
            }
        }
        bench.write(&name, text);
    }
    println!("{tried} changed values tried, {refused} refused");
    assert!(refused > tried / 4, "only {refused} of {tried} are refused");
}

#[test]
fn a_changed_cell_or_a_cut_table_never_panics() {
    let bench = run_of_a_bench();
    let folder = bench.path().join("runs/bench");
    for file in ["neurons.csv", "neurons-extra.csv"] {
        let name = format!("runs/bench/{file}");
        let text = std::fs::read_to_string(bench.path().join(&name)).expect("read");
        let mut lines: Vec<Vec<&str>> = text.lines().map(|l| l.split(',').collect()).collect();
        for cell in 0..lines[1].len() {
            for value in ["", "-1", "1e308", "NaN", "x", "999999999999"] {
                let kept = std::mem::replace(&mut lines[1][cell], value);
                let changed: Vec<String> = lines.iter().map(|l| l.join(",")).collect();
                lines[1][cell] = kept;
                bench.write(&name, changed.join("\n") + "\n");
                let made = std::panic::catch_unwind(|| shown(&folder));
                made.unwrap_or_else(|_| panic!("{file}, cell {cell} = {value:?} panics"));
            }
        }
        let header = text.lines().next().expect("a header").len() + 1;
        for length in [0, header - 4, header, text.len() / 2, text.len() - 2] {
            bench.write(&name, &text[..length]);
            let made = std::panic::catch_unwind(|| shown(&folder));
            let made = made.unwrap_or_else(|_| panic!("{file} cut at {length} panics"));
            if length < text.len() - 2 {
                assert!(made.is_some(), "{file} cut at {length} is accepted");
            }
        }
        bench.write(&name, text);
    }
}

#[test]
fn universal_neurons_of_a_forged_run_are_refused() {
    let bench = run_of_a_bench();
    bench.edit("spec.yaml", "kind: universality", "kind: ablation");
    bench.edit("spec.yaml", "name: bench", "name: ablated");
    let text = std::fs::read_to_string(bench.path().join("runs/bench/neurons.csv")).expect("read");
    let rows: Vec<&str> = text.lines().collect();
    let swapped = [&rows[..1], &rows[2..3], &rows[1..2], &rows[3..]].concat().join("\n") + "\n";
    for forged in [swapped, rows[..rows.len() - 1].join("\n") + "\n"] {
        bench.write("runs/bench/neurons.csv", forged);
        let output = run(bench.path(), &["run", "spec.yaml", "--universal", "runs/bench"]);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("neurons.csv") && error.contains("help: "), "{error}");
    }
}
