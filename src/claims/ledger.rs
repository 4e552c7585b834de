//! The ledger: every claim with its verdict, or the reason why it was not run.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::chance::Chance;
use super::claim::{Claim, Judgement};
use super::evidence::Evidence;
use super::judge::{expectation, judge, judge_interval};
use super::sources::Evidences;
use super::tier::Tier;
use super::values::{list, short};
use crate::error::Result;
use crate::record::PercentileInterval;

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
    /// No value can be computed on this evidence, such as a mean over no neurons, or the interval of
    /// the value contains a bound that the claim gives.
    Undecided,
    /// The claim was not judged, for this reason.
    NotRun(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds => f.write_str("holds"),
            Self::Contradicted => f.write_str("contradicted"),
            Self::Fails => f.write_str("fails"),
            Self::Undecided => f.write_str("undecided"),
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
    /// What the verdict is about, such as "on the bundled models".
    pub about: &'static str,
    /// Names of the models.
    pub models: Vec<String>,
    /// What the claim expects, as text.
    pub expected: String,
    /// The measured values; empty if the claim was not run.
    pub measured: Vec<f64>,
    /// 95 % interval of the measured value, if it is known.
    pub interval: Option<PercentileInterval>,
    /// Why the claim is undecided, if it is.
    pub open: Option<String>,
    /// Largest difference as a share of the tolerance, if there is a tolerance.
    pub tolerance_used: Option<f64>,
    /// Why the comparison holds by definition, or nearly so, and is little evidence.
    pub by_definition: Option<String>,
    /// How often the claim would hold if the labels that decide it were in another order.
    pub chance: Option<Chance>,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The verdict that is recorded with the claim.
    #[serde(serialize_with = "as_word")]
    pub recorded: Verdict,
    /// What was found instead, if the claim is known to fail or to be undecided.
    pub finding: Option<String>,
    /// Why the weights are not known to be those of the models, if they are not. The verdict is
    /// about these weights then, and never about the models.
    pub unknown_origin: Option<String>,
}

fn as_word<S: serde::Serializer>(verdict: &Verdict, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.collect_str(verdict)
}

impl Judgement {
    /// Returns the recorded verdict.
    fn recorded(&self) -> Verdict {
        match (self.undecided, &self.finding, self.contradicted) {
            (true, ..) => Verdict::Undecided,
            (false, Some(_), _) => Verdict::Fails,
            (false, None, true) => Verdict::Contradicted,
            (false, None, false) => Verdict::Holds,
        }
    }

    /// Judges measured values. Returns the verdict and the share of the tolerance that was used.
    fn verdict(
        &self,
        values: &[f64],
        interval: Option<PercentileInterval>,
    ) -> (Verdict, Option<f64>) {
        let outcome = judge_interval(self, values, interval);
        let verdict = match (outcome.holds, self.contradicted) {
            (None, _) => Verdict::Undecided,
            (Some(true), false) => Verdict::Holds,
            (Some(false), true) => Verdict::Contradicted,
            // A contradiction that the evidence does not show is a failure too.
            (Some(false), false) | (Some(true), true) => Verdict::Fails,
        };
        (verdict, outcome.tolerance_used)
    }
}

impl Judgement {
    /// Returns why measured values leave the claim undecided.
    fn open(&self, values: &[f64], interval: Option<PercentileInterval>) -> String {
        match interval.filter(|_| values.iter().all(|v| v.is_finite())) {
            Some(interval) => {
                let is_in = |bound: &f64| (interval.low..=interval.high).contains(bound);
                let bounds: Vec<String> =
                    self.bounds().into_iter().filter(is_in).map(short).collect();
                format!(
                    "its 95 % interval, {}, contains {}",
                    text_of(interval),
                    bounds.join(" and ")
                )
            }
            None => "no value can be computed on this evidence".into(),
        }
    }
}

/// Returns an interval as text, with two digits after the decimal point.
fn text_of(interval: PercentileInterval) -> String {
    format!("{:.2} to {:.2}", interval.low, interval.high)
}

