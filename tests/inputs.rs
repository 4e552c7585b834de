//! Files that a user gives: regular, read once, and the ones that were digested.

use std::path::Path;
use std::process::Command;

use universal_neurons::corpus::tokenizer::TokenizerFiles;
use universal_neurons::digest::digest;
use universal_neurons::plan::PlannedModel;

use crate::support::{Bench, run, stderr};

#[test]
fn the_digest_of_a_tokenizer_is_of_the_text_that_was_read() {
    let bench = Bench::new();
    let folder = bench.path().join("a");
    let digest_of = |folder: &Path| TokenizerFiles::read(folder).map(|f| f.digest().to_owned());
    let whole = std::fs::read(folder.join("tokenizer.json")).expect("read");
    assert_eq!(digest_of(&folder).expect("a tokenizer"), digest(&whole));
    std::fs::remove_file(folder.join("tokenizer.json")).expect("remove");
    bench.write("a/vocab.json", "{}");
    bench.write("a/merges.txt", "x");
    let two = digest_of(&folder).expect("two files");
    assert_eq!(two, digest((digest(b"{}") + &digest(b"x")).as_bytes()));
    bench.write("a/added_tokens.json", "{ }");
    assert_ne!(digest_of(&folder).expect("three files"), two, "ids depend on the third too");
}

#[test]
fn a_tokenizer_that_changes_after_it_was_digested_is_refused() {
    let bench = Bench::new();
    let model = PlannedModel::find("a", &bench.path().join("a")).expect("a model");
    model.tokenizer().unwrap_or_else(|e| panic!("{e}"));
    bench.edit("a/tokenizer.json", "\"q\"", "\"\u{11b}\"");
    let error = model.tokenizer().expect_err("another tokenizer");
    assert!(error.problem.contains("changed since the command began"), "{error}");
}

/// A spec of kind `families` with token tests and syntax labels.
fn families(bench: &Bench) {
    bench.write("tests.yaml", "tests: [{ name: vowel, family: letters, matches: '[aeiou]' }]");
    let words = ["the", "quick", "brown", "fox", ",", "jumps"].iter().enumerate();
    let node = |(i, word): (usize, &&str)| format!("{}\t{word}\t_\tX\t_\t_\t0\tx\t_\t_\n", i + 1);
    let labels: String = words.map(node).collect();
    bench.write("labels.conllu", format!("# newdoc id = one\n{labels}\n"));
    let settings = "{ path: tests.yaml, syntax: labels.conllu, support: 1 }";
    let spec = format!("include: spec.yaml\nname: named\nkind: families\nfamilies: {settings}\n");
    bench.write("families.yaml", spec);
}

#[test]
fn validate_opens_every_file_that_a_kind_reads() {
    let bench = Bench::new();
    families(&bench);
    let validated = |says: &[&str]| {
        for command in ["validate", "run"] {
            let output = run(bench.path(), &[command, "families.yaml"]);
            let error = stderr(&output);
            assert_eq!(output.status.code(), Some(if says.is_empty() { 0 } else { 2 }), "{error}");
            assert!(says.iter().all(|part| error.contains(part)), "no {says:?} in: {error}");
        }
    };
    validated(&[]);
    let provenance = std::fs::read(bench.path().join("runs/named/provenance.json")).expect("read");
    let provenance: serde_json::Value = serde_json::from_slice(&provenance).expect("JSON");
    let files = provenance["files_sha256"].as_object().expect("files");
    for name in ["labels.conllu", "tests.yaml"] {
        let digest = digest(&std::fs::read(bench.path().join(name)).expect("read"));
        assert!(files.iter().any(|(path, d)| path.ends_with(name) && *d == *digest), "{files:?}");
    }
    bench.edit("labels.conllu", "quick", "slow");
    validated(&["labels.conllu:3", "slow", "help: "]);
    families(&bench);
    bench.write("tests.yaml", "tests: [{ name: vowel, family: letters, matches: '(' }]");
    validated(&["tests.yaml", "vowel", "help: "]);
    for name in ["labels.conllu", "tests.yaml"] {
        families(&bench);
        std::fs::remove_file(bench.path().join(name)).expect("remove");
        let made = Command::new("mkfifo").arg(bench.path().join(name)).status().expect("mkfifo");
        assert!(made.success());
        validated(&[name, "pipe or a device", "help: "]);
        std::fs::remove_file(bench.path().join(name)).expect("remove");
    }
}

#[test]
fn tables_of_a_run_that_are_pipes_do_not_hang() {
    let bench = Bench::new();
    assert!(run(bench.path(), &["run", "spec.yaml", "--quiet"]).status.success());
    for name in ["neurons.csv", "neurons-extra.csv", "summary.json", "correlations.json"] {
        let file = bench.path().join("runs/bench").join(name);
        let kept = std::fs::read(&file).expect("a file of the run");
        std::fs::remove_file(&file).expect("remove");
        assert!(Command::new("mkfifo").arg(&file).status().expect("mkfifo").success());
        for line in [
            &["report", "runs/bench"][..],
            &["compare", "runs/bench", "runs/bench"],
            &["verify", "--run", "runs/bench"],
        ] {
            let output = run(bench.path(), line);
            let error = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{name}, {line:?}: {error}");
            assert!(error.contains(name) && error.contains("help: "), "{error}");
        }
        std::fs::remove_file(&file).expect("remove");
        std::fs::write(&file, kept).expect("write");
    }
}

/// A text is read only if it has the digest that the spec gives, if it gives one.
#[test]
fn a_text_with_another_digest_is_refused() {
    let bench = Bench::new();
    let digest = universal_neurons::digest::digest(crate::support::CORPUS.as_bytes());
    bench.edit("spec.yaml", "corpus: {", &format!("corpus: {{ sha256: {digest}, "));
    let output = run(bench.path(), &["run", "spec.yaml", "--quiet", "--out", "out"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    bench.write("corpus.jsonl", crate::support::CORPUS.replace("quick", "quack"));
    bench.refuses(&["corpus.jsonl", "has the SHA-256", &digest]);
}
