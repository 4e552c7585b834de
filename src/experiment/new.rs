//! `new KIND`: a commented experiment file to start from.

use std::path::Path;

use super::RegisteredKind;

/// The experiment that new experiment files inherit from.
pub const BASE: &str = "experiments/desk-universality.yaml";

/// Returns the example of a kind as an experiment called `name` that inherits from the file at
/// `base`.
pub fn template(kind: &RegisteredKind, name: &str, base: &Path) -> String {
    let folder = base.parent().unwrap_or(Path::new(""));
    let line = |line: &str| {
        if line.starts_with("include:") {
            format!("include: {}", base.display())
        } else if line.starts_with("name:") {
            format!("name: {name}")
        } else {
            // Paths in the example are relative to the folder of `base`.
            let at = |line: String, name: &str| {
                let there = folder.join(name);
                ["path: ", "path: \""].iter().fold(line, |line, key| {
                    line.replace(&format!("{key}{name}/"), &format!("{key}{}/", there.display()))
                })
            };
            at(at(line.to_owned(), "families"), "desk")
        }
    };
    kind.example.lines().map(|text| line(text) + "\n").collect()
}
