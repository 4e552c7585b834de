//! A claim, and the claims of `expected/claims/`.

use std::path::Path;

use serde::Deserialize;

use super::measure::Measure;
use super::tier::Tier;
use super::values::list;
use crate::compare::Tolerance;
use crate::error::{Error, Kind, Result};
use crate::input::InputFile;

/// One figure or statement of a source, such as the paper.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Unique name, `topic.detail`.
    pub id: String,
    /// The claim in one sentence.
    pub statement: String,
    /// Section, figure or table of the source.
    pub at: String,
    /// The measure that the claim is about.
    pub measure: Measure,
    /// How the claim is judged, once for each kind of evidence and set of models.
    pub judged: Vec<Judgement>,
    /// Name of the source, from the head of the claims file.
    #[serde(skip)]
    pub source: String,
}

impl Claim {
    /// Returns the source's figure for its own models as text, if the claim has one.
    pub fn published(&self) -> Option<String> {
        self.published_figures().map(list)
    }

    /// Returns the source's figure for its own models, if the claim has one.
    pub fn published_figures(&self) -> Option<&[f64]> {
        let own = self.judged.iter().filter(|j| j.tier != Tier::Desk);
        own.filter_map(|j| j.equals.as_ref()).map(ExpectedValues::list).next()
    }
}

/// The values of repeated runs, and how many of their standard deviations a value may be off.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepeatedRuns {
    /// The value of each run, at least two.
    pub values: Vec<f64>,
    /// Number of standard deviations.
    pub deviations: f64,
}

impl RepeatedRuns {
    /// Returns the largest accepted difference: `deviations` times the standard deviation of the
    /// values, with n − 1 in the denominator.
    fn tolerance(&self) -> f64 {
        let n = self.values.len() as f64;
        let mean = self.values.iter().sum::<f64>() / n;
        let squares: f64 = self.values.iter().map(|v| (v - mean).powi(2)).sum();
        self.deviations * (squares / (n - 1.0)).sqrt()
    }
}

/// How a claim is judged on one kind of evidence. Exactly one of `equals`, `between`, `above`,
/// `below` and `trend` is given.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    /// The kind of evidence.
    pub tier: Tier,
    /// Names of the models, in the order that the measure expects.
    pub models: Vec<String>,
    /// The expected value or values.
    pub equals: Option<ExpectedValues>,
    /// The largest accepted absolute difference from `equals`.
    pub within: Option<f64>,
    /// The largest accepted difference from `equals`, in percent of the expected value.
    pub within_percent: Option<f64>,
    /// Repeated runs, whose spread is the largest accepted difference from `equals`; `because` names
    /// the runs.
    pub within_runs: Option<RepeatedRuns>,
    /// The lowest and highest accepted value.
    pub between: Option<[f64; 2]>,
    /// The bound that the value must exceed.
    pub above: Option<f64>,
    /// The bound that the value must be less than.
    pub below: Option<f64>,
    /// The direction in which a list of values must go.
    pub trend: Option<Trend>,
    /// The reason for this comparison and tolerance.
    pub because: String,
    /// What was measured on this evidence, if it is not what the claim's statement says.
    pub statement: Option<String>,
    /// Whether the source contradicts itself, so that the comparison is expected not to hold.
    #[serde(default)]
    pub contradicted: bool,
    /// Why the comparison holds by definition, or nearly so, and is little evidence.
    pub by_definition: Option<String>,
    /// What was found instead, if the claim is known to fail or to be undecided on this evidence.
    pub finding: Option<String>,
    /// Whether the finding is that the claim is undecided on this evidence: no value can be computed,
    /// or its interval contains a bound.
    #[serde(default)]
    pub undecided: bool,
}

impl Judgement {
    /// Returns the accepted differences from `equals`: those of the tolerances that are given, of
    /// which a judgement has one.
    pub fn tolerances(&self) -> Vec<Tolerance> {
        let relative = |percent: f64| Tolerance { absolute: 0.0, relative: percent / 100.0 };
        let runs = self.within_runs.as_ref().map(RepeatedRuns::tolerance);
        let absolute = self.within.into_iter().chain(runs).map(Tolerance::absolute);
        absolute.chain(self.within_percent.map(relative)).collect()
    }

    /// Returns the bounds that a value is compared with: both ends of a range, or the bound that it must
    /// exceed or be less than.
    pub fn bounds(&self) -> Vec<f64> {
        match self.between {
            Some(range) => range.to_vec(),
            None => self.above.or(self.below).into_iter().collect(),
        }
    }
}

/// One expected value, or a list of values.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum ExpectedValues {
    /// One value.
    One(f64),
    /// Several values, compared one by one.
    Many(Vec<f64>),
}

impl ExpectedValues {
    /// Returns the values as a list.
    pub fn list(&self) -> &[f64] {
        match self {
            Self::One(figure) => std::slice::from_ref(figure),
            Self::Many(figures) => figures,
        }
    }
}

