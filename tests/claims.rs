//! One test per claim and kind of evidence, named `claim/ID [tier]`. What cannot
//! be judged here is ignored, with its reason.

mod desk_run;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use universal_neurons::claims::sources::{DATA, DeskRun, desk_specs};
use universal_neurons::claims::{
    Claim, Entry, Evidence, Evidences, Judgement, Ledger, Tier, registry,
};
use universal_neurons::compare::{Tolerance, largest_difference};
use universal_neurons::findings::Figures;
use universal_neurons::record::FigureFile;
use universal_neurons::report::ledger::markdown;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const LEDGER: &str = "expected/LEDGER.md";
const BEGIN: &str = "<!-- ledger: written by `universal-neurons verify --markdown` -->\n";
const END: &str = "<!-- end of ledger -->";

fn main() {
    let arguments = Arguments::from_args();
    let claims = registry().unwrap_or_else(|e| panic!("{e}"));
    let data = std::env::var_os(DATA).map(PathBuf::from);
    let specs = desk_specs(&claims);
    let desk: DeskRun =
        Box::new(move |shape| Evidence::of_run(&desk_run::with_experiments(&specs)?, shape));
    let evidences = Evidences::new(data, Some(desk)).unwrap_or_else(|e| panic!("{e}"));
    let evidences = Arc::new(evidences);
    let mut reasons = Vec::new();
    let mut trials = Vec::new();
    for claim in &claims {
        for judgement in &claim.judged {
            let reason = reason_to_ignore(claim, judgement, &evidences);
            trials.push(trial(claim, judgement, &evidences).with_ignored_flag(reason.is_some()));
            reasons.extend(reason.map(|r| format!("{}: {r}", test_name(claim, judgement))));
        }
    }
    let desk = Arc::clone(&evidences);
    trials.push(Trial::test("the desk figures are those recorded", move || {
        figures_are_recorded(&desk)
    }));
    trials
        .push(Trial::test("the ledger is current", move || ledger_is_current(&claims, &evidences)));
    if !arguments.list {
        reasons.iter().for_each(|reason| eprintln!("not run: {reason}"));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// `claim/ID [tier]`, with the models where the tier judges several.
fn test_name(claim: &Claim, judgement: &Judgement) -> String {
    let same_tier = claim.judged.iter().filter(|j| j.tier == judgement.tier).count();
    let models =
        if same_tier > 1 { format!(" {}", judgement.models.join(" ")) } else { String::new() };
    format!("claim/{} [{}{models}]", claim.id, judgement.tier.name())
}

fn reason_to_ignore(claim: &Claim, judgement: &Judgement, evidences: &Evidences) -> Option<String> {
    let experiment = claim.measure.experiment.as_deref();
    let missing = |model: &String| evidences.missing(judgement.tier, model, experiment);
    let awaited = claim.measure.awaits.as_ref().map(|what| format!("awaits {what}"));
    awaited.or_else(|| judgement.models.iter().find_map(missing))
}

fn trial(claim: &Claim, judgement: &Judgement, evidences: &Arc<Evidences>) -> Trial {
    let (claim, judgement, evidences) = (claim.clone(), judgement.clone(), Arc::clone(evidences));
    Trial::test(test_name(&claim, &judgement), move || {
        let entry = Entry::judge(&claim, &judgement, &evidences).map_err(|e| e.to_string())?;
        match entry.as_recorded() {
            Some(true) => Ok(()),
            Some(false) => Err(unexpected(&entry)),
            None => Err(format!("{}, though its evidence is here", entry.verdict).into()),
        }
    })
}

fn unexpected(entry: &Entry) -> Failed {
    let recorded = entry.finding.as_ref().map_or(String::new(), |finding| format!(": {finding}"));
    let (expected, measured) = (&entry.expected, entry.measured_text());
    format!(
        "{}: expected {expected}, measured {measured}; recorded as: {}{recorded}",
        entry.verdict, entry.recorded
    )
    .into()
}

/// Every figure of the experiments on the bundled models, whether or not a claim is
/// about it. `UPDATE_FIGURES=1` records them.
fn figures_are_recorded(evidences: &Evidences) -> std::result::Result<(), Failed> {
    let found = evidences.find(Tier::Desk, "desk-a").map_err(|e| e.to_string())??;
    let figures = Figures { named: found.figures.clone(), ..Figures::default() }.file("desk-a");
    let path = Path::new(ROOT).join("expected/desk-figures.json");
    if std::env::var_os("UPDATE_FIGURES").is_some() {
        let text = serde_json::to_string_pretty(&figures).map_err(|e| e.to_string())?;
        return Ok(std::fs::write(path, text + "\n").map_err(|e| e.to_string())?);
    }
    let text = std::fs::read_to_string(&path).map_err(|e| e.to_string())?;
    let recorded: FigureFile = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let (got, want) = (figures.figures, recorded.figures);
    if !got.keys().eq(want.keys()) {
        return Err(format!("figures {:?}, recorded {:?}", got.keys(), want.keys()).into());
    }
    // Another SIMD width rounds sums otherwise; a neuron may cross a threshold.
    let tolerance = Tolerance { absolute: 2e-3, relative: 1e-2 };
    for ((name, got), want) in got.iter().zip(want.values()) {
        let known =
            |values: &[f64]| values.iter().copied().filter(|v| !v.is_nan()).collect::<Vec<_>>();
        let (got, want) = (known(got), known(want));
        let off = largest_difference(&got, &want, tolerance).filter(|d| !d.within());
        if got.len() != want.len() || off.is_some() {
            return Err(format!("{name}: {got:?}, recorded {want:?}").into());
        }
    }
    Ok(())
}

/// `expected/LEDGER.md` shows the desk tier, which everyone has. `UPDATE_GUIDE=1` writes it.
fn ledger_is_current(claims: &[Claim], evidences: &Evidences) -> std::result::Result<(), Failed> {
    let ledger = Ledger::judge(claims, Some(Tier::Desk), evidences).map_err(|e| e.to_string())?;
    let current = markdown(&ledger);
    let path = Path::new(ROOT).join(LEDGER);
    let text = std::fs::read_to_string(&path).map_err(|e| e.to_string())?;
    let (before, rest) = text.split_once(BEGIN).ok_or("the ledger's file has no ledger")?;
    let (shown, after) =
        rest.split_once(END).ok_or("the ledger's file has no end of the ledger")?;
    if !same_but_for_rounding(shown, &current) {
        if std::env::var_os("UPDATE_GUIDE").is_none() {
            return Err(format!("{LEDGER} is out of date, expected:\n{current}").into());
        }
        std::fs::write(&path, [before, BEGIN, &current, END, after].concat())
            .map_err(|e| e.to_string())?;
    }
    readme_counts_are_current(&ledger)
}

/// The README says how many claims hold and fail.
fn readme_counts_are_current(ledger: &Ledger) -> std::result::Result<(), Failed> {
    let [holds, _, fails, undecided, _] = ledger.counts(false);
    let said = format!(
        "{holds} hold on the bundled models and {fails} fail, each with a recorded reason; \
         {undecided} are undecided"
    );
    let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md"));
    let readme = readme.map_err(|e| e.to_string())?;
    let words: Vec<&str> = readme.split_whitespace().collect();
    if words.join(" ").contains(&said) {
        return Ok(());
    }
    Err(format!("README.md does not say that {said}").into())
}

/// Word by word, numbers within the last digit shown: another machine's SIMD
/// width may round them to the neighbouring one. Two neurons that swap ranks change a few of a
/// thousand random choices.
fn same_but_for_rounding(a: &str, b: &str) -> bool {
    let within = |a: &str, b: &str, absolute: f64| {
        let number = |word: &str| word.trim_matches(['(', ')', ',']).parse::<f64>();
        let (Ok(a), Ok(b)) = (number(a), number(b)) else { return false };
        let tolerance = Tolerance { absolute, relative: 0.0 };
        largest_difference(&[a], &[b], tolerance).is_some_and(|d| d.within())
    };
    let (a, b): (Vec<_>, Vec<_>) = (a.split_whitespace().collect(), b.split_whitespace().collect());
    let allowed = |i: usize| match a[i + 1..] {
        // Ends of an interval: a neuron may cross the threshold in a resample.
        _ if i > 0 && a[i - 1] == "%:" => 1.0,
        _ if i > 2 && a[i - 1] == "to" && a[i - 3] == "%:" => 1.0,
        ["of", "1000", ..] => 20.0,
        [percent, ..] if percent.starts_with("%)") && a[i].starts_with('(') => 2.0,
        _ => 1.01e-4,
    };
    let same = |i: usize| a[i] == b[i] || within(a[i], b[i], allowed(i));
    a.len() == b.len() && (0..a.len()).all(same)
}
