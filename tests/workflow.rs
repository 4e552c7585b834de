//! What continuous integration relies on: the workflow, `.ci/run`, and `bench-host` as a gate; and
//! the peer that it is measured against.

use std::process::Command;

use clap::Parser;
use serde_yaml::Value;
use universal_neurons::cli::Cli;

use crate::support::{Bench, path, program, stderr};

/// Runs `bench-host` where no card can be seen, and returns its exit code and its message.
fn bench_host(floors: Option<&str>, require_gpu: bool) -> (Option<i32>, String) {
    let bench = Bench::new();
    let mut arguments = vec!["bench-host"];
    if let Some(floors) = floors {
        bench.write("floors.yaml", floors);
        arguments.extend(["--floors", "floors.yaml"]);
    }
    let mut command = program(bench.path(), &arguments);
    command.env("CUDA_VISIBLE_DEVICES", "").env_remove("REQUIRE_GPU");
    if require_gpu {
        command.env("REQUIRE_GPU", "1");
    }
    let output = command.output().expect("it starts");
    assert!(output.stdout.is_empty(), "measured before the refusal");
    (output.status.code(), stderr(&output))
}

#[test]
fn floors_that_nothing_is_compared_with_exit_2() {
    for (floors, named) in [
        ("cuda f16: { fused: 0.5 }", "--floors requires a card"),
        ("avx51: { sums: 0.5 }", "`avx51` is not a kernel"),
        ("avx512: { sum: 0.5 }", "`sum` of `avx512` is not measured"),
        ("avx512: { sums: .nan }", "`sums` is NaN"),
        ("{}", "has no floors"),
    ] {
        let (code, error) = bench_host(Some(floors), false);
        assert_eq!(code, Some(2), "{floors}: {error}");
        assert!(error.contains(named) && error.contains("help: "), "{floors}: {error}");
    }
}

#[test]
fn a_required_card_that_is_missing_exits_2() {
    let (code, error) = bench_host(None, true);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("REQUIRE_GPU=1 requires a card"), "{error}");
}

fn workflow() -> Value {
    let text = std::fs::read_to_string(path(".github/workflows/ci.yml")).expect("the workflow");
    serde_yaml::from_str(&text).expect("YAML")
}

/// The steps of a job.
fn steps(workflow: &Value, job: &str) -> Vec<Value> {
    workflow["jobs"][job]["steps"].as_sequence().expect("steps").clone()
}

#[test]
fn the_workflow_pins_actions_and_forgives_no_step() {
    let workflow = workflow();
    for (job, content) in workflow["jobs"].as_mapping().expect("jobs") {
        assert!(content["timeout-minutes"].is_number(), "{job:?} may run for ever");
        for step in content["steps"].as_sequence().expect("steps") {
            assert!(step.get("continue-on-error").is_none(), "{step:?}");
            let Some(uses) = step.get("uses").and_then(Value::as_str) else { continue };
            let commit = uses.split('@').nth(1).expect("a commit");
            assert!(commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit()), "{uses}");
        }
    }
    let all = &workflow["jobs"]["all"];
    assert_eq!(all["if"], "always()");
    let needed: Vec<&str> =
        all["needs"].as_sequence().expect("jobs").iter().filter_map(Value::as_str).collect();
    let checks: Vec<String> = steps(&workflow, "all").iter().map(|s| format!("{s:?}")).collect();
    for job in workflow["jobs"].as_mapping().expect("jobs").keys().filter_map(Value::as_str) {
        let checked = || checks.iter().any(|check| check.contains(&format!("needs.{job}.result")));
        assert!(job == "all" || needed.contains(&job) && checked(), "{job} may be skipped");
    }
}

#[test]
fn the_workflow_caches_by_lock_file_and_uploads_what_it_writes() {
    let workflow = workflow();
    for job in ["cpu", "gpu"] {
        let cached = steps(&workflow, job).iter().any(|step| {
            let key = step["with"]["key"].as_str().unwrap_or_default();
            key.contains("hashFiles('Cargo.lock'")
        });
        assert!(cached, "{job}");
    }
    let steps = steps(&workflow, "cpu");
    let runs: Vec<&str> = steps.iter().filter_map(|s| s["run"].as_str()).collect();
    let written: Vec<&str> = runs.iter().flat_map(|run| run.split_whitespace()).collect();
    let upload = steps.iter().find(|s| s["with"]["if-no-files-found"] == "error").expect("upload");
    assert_eq!(upload["if"], "always()", "what explains a failure is uploaded too");
    let files: Vec<&str> = upload["with"]["path"].as_str().expect("files").lines().collect();
    assert_eq!(files.len(), 4, "ledger as JSON, JUnit and Markdown, and the report");
    for file in files {
        let made = written.contains(&file.trim_end_matches("/report.html"));
        assert!(made, "no step writes {file}");
    }
}

#[test]
fn the_commands_of_the_workflow_are_what_the_program_knows() {
    let workflow = workflow();
    let steps = ["cpu", "gpu"].map(|job| steps(&workflow, job)).concat();
    let commands: Vec<&str> = steps
        .iter()
        .filter_map(|s| s["run"].as_str()?.split_once("--locked -- "))
        .map(|(_, c)| c)
        .collect();
    assert!(commands.len() >= 4, "{commands:?}");
    for command in commands {
        let parsed = Cli::try_parse_from(std::iter::once("x").chain(command.split_whitespace()));
        assert!(parsed.is_ok(), "{command}: {}", parsed.expect_err("checked"));
    }
}

/// Runs the function `missing` of `.ci/run`, with REQUIRE_TOOLS as given.
fn missing(required: &str) -> Option<i32> {
    let script = std::fs::read_to_string(path(".ci/run")).expect("the script");
    let begin = script.find("missing() {").expect("the function");
    let end = begin + script[begin..].find("\n}").expect("its end") + 2;
    let code = format!("set -e\n{}\nmissing \"a tool\"\n", &script[begin..end]);
    let mut shell = Command::new("bash");
    shell.args(["-c", &code]).env("REQUIRE_TOOLS", required);
    shell.output().expect("bash starts").status.code()
}

#[test]
fn a_required_tool_that_is_missing_fails_the_checks() {
    assert_eq!((missing(""), missing("1")), (Some(0), Some(2)));
}

/// The script's own check: streaming sums against NumPy's `corrcoef`, and rotations.
#[test]
fn the_peer_of_the_benches_correlates() {
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", path("target/python"));
    let output = python.arg(path("benches/peer/paper.py")).arg("--check").output();
    let Ok(output) = output else { return println!("skipped: there is no python3") };
    if stderr(&output).contains("No module named 'numpy'") {
        return println!("skipped: python3 has no NumPy");
    }
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(output.stdout.starts_with(b"best correlation"));
}

#[test]
fn figures_of_the_peer_are_not_written_over() {
    let bench = Bench::new();
    let output = Command::new(path("benches/peer/compare"))
        .args(["--program", "/nowhere", "--record"])
        .arg(bench.path())
        .output();
    let Ok(output) = output else { return println!("skipped: there is no python3") };
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("name another folder") || said.contains("the load average"), "{said}");
}