/// The direction of a list of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trend {
    /// No value is less than the one before, and the last is greater than the first.
    Rising,
    /// No value is greater than the one before, and the last is less than the first.
    Falling,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimsFile {
    source: String,
    claims: Vec<Claim>,
}

/// The claims files, one for each source. The program contains them.
const FILES: [(&str, &str); 5] = [
    ("expected/claims/paper.yaml", include_str!("../../expected/claims/paper.yaml")),
    ("expected/claims/tables.yaml", include_str!("../../expected/claims/tables.yaml")),
    ("expected/claims/note.yaml", include_str!("../../expected/claims/note.yaml")),
    ("expected/claims/paper-2.yaml", include_str!("../../expected/claims/paper-2.yaml")),
    ("expected/claims/seeds.yaml", include_str!("../../expected/claims/seeds.yaml")),
];

/// Returns all claims, source by source.
///
/// # Errors
/// Returns an error if a claims file is malformed.
pub fn registry() -> Result<Vec<Claim>> {
    let claims = FILES.iter().map(|(path, text)| parse(path, text)).collect::<Result<Vec<_>>>()?;
    Ok(claims.concat())
}

/// Maximum length of a claims file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Reads a claims file of a user's own.
///
/// # Errors
/// Returns an error if the file cannot be read, or as [`parse`] does.
pub fn read(path: &Path) -> Result<Vec<Claim>> {
    let text = InputFile::open(Kind::Evidence, path)?.text(MAX_BYTES)?;
    parse(&path.display().to_string(), &text)
}

/// Reads the text of a claims file.
///
/// # Errors
/// Returns an error if the file is malformed: a key is unknown or missing, a value has the wrong
/// type, an id is used twice, or a judgement has no or several comparisons.
pub fn parse(path: &str, text: &str) -> Result<Vec<Claim>> {
    let error = |subject: String, problem: String| {
        Error::new(Kind::Evidence, subject, problem, "correct the claims file")
    };
    let at_file = |problem: String| error(path.to_string(), problem);
    if text.contains('\r') {
        return Err(at_file("has Windows line endings, expected line feeds only".into()));
    }
    let document = serde_yaml::Deserializer::from_str(text);
    let ClaimsFile { source, mut claims } =
        serde_path_to_error::deserialize(document).map_err(|e| at_file(e.to_string()))?;
    for (i, claim) in claims.iter().enumerate() {
        if let Some(problem) = problem_with(claim, &claims[..i]) {
            return Err(error(format!("{path}: claim `{}`", claim.id), problem));
        }
    }
    claims.iter_mut().for_each(|claim| claim.source.clone_from(&source));
    Ok(claims)
}

/// Returns what is wrong with a claim, if anything is; `before` are the claims before it.
fn problem_with(claim: &Claim, before: &[Claim]) -> Option<String> {
    if before.iter().any(|other| other.id == claim.id) {
        return Some("the id is used twice".into());
    }
    if [&claim.id, &claim.statement, &claim.at].iter().any(|text| text.trim().is_empty()) {
        return Some("id, statement and `at` must not be empty".into());
    }
    if claim.judged.is_empty() {
        return Some("is not judged on any evidence".into());
    }
    if let Some(problem) = claim.measure.problem() {
        return Some(problem);
    }
    claim.judged.iter().find_map(problem_with_judgement)
}

