//! `new KIND`: an experiment file to begin with, commented.

use std::path::Path;

use super::ExperimentKind;

/// The experiment that new ones inherit from.
pub const BASE: &str = "experiments/desk-universality.yaml";

/// What a study inherits, as comments to be changed.
const UNIVERSALITY: &str = include_str!("new/universality.yaml");
const DYNAMICS: &str = include_str!("new/dynamics.yaml");

/// An experiment of a kind, called `name`, that inherits from the file at `base`.
pub fn template(kind: ExperimentKind, name: &str, base: &Path) -> String {
    use ExperimentKind as K;
    let example = match kind {
        K::Universality => UNIVERSALITY,
        K::Families => include_str!("../../experiments/families.yaml"),
        K::Prediction => include_str!("../../experiments/prediction.yaml"),
        K::Entropy => include_str!("../../experiments/entropy.yaml"),
        K::Attention => include_str!("../../experiments/attention.yaml"),
        K::Ablation => include_str!("../../experiments/ablation.yaml"),
        K::SplitHalf => include_str!("../../experiments/split-half.yaml"),
        K::Perturbed => include_str!("../../experiments/perturbed.yaml"),
        K::Dynamics => DYNAMICS,
        K::Convergence => include_str!("../../experiments/convergence.yaml"),
    };
    let folder = base.parent().unwrap_or(Path::new(""));
    let line = |line: &str| {
        if line.starts_with("include:") {
            format!("include: {}", base.display())
        } else if line.starts_with("name:") {
            format!("name: {name}")
        } else {
            // Files of the example are named from where they are.
            let at = |line: String, name: &str| {
                let there = folder.join(name);
                ["path: ", "path: \""].iter().fold(line, |line, key| {
                    line.replace(&format!("{key}{name}/"), &format!("{key}{}/", there.display()))
                })
            };
            at(at(line.to_owned(), "families"), "desk")
        }
    };
    example.lines().map(|text| line(text) + "\n").collect()
}
