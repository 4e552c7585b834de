//! Evidence as users bring it: whole, partial and damaged tables.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde::Deserialize;
use universal_neurons::claims::claim::parse;
use universal_neurons::claims::ledger::Verdict;
use universal_neurons::claims::sources::DATA;
use universal_neurons::claims::{Evidences, Ledger, Tier, registry};
use universal_neurons::compare::Tolerance;
use universal_neurons::error::Result;
use universal_neurons::hub::{RemoteFile, blob_id};
use universal_neurons::report::ledger::{junit, markdown, text};
use universal_neurons::table::Column;

use crate::support::{assert_close, expected, program, stderr};

const MODEL: &str = "stanford-gpt2-small-a";

/// Column `c` of row `r` of the generated population (`make_golden.py`, `population`).
fn hash(r: u64, c: u64) -> f64 {
    let mixed = (r * 7919 + 104_729 * c + 12_345).wrapping_mul(2_654_435_761) % (1 << 32);
    mixed as f64 / 2f64.powi(32)
}

/// A population table of 12 layers of 3,072 neurons, as the authors' are.
fn population() -> String {
    let columns = Column::ALL.iter().filter(|c| **c != Column::ExcessCorr);
    let names: Vec<&str> = columns.map(|c| c.name()).collect();
    let mut csv = format!("layer,neuron,{}\n", names.join(","));
    for r in 0..12 * 3072 {
        let value = |name: &str| match name {
            "mean_corr" => hash(r, 0),
            "mean_baseline" => hash(r, 1) / 3.0,
            "skew" => hash(r, 2) + hash(r, 0),
            "kurt" => (hash(r, 3) * 50.0).floor(),
            "input_bias" => hash(r, 4),
            "l2_penalty" => hash(r, 5),
            "sparsity" => hash(r, 6),
            "vocab_kurt" => hash(r, 7),
            "in_out_sim" => hash(r, 8),
            "mean" => hash(r, 9),
            _ => 0.5,
        };
        write!(csv, "{},{}", r / 3072, r % 3072).expect("memory");
        names.iter().for_each(|name| write!(csv, ",{}", value(name)).expect("memory"));
        csv.push('\n');
    }
    csv
}

fn folder_with(name: &str, content: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
    std::fs::write(path, content).expect("write");
    folder
}

/// A claim about the population table, in YAML.
fn claim(id: &str, measure: &str, comparison: &str) -> String {
    format!(
        "- {{ id: {id}, statement: s, at: a, measure: {{ {measure} }}, judged: [{{ tier: population, models: [{MODEL}], {comparison}, because: b }}] }}\n"
    )
}

fn judge(folder: &Path, claims: &str) -> Ledger {
    let claims = format!("source: s\nclaims:\n{claims}");
    let evidences = Evidences::new(Some(folder.into()), None).expect("a folder");
    // These tables are not the authors', and are not said to be.
    let evidences = evidences.with_published(Vec::new());
    Ledger::judge(&parse("test", &claims).expect("well formed"), None, &evidences)
        .unwrap_or_else(|e| panic!("{e}"))
}

#[derive(Deserialize)]
struct Golden {
    universal: f64,
    /// By column: over universal neurons, over the others.
    medians: BTreeMap<String, [f64; 2]>,
}

#[test]
fn percentiles_of_a_population_agree_with_scipy() {
    let golden: Golden = expected("golden/population.json");
    let folder = folder_with(&format!("dataframes/neuron_dfs/{MODEL}.csv"), &population());
    let mut claims = claim("count", "name: universal-count", "above: 0");
    let mut want = vec![golden.universal];
    for (column, medians) in &golden.medians {
        for (of, median) in ["universal", "others"].iter().zip(medians) {
            let measure = format!("name: percentile-median, column: {column}, of: {of}");
            claims += &claim(&format!("{column}.{of}"), &measure, "above: 0");
            want.push(*median);
        }
    }
    let ledger = judge(folder.path(), &claims);
    let got = ledger.entries.iter().map(|e| e.measured[0]);
    assert_close("medians", got, &want, Tolerance::absolute(1e-9));
}

