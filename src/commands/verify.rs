//! `verify`: judges the claims.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use universal_neurons::claims::sources::{DATA, DeskRun, desk_specs};
use universal_neurons::claims::{Claim, Evidence, Evidences, Ledger, Tier, claim, registry};
use universal_neurons::cli::{DEFAULT_SPEC, VerifyOptions};
use universal_neurons::error::{Error, Kind, Result};
use universal_neurons::experiment::{self, load_spec};
use universal_neurons::findings::Universal;
use universal_neurons::output::show;
use universal_neurons::plan::Plan;
use universal_neurons::printable;
use universal_neurons::record::StudyRecord;
use universal_neurons::run::Control;
use universal_neurons::store::write_whole;
use universal_neurons::{report, run};

use super::{CLAIM_FAILS, progress, show_json, stop_on_interrupt};

pub fn verify(options: &VerifyOptions) -> Result<u8> {
    let stop = stop_on_interrupt()?;
    let claims = options.claims.as_deref().map_or_else(registry, claim::read)?;
    let (evidences, tier) = match (&options.run, &options.claims) {
        (Some(folder), Some(file)) => (own_run(folder, file, &claims)?, Some(Tier::Run)),
        (Some(folder), None) => evidence_of_run(folder)?,
        (None, _) => {
            let data = std::env::var_os(DATA).map(PathBuf::from);
            let run = || desk_run(options.quiet, stop, claims.clone());
            let desk = Path::new(DEFAULT_SPEC).exists().then(run);
            (Evidences::new(data, desk)?, options.tier)
        }
    };
    let ledger = Ledger::judge(&claims, tier, &evidences)?;
    let printed = |path: &PathBuf| path.as_os_str() == "-";
    let json = printable::json(&format!("{:#}\n", serde_json::json!(ledger))).into_owned();
    for (path, content) in [
        (options.json.as_ref().filter(|path| !printed(path)), json),
        (options.junit.as_ref(), report::ledger::junit(&ledger, options.strict)),
        (options.markdown.as_ref(), report::ledger::markdown(&ledger)),
    ] {
        path.map_or(Ok(()), |path| write_whole(path, |out| out.write_all(content.as_bytes())))?;
    }
    if options.json.as_ref().is_some_and(printed) {
        show_json(&ledger)?;
    } else {
        show(&report::ledger::text(&ledger))?;
    }
    check_run(&ledger, options)?;
    Ok(if ledger.fails(options.strict) { CLAIM_FAILS } else { 0 })
}

/// Refuses a ledger without a verdict, and one that lacks a required verdict.
fn check_run(ledger: &Ledger, options: &VerifyOptions) -> Result<()> {
    let refuse =
        |problem: String, remedy: &str| Err(Error::new(Kind::Evidence, "verify", problem, remedy));
    match ledger.missing(&options.require) {
        Err(name) => {
            let problem =
                format!("`{name}` of --require is neither a tier that was judged nor a claim");
            return refuse(problem, "name a tier, such as published, or the id of a claim");
        }
        Ok(Some(entry)) => {
            let found = entry.unknown_origin.as_ref().map_or(entry.verdict.to_string(), |reason| {
                format!("judged only {}: {reason}", entry.about)
            });
            let problem = format!("{} is required: {found}", report::ledger::name(entry));
            return refuse(problem, "provide the evidence, or leave it out of --require");
        }
        Ok(None) => {}
    }
    let [.., not_run] = ledger.counts(false);
    if not_run == ledger.entries.len() {
        let problem = "no claim was run; the reasons are above".to_owned();
        return refuse(problem, "provide evidence: see the guide's chapter on claims and evidence");
    }
    Ok(())
}

/// Returns a run as evidence for claims of the user's own, which `file` has.
fn own_run(folder: &Path, file: &Path, claims: &[Claim]) -> Result<Evidences> {
    let mut judged = claims.iter().flat_map(|claim| &claim.judged);
    if !judged.any(|judgement| judgement.tier == Tier::Run) {
        let problem = "has no judgement of `tier: run`, and only these are judged with --run";
        let remedy = "write `tier: run` and the name of the run's reference as its model";
        return Err(Error::new(Kind::Evidence, file.display(), problem, remedy));
    }
    Evidences::of_own_run(folder, &StudyRecord::read(folder)?)
}

/// Judges claims on the run in a folder. Returns `None` if none is about a model of its shape.
pub fn judge_run(folder: &Path, claims: &[Claim]) -> Result<Option<Ledger>> {
    let found = known_evidence(folder)?;
    found.map(|(evidences, tier)| Ledger::judge(claims, Some(tier), &evidences)).transpose()
}

/// Returns the run in a folder as evidence of its kind, if claims are about models of its shape.
fn known_evidence(folder: &Path) -> Result<Option<(Evidences, Tier)>> {
    let study = StudyRecord::read(folder)?;
    let evidence = Evidence::of_study(folder, &study)?;
    Evidences::of_run(evidence, &study.summary.reference)
}

fn evidence_of_run(folder: &Path) -> Result<(Evidences, Option<Tier>)> {
    let (evidences, tier) = known_evidence(folder)?.ok_or_else(|| {
        let problem = "no claim is about models of this shape";
        let remedy = "call the reference like a model of expected/models.yaml, if it is one";
        Error::new(Kind::Evidence, folder.display(), problem, remedy)
    })?;
    Ok((evidences, Some(tier)))
}

/// Runs the bundled models when a claim first asks for them.
fn desk_run(quiet: bool, stop: Arc<AtomicBool>, claims: Vec<Claim>) -> DeskRun {
    Box::new(move |_| {
        let plan = Plan::make(load_spec(DEFAULT_SPEC.as_ref())?)?;
        let stop = Arc::clone(&stop);
        let mut control = Control { progress: progress(quiet), stop, ..Control::default() };
        let findings = run::run(&plan, &mut control)?.reference;
        findings.check_correlated()?;
        let universal = Universal::of(&findings, plan.spec.correlation.threshold);
        let mut evidence = Evidence::of_findings(&findings, &plan);
        for (_, spec) in desk_specs(&claims) {
            let plan = Plan::make(load_spec(spec.as_ref())?)?;
            let figures = experiment::run(&plan, Some(universal.clone()), &mut control)?;
            evidence = evidence.with(&figures, &plan);
        }
        Ok(evidence)
    })
}
