//! The verdicts on claims that the page shows.

use serde::Serialize;

use crate::claims::ledger::Verdict;
use crate::claims::{Claim, Entry, Evidence, Evidences, Ledger, RunWeights, Tier};
use crate::error::Result;
use crate::record::{RunFolder, RunResults};
use crate::report::ledger::caveat;

/// The verdicts on claims that are judged on a run.
pub struct RunVerdicts {
    ledger: Ledger,
    /// The kind of evidence.
    tier: Tier,
}

/// The number of claims with one verdict.
#[derive(Serialize)]
pub struct VerdictCount {
    class: &'static str,
    word: &'static str,
    n: usize,
}

/// A claim on the page.
#[derive(Serialize)]
pub struct Line<'a> {
    id: &'a str,
    claim: &'a str,
    source: &'a str,
    class: &'static str,
    verdict: &'static str,
    /// What the verdict is about.
    about: &'static str,
    reason: &'a str,
    /// Why the verdict is little evidence.
    caveat: String,
    expected: &'a str,
    measured: String,
    paper: String,
}

impl RunVerdicts {
    /// Judges claims on a study and on other runs of its model. Returns `None` if no claim is about the
    /// model, or the run is not a study.
    pub fn of(folder: &RunFolder, with: &[RunFolder], claims: &[Claim]) -> Result<Option<Self>> {
        let RunResults::Study(study) = &folder.results else { return Ok(None) };
        let mut evidence = Evidence::of_study(&folder.path, study)?;
        for run in with {
            if let RunResults::Figures(other) = &run.results {
                let weights = RunWeights::of_run(&run.provenance);
                evidence.add(other.figures.figures.clone(), &weights);
            }
        }
        let reference = &folder.provenance.spec.models.reference;
        let Some((evidences, tier)) = Evidences::of_run(evidence, reference)? else {
            return Ok(None);
        };
        let ledger = Ledger::judge(claims, Some(tier), &evidences)?;
        Ok(Some(Self { ledger, tier }))
    }

    /// Returns the number of claims with each verdict that occurs, whatever the weights.
    pub fn counts(&self) -> Vec<VerdictCount> {
        let names = [
            ("holds", "hold"),
            ("contradicted", "contradicted"),
            ("fails", "fail"),
            ("undecided", "undecided"),
            ("not-run", "not run"),
        ];
        let (own, unknown) = (self.ledger.counts(false), self.ledger.counts(true));
        let all = names.into_iter().zip(own.into_iter().zip(unknown).map(|(a, b)| a + b));
        all.filter(|(_, n)| *n > 0)
            .map(|((class, word), n)| VerdictCount { class, word, n })
            .collect()
    }

    /// Returns why the weights are of unknown origin, if those of every claim that was judged are.
    fn unknown_origin(&self) -> Option<&str> {
        let mut judged = self.ledger.entries.iter().filter(|e| e.was_run());
        let first = judged.next()?.unknown_origin.as_deref()?;
        judged.all(|e| e.unknown_origin.is_some()).then_some(first)
    }

    /// Returns whether the run is evidence about the bundled models.
    pub fn is_of_bundled_models(&self) -> bool {
        self.tier == Tier::Desk && self.unknown_origin().is_none()
    }

    /// Returns what the claims were judged on.
    pub fn about(&self) -> String {
        let [.., not_run] = self.ledger.counts(false);
        let all = self.ledger.entries.len();
        if let Some(reason) = self.unknown_origin() {
            return format!(
                "{} of {all} claims are judged on this run, on weights of unknown origin: {reason}. \
                 The verdicts are about these weights, and about no model of a paper.",
                all - not_run
            );
        }
        let evidence = match self.tier {
            Tier::Desk => {
                "Directions and ranges are judged, for these models are far smaller than the paper's"
            }
            _ => "The paper's own models are judged on its figures",
        };
        let about = self.tier.badge();
        format!("{} of {all} claims are judged on this run, {about}. {evidence}.", all - not_run)
    }

    /// Returns the claims one by one.
    pub fn lines(&self, claims: &[Claim]) -> Vec<Line<'_>> {
        self.ledger.entries.iter().map(|e| line(e, claims)).collect()
    }
}

fn line<'a>(e: &'a Entry, claims: &[Claim]) -> Line<'a> {
    let (class, verdict, reason) = match &e.verdict {
        Verdict::Holds => ("holds", "holds", ""),
        Verdict::Contradicted => ("contradicted", "contradicted", ""),
        Verdict::Fails => ("fails", "fails", e.finding.as_deref().unwrap_or("")),
        Verdict::Undecided => ("undecided", "undecided", e.finding.as_deref().unwrap_or("")),
        Verdict::NotRun(reason) => ("not-run", "not run", reason.as_str()),
    };
    let paper = claims.iter().find(|c| c.id == e.id).and_then(Claim::published);
    Line {
        id: &e.id,
        claim: &e.claim,
        source: &e.source,
        class,
        verdict,
        about: e.about,
        reason,
        caveat: caveat(e).unwrap_or_default(),
        expected: &e.expected,
        measured: e.measured_text(),
        paper: paper.unwrap_or_default(),
    }
}