#[test]
fn neurons_with_missing_values_are_counted_and_named() {
    let table = population().replacen("\n3,7,", "\n3,7,NaN,", 1);
    let cut = table.find("\n3,7,NaN,").expect("the row") + "\n3,7,NaN,".len();
    let rest = &table[cut..];
    let table = format!("{}{}", &table[..cut], &rest[rest.find(',').expect("a cell") + 1..]);
    let folder = folder_with(&format!("{MODEL}.neuron_dfs.csv"), &table);
    let ledger = judge(folder.path(), &claim("a", "name: universal-share", "above: 0"));
    assert_eq!(
        ledger.incomplete,
        [format!("population {MODEL}: 1 neuron with missing values: L3.N7")]
    );
    assert!(text(&ledger).contains("L3.N7"));
}

#[test]
fn a_contradiction_is_confirmed_and_a_failure_is_a_failure() {
    let folder = folder_with(&format!("{MODEL}.neuron_dfs.csv"), &population());
    let claim = |id, comparison: &str| claim(id, "name: universal-count", comparison);
    let count = expected::<Golden>("golden/population.json").universal;
    let claims = [
        claim("holds", &format!("equals: {count}, within: 0.5")),
        claim("wrong", "equals: 1, within: 0.5"),
        claim("contradicted", "equals: 1, within: 0.5, contradicted: true"),
        claim("not-contradicted", &format!("equals: {count}, within: 0.5, contradicted: true")),
    ];
    let ledger = judge(folder.path(), &claims.concat());
    let verdicts: Vec<&Verdict> = ledger.entries.iter().map(|e| &e.verdict).collect();
    use Verdict::{Contradicted, Fails, Holds};
    assert_eq!(verdicts, [&Holds, &Fails, &Contradicted, &Fails]);
    assert!(ledger.fails(false));
    assert!(junit(&ledger, false).contains("tests=\"4\" failures=\"2\" skipped=\"0\""));
}

/// A failure with a recorded finding is one only if `strict`; a claim that holds although a failure
/// is recorded is one too.
#[test]
fn verdicts_are_compared_with_the_recorded_ones() {
    let folder = folder_with(&format!("{MODEL}.neuron_dfs.csv"), &population());
    let count = expected::<Golden>("golden/population.json").universal;
    let wrong = "equals: 1, within: 0.5, finding: f";
    let right = format!("equals: {count}, within: 0.5, finding: f");
    for (comparison, failure, strict_failure) in [(wrong, false, true), (&right, true, false)] {
        let ledger = judge(folder.path(), &claim("a", "name: universal-count", comparison));
        assert_eq!((ledger.fails(false), ledger.fails(true)), (failure, strict_failure));
        for (strict, failure) in [(false, failure), (true, strict_failure)] {
            let xml = junit(&ledger, strict);
            assert_eq!(xml.contains("<failure"), failure, "{xml}");
            assert!(xml.contains("s (s, a); ") && xml.contains("recorded finding: f"), "{xml}");
        }
    }
    let recorded = judge(folder.path(), &claim("a", "name: universal-count", wrong));
    assert!(text(&recorded).contains("1 fail (1 as recorded)"));
}

/// No table of this kind has a neuron with high vocabulary kurtosis, so the depth where these begin
/// is NaN. That refutes nothing, and is a failure unless it is recorded, or if `strict`.
#[test]
fn a_claim_without_a_value_is_undecided() {
    let folder = folder_with(&format!("{MODEL}.neuron_dfs.csv"), &population());
    for (comparison, failure) in [
        ("above: 0", true),
        ("above: 0, finding: f", true),
        ("above: 0, finding: f, undecided: true", false),
        ("above: 0, contradicted: true", true),
    ] {
        let ledger = judge(folder.path(), &claim("a", "name: prediction-onset", comparison));
        assert_eq!(ledger.entries[0].verdict, Verdict::Undecided, "{comparison}");
        assert_eq!((ledger.fails(false), ledger.fails(true)), (failure, true), "{comparison}");
        for (strict, failure) in [(false, failure), (true, true)] {
            let xml = junit(&ledger, strict);
            let counts = [usize::from(failure), usize::from(!failure)];
            let counts = format!("failures=\"{}\" skipped=\"{}\"", counts[0], counts[1]);
            assert!(xml.contains(&counts), "{comparison}: {xml}");
        }
        assert_eq!(ledger.missing(&["a".into()]), Ok(None), "it was run");
    }
    let holds = "above: 0, finding: f, undecided: true";
    let ledger = judge(folder.path(), &claim("a", "name: universal-count", holds));
    assert!(ledger.fails(false), "it holds, and is recorded as undecided");
}

