//! Members of a family that are recorded activations instead of models.

use std::path::{Path, PathBuf};

use super::finding::{Finding, finding};
use super::rules::KindRules;
use super::{BaselineKind, Spec};

/// Formats of recorded activations, by the extensions of their files.
const EXTENSIONS: [&str; 3] = ["safetensors", "npy", "parquet"];

/// Returns whether a file is one of recorded activations, by its extension.
fn is_recording_file(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
}

/// Returns the files of recorded activations that a path leads to: the file itself, or those in a
/// folder without `config.json`, sorted by name. Returns none for the path of a model.
pub fn recording_files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return is_recording_file(path).then(|| path.to_path_buf()).into_iter().collect();
    }
    let entries = match path.join("config.json").exists() {
        true => None,
        false => std::fs::read_dir(path).ok(),
    };
    let entries = entries.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> = entries.filter(|path| is_recording_file(path)).collect();
    files.sort();
    files
}

/// Checks that all members are models and there is a corpus, or that all are recorded activations
/// and there is none.
pub fn check_members(spec: &Spec, kind: &KindRules) -> Result<(), Finding> {
    let family = &spec.models.family;
    let path_of = |i: usize| format!("models.family[{i}].path");
    if !spec.corpus.is_absent() {
        if spec.models.tokenizer.is_some() {
            let problem = "is for recorded activations, and models have their own";
            return finding("models.tokenizer", problem, "remove it");
        }
        return match family.iter().position(|member| is_recording_file(&member.path)) {
            None => Ok(()),
            Some(i) => {
                let problem = "leads to recorded activations, which need no `corpus`";
                finding(path_of(i), problem, "remove `corpus`, or name the folder of a model")
            }
        };
    }
    let is_model = |i: &usize| recording_files(&family[*i].path).is_empty();
    let models: Vec<usize> = (0..family.len()).filter(is_model).collect();
    match models.first() {
        Some(_) if models.len() == family.len() => {
            finding("", "missing field `corpus`", "add `corpus:`")
        }
        Some(&i) => {
            let problem = "leads to no recorded activations, and other members are such";
            finding(
                path_of(i),
                problem,
                "record the activations of this model too, over the same tokens",
            )
        }
        None => check_settings(spec, kind),
    }
}

/// Refuses what recorded activations do not allow.
fn check_settings(spec: &Spec, kind: &KindRules) -> Result<(), Finding> {
    if !kind.reads_recorded {
        let problem = format!(
            "`{}` needs the weights of models, and the members are recorded activations",
            kind.name
        );
        let remedy = "use `kind: universality`, or give models and a `corpus`";
        return finding("kind", problem, remedy);
    }
    if let Some(i) = spec.models.family.iter().position(|member| member.untrained.is_some()) {
        let problem = "draws the weights of a model, and the member is recorded activations";
        return finding(format!("models.family[{i}].untrained"), problem, "remove it");
    }
    if spec.statistics.exclude.is_some() {
        let problem = "excludes tokens by their text, and recorded activations have none";
        return finding("statistics.exclude", problem, "remove it; `mask` leaves out tokens");
    }
    if spec.cards.tests.is_some() && spec.models.tokenizer.is_none() {
        let problem = "asks about the tokens of neurons, and recorded activations have no text";
        let remedy = "remove it, or name the tokenizer as `models.tokenizer`";
        return finding("cards.tests", problem, remedy);
    }
    if spec.correlation.baseline.kind == BaselineKind::Gaussian {
        let problem = "`gaussian` needs the activation function of a model";
        return finding("correlation.baseline.kind", problem, "use `rotation` or `permutation`");
    }
    Ok(())
}
