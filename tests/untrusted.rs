//! Text of strangers in every place that a command reads: no character that a terminal or a
//! browser obeys comes out as it is, on the terminal or in a file that people look at.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;

use clap::CommandFactory;
use serde_json::{Value, json};
use universal_neurons::claims::claim::parse;
use universal_neurons::claims::{Evidences, Ledger};
use universal_neurons::cli::Cli;
use universal_neurons::printable::is_unsafe;
use universal_neurons::report::ledger::{junit, markdown};

use crate::advice::unknown_options;
use crate::support::{Bench, path, program};

/// Escape, bell, a right-to-left override and an isolate.
const HOSTILE: &str = "x\u{1b}[31m\u{7}\u{202e}y\u{2066}";
/// Files that people look at in a terminal, a browser or a program for tables.
const LOOKED_AT: [&str; 6] = ["csv", "html", "md", "svg", "txt", "xml"];
const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";

/// A folder in which all that is accepted is hostile, with two runs: a study and families.
fn hostile_bench() -> Bench {
    let bench = Bench::new();
    for model in ["a", "b"] {
        edit_json(&bench, &format!("{model}/tokenizer.json"), |file| {
            let words = file["model"]["vocab"].as_object_mut().expect("a vocabulary");
            // The letters that byte-level vocabularies have for escape and U+202E.
            for (from, to) in [("z", "\u{11b}"), ("!", "\u{e2}\u{122}\u{ae}")] {
                let id = words.remove(from).expect("a letter");
                words.insert(to.into(), id);
            }
        });
    }
    let document = |id: &str| json!({ "id": id, "domain": HOSTILE, "text": format!("{} fox\u{1b} the dog", "ab ".repeat(30)) });
    let documents = ["one", HOSTILE].map(|id| document(id).to_string());
    bench.write("corpus.jsonl", documents.join("\n") + "\n");
    let question = json!(HOSTILE).to_string();
    bench.edit("spec.yaml", "Does it run?", &question);
    bench.edit("spec.yaml", "source: none", &format!("source: {question}"));
    bench.write("tests.yaml", token_tests(HOSTILE));
    bench.write("labels.conllu", labels("one", HOSTILE));
    bench.write("families.yaml", families());
    for spec in ["spec.yaml", "families.yaml"] {
        let output = checked(&bench, &["run", spec]);
        assert_eq!(output.status.code(), Some(0), "{spec}: {}", lossy(&output.stderr));
    }
    bench
}

/// A file of token tests with a name that comes from a stranger.
fn token_tests(name: &str) -> String {
    let test = json!({ "name": name, "family": name, "matches": "[aeiou]" });
    json!({ "tests": [test] }).to_string()
}

/// Labels of all words of a sample.
fn labels(sample: &str, label: &str) -> String {
    let words = std::iter::repeat_n("ab", 30).chain(["fox\u{1b}", "the", "dog"]).enumerate();
    let node = |(i, word): (usize, &str)| {
        format!("{}\t{word}\t_\t{label}\t_\t_\t0\t{label}\t_\t_\n", i + 1)
    };
    format!("# newdoc id = {sample}\n{}\n", words.map(node).collect::<String>())
}

/// A spec of kind `families` over the study's models and text.
fn families() -> String {
    let settings = "{ path: tests.yaml, syntax: labels.conllu, support: 1, frequent: 1 }";
    format!("include: spec.yaml\nname: named\nkind: families\nfamilies: {settings}\n")
}

fn edit_json(bench: &Bench, name: &str, edit: impl FnOnce(&mut Value)) {
    let text = std::fs::read_to_string(bench.path().join(name)).expect("read");
    let mut value: Value = serde_json::from_str(&text).expect("JSON");
    edit(&mut value);
    bench.write(name, value.to_string());
}