impl Entry {
    /// Judges a claim.
    ///
    /// # Errors
    /// Returns an error if evidence is damaged.
    pub fn judge(claim: &Claim, judgement: &Judgement, evidences: &Evidences) -> Result<Self> {
        let found = gather(judgement, claim.measure.experiment.as_deref(), evidences)?;
        let taken = found.and_then(|found| Ok((claim.measure.take(&found)?, found)));
        let (mut measured, mut tolerance_used, mut chance) = (Vec::new(), None, None);
        let (mut interval, mut open, mut unknown_origin) = (None, None, None);
        let verdict = match taken {
            Err(reason) => Verdict::NotRun(reason),
            Ok((values, found)) => {
                interval = claim.measure.interval(&found);
                let (verdict, used) = judgement.verdict(&values, interval);
                open = (verdict == Verdict::Undecided).then(|| judgement.open(&values, interval));
                if verdict != Verdict::Undecided {
                    let holds = |values: &[f64]| judge(judgement, values).holds == Some(true);
                    chance = claim.measure.chance(&found, holds);
                }
                (measured, tolerance_used) = (values, used);
                unknown_origin = origin(claim, judgement, &found, evidences);
                verdict
            }
        };
        Ok(Self {
            id: claim.id.clone(),
            claim: statement(claim, judgement, unknown_origin.is_some()),
            source: format!("{}, {}", claim.source, claim.at),
            tier: judgement.tier.name(),
            about: if unknown_origin.is_some() { UNKNOWN } else { judgement.tier.badge() },
            models: judgement.models.clone(),
            expected: expectation(judgement),
            measured,
            interval,
            open,
            tolerance_used,
            by_definition: judgement.by_definition.clone(),
            chance,
            verdict,
            recorded: judgement.recorded(),
            finding: judgement.finding.clone().filter(|_| unknown_origin.is_none()),
            unknown_origin,
        })
    }

    /// Returns whether the claim was judged. The weights may be of unknown origin.
    pub fn was_run(&self) -> bool {
        !matches!(self.verdict, Verdict::NotRun(_))
    }

    /// Returns whether the verdict is the recorded one. Returns `None` if the claim was not run, or
    /// was judged on weights of unknown origin, for which nothing is recorded.
    pub fn as_recorded(&self) -> Option<bool> {
        match self.verdict {
            Verdict::NotRun(_) => None,
            _ if self.unknown_origin.is_some() => None,
            _ => Some(self.verdict == self.recorded),
        }
    }

    /// Returns whether the entry makes `verify` fail: the verdict is not the recorded one or, if
    /// `strict`, the claim fails or is undecided.
    pub fn is_failure(&self, strict: bool) -> bool {
        match self.verdict {
            Verdict::Fails | Verdict::Undecided if strict => true,
            _ if strict => false,
            _ => self.as_recorded() == Some(false),
        }
    }

    /// Returns the measured values as text, with the interval if it is known.
    pub fn measured_text(&self) -> String {
        let interval = self.interval.map(|i| format!(" (95 %: {})", text_of(i)));
        list(&self.measured) + &interval.unwrap_or_default()
    }
}

/// What a verdict on weights of unknown origin is about.
const UNKNOWN: &str = "on weights of unknown origin";

/// Returns why the weights of some evidence are not known to be those of a judgement's models.
fn origin(
    claim: &Claim,
    judgement: &Judgement,
    found: &[Arc<Evidence>],
    evidences: &Evidences,
) -> Option<String> {
    let figure = claim.measure.figure.as_deref();
    let mut pairs = judgement.models.iter().zip(found);
    pairs.find_map(|(model, e)| evidences.unknown_origin(judgement.tier, model, e, figure))
}

/// Returns the claim in one sentence, as it is judged.
fn statement(claim: &Claim, judgement: &Judgement, unknown: bool) -> String {
    let statement = judgement.statement.as_ref().unwrap_or(&claim.statement);
    if !unknown {
        return statement.clone();
    }
    format!("Asked of other weights than those of {}: {statement}", judgement.models.join(", "))
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

    /// Returns the first entry that was not run, or only on weights of unknown origin, although its
    /// tier or claim is one of `required`.
    ///
    /// # Errors
    /// Returns the first name in `required` that is neither a tier nor the id of a claim.
    pub fn missing(&self, required: &[String]) -> std::result::Result<Option<&Entry>, String> {
        let is_of = |e: &Entry, name: &String| e.tier == name || e.id == *name;
        let known = |name: &&String| self.entries.iter().any(|e| is_of(e, name));
        if let Some(unknown) = required.iter().find(|name| !known(name)) {
            return Err(unknown.clone());
        }
        let not_run = |e: &&Entry| !e.was_run() || e.unknown_origin.is_some();
        let wanted = |e: &&Entry| required.iter().any(|name| is_of(e, name));
        Ok(self.entries.iter().filter(wanted).find(not_run))
    }

    /// Returns the number of entries with each verdict: holds, contradicted, fails, undecided, not
    /// run. Entries that were judged on weights of unknown origin are counted only if `unknown`,
    /// and the others only if not.
    pub fn counts(&self, unknown: bool) -> [usize; 5] {
        let mut counts = [0; 5];
        for entry in self.entries.iter().filter(|e| e.unknown_origin.is_some() == unknown) {
            counts[match entry.verdict {
                Verdict::Holds => 0,
                Verdict::Contradicted => 1,
                Verdict::Fails => 2,
                Verdict::Undecided => 3,
                Verdict::NotRun(_) => 4,
            }] += 1;
        }
        counts
    }
}