/// What a verdict is about, and what it is worth, is shown in every form of the ledger.
#[test]
fn a_verdict_is_shown_with_what_it_is_about_and_worth() {
    let folder = folder_with(&format!("{MODEL}.neuron_dfs.csv"), &population());
    let reason = "above: 0, by_definition: the threshold";
    let measure = "name: percentile-gap, column: skew, permute: universal";
    let ledger = judge(folder.path(), &claim("a", measure, reason));
    let chance = ledger.entries[0].chance.expect("a chance");
    assert_eq!((chance.of, chance.all), (1000, false));
    assert!((400..600).contains(&chance.holds), "half of the choices lie above: {chance}");
    let json = serde_json::json!(ledger).to_string();
    for shown in [text(&ledger), markdown(&ledger), junit(&ledger, false), json] {
        assert!(shown.contains("on the authors' tables of all neurons"), "{shown}");
        assert!(shown.contains("the threshold"), "{shown}");
        assert!(shown.contains(&chance.holds.to_string()), "{shown}");
    }
}

#[test]
fn a_required_claim_that_is_not_run_is_named() {
    let folder = folder_with(&format!("{MODEL}.neuron_dfs.csv"), &population());
    let run = claim("run", "name: universal-count", "above: 0");
    let waits = claim("waits", "awaits: an experiment", "above: 0");
    let ledger = judge(folder.path(), &(run + &waits));
    let missing = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        ledger.missing(&names).map(|entry| entry.map(|e| e.id.clone()))
    };
    assert_eq!(missing(&["run"]), Ok(None));
    assert_eq!(missing(&["run", "waits"]), Ok(Some("waits".into())));
    assert_eq!(missing(&["population"]), Ok(Some("waits".into())));
    assert_eq!(missing(&["weights"]), Err("weights".into()), "no claim was judged on this tier");
    assert_eq!(missing(&["telepathy"]), Err("telepathy".into()));
}

fn universal_table(rows: &[&str]) -> String {
    let names: Vec<&str> = Column::ALL.iter().map(|c| c.name()).collect();
    let values = vec!["0.5"; names.len()].join(",");
    let row = |id: &&str| format!("{id},{values}\n");
    format!("layer,neuron,{}\n{}", names.join(","), rows.iter().map(row).collect::<String>())
}

/// Judges all claims of the published tier on this universal table.
fn judge_table(table: &str, published: Vec<RemoteFile>) -> Result<Ledger> {
    let folder = folder_with(&format!("{MODEL}.universal.csv"), table);
    let evidences = Evidences::new(Some(folder.path().into()), None).expect("a folder");
    let evidences = evidences.with_published(published);
    Ledger::judge(&registry().expect("claims"), Some(Tier::Published), &evidences)
}

