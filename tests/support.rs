//! What several test modules need: paths, expected values, the comparator.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use crate::advice::unknown_options;
use clap::CommandFactory;
use serde::de::DeserializeOwned;
use serde_json::Value;
use universal_neurons::cli::Cli;
use universal_neurons::compare::{Tolerance, largest_difference};

/// A path in the repository.
pub fn path(relative: &str) -> PathBuf {
    // Binaries of tests that were carried to another machine are told where the files are.
    let root = std::env::var_os("CARGO_MANIFEST_DIR");
    Path::new(&root.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())).join(relative)
}

/// Reads a file of expected values.
pub fn expected<T: DeserializeOwned>(relative: &str) -> T {
    let path = path("expected").join(relative);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Compares two series value by value.
///
/// # Panics
/// If the lengths differ or a value is too far from the expected one.
pub fn assert_close(
    what: &str,
    got: impl IntoIterator<Item = f64>,
    want: &[f64],
    tolerance: Tolerance,
) {
    let got: Vec<f64> = got.into_iter().collect();
    assert_eq!(got.len(), want.len(), "{what}: another number of values");
    if let Some(worst) = largest_difference(&got, want, tolerance) {
        assert!(worst.within(), "{what}{worst}");
    }
}

/// Compares JSON trees: the same keys, texts and lengths, and numbers within
/// the tolerance. Returns every difference with its path.
pub fn differences(got: &Value, want: &Value, tolerance: Tolerance) -> Vec<String> {
    let mut found = Vec::new();
    collect_differences("", got, want, tolerance, &mut found);
    found
}

fn collect_differences(at: &str, got: &Value, want: &Value, t: Tolerance, found: &mut Vec<String>) {
    match (got, want) {
        (Value::Object(g), Value::Object(w)) if g.keys().eq(w.keys()) => {
            g.iter().for_each(|(k, g)| {
                collect_differences(&format!("{at}.{k}"), g, &w[k], t, found);
            });
        }
        (Value::Array(g), Value::Array(w)) if g.len() == w.len() => {
            for (i, (g, w)) in g.iter().zip(w).enumerate() {
                collect_differences(&format!("{at}[{i}]"), g, w, t, found);
            }
        }
        (Value::Number(g), Value::Number(w)) => {
            let value = |v: &serde_json::Number| v.as_f64().unwrap_or(f64::NAN);
            let off = largest_difference(&[value(g)], &[value(w)], t).filter(|d| !d.within());
            found.extend(off.map(|d| format!("{at}{d}")));
        }
        _ if got == want => {}
        _ => found.push(format!("{at}: got {got}, expected {want}")),
    }
}

/// The structure of a JSON tree: every path with the type of its value, items
/// of an array once.
pub fn structure(value: &Value) -> String {
    let mut text = String::new();
    write_structure("", value, &mut text);
    text
}

fn write_structure(at: &str, value: &Value, out: &mut String) {
    let name = match value {
        Value::Object(map) => {
            map.iter().for_each(|(k, v)| write_structure(&format!("{at}.{k}"), v, out));
            return;
        }
        Value::Array(items) if !items.is_empty() => {
            return write_structure(&format!("{at}[{}]", items.len()), &items[0], out);
        }
        Value::Array(_) => "empty list",
        Value::String(_) => "text",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Null => "null",
    };
    writeln!(out, "{at}: {name}").expect("write to memory");
}

/// Compares a text with `expected/snapshots/NAME.snap`.
pub fn assert_snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(path("expected/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// The program under test, run from `folder`.
pub fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_universal-neurons"));
    command.current_dir(folder).args(arguments);
    command
}

/// Runs the program to its end.
pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    program(folder, arguments).output().expect("the program starts")
}

/// What a finished program wrote to standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// Asserts that a command has every option that one of its errors names.
pub fn assert_options_exist(command: &[&str], error: &str) {
    let mut of = Cli::command();
    for name in command {
        of = of.find_subcommand(name).unwrap_or_else(|| panic!("no command {name}")).clone();
    }
    let options: Vec<&str> = of.get_arguments().filter_map(clap::Arg::get_long).collect();
    // Names of files hold dashes too, within a word.
    let words = error.split(|c: char| c.is_whitespace() || "`'\"(,;".contains(c));
    for rest in words.filter_map(|word| word.strip_prefix("--")) {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        let option = &rest[..end.unwrap_or(rest.len())];
        assert!(options.contains(&option), "{command:?} has no --{option}: {error}");
    }
}

/// Interrupts a program as Ctrl-C does; returns its exit code if it ends within two seconds.
pub fn interrupt(child: &mut Child) -> Option<i32> {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        if let Some(status) = child.try_wait().expect("a child") {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().expect("it runs still");
    child.wait().expect("it ends");
    None
}

/// Sets values of an F32 tensor in a file of safetensors.
pub fn set_f32(file: &Path, name: &str, indices: &[usize], value: f32) {
    let mut bytes = std::fs::read(file).expect("read");
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let tensors: Value = serde_json::from_slice(&bytes[8..8 + header]).expect("JSON");
    assert_eq!(tensors[name]["dtype"], "F32", "{name}");
    let start = 8 + header + tensors[name]["data_offsets"][0].as_u64().expect("number") as usize;
    for i in indices {
        bytes[start + 4 * i..][..4].copy_from_slice(&value.to_le_bytes());
    }
    std::fs::write(file, bytes).expect("write");
}

/// Words that the tiny tokenizer knows.
const WORDS: [&str; 7] =
    ["the quick", " brown fox,", " jumps", " over.", " the lazy", " dog!", "\n"];

/// Returns a corpus of documents of different lengths and beginnings.
pub fn varied_corpus(documents: usize) -> String {
    let document = |i: usize| {
        let words: String = (0..3 + i % 4).map(|j| WORDS[(i * 3 + j * j) % WORDS.len()]).collect();
        let domain = ["x", "y"][i % 2];
        serde_json::json!({"id": i.to_string(), "domain": domain, "text": words})
    };
    (0..documents).map(|i| format!("{}\n", document(i))).collect()
}

/// Returns the section of settings that a kind needs for the tiny models.
pub fn settings_of(kind: &str) -> String {
    let tests = path("experiments/families/token-tests.yaml");
    match kind {
        "ablation" => "ablation: { replacement: mean, controls: 2, seed: 1, resamples: 20 }".into(),
        "attention" => "attention: { pairs: 3, directions: 20, seed: 1 }".into(),
        "convergence" => "convergence: { tokens: [100, 150], resamples: 3, seed: 1 }".into(),
        "dynamics" => {
            "dynamics: { steps: [{ step: 1, path: '{model}' }, { step: 2, path: './{model}' }] }"
                .into()
        }
        "entropy" => "entropy: { candidates: 3, controls: 3, seed: 1, values: [0, 2] }".into(),
        "families" => format!("families: {{ path: '{}', explained: 0.37 }}", tests.display()),
        "intervention" => "intervention: { sets: [{ name: x, neurons: [L0.N3, L1.N5] }], \
             changes: [{ action: add, values: [1, 2] }, { action: mean }], heads: [L1.H0], \
             resamples: 20 }"
            .into(),
        "perturbed" => "perturbed: { copies: 2, noise: 0.3, rotation: 0.3, seed: 1 }".into(),
        "reading" => {
            "reading: { neurons: [L1.N5, L0.N3], active: [' jumps'], quiet: ['the quick', dog] }"
                .into()
        }
        "prediction" => "prediction: { kurtosis: 1, tokens: 5 }".into(),
        _ => String::new(),
    }
}

/// A folder with two tiny models, a corpus and a spec, as a user would have.
pub struct Bench(tempfile::TempDir);

/// The spec of a [`Bench`].
const SPEC: &str = "
version: 1
name: bench
kind: universality
question: Does it run?
source: none
models:
  reference: a
  family: [{ name: a, path: a }, { name: b, path: b }]
corpus: { path: corpus.jsonl, context: 12 }
correlation: { baseline: { draws: 1 } }
";

/// The corpus of a [`Bench`]: two documents.
pub const CORPUS: &str = r#"{"id": "one", "domain": "x", "text": "the quick brown fox, jumps"}
{"id": "two", "domain": "y", "text": "over. the lazy dog!\nand off it goes"}
"#;

impl Bench {
    /// A new folder, removed when it is dropped.
    pub fn new() -> Self {
        let bench = Self(tempfile::tempdir().expect("folder"));
        for (name, source) in [("a", "tiny"), ("b", "tiny-prefixed")] {
            std::fs::create_dir(bench.path().join(name)).expect("folder");
            for file in ["config.json", "model.safetensors", "tokenizer.json"] {
                let from = path("expected/golden").join(source).join(file);
                std::fs::copy(from, bench.path().join(name).join(file)).expect("copy");
            }
        }
        bench.write("spec.yaml", SPEC);
        bench.write("corpus.jsonl", CORPUS);
        bench
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file below the folder.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path().join(name), content).expect("write");
    }

    /// Replaces a text in a file, which must hold it.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.path().join(name)).expect("read");
        assert!(text.contains(from), "{name} holds no {from}");
        self.write(name, text.replace(from, to));
    }

    /// Makes the spec one of another kind.
    pub fn set_kind(&self, kind: &str, settings: &str) {
        self.edit("spec.yaml", "kind: universality", &format!("kind: {kind}\n{settings}"));
        if kind == "dynamics" {
            // Both steps of its settings are the same models.
            self.edit("spec.yaml", "reference: a", "reference: a\n  same_weights: true");
        }
    }

    /// Runs the spec, which must be refused with a message that holds all `parts`.
    pub fn refuses(&self, parts: &[&str]) {
        let output = run(self.path(), &["run", "spec.yaml"]);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{error}");
        for part in parts.iter().chain(&["error: ", "\n  help: "]) {
            assert!(error.contains(part), "no `{part}` in: {error}");
        }
        let unknown = unknown_options(&["run"], &error).join(" ");
        assert_eq!(unknown, "", "advises options that `run` lacks: {error}");
        self.assert_nothing_written();
    }

    /// Asserts that `runs/` holds nothing.
    pub fn assert_nothing_written(&self) {
        let runs = std::fs::read_dir(self.path().join("runs"));
        let left = runs.map_or(0, Iterator::count);
        assert_eq!(left, 0, "something is left in runs/");
    }
}
