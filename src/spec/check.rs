//! Checks that neither types nor ranges can express: uniqueness, and references within a spec.

use std::collections::HashSet;
use std::hash::Hash;

use super::finding::{Finding, finding};
use super::recorded::check_members;
use super::rules::KindRules;
use super::{BaselineKind, Spec, Units, VERSION, ranges};

/// Checks a spec that has the right types.
///
/// # Errors
/// Returns the first thing wrong: its key path, the problem and the remedy.
pub fn check(spec: &Spec, kind: &KindRules) -> Result<(), Finding> {
    check_header(spec)?;
    check_models(spec)?;
    check_members(spec, kind)?;
    check_layers(spec, kind)?;
    check_units(spec, kind)?;
    check_ranges(spec)?;
    check_corpus(spec)?;
    check_intervals(spec)?;
    (kind.check)(spec)
}

/// Checks the ranges of all numbers except those of the kind's settings, which have their own
/// schema.
fn check_ranges(spec: &Spec) -> Result<(), Finding> {
    let mut common = spec.clone();
    common.settings.clear();
    let value = serde_yaml::to_value(&common);
    let value = value.or_else(|e| finding("", e.to_string(), "write it in another way"))?;
    ranges::check(&schemars::schema_for!(Spec), &value)
}

fn check_header(spec: &Spec) -> Result<(), Finding> {
    if spec.version != VERSION {
        let problem = format!("this program reads version {VERSION}, not {}", spec.version);
        return finding("version", problem, "compare the file with one of those in experiments/");
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if spec.name.is_empty() || spec.name.len() > 100 || !spec.name.chars().all(plain) {
        let problem = format!("`{}` is not a name for a folder", spec.name);
        return finding("name", problem, "use lower-case letters, digits and hyphens");
    }
    for (key, text) in [("question", &spec.question), ("source", &spec.source)] {
        if text.trim().is_empty() {
            return finding(
                key,
                "is empty",
                "say it in one sentence; it is shown with the results",
            );
        }
    }
    Ok(())
}

fn check_models(spec: &Spec) -> Result<(), Finding> {
    let family = &spec.models.family;
    if !(2..=256).contains(&family.len()) {
        let problem = format!("{} models, expected 2 to 256", family.len());
        return finding("models.family", problem, "list the reference and its partners");
    }
    if let Some(i) = first_repeated(family.iter().map(|m| &m.name)) {
        let problem = format!("the name `{}` is used twice", family[i].name);
        return finding(
            format!("models.family[{i}].name"),
            problem,
            "give every model a name of its own",
        );
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if let Some(i) = family.iter().position(|m| m.name.is_empty() || !m.name.chars().all(plain)) {
        let problem = format!("`{}` is not a name for a column", family[i].name);
        return finding(
            format!("models.family[{i}].name"),
            problem,
            "use letters, digits, `-`, `_` and `.`",
        );
    }
    check_judged(spec)
}

/// Checks that units other than neurons, and rounded activations, are compared only by what needs
/// nothing else of a model.
fn check_units(spec: &Spec, kind: &KindRules) -> Result<(), Finding> {
    let units = spec.models.units;
    if !spec.models.activations.is_exact() && (!kind.reads_recorded || spec.corpus.is_absent()) {
        let problem = "rounds what models compute in a study of universality, and this is another";
        return finding("models.activations", problem, "remove it");
    }
    if units.are_activations() {
        return Ok(());
    }
    if !kind.reads_recorded {
        let problem = format!("`{}` is about MLP neurons", kind.name);
        return finding("models.units", problem, "remove it, or use `kind: universality`");
    }
    if spec.corpus.is_absent() {
        let problem = "chooses units of models, and the members are recorded activations";
        return finding("models.units", problem, "remove it");
    }
    if units == Units::AttentionToBos && !spec.corpus.prepend_bos {
        let problem = "needs rows that begin with the beginning-of-sequence token";
        return finding("models.units", problem, "leave `corpus.prepend_bos` out");
    }
    if spec.correlation.baseline.kind == BaselineKind::Gaussian {
        let problem = "`gaussian` is noise in place of neurons before their activation function";
        return finding("correlation.baseline.kind", problem, "use `rotation` or `permutation`");
    }
    Ok(())
}

/// Checks that layers are chosen for a study only, and that they are the first ones.
fn check_layers(spec: &Spec, kind: &KindRules) -> Result<(), Finding> {
    let Some(layers) = &spec.models.layers else { return Ok(()) };
    if kind.needs_whole_models {
        let problem = format!("is only for `kind: universality`, not `{}`", kind.name);
        return finding("models.layers", problem, "remove it");
    }
    if layers.is_empty() {
        let remedy = "list the first layers, as in [0, 1], or remove the key";
        return finding("models.layers", "names no layer", remedy);
    }
    match layers.iter().enumerate().find(|(i, layer)| i != *layer) {
        None => Ok(()),
        Some((i, layer)) => {
            let problem = format!("layer {layer}, expected {i}: the first layers, in order");
            let remedy = "list every layer from 0 to the last one wanted, as in [0, 1]";
            finding(format!("models.layers[{i}]"), problem, remedy)
        }
    }
}

/// Checks that every judged model belongs to the family and is named once.
fn check_judged(spec: &Spec) -> Result<(), Finding> {
    let judged = std::iter::once(&spec.models.reference).chain(&spec.models.also_reference);
    let key = |i: usize| match i {
        0 => "models.reference".to_string(),
        i => format!("models.also_reference[{}]", i - 1),
    };
    let unknown = |name: &String| !spec.models.family.iter().any(|m| m.name == *name);
    if let Some((i, name)) = judged.clone().enumerate().find(|(_, name)| unknown(name)) {
        let problem = format!("`{name}` is not among `models.family`");
        return finding(key(i), problem, "name one of the family");
    }
    match first_repeated(judged) {
        Some(i) => finding(key(i), "is judged already", "name each model once"),
        None => Ok(()),
    }
}

fn check_corpus(spec: &Spec) -> Result<(), Finding> {
    let is_digest = |text: &&String| {
        text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    if spec.corpus.sha256.as_ref().is_some_and(|text| !is_digest(&text)) {
        let remedy = "write the 64 digits, in lower case, that `sha256sum` prints";
        return finding("corpus.sha256", "is not a SHA-256", remedy);
    }
    let of_statistics = spec.statistics.exclude.as_deref().unwrap_or_default();
    for (key, listed) in
        [("corpus.exclude", &spec.corpus.exclude[..]), ("statistics.exclude", of_statistics)]
    {
        if let Some(i) = first_repeated(listed.iter()) {
            return finding(format!("{key}[{i}]"), "is listed twice", "list it once");
        }
    }
    Ok(())
}

fn check_intervals(spec: &Spec) -> Result<(), Finding> {
    match spec.statistics.intervals.blocks {
        1 => finding(
            "statistics.intervals.blocks",
            "one block cannot be resampled, expected 0 or at least 2",
            "20 blocks are usual; 0 turns intervals off",
        ),
        _ => Ok(()),
    }
}

/// Returns the index of the first item that equals an earlier one.
fn first_repeated<T: Hash + Eq>(mut items: impl Iterator<Item = T>) -> Option<usize> {
    let mut seen = HashSet::new();
    items.position(|item| !seen.insert(item))
}
