//! What types cannot say: ranges, uniqueness, and references within a spec.

use std::collections::HashSet;
use std::hash::Hash;

use super::{ExperimentKind, Spec, Tokenisation, VERSION};

/// Key path, problem, remedy.
type Finding = (String, String, &'static str);

/// Checks a spec that is well formed.
///
/// # Errors
/// The first thing wrong, with its key path.
pub fn check(spec: &Spec) -> Result<(), Finding> {
    check_header(spec)?;
    check_models(spec)?;
    check_corpus(spec)?;
    check_correlation(spec)?;
    check_kind(spec)?;
    within("cards.neurons", spec.cards.neurons, 0, 10_000)?;
    within("cards.contexts", spec.cards.contexts, 1, 100)?;
    within("cards.tokens", spec.cards.tokens, 1, usize::MAX)?;
    within("batch.tokens", spec.batch.tokens, 1, 1 << 24)?;
    match spec.batch.memory_gib {
        Some(gib) if !(gib.is_finite() && gib > 0.0) => {
            let problem = format!("{gib} is out of range, expected a number above 0");
            finding("batch.memory_gib", problem, "leave it out for no limit")
        }
        _ => Ok(()),
    }
}

fn finding(key: impl Into<String>, problem: String, remedy: &'static str) -> Result<(), Finding> {
    Err((key.into(), problem, remedy))
}

fn within(key: &str, value: usize, min: usize, max: usize) -> Result<(), Finding> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    finding(
        key,
        format!("{value} is out of range, expected {min} to {max}"),
        "choose a value within the range",
    )
}

