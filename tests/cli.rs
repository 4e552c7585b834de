//! The program as a user meets it: exit codes, errors, and what lies on disk afterwards.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::device::{CONTEXT, Shape, family_of};
use crate::hub::{Fault, Server};
use crate::support::{Bench, CORPUS, path, program, run, stderr};

#[test]
fn a_run_writes_its_files_and_exits_0() {
    let bench = Bench::new();
    let output = run(bench.path(), &["run", "spec.yaml", "--quiet"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "", "--quiet shows no progress");
    let folder = bench.path().join("runs/bench");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("folder")
        .map(|e| e.expect("entry").file_name().into_string().expect("name"))
        .collect();
    files.sort();
    assert_eq!(
        files,
        [
            "cards.json",
            "correlations.json",
            "correlations.safetensors",
            "figures",
            "neurons-extra.csv",
            "neurons.csv",
            "neurons.parquet",
            "provenance.json",
            "report.html",
            "summary.json"
        ]
    );
    let rows = |name| std::fs::read_to_string(folder.join(name)).expect("table").lines().count();
    assert_eq!(
        (rows("neurons.csv"), rows("neurons-extra.csv")),
        (81, 81),
        "a header and 80 neurons"
    );
    let page = std::fs::read_to_string(folder.join("report.html")).expect("a page");
    assert!(page.contains("No claim of the papers is about models of this shape"));
    assert!(!page.contains("id=\"ledger\""), "a ledger without claims");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains("model a against b") && text.contains("by layer"), "{text}");
}

