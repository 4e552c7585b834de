//! What a claim is, and the claims that the project knows.

use serde::Deserialize;

use super::measure::Measure;
use super::tier::Tier;
use super::values::list;
use crate::error::{Error, Kind, Result};

/// One figure or statement of a source.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Unique name, `topic.detail`.
    pub id: String,
    /// The claim in one sentence.
    pub statement: String,
    /// Section, figure or table of the source.
    pub at: String,
    /// What is measured.
    pub measure: Measure,
    /// How it is judged, on which evidence.
    pub judged: Vec<Judgement>,
    /// Name of the source; filled in from the file's head.
    #[serde(skip)]
    pub source: String,
}

impl Claim {
    /// What the source says of its own models, in a few words, where that is a figure.
    pub fn published(&self) -> Option<String> {
        self.published_figures().map(list)
    }

    /// The same as numbers.
    pub fn published_figures(&self) -> Option<&[f64]> {
        let own = self.judged.iter().filter(|j| j.tier != Tier::Desk);
        own.filter_map(|j| j.equals.as_ref()).map(ExpectedValues::list).next()
    }
}

/// How a claim is judged on one kind of evidence. Exactly one comparison is given.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    /// On which kind of evidence.
    pub tier: Tier,
    /// About which models, in the order that the measure expects.
    pub models: Vec<String>,
    /// The figure, or several, within `within`.
    pub equals: Option<ExpectedValues>,
    /// The largest absolute difference from `equals`.
    pub within: Option<f64>,
    /// Lowest and highest value allowed.
    pub between: Option<[f64; 2]>,
    /// The value is above this, strictly.
    pub above: Option<f64>,
    /// The value is below this, strictly.
    pub below: Option<f64>,
    /// How the values go on from each to the next.
    pub trend: Option<Trend>,
    /// Why this comparison, and why this tolerance.
    pub because: String,
    /// The source contradicts itself here: the figure is expected to be missed.
    #[serde(default)]
    pub contradicted: bool,
    /// The claim fails on this evidence, as a finding; says what was found.
    pub finding: Option<String>,
}

/// One figure or a list of them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum ExpectedValues {
    /// One.
    One(f64),
    /// Several, compared one by one.
    Many(Vec<f64>),
}

impl ExpectedValues {
    /// As a list.
    pub fn list(&self) -> &[f64] {
        match self {
            Self::One(figure) => std::slice::from_ref(figure),
            Self::Many(figures) => figures,
        }
    }
}

/// How a list of values goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trend {
    /// None is below the one before, and the last is above the first.
    Rising,
    /// None is above the one before, and the last is below the first.
    Falling,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimsFile {
    source: String,
    claims: Vec<Claim>,
}

/// The claims files, one per source, embedded so that the program carries them.
const FILES: [(&str, &str); 3] = [
    ("expected/claims/paper.yaml", include_str!("../../expected/claims/paper.yaml")),
    ("expected/claims/note.yaml", include_str!("../../expected/claims/note.yaml")),
    ("expected/claims/paper-2.yaml", include_str!("../../expected/claims/paper-2.yaml")),
];

/// All claims, source by source.
///
/// # Errors
/// If a claims file is malformed.
pub fn registry() -> Result<Vec<Claim>> {
    let claims = FILES.iter().map(|(path, text)| parse(path, text)).collect::<Result<Vec<_>>>()?;
    Ok(claims.concat())
}

/// Reads a claims file.
///
/// # Errors
/// If it is malformed: an unknown or missing key, a value of the wrong type, an
/// id used twice, a judgement with no or several comparisons.
pub fn parse(path: &str, text: &str) -> Result<Vec<Claim>> {
    let error = |subject: String, problem: String| {
        Error::new(Kind::Evidence, subject, problem, "correct the claims file")
    };
    let at_file = |problem: String| error(path.to_string(), problem);
    if text.contains('\r') {
        return Err(at_file("has Windows line endings, expected line feeds alone".into()));
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

fn problem_with(claim: &Claim, before: &[Claim]) -> Option<String> {
    if before.iter().any(|other| other.id == claim.id) {
        return Some("the id is used twice".into());
    }
    if [&claim.id, &claim.statement, &claim.at].iter().any(|text| text.trim().is_empty()) {
        return Some("id, statement and `at` must not be empty".into());
    }
    if claim.judged.is_empty() {
        return Some("is judged on no evidence".into());
    }
    if let Some(problem) = claim.measure.problem() {
        return Some(problem);
    }
    claim.judged.iter().find_map(problem_with_judgement)
}

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
    if j.equals.is_some() != j.within.is_some() || j.within.is_some_and(|w| w.is_nan() || w <= 0.0)
    {
        return Some("`equals` needs a positive `within`, and nothing else has one".into());
    }
    if j.because.trim().is_empty() || j.models.is_empty() {
        return Some("`because` and `models` must not be empty".into());
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
    const REQUIRED: &str = "prevalence.small-a prevalence.medium-a prevalence.pythia \
        prevalence.medium-a-text prevalence.range prevalence.outlier prevalence.early \
        agreement.all agreement.universal top.small-a depth.small-a baseline.gap table.identity \
        table.older signature.skew signature.kurt signature.input-bias signature.l2-penalty \
        signature.sparsity signature.vocab-kurt signature.in-out-sim signature.mean \
        family.unigram family.alphabet family.previous-token family.position family.syntax \
        family.context family.subgaussian role.prediction role.suppression-late \
        role.suppression-fires role.entropy-pair role.entropy-norm role.entropy-effect \
        role.entropy-small role.bos-norm role.deactivation mystery.cosine mystery.bound \
        mystery.duplicates note.same-model note.split-half note.perturbed note.l0n2436 \
        dynamics.growth dynamics.range dynamics.late-layers dynamics.persistence \
        ablation.universal ablation.first-layer";

    #[test]
    fn every_claim_is_there_once_with_a_source() {
        let claims = registry().expect("well formed");
        let ids: HashSet<&str> = claims.iter().map(|c| c.id.as_str()).collect();
        assert_eq!(ids.len(), claims.len(), "an id is used in two files");
        let missing: Vec<_> = REQUIRED.split_whitespace().filter(|id| !ids.contains(id)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(claims.iter().all(|c| !c.source.is_empty()));
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
        let good = claim("{ tier: desk, models: [m], above: 1, because: d }");
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
            (good.replace("share }", "share, of: all, without: [L0] }"), "is no neuron"),
            (claim("{ tier: desk, models: [m], because: d }"), "exactly one"),
            (claim("{ tier: desk, models: [m], above: 1, below: 2, because: d }"), "exactly one"),
            (claim("{ tier: desk, models: [m], equals: 1, because: d }"), "positive `within`"),
            (claim("{ tier: desk, models: [m], equals: 1, within: 0, because: d }"), "positive"),
            (claim("{ tier: desk, models: [m], equals: 1, within: .nan, because: d }"), "positive"),
            (claim("{ tier: desk, models: [m], above: 1, because: \" \" }"), "must not be empty"),
            (claim("{ tier: desk, models: [], above: 1, because: d }"), "must not be empty"),
        ] {
            let error = parse("f", &text).expect_err(problem);
            assert!(error.problem.contains(problem), "{error}");
        }
    }
}