/// Adds hostile text to every text of a JSON tree.
fn spoil(value: &mut Value) {
    match value {
        Value::String(text) => text.push_str(HOSTILE),
        Value::Array(items) => items.iter_mut().for_each(spoil),
        Value::Object(members) => members.values_mut().for_each(spoil),
        _ => {}
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asserts that a text can be looked at.
fn assert_safe(text: &str, what: &str) {
    let found = text.chars().find(|c| is_unsafe(*c) && !matches!(c, '\n' | '\t'));
    assert_eq!(found, None, "{what} holds it in: {}", text.escape_debug());
}

/// Files below a folder that people look at.
fn looked_at(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("folder");
    let paths = entries.map(|entry| entry.expect("entry").path());
    let of = |path: PathBuf| match path.is_dir() {
        true => looked_at(&path),
        false => {
            let known = path.extension().is_some_and(|e| LOOKED_AT.iter().any(|known| e == *known));
            Vec::from_iter(known.then_some(path))
        }
    };
    paths.flat_map(of).collect()
}

/// Runs a command, and checks what it printed.
fn checked(bench: &Bench, arguments: &[&str]) -> Output {
    let output = program(bench.path(), arguments)
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .env("UNIVERSAL_NEURONS_DATA", bench.path().join("published"))
        .env_remove("HF_TOKEN")
        .output()
        .expect("the program starts");
    let what = format!("{arguments:?}");
    let unknown = unknown_options(arguments, &lossy(&output.stderr)).join(" ");
    assert_eq!(unknown, "", "{what} advises options that it lacks: {}", lossy(&output.stderr));
    let code = output.status.code();
    assert!(matches!(code, Some(0..=2)), "{what}: {code:?}: {}", lossy(&output.stderr));
    assert_safe(&lossy(&output.stdout), &format!("standard output of {what}"));
    assert_safe(&lossy(&output.stderr), &format!("standard error of {what}"));
    output
}

/// Command lines of each command, with hostile arguments too.
fn command_lines(command: &str) -> Vec<Vec<&'static str>> {
    let lines: &[&[&str]] = match command {
        "run" => &[
            &["run", "spec.yaml", "--json", "--out", "again"],
            &["run", "families.yaml", "--json", "--out", "again-families"],
            &["run", "spec.yaml", "--dry-run"],
            &["run", HOSTILE],
        ],
        "merge" => &[
            &["run", "spec.yaml", "--shard", "1/1", "--out", "shared"],
            &["merge", "spec.yaml", "shared.shard-1-of-1", "--out", "shared"],
            &["merge", "spec.yaml", HOSTILE],
        ],
        "validate" => &[&["validate", "spec.yaml", "families.yaml", HOSTILE]],
        "verify" => &[
            &["verify", "--json", "v.json", "--junit", "v.xml", "--markdown", "v.md"],
            &["verify", "--run", "runs/bench", "--markdown", "w.md"],
            &["verify", "--run", "runs/bench", "--json", "-"],
            &["verify", "--tier", HOSTILE],
        ],
        "inspect" => &[
            &["inspect", "L0.N1", "--run", "runs/bench", "--spec", "spec.yaml"],
            &["inspect", "L0.N2", "--run", "runs/bench", "--spec", "spec.yaml"],
            &["inspect", "L0.N1", "--run", "runs/bench", "--spec", "spec.yaml", "--json"],
            &["inspect", HOSTILE],
            &["inspect", "L0.N1", "--spec", "spec.yaml", "--text", HOSTILE],
            &["inspect", "L0.N1", "--spec", "spec.yaml", "--file", HOSTILE],
        ],
        "activations" => &[
            &["activations", "L0.N1", "--spec", "spec.yaml"],
            &["activations", "L0.N1", "--spec", HOSTILE],
        ],
        "compare" => &[
            &["compare", "runs/bench", "runs/bench"],
            &["compare", "runs/bench", "runs/bench", "--json"],
            &["compare", "runs/bench", HOSTILE],
        ],
        "export" => &[
            &["export", "runs/bench", "--out", "tables"],
            &["export", "runs/bench", "--prediction", HOSTILE, "--out", "no-tables"],
            &["export", HOSTILE],
        ],
        "fetch" => &[
            &["fetch", "tables", "--base", "http://127.0.0.1:9/\u{1b}\u{202e}"],
            &["fetch", "model", HOSTILE, "--revision", REVISION],
            &["fetch", "model", "a/b", "--revision", REVISION, "--to", HOSTILE],
        ],
        "bench-host" => &[&["bench-host", "--floors", "floors.json"]],
        "report" => &[
            &["report", "runs/bench", "--with", "runs/named"],
            &["report", "runs/bench", "--with", HOSTILE],
        ],
        "new" => &[&["new", "entropy", HOSTILE], &["new", HOSTILE]],
        "convert" => &[&["convert", "a", "converted"], &["convert", HOSTILE, "converted-too"]],
        "check-model" => &[
            &["check-model", "a"],
            &["check-model", HOSTILE],
            &["check-model", "a", "--against", HOSTILE],
        ],
        "schema" => &[&["schema"], &["schema", HOSTILE]],
        "completions" => &[&["completions", "bash"], &["completions", HOSTILE]],
        "man" => &[&["man"]],
        _ => &[],
    };
    lines.iter().map(|line| line.to_vec()).collect()
}

#[test]
fn every_command_shows_hostile_text_safely() {
    let bench = hostile_bench();
    bench.write("floors.json", json!({ HOSTILE: HOSTILE }).to_string());
    let commands: BTreeSet<String> =
        Cli::command().get_subcommands().map(|c| c.get_name().to_owned()).collect();
    for command in &commands {
        let lines = command_lines(command);
        assert!(!lines.is_empty(), "add lines of `{command}` to command_lines");
        for line in lines {
            checked(&bench, &line);
        }
    }
    let files = looked_at(bench.path());
    for name in ["report.html", "named/families.csv", "v.xml", "v.md"] {
        assert!(files.iter().any(|file| file.ends_with(name)), "no {name} was made: {files:?}");
    }
    for file in files {
        assert_safe(&lossy(&std::fs::read(&file).expect("read")), &file.display().to_string());
    }
}

#[test]
fn what_is_refused_is_shown_safely() {
    type Change = (&'static str, &'static str, fn(&mut Value));
    let changes: [Change; 7] = [
        ("a/config.json", "an unknown field", |file| file[HOSTILE] = json!(HOSTILE)),
        ("a/config.json", "an activation", |file| file["activation_function"] = json!(HOSTILE)),
        ("a/tokenizer.json", "an unknown field", |file| file[HOSTILE] = json!(HOSTILE)),
        ("a/tokenizer.json", "a model", |file| file["model"]["type"] = json!(HOSTILE)),
        ("a/tokenizer.json", "a token", |file| file["model"]["vocab"][HOSTILE] = json!(31)),
        ("a/tokenizer.json", "a merge", |file| file["model"]["merges"] = json!([HOSTILE])),
        ("a/tokenizer.json", "an added token", |file| {
            file["added_tokens"][0]["content"] = json!(HOSTILE);
        }),
    ];
    for (name, what, change) in changes {
        let bench = Bench::new();
        edit_json(&bench, name, change);
        let output = checked(&bench, &["validate", "spec.yaml"]);
        assert_eq!(output.status.code(), Some(2), "{what} of {name} is accepted");
    }
    let key = json!(HOSTILE).to_string();
    let line = |id: &str, text: &str| json!({ "id": id, "domain": "x", "text": text }).to_string();
    let texts = [
        ("spec.yaml", format!("{key}: 1\n")),
        ("spec.yaml", format!("version: 1\nkind: {key}\n")),
        ("spec.yaml", format!("include: {key}\n")),
        ("corpus.jsonl", format!("{0}\n{0}\n", line(HOSTILE, "the fox"))),
        ("corpus.jsonl", line("one", HOSTILE)),
        ("corpus.jsonl", json!({ HOSTILE: 1 }).to_string()),
        ("tests.yaml", token_tests(HOSTILE).replace("[aeiou]", "(")),
        ("labels.conllu", labels(HOSTILE, "NOUN").replace(['\u{7}'], "")),
        ("labels.conllu", labels("one", "NOUN").replace("\tab\t", &format!("\t{HOSTILE}\t"))),
    ];
    for (name, text) in texts {
        let bench = Bench::new();
        bench.write("tests.yaml", token_tests("vowel"));
        bench.write("labels.conllu", "");
        bench.write("families.yaml", families());
        bench.write(name, &text);
        let spec = if name == "spec.yaml" { "spec.yaml" } else { "families.yaml" };
        let output = checked(&bench, &["run", spec]);
        assert_eq!(output.status.code(), Some(2), "{name} is accepted: {}", text.escape_debug());
    }
}

#[test]
fn tensors_with_hostile_names_are_shown_safely() {
    let bench = Bench::new();
    let file = bench.path().join("a/model.safetensors");
    let bytes = std::fs::read(&file).expect("read");
    let (length, rest) = bytes.split_first_chunk().expect("a length");
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: Value = serde_json::from_slice(header).expect("a header");
    let tensors = header.as_object_mut().expect("tensors");
    let tensor =
        json!({ "dtype": "F32", "shape": [1], "data_offsets": [data.len(), data.len() + 4] });
    tensors.insert(HOSTILE.into(), tensor);
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(&file, [&length, header.as_bytes(), data, &[0; 4]].concat()).expect("write");
    for command in [&["validate", "spec.yaml"][..], &["convert", "a", "converted"]] {
        let output = checked(&bench, command);
        let error = lossy(&output.stderr);
        assert!(output.status.code() == Some(0) || error.contains("\\u{202e}"), "{error}");
    }
}

#[test]
fn run_folders_with_hostile_text_are_shown_safely() {
    let bench = hostile_bench();
    let files = ["summary.json", "cards.json", "figures.json", "provenance.json"];
    let mut spoiled = 0;
    for (run, name) in ["runs/bench", "runs/named"].iter().flat_map(|run| files.map(|f| (run, f))) {
        let name = format!("{run}/{name}");
        let Ok(text) = std::fs::read_to_string(bench.path().join(&name)) else { continue };
        edit_json(&bench, &name, spoil);
        for line in [
            &["report", "runs/bench", "--with", "runs/named"][..],
            &["report", "runs/named", "--out", "named.html"],
            &["compare", "runs/bench", "runs/bench"],
            &["inspect", "L0.N1", "--run", "runs/bench", "--spec", "spec.yaml"],
            &["verify", "--run", "runs/bench", "--junit", "v.xml", "--markdown", "v.md"],
            &["run", "families.yaml", "--universal", "runs/bench", "--out", "again"],
        ] {
            checked(&bench, line);
        }
        spoiled += 1;
        for file in looked_at(bench.path()) {
            let found = lossy(&std::fs::read(&file).expect("read"));
            assert_safe(&found, &format!("{} with spoiled {name}", file.display()));
        }
        bench.write(&name, text);
    }
    assert!(spoiled >= 4, "only {spoiled} files were spoiled");
    // Names of tests and labels come back from the table of the run.
    let table = bench.path().join("runs/named/families.csv");
    let text = std::fs::read_to_string(&table).expect("families.csv");
    bench.write("runs/named/families.csv", text.replace("\\u{1b}", HOSTILE));
    checked(&bench, &["report", "runs/bench", "--with", "runs/named", "--out", "page.html"]);
    assert_safe(&lossy(&std::fs::read(bench.path().join("page.html")).expect("page")), "page");
}

#[test]
fn evidence_and_claims_with_hostile_text_are_shown_safely() {
    let bench = Bench::new();
    let known = std::fs::read_to_string(path("expected/claims/paper.yaml")).expect("claims");
    let hostile = json!(HOSTILE).to_string();
    std::fs::create_dir(bench.path().join("published")).expect("folder");
    for name in ["stanford-gpt2-small-a.universal.csv", HOSTILE] {
        bench.write(
            &format!("published/{name}"),
            format!("layer,neuron,{HOSTILE}\n0,0,{HOSTILE}\n"),
        );
    }
    checked(&bench, &["verify", "--tier", "published", "--markdown", "v.md"]);
    let (id, spoiled_id) = ("id: prevalence.small-a\n", format!("id: {hostile}\n"));
    assert!(known.contains(id));
    let spoiled = known.replace(id, &spoiled_id);
    let claims = parse("claims.yaml", &spoiled).unwrap_or_else(|e| panic!("{e}"));
    let ledger = Ledger::judge(&claims, None, &Evidences::new(None, None).expect("none"));
    let ledger = ledger.unwrap_or_else(|e| panic!("{e}"));
    assert!(
        junit(&ledger, false).contains("[31m"),
        "the claim is not in: {}",
        junit(&ledger, false)
    );
    assert_safe(&markdown(&ledger), "Markdown");
    assert_safe(&junit(&ledger, false), "JUnit");
    let error = parse(HOSTILE, &format!("{hostile}: 1")).expect_err("refused").to_string();
    assert_safe(&error, "an error of a claims file");
}