/// Returns what is wrong with a judgement, if anything is.
fn problem_with_judgement(j: &Judgement) -> Option<String> {
    let given = [
        j.equals.is_some(),
        j.between.is_some(),
        j.above.is_some(),
        j.below.is_some(),
        j.trend.is_some(),
    ];
    if given.iter().filter(|&&g| g).count() != 1 {
        return Some("give exactly one of equals, between, above, below, trend".into());
    }
    let tolerances = j.tolerances();
    let is_positive = |t: &Tolerance| t.absolute > 0.0 || t.relative > 0.0;
    if tolerances.len() != usize::from(j.equals.is_some()) || !tolerances.iter().all(is_positive) {
        return Some(
            "`equals` needs a positive `within`, `within_percent` or `within_runs`, and nothing else \
             has one"
                .into(),
        );
    }
    let empty = |text: &String| text.trim().is_empty();
    let optional = [&j.statement, &j.by_definition, &j.finding];
    if empty(&j.because) || j.models.is_empty() || optional.into_iter().flatten().any(empty) {
        return Some("`because`, `models` and other texts must not be empty".into());
    }
    if j.tier == Tier::Desk && j.statement.is_none() {
        let problem = "a judgement on the bundled models needs a `statement` about these models";
        return Some(problem.into());
    }
    if j.undecided && j.finding.is_none() {
        return Some("`undecided` needs a `finding`, which says why".into());
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clap::ValueEnum;

    use super::super::measure::Quantity;
    use super::*;

    /// The ids that the project set out to encode.
    const REQUIRED: &str = include_str!("../../expected/claim-ids.yaml");

    #[test]
    fn every_claim_is_there_once_with_a_source() {
        let claims = registry().expect("well formed");
        let ids: HashSet<&str> = claims.iter().map(|c| c.id.as_str()).collect();
        assert_eq!(ids.len(), claims.len(), "an id is used in two files");
        let required: Vec<String> = serde_yaml::from_str(REQUIRED).expect("a list");
        let missing: Vec<_> = required.iter().filter(|id| !ids.contains(id.as_str())).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert_eq!(required.len(), ids.len(), "expected/claim-ids.yaml lacks a claim");
        assert!(claims.iter().all(|c| !c.source.is_empty()));
    }

    /// A statement about the bundled models says so, and names no other model, its neurons or its
    /// figures.
    #[test]
    fn judgements_on_the_bundled_models_say_what_is_measured_on_them() {
        let foreign = ["GPT-2", "Pythia", "%", ".N", ".H", " of 2", "times", "0.8"];
        for claim in registry().expect("well formed") {
            for judgement in claim.judged.iter().filter(|j| j.tier == Tier::Desk) {
                let statement = judgement.statement.as_ref().expect("checked by `parse`");
                assert!(statement.contains("bundled model"), "{}: {statement}", claim.id);
                let found = foreign.iter().find(|word| statement.contains(**word));
                assert_eq!(found, None, "{}: {statement}", claim.id);
            }
        }
    }

    #[test]
    fn every_quantity_is_used() {
        let claims = registry().expect("well formed");
        let used: HashSet<Quantity> = claims.iter().filter_map(|c| c.measure.name).collect();
        let unused: Vec<_> =
            Quantity::value_variants().iter().filter(|q| !used.contains(q)).collect();
        assert!(unused.is_empty(), "{unused:?}");
    }

    #[test]
    fn malformed_claims_are_refused() {
        let claim = |judgement: &str| {
            format!(
                "source: s\nclaims:\n- id: a\n  statement: b\n  at: c\n  measure: {{ name: universal-share }}\n  judged:\n  - {judgement}\n"
            )
        };
        let good = claim("{ tier: published, models: [m], above: 1, because: d }");
        assert_eq!(parse("f", &good).expect("good").len(), 1);
        let twice = format!("{good}{}", good.split_once("claims:\n").expect("claims").1);
        for (text, problem) in [
            (twice, "used twice"),
            (good.replace('\n', "\r\n"), "line endings"),
            (good.replace("above", "abvoe"), "unknown field"),
            (good.replace("universal-share", "universal-shear"), "unknown variant"),
            (good.replace("  at: c\n", ""), "missing field `at`"),
            (good.replace("name: universal-share", "column: kurt"), "exactly one of"),
            (good.replace("name:", "awaits: a test, name:"), "exactly one of"),
            (good.replace("name: universal-share", "experiment: entropy"), "belong together"),
            (
                good.replace("name: universal-share", "experiment: telepathy, figure: x"),
                "not a kind",
            ),
            (
                good.replace("name: universal-share", "experiment: entropy, figure: split-half"),
                "reports no figure",
            ),
            (good.replace("share }", "share, without: [L0.N1] }"), "`of` names none"),
            (good.replace("share }", "share, of: all, without: [L0] }"), "is not a neuron"),
            (good.replace("above: 1,", ""), "exactly one"),
            (good.replace("above: 1", "above: 1, below: 2"), "exactly one"),
            (good.replace("above: 1", "equals: 1"), "positive `within`"),
            (good.replace("above: 1", "equals: 1, within: 1, within_percent: 1"), "positive"),
            (good.replace("above: 1", "above: 1, within_percent: 1"), "nothing else"),
            (
                good.replace("above: 1", "equals: 1, within_runs: { values: [1], deviations: 1 }"),
                "positive",
            ),
            (good.replace("above: 1", "equals: 1, within: 0"), "positive"),
            (good.replace("above: 1", "equals: 1, within: .nan"), "positive"),
            (good.replace("because: d", "because: ' '"), "must not be empty"),
            (good.replace("[m]", "[]"), "must not be empty"),
            (good.replace("because: d", "because: d, statement: ''"), "must not be empty"),
            (good.replace("because: d", "because: d, by_definition: ''"), "must not be empty"),
            (good.replace("because: d", "because: d, undecided: true"), "needs a `finding`"),
            (good.replace("published", "desk"), "needs a `statement`"),
            (good.replace("share }", "share, permute: layers }"), "does not depend on"),
            (good.replace("share }", "share, permute: universal }"), "does not depend on"),
            (good.replace("share }", "share, permute: columns }"), "unknown variant"),
            (
                good.replace(
                    "name: universal-share",
                    "experiment: entropy, figure: entropy-ranks, permute: layers",
                ),
                "does not depend on",
            ),
        ] {
            let error = parse("f", &text).expect_err(problem);
            assert!(error.problem.contains(problem), "{error}");
        }
    }
}