#[test]
fn malformed_tables_are_refused_with_their_line() {
    let good = universal_table(&["0,1", "0,2"]);
    for (table, parts) in [
        (good.replace("max_corr", "maximum"), &["universal.csv:1", "unknown column `maximum`"]),
        (good.replace("0,2,0.5", "0,2,many"), &["universal.csv:3", "expected a number"]),
        (universal_table(&["0,1", "0,1"]), &["universal.csv:3", "comes twice"]),
        (universal_table(&["12,1"]), &["universal.csv:2", "not in a model of 12 layers"]),
        (good.replace('\n', "\r\n"), &["universal.csv", "line endings"]),
        (good[..good.len() - 9].to_string(), &["universal.csv:3", "cells, expected"]),
    ] {
        let error = judge_table(&table, Vec::new()).expect_err("refused").to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn claims_fail_on_a_sound_table_with_other_numbers() {
    let ledger = judge_table(&universal_table(&["0,1", "0,2"]), Vec::new()).expect("judged");
    assert!(ledger.fails(false));
    let text = text(&ledger);
    assert!(text.contains("fails         prevalence.small-a [published"), "{text}");
}

/// A table is judged only if it is byte for byte the one that was published.
#[test]
fn a_published_table_with_any_damage_is_refused() {
    let whole = universal_table(&["0,1", "0,2"]);
    let published = || {
        vec![RemoteFile {
            path: format!("dataframes/interpretable_neurons/{MODEL}/universal.csv"),
            size: Some(whole.len() as u64),
            blob: blob_id(whole.as_bytes()),
        }]
    };
    judge_table(&whole, published()).expect("the whole table is judged");
    for (why, table, says) in [
        (
            "a row is cut off",
            whole[..whole.rfind("0,2").expect("row")].to_owned(),
            "bytes, expected",
        ),
        ("a digit is cut off", whole[..whole.len() - 2].to_owned(), "git blob id"),
        ("converted to CRLF", whole.replace('\n', "\r\n"), "Windows line endings"),
        ("a row was added", whole.clone() + "0,3" + &",0.5".repeat(Column::ALL.len()), "blob id"),
        ("a digit differs", whole.replacen("0.5", "0.6", 1), "is not the table as published"),
        ("rows were sorted", universal_table(&["0,2", "0,1"]), "is not the table as published"),
        ("empty", String::new(), "is empty"),
        ("a web page", "<!DOCTYPE html>\n<html>404".into(), "web page"),
        ("a pointer", "version https://git-lfs.github.com/spec/v1\noid x".into(), "LFS pointer"),
    ] {
        let error = judge_table(&table, published()).expect_err(why).to_string();
        assert!(error.contains(says) && error.contains("universal.csv"), "{why}: {error}");
    }
}

#[test]
fn verify_answers_a_table_of_unknown_bytes_with_exit_code_2() {
    let table = universal_table(&["0,1", "0,2"]);
    for name in [format!("{MODEL}.universal.csv"), format!("{MODEL}.neuron_dfs.csv")] {
        let folder = folder_with(&name, &table);
        let mut command = program(folder.path(), &["verify", "--json", "ledger.json"]);
        let output = command.env("UNIVERSAL_NEURONS_DATA", folder.path()).output().expect("runs");
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{error}");
        let parts = [name.as_str(), "git blob id", "expected", "fetch tables"];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        assert!(!folder.path().join("ledger.json").exists(), "a ledger of damaged evidence");
    }
}

#[test]
fn without_evidence_nothing_is_run_and_the_reason_is_given() {
    let folder = tempfile::tempdir().expect("folder");
    let mut command = program(folder.path(), &["verify"]);
    let output = command.env_remove("UNIVERSAL_NEURONS_DATA").output().expect("runs");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("no claim was run"), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(
        text.contains("fetch tables") && text.contains("0 hold, 0 contradicted, 0 fail"),
        "{text}"
    );
    let output = command.env("UNIVERSAL_NEURONS_DATA", "/no/such/folder").output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
}

/// With the authors' six tables, no claim about them is left out, and those that their source
/// contradicts are named.
#[test]
fn the_six_published_tables_judge_every_claim_about_them() {
    let Some(data) = std::env::var_os(DATA) else {
        return println!("skipped: {DATA} names no folder with the authors' tables");
    };
    let folder = tempfile::tempdir().expect("folder");
    let verify = |more: &[&str]| {
        let mut command =
            program(folder.path(), &[&["verify", "--tier", "published"], more].concat());
        let output = command.env(DATA, &data).output().expect("runs");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let text = verify(&["--require", "published"]);
    assert!(text.contains(", 0 not run") && !text.contains("\nnot run"), "{text}");
    let claims = registry().expect("claims");
    let mut judged = 0;
    for claim in &claims {
        for judgement in claim.judged.iter().filter(|j| j.tier == Tier::Published) {
            judged += 1;
            let name = format!("{} [published {}]", claim.id, judgement.models.join(" "));
            let line = text.lines().find(|line| line.contains(&name));
            let line = line.unwrap_or_else(|| panic!("{name} is missing: {text}"));
            let verdict = match (&judgement.finding, judgement.contradicted) {
                (Some(_), _) => "fails ",
                (None, true) => "contradicted ",
                (None, false) => "holds ",
            };
            assert!(line.starts_with(verdict), "{line}");
        }
    }
    assert!(judged > 60, "{judged} judgements");
    let contradicted = text.lines().filter(|line| line.starts_with("contradicted ")).count();
    assert!(contradicted >= 3, "{text}");
    let entries: serde_json::Value = serde_json::from_str(&verify(&["--json", "-"])).expect("JSON");
    assert_eq!(entries["entries"].as_array().expect("a list").len(), judged);
}
