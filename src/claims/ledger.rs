//! The ledger: every claim with its verdict, or the reason why it was not run.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::claim::{Claim, Judgement};
use super::evidence::Evidence;
use super::judge::{expectation, judge};
use super::sources::Evidences;
use super::tier::Tier;
use super::values::list;
use crate::error::Result;

/// The verdict on a claim.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "verdict", content = "reason")]
pub enum Verdict {
    /// The measured values are what the claim expects.
    Holds,
    /// The source contradicts itself, and the evidence confirms that it does.
    Contradicted,
    /// The measured values are not what the claim expects.
    Fails,
    /// The claim was not judged, for this reason.
    NotRun(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds => f.write_str("holds"),
            Self::Contradicted => f.write_str("contradicted"),
            Self::Fails => f.write_str("fails"),
            Self::NotRun(reason) => write!(f, "not run: {reason}"),
        }
    }
}

/// A claim judged on one kind of evidence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Id of the claim.
    pub id: String,
    /// The claim in one sentence, as it is judged on this evidence.
    pub claim: String,
    /// Source and place in it.
    pub source: String,
    /// Name of the tier.
    pub tier: &'static str,
    /// Names of the models.
    pub models: Vec<String>,
    /// What the claim expects, as text.
    pub expected: String,
    /// The measured values; empty if the claim was not run.
    pub measured: Vec<f64>,
    /// Largest difference as a share of the tolerance, if there is a tolerance.
    pub tolerance_used: Option<f64>,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What was found instead, if the claim is known to fail.
    pub finding: Option<String>,
}

impl Entry {
    /// Judges a claim.
    ///
    /// # Errors
    /// Returns an error if evidence is damaged.
    pub fn judge(claim: &Claim, judgement: &Judgement, evidences: &Evidences) -> Result<Self> {
        let found = gather(judgement, claim.measure.experiment.as_deref(), evidences)?;
        let taken = found.and_then(|found| claim.measure.take(&found));
        let (measured, tolerance_used, verdict) = match taken {
            Err(reason) => (Vec::new(), None, Verdict::NotRun(reason)),
            Ok(values) => {
                let outcome = judge(judgement, &values);
                let verdict = match (outcome.holds, judgement.contradicted) {
                    (true, false) => Verdict::Holds,
                    (false, true) => Verdict::Contradicted,
                    // A contradiction that the evidence does not show is a failure too.
                    (false, false) | (true, true) => Verdict::Fails,
                };
                (values, outcome.tolerance_used, verdict)
            }
        };
        Ok(Self {
            id: claim.id.clone(),
            claim: judgement.statement.as_ref().unwrap_or(&claim.statement).clone(),
            source: format!("{}, {}", claim.source, claim.at),
            tier: judgement.tier.name(),
            models: judgement.models.clone(),
            expected: expectation(judgement),
            measured,
            tolerance_used,
            verdict,
            finding: judgement.finding.clone(),
        })
    }

    /// Returns whether the verdict is the recorded one: a failure if and only if the claim is known
    /// to fail. Returns `None` if the claim was not run.
    pub fn as_recorded(&self) -> Option<bool> {
        match self.verdict {
            Verdict::NotRun(_) => None,
            Verdict::Fails => Some(self.finding.is_some()),
            Verdict::Holds | Verdict::Contradicted => Some(self.finding.is_none()),
        }
    }

    /// Returns whether the entry makes `verify` fail: the verdict is not the recorded one or, if
    /// `strict`, the claim fails.
    pub fn is_failure(&self, strict: bool) -> bool {
        if strict { self.verdict == Verdict::Fails } else { self.as_recorded() == Some(false) }
    }

    /// Returns the measured values as text.
    pub fn measured_text(&self) -> String {
        list(&self.measured)
    }
}

/// Returns the evidence about each model of a judgement, or the reason why some is missing.
fn gather(
    judgement: &Judgement,
    experiment: Option<&str>,
    evidences: &Evidences,
) -> Result<std::result::Result<Vec<Arc<Evidence>>, String>> {
    let mut all = Vec::new();
    for model in &judgement.models {
        if let Some(reason) = evidences.missing(judgement.tier, model, experiment) {
            return Ok(Err(reason));
        }
        match evidences.find(judgement.tier, model)? {
            Ok(evidence) => all.push(evidence),
            Err(reason) => return Ok(Err(reason)),
        }
    }
    Ok(Ok(all))
}

/// The verdicts on all claims, in the order of the claims.
#[derive(Debug, Clone, Serialize)]
pub struct Ledger {
    /// The entries.
    pub entries: Vec<Entry>,
    /// One line for each table of evidence that has neurons with missing values.
    pub incomplete: Vec<String>,
}

impl Ledger {
    /// Judges claims on all evidence, or on the evidence of one kind.
    ///
    /// # Errors
    /// Returns an error if evidence is damaged.
    pub fn judge(claims: &[Claim], tier: Option<Tier>, evidences: &Evidences) -> Result<Self> {
        let pairs = claims.iter().flat_map(|c| c.judged.iter().map(move |j| (c, j)));
        let wanted = pairs.filter(|(_, j)| tier.is_none_or(|t| t == j.tier));
        let entries = wanted.map(|(c, j)| Entry::judge(c, j, evidences)).collect::<Result<_>>()?;
        Ok(Self { entries, incomplete: evidences.incomplete() })
    }

    /// Returns whether any entry is a failure, as [`Entry::is_failure`] says.
    pub fn fails(&self, strict: bool) -> bool {
        self.entries.iter().any(|e| e.is_failure(strict))
    }

    /// Returns the first entry that was not run although its tier or claim is one of `required`.
    ///
    /// # Errors
    /// Returns the first name in `required` that is neither a tier nor the id of a claim.
    pub fn missing(&self, required: &[String]) -> std::result::Result<Option<&Entry>, String> {
        let is_of = |e: &Entry, name: &String| e.tier == name || e.id == *name;
        let known = |name: &&String| self.entries.iter().any(|e| is_of(e, name));
        if let Some(unknown) = required.iter().find(|name| !known(name)) {
            return Err(unknown.clone());
        }
        let not_run = |e: &&Entry| matches!(e.verdict, Verdict::NotRun(_));
        let wanted = |e: &&Entry| required.iter().any(|name| is_of(e, name));
        Ok(self.entries.iter().filter(wanted).find(not_run))
    }

    /// Returns the number of entries with each verdict: holds, contradicted, fails, not run.
    pub fn counts(&self) -> [usize; 4] {
        let mut counts = [0; 4];
        for entry in &self.entries {
            counts[match entry.verdict {
                Verdict::Holds => 0,
                Verdict::Contradicted => 1,
                Verdict::Fails => 2,
                Verdict::NotRun(_) => 3,
            }] += 1;
        }
        counts
    }
}
