//! What several test modules need: paths, expected values, the comparator.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::de::DeserializeOwned;
use serde_json::Value;
use universal_neurons::compare::{Tolerance, largest_difference};

/// A path in the repository.
pub fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
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