#[test]
fn a_run_replaces_an_earlier_one_and_nothing_else() {
    let bench = Bench::new();
    for _ in 0..2 {
        assert!(run(bench.path(), &["run", "spec.yaml", "--out", "kept"]).status.success());
    }
    bench.write("a/thesis.tex", "years of work");
    let output = run(bench.path(), &["run", "spec.yaml", "--out", "a"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(bench.path().join("a/thesis.tex").exists(), "a folder of the user was replaced");
}

#[test]
fn validate_and_schema_tell_without_running() {
    let bench = Bench::new();
    let output = run(bench.path(), &["validate", "spec.yaml"]);
    assert!(output.status.success() && output.stdout.starts_with(b"spec.yaml: valid"));
    bench.assert_nothing_written();
    let schema = run(bench.path(), &["schema"]).stdout;
    let schema: serde_json::Value = serde_json::from_slice(&schema).expect("JSON");
    assert!(schema["properties"]["include"].is_object());
}

#[test]
fn unknown_options_and_missing_specs_exit_2() {
    let bench = Bench::new();
    for arguments in [&["--frobnicate"][..], &["validate"], &["run", "--threads", "0"]] {
        assert_eq!(run(bench.path(), arguments).status.code(), Some(2), "{arguments:?}");
    }
    let output = run(bench.path(), &[]);
    assert_eq!(output.status.code(), Some(2), "no bundled experiment in this folder");
    assert!(stderr(&output).contains("experiments/desk-universality.yaml"));
}

#[test]
fn a_dry_run_tells_the_cost_and_writes_nothing() {
    let bench = Bench::new();
    let output = run(bench.path(), &["run", "spec.yaml", "--dry-run"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(
        output.status.success() && text.contains("operations") && text.contains("GiB"),
        "{text}"
    );
    bench.assert_nothing_written();
}

#[test]
fn a_run_over_its_memory_budget_is_refused() {
    let bench = Bench::new();
    bench.edit("spec.yaml", "corpus:", "batch: { memory_gib: 0.0001 }\ncorpus:");
    bench.refuses(&["`batch.memory_gib` is 0.0001", "needs"]);
}

#[test]
fn a_missing_model_is_named() {
    let bench = Bench::new();
    std::fs::remove_dir_all(bench.path().join("b")).expect("remove");
    bench.refuses(&["model `b` does not exist", "models.family"]);
}

#[test]
fn missing_files_of_a_model_are_named() {
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        let bench = Bench::new();
        std::fs::remove_file(bench.path().join("b").join(file)).expect("remove");
        bench.refuses(&[&format!("b/{file}")]);
    }
}

#[test]
fn a_truncated_weight_file_is_refused() {
    let bench = Bench::new();
    let whole = std::fs::read(bench.path().join("b/model.safetensors")).expect("read");
    for length in [7, 400, whole.len() - 1] {
        bench.write("b/model.safetensors", &whole[..length]);
        bench.refuses(&["b/model.safetensors", "whole safetensors file"]);
    }
    bench.write("b/model.safetensors", []);
    bench.refuses(&["b/model.safetensors", "is empty"]);
}

#[test]
fn a_tensor_of_another_shape_is_named() {
    let bench = Bench::new();
    bench.edit("b/config.json", "\"n_inner\": 40", "\"n_inner\": 48");
    bench.refuses(&["h.0.mlp.c_fc.weight", "[16, 40]", "[16, 48]"]);
}

#[test]
fn a_missing_and_an_extra_tensor_are_named() {
    let bench = Bench::new();
    bench.edit("b/config.json", "\"n_layer\": 2", "\"n_layer\": 3");
    bench.refuses(&["b/model.safetensors", "`h.2.ln_1.weight`", "missing"]);
    bench.edit("b/config.json", "\"n_layer\": 3", "\"n_layer\": 1");
    bench.refuses(&["h.1.", "not part of this model"]);
}

#[test]
fn a_tokenizer_of_another_size_is_refused() {
    let bench = Bench::new();
    bench.edit("a/tokenizer.json", "\"!\": 30", "\"!\": 30, \"?\": 32");
    bench.refuses(&["a/tokenizer.json", "33 tokens", "32"]);
}

#[test]
fn models_of_two_vocabularies_are_refused() {
    let bench = Bench::new();
    bench.edit("b/tokenizer.json", "\"!\": 30", "\"?\": 30");
    bench.refuses(&["model `b` has another vocabulary than `a`"]);
}

#[test]
fn a_damaged_corpus_is_refused_with_its_line() {
    let bench = Bench::new();
    bench.write("corpus.jsonl", "");
    bench.refuses(&["corpus.jsonl", "is empty"]);
    bench.write("corpus.jsonl", [CORPUS.as_bytes(), b"{\"id\": \"\xff\"}\n"].concat());
    bench.refuses(&["corpus.jsonl:3", "UTF-8"]);
    let long =
        format!("{{\"id\": \"l\", \"domain\": \"x\", \"text\": \"{}\"}}", "a".repeat(17 << 20));
    bench.write("corpus.jsonl", long);
    bench.refuses(&["corpus.jsonl:1", "over 16 MiB"]);
}

#[test]
fn a_context_beyond_the_models_is_refused() {
    let bench = Bench::new();
    bench.edit("spec.yaml", "context: 12", "context: 13");
    bench.refuses(&["`corpus.context` is 13", "at most 12"]);
}

#[test]
fn weights_that_are_not_numbers_are_counted_and_named() {
    let bench = Bench::new();
    let mut bytes = std::fs::read(bench.path().join("a/model.safetensors")).expect("read");
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let index: serde_json::Value = serde_json::from_slice(&bytes[8..header]).expect("JSON");
    let offset = &index["h.1.mlp.c_fc.bias"]["data_offsets"][0];
    let start = header + offset.as_u64().expect("offset") as usize + 4 * 5;
    bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    bench.write("a/model.safetensors", bytes);
    let output = run(bench.path(), &["run", "spec.yaml", "--quiet"]);
    let error = stderr(&output);
    assert!(output.status.success(), "{error}");
    let tensor = "tensor `h.1.mlp.c_fc.bias` holds 1 value";
    assert!(error.contains("warning: model `a`: ") && error.contains(tensor), "{error}");
    let json = |name: &str| -> serde_json::Value {
        let file = bench.path().join("runs/bench").join(name);
        serde_json::from_slice(&std::fs::read(file).expect("a file")).expect("JSON")
    };
    let models = &json("provenance.json")["models"];
    assert!(models[0]["non_finite"][0].as_str().expect("a tensor").starts_with(tensor));
    assert!(models[1].get("non_finite").is_none(), "{models}");
    let summary = json("summary.json");
    assert_eq!(summary["non_finite"], serde_json::json!(["L1.N5"]));
    let table =
        std::fs::read_to_string(bench.path().join("runs/bench/neurons.csv")).expect("table");
    assert!(!table.contains("NaN") && table.contains("\n1,5,,,,,,,"), "{table}");
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_is_refused_before_the_run() {
    let bench = Bench::new();
    bench.write("file", "not a folder");
    let output = run(bench.path(), &["run", "spec.yaml", "--out", "file/out"]);
    assert_eq!(output.status.code(), Some(2));
    let error = stderr(&output);
    assert!(error.contains("file") && !error.contains("reading tokens"), "{error}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("folder");
    let spec = path("experiments/desk-universality.yaml");
    let out = folder.path().join("runs/interrupted");
    let arguments = ["run", spec.to_str().expect("path"), "--out", out.to_str().expect("path")];
    let mut child =
        program(folder.path(), &arguments).stderr(Stdio::piped()).spawn().expect("starts");
    let mut lines =
        BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("reading tokens")), "the run never read tokens");
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
    assert_eq!(child.wait().expect("ends").code(), Some(2));
    assert!(lines.any(|line| line.contains("interrupted")), "no word of the interrupt");
    let left = std::fs::read_dir(folder.path().join("runs")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "something is left behind");
}

#[cfg(unix)]
#[test]
fn a_killed_run_goes_on_to_the_same_bits() {
    let folder = tempfile::tempdir().expect("folder");
    // Checkpoints of this size take long enough to write that the run is killed before its end.
    let shape = Shape { layers: 2, heads: 2, d_model: 32, d_mlp: 520, context: CONTEXT };
    family_of(folder.path(), shape);
    let spec = "include: tiny.yaml\nname: killed\n\
                models: { family: [{ name: a, path: a }, { name: b, path: b }] }\n\
                corpus: { limit: 240 }\ncorrelation: { baseline: { draws: 1 } }\n";
    std::fs::write(folder.path().join("spec.yaml"), spec).expect("write");
    let table = |out: &str| std::fs::read(folder.path().join(out).join("neurons.csv"));
    let arguments = ["run", "spec.yaml", "--quiet", "--out"];
    assert!(run(folder.path(), &[&arguments[..], &["whole"]].concat()).status.success());

    let killed = [&arguments[..], &["killed", "--checkpoint", "0"]].concat();
    let mut child = program(folder.path(), &killed).spawn().expect("starts");
    let checkpoint = folder.path().join("killed.checkpoint");
    while !checkpoint.exists() {
        assert!(child.try_wait().expect("runs").is_none(), "it ended without a checkpoint");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(table("killed").is_err(), "a killed run left a table");

    let resumed = [&arguments[..], &["killed", "--resume"]].concat();
    let output = run(folder.path(), &resumed);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(table("killed").expect("a table"), table("whole").expect("a table"));
    assert!(!checkpoint.exists(), "the checkpoint of a run that ended is left");
    let output = run(folder.path(), &resumed);
    assert_eq!(output.status.code(), Some(2), "there is nothing to resume from");
}

#[test]
fn two_runs_are_compared() {
    let bench = Bench::new();
    let first = run(bench.path(), &["run", "spec.yaml", "--quiet", "--out", "first"]);
    assert!(first.status.success(), "{}", stderr(&first));
    bench.edit("spec.yaml", "draws: 1", "draws: 2");
    let second = run(bench.path(), &["run", "spec.yaml", "--quiet", "--out", "second"]);
    assert!(second.status.success(), "{}", stderr(&second));
    let text = |arguments: &[&str]| {
        let done = run(bench.path(), arguments);
        assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
        String::from_utf8(done.stdout).expect("UTF-8")
    };
    let same = text(&["compare", "first", "first"]);
    assert!(same.contains("no value of the table moved"), "{same}");
    assert!(same.contains("entered the universal set: 0 neurons"), "{same}");
    assert!(same.contains("no claim can be judged on models of this shape"), "{same}");
    let moved = text(&["compare", "first", "second"]);
    assert!(moved.contains("mean_baseline") && !moved.contains("max_corr "), "{moved}");
    let json: serde_json::Value =
        serde_json::from_str(&text(&["compare", "first", "second", "--json"])).expect("JSON");
    assert!(json["largest"].as_array().is_some_and(|moved| !moved.is_empty()));
    let missing = run(bench.path(), &["compare", "first", "nowhere"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("nowhere/summary.json"), "{}", stderr(&missing));
}

#[test]
fn a_neuron_is_shown() {
    let bench = Bench::new();
    let done = run(bench.path(), &["run", "spec.yaml", "--quiet", "--out", "out"]);
    assert!(done.status.success(), "{}", stderr(&done));
    for name in ["L1.N3", "L1.3", "1.3"] {
        let arguments = ["inspect", name, "--run", "out", "--spec", "spec.yaml"];
        let shown = run(bench.path(), &arguments);
        assert!(shown.status.success(), "{}", stderr(&shown));
        let text = String::from_utf8(shown.stdout).expect("UTF-8");
        for part in ["L1.N3 of model a", "excess_corr", "best partner", "promotes", "most active"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    for (name, why) in
        [("L9.N3", "the model has"), ("three", "is not a neuron"), ("L-1.N3", "is not a neuron")]
    {
        let arguments = ["inspect", name, "--run", "out", "--spec", "spec.yaml"];
        let refused = run(bench.path(), &arguments);
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains(why), "{}", stderr(&refused));
    }
}

#[test]
fn a_run_opens_no_socket() {
    let bench = Bench::new();
    let trace = bench.path().join("trace");
    let calls = |arguments: &[&str]| -> Option<String> {
        let mut command = std::process::Command::new("strace");
        command.args(["-f", "-e", "trace=socket,connect", "-o"]).arg(&trace);
        command.arg(env!("CARGO_BIN_EXE_universal-neurons")).args(arguments);
        command.current_dir(bench.path()).output().ok()?;
        std::fs::read_to_string(&trace).ok()
    };
    let Some(run) = calls(&["run", "spec.yaml", "--quiet"]).filter(|t| t.contains("exited")) else {
        println!("skipped: there is no strace that works here");
        return;
    };
    assert!(bench.path().join("runs/bench/summary.json").exists(), "it ran");
    assert!(!run.contains("socket(") && !run.contains("connect("), "{run}");
    // The one command that does open sockets shows that they would be seen.
    let server = Server::of_models(&[], Fault::Refuses("403 Forbidden"));
    let fetch = calls(&["fetch", "tables", "--base", &server.address]).unwrap_or_default();
    assert!(fetch.contains("socket(") && fetch.contains("connect("), "{fetch}");
}

#[test]
fn tokens_are_kept_on_disk_and_found_again() {
    let bench = Bench::new();
    let cache = bench.path().join("cache");
    let text = |arguments: &[&str]| {
        let mut command = program(bench.path(), arguments);
        let output = command.env("UNIVERSAL_NEURONS_CACHE", &cache).output().expect("it starts");
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let kept = || std::fs::read_dir(&cache).map_or(0, Iterator::count);
    let first = text(&["validate", "spec.yaml"]);
    assert_eq!(kept(), 1);
    assert_eq!(text(&["validate", "spec.yaml"]), first);
    assert_eq!(kept(), 1, "the same text is not kept twice");
    text(&["run", "spec.yaml", "--quiet"]);
    let with = std::fs::read(bench.path().join("runs/bench/neurons.csv")).expect("table");
    assert!(run(bench.path(), &["run", "spec.yaml", "--quiet"]).status.success());
    let without = std::fs::read(bench.path().join("runs/bench/neurons.csv")).expect("table");
    assert!(with == without, "a cache changes no number");
    bench.edit("corpus.jsonl", "lazy", "idle");
    text(&["validate", "spec.yaml"]);
    assert_eq!(kept(), 2, "another text, another cache");
    let file = std::fs::read_dir(&cache).expect("folder").next().expect("one").expect("entry");
    std::fs::write(file.path(), "damaged").expect("write");
    let other = std::fs::read_dir(&cache).expect("folder").nth(1).expect("two").expect("entry");
    std::fs::write(other.path(), "damaged").expect("write");
    let validate = || {
        let mut command = program(bench.path(), &["validate", "spec.yaml"]);
        command.env("UNIVERSAL_NEURONS_CACHE", &cache).output().expect("it starts")
    };
    let remade = validate();
    assert!(remade.status.success(), "{}", stderr(&remade));
    assert!(stderr(&remade).contains("kept tokens are damaged"), "{}", stderr(&remade));
    assert!(!stderr(&validate()).contains("damaged"), "the cache was made again");
}