fn check_header(spec: &Spec) -> Result<(), Finding> {
    if spec.version != VERSION {
        let problem = format!("this program reads version {VERSION}, not {}", spec.version);
        return finding("version", problem, "compare the file with one of those in experiments/");
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if spec.name.is_empty() || spec.name.len() > 100 || !spec.name.chars().all(plain) {
        let problem = format!("`{}` is no name for a folder", spec.name);
        return finding("name", problem, "use lower-case letters, digits and hyphens");
    }
    for (key, text) in [("question", &spec.question), ("source", &spec.source)] {
        if text.trim().is_empty() {
            return finding(
                key,
                "is empty".into(),
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
        let problem = format!("`{}` is no name for a column", family[i].name);
        return finding(
            format!("models.family[{i}].name"),
            problem,
            "use letters, digits, `-`, `_` and `.`",
        );
    }
    check_judged(spec)
}

/// Every model judged is one of the family, and none is named twice.
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
        Some(i) => finding(key(i), "is judged already".into(), "name each model once"),
        None => Ok(()),
    }
}

fn check_corpus(spec: &Spec) -> Result<(), Finding> {
    within("corpus.context", spec.corpus.context, 2, 1 << 20)?;
    if let Some(sample) = spec.corpus.sample {
        within("corpus.sample", sample, 1, usize::MAX)?;
    }
    if let Some(limit) = spec.corpus.limit {
        within("corpus.limit", limit, 1, usize::MAX)?;
    }
    match first_repeated(spec.corpus.exclude.iter()) {
        Some(i) => {
            finding(format!("corpus.exclude[{i}]"), "is listed twice".into(), "list it once")
        }
        None => Ok(()),
    }
}

fn check_correlation(spec: &Spec) -> Result<(), Finding> {
    let c = &spec.correlation;
    within("correlation.top_partners", c.top_partners, 1, 1000)?;
    if let Some(screen) = &c.screen {
        within("correlation.screen.sample", screen.sample, 100, usize::MAX)?;
        within("correlation.screen.candidates", screen.candidates, 1, 1000)?;
        let errors = screen.standard_errors;
        if !(errors.is_finite() && errors >= 0.0) {
            let problem = format!("{errors} is out of range, expected 0 or more");
            let remedy = "4 is a cautious choice";
            return finding("correlation.screen.standard_errors", problem, remedy);
        }
    }
    within("correlation.baseline.draws", c.baseline.draws, 1, 1000)?;
    let thresholds = std::iter::once(("correlation.threshold".to_string(), c.threshold));
    let also = c.also_report.iter().enumerate();
    let also = also.map(|(i, t)| (format!("correlation.also_report[{i}]"), *t));
    for (key, threshold) in thresholds.chain(also) {
        if !(-1.0..=1.0).contains(&threshold) {
            let problem = format!("{threshold} is out of range, expected -1 to 1");
            return finding(key, problem, "the paper's threshold is 0.5");
        }
    }
    Ok(())
}

/// Sections belong to the kinds that read them.
fn check_kind(spec: &Spec) -> Result<(), Finding> {
    use ExperimentKind as K;
    let sections = [
        ("families", K::Families, spec.families.is_some(), true),
        ("prediction", K::Prediction, spec.prediction.is_some(), false),
        ("entropy", K::Entropy, spec.entropy.is_some(), false),
        ("attention", K::Attention, spec.attention.is_some(), false),
        ("ablation", K::Ablation, spec.ablation.is_some(), false),
        ("convergence", K::Convergence, spec.convergence.is_some(), false),
        ("dynamics", K::Dynamics, spec.dynamics.is_some(), true),
        ("perturbed", K::Perturbed, spec.perturbed.is_some(), false),
    ];
    for (key, kind, given, needed) in sections {
        if given && spec.kind != kind {
            let problem = format!("belongs to `kind: {key}`");
            return finding(key, problem, "leave it out, or change the kind");
        }
        if needed && !given && spec.kind == kind {
            let problem = format!("`kind: {key}` needs a section `{key}`");
            return finding("kind", problem, "see experiments/ for an example");
        }
    }
    if let Some(families) = &spec.families {
        let share = families.explained;
        if !(0.0..=1.0).contains(&share) {
            let problem = format!("{share} is out of range, expected 0 to 1");
            return finding("families.explained", problem, "the paper's notebook uses 0.37");
        }
        if families.syntax.is_some() && spec.corpus.sample.is_some() {
            let problem = "needs every row of a sample, which `corpus.sample` does not keep";
            return finding("families.syntax", problem.into(), "use `corpus.limit` instead");
        }
        if families.syntax.is_some() && spec.corpus.tokenisation != Tokenisation::PerDoc {
            let problem = "needs rows of one sample each".to_owned();
            return finding("families.syntax", problem, "use `tokenisation: per_doc`");
        }
        within("families.support", families.support, 1, usize::MAX)?;
    }
    check_roles(spec)
}

/// Counts that must not be zero, and values that must be numbers.
fn check_roles(spec: &Spec) -> Result<(), Finding> {
    if let Some(p) = &spec.prediction {
        within("prediction.tokens", p.tokens, 1, 10_000)?;
    }
    if let Some(e) = &spec.entropy {
        within("entropy.candidates", e.candidates, 1, 1000)?;
        within("entropy.controls", e.controls, 1, 10_000)?;
        if e.values.len() < 2 || e.values.iter().any(|v| !v.is_finite()) {
            let problem = "expected two numbers or more".to_owned();
            return finding("entropy.values", problem, "the paper uses 0 to 6");
        }
    }
    if let Some(a) = &spec.attention {
        within("attention.pairs", a.pairs, 1, 1000)?;
        within("attention.directions", a.directions, 2, 100_000)?;
    }
    if let Some(a) = &spec.ablation {
        within("ablation.controls", a.controls, 1, 1000)?;
        within("ablation.resamples", a.resamples, 1, 100_000)?;
    }
    if let Some(c) = &spec.convergence {
        within("convergence.resamples", c.resamples, 0, 10_000)?;
        for (i, tokens) in c.tokens.iter().enumerate() {
            within(&format!("convergence.tokens[{i}]"), *tokens, 100, usize::MAX)?;
        }
    }
    if let Some(d) = &spec.dynamics {
        within("dynamics.steps", d.steps.len(), 2, 10_000)?;
        if let Some(i) = d.steps.windows(2).position(|pair| pair[0].step >= pair[1].step) {
            let problem = "is not later than the one before".to_owned();
            let key = format!("dynamics.steps[{}].step", i + 1);
            return finding(key, problem, "list steps in the order of training");
        }
    }
    let Some(p) = &spec.perturbed else { return Ok(()) };
    within("perturbed.copies", p.copies, 1, 100)?;
    if !(p.noise.is_finite() && p.noise >= 0.0) {
        let problem = format!("{} is out of range, expected 0 or more", p.noise);
        return finding("perturbed.noise", problem, "it is in units of a neuron's own spread");
    }
    if !(0.0..=1.0).contains(&p.rotation) {
        let problem = format!("{} is out of range, expected 0 to 1", p.rotation);
        return finding("perturbed.rotation", problem, "0 is none, 1 is nothing but the rotation");
    }
    Ok(())
}

/// Index of the first item that equals an earlier one.
fn first_repeated<T: Hash + Eq>(mut items: impl Iterator<Item = T>) -> Option<usize> {
    let mut seen = HashSet::new();
    items.position(|item| !seen.insert(item))
}
