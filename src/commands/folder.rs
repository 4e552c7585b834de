//! `run FOLDER`: runs all experiments of a folder one after the other, and judges the claims once at
//! the end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use universal_neurons::claims::registry;
use universal_neurons::cli::RunOptions;
use universal_neurons::error::{Error, Kind, Result};
use universal_neurons::estimate::{Estimate, calibrate};
use universal_neurons::experiment::{STUDY, load_spec};
use universal_neurons::output::{show, tell};
use universal_neurons::plan::Plan;
use universal_neurons::record::Provenance;
use universal_neurons::report;
use universal_neurons::spec::load::Loaded;
use universal_neurons::store::MARK;

use super::run::{estimate, planned, run_file, run_plan};
use super::verify::judge_run;
use super::{CLAIM_FAILS, COULD_NOT_RUN, show_json, stop_on_interrupt};

/// The experiments of a folder, in the order in which they are run.
struct SpecFolder {
    /// The specs, the studies of universality first, with the folder of the results of each.
    specs: Vec<(Loaded, PathBuf)>,
    /// The folder of the results of the study, if there is exactly one. It contains those of the
    /// other experiments, which take the universal neurons from it.
    study: Option<PathBuf>,
}

impl SpecFolder {
    /// Loads all specs of a folder. `out` is where results go: by default in `runs/`.
    ///
    /// # Errors
    /// Returns an error if the folder has no spec, or one is malformed. All mistakes but the last are
    /// shown at once.
    fn load(folder: &Path, out: Option<&PathBuf>) -> Result<Self> {
        let mut loaded = Vec::new();
        let mut errors = Vec::new();
        for file in spec_files(folder)? {
            match load_spec(&file) {
                Ok(spec) => loaded.push(spec),
                Err(error) => errors.push(error),
            }
        }
        if let Some(last) = errors.pop() {
            errors.iter().for_each(|error| tell(format_args!("error: {error}")));
            return Err(last);
        }
        loaded.sort_by_key(|spec| spec.spec.kind != STUDY);
        let mut studies = loaded.iter().filter(|spec| spec.spec.kind == STUDY);
        let only = studies.next().filter(|_| studies.next().is_none());
        let study = only
            .map(|study| out.cloned().unwrap_or_else(|| Path::new("runs").join(&study.spec.name)));
        let place = |spec: &Loaded| match &study {
            Some(study) if spec.spec.kind == STUDY => study.clone(),
            Some(study) => study.join(spec.path.file_stem().unwrap_or_default()),
            None => out.map_or(Path::new("runs"), PathBuf::as_path).join(&spec.spec.name),
        };
        let specs = loaded.into_iter().map(|spec| (place(&spec), spec));
        Ok(Self { specs: specs.map(|(place, spec)| (spec, place)).collect(), study })
    }
}

/// Returns the experiment files of a folder, by name.
fn spec_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .map_err(|e| Error::io(Kind::Spec, folder, "read the folder", &e))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    if files.is_empty() {
        let problem = "has no experiment files (`.yaml`)";
        let remedy = "name a folder such as experiments/paper/stanford-gpt2-small";
        return Err(Error::new(Kind::Spec, folder.display(), problem, remedy));
    }
    Ok(files)
}

/// Runs an experiment, or all experiments of a folder, or shows what they would cost. Returns the exit
/// code.
pub fn run_experiment(spec: &Path, options: &RunOptions) -> Result<u8> {
    match (spec.is_dir(), options.dry_run) {
        (false, _) => run_file(spec, options).map(|()| 0),
        (true, true) => dry_run_folder(spec, options).map(|()| 0),
        (true, false) => run_folder(spec, options),
    }
}

/// Shows what all experiments of a folder would cost.
fn dry_run_folder(folder: &Path, options: &RunOptions) -> Result<()> {
    let SpecFolder { specs, study } = SpecFolder::load(folder, options.out.as_ref())?;
    let precision = specs[0].0.spec.correlation.precision;
    let universal = study.is_some() || options.universal.is_some();
    let estimates = specs.into_iter().map(|(spec, _)| estimate(spec, universal));
    let estimates = estimates.collect::<Result<Vec<Estimate>>>()?;
    let rate = calibrate(precision);
    if options.json {
        return show_json(&estimates.iter().map(|e| e.json(rate)).collect::<Vec<_>>());
    }
    for estimate in &estimates {
        show(&format!("{} ({})\n{}\n", estimate.name, estimate.kind, estimate.text(rate)))?;
    }
    let seconds: f64 = estimates.iter().map(|e| e.seconds(rate)).sum();
    let bytes = estimates.iter().map(|e| e.bytes).fold(0.0, f64::max);
    show(&format!(
        "all {}: at least {:.0} s, at most {:.2} GiB at once\n",
        estimates.len(),
        seconds.ceil(),
        bytes / f64::from(1 << 30)
    ))
}

/// Runs all experiments of a folder and judges the claims on their results. An experiment that fails
/// does not stop the others; an interrupt does. Returns the exit code.
fn run_folder(folder: &Path, options: &RunOptions) -> Result<u8> {
    refuse_options(folder, options)?;
    let stop = stop_on_interrupt()?;
    let SpecFolder { specs, study } = SpecFolder::load(folder, options.out.as_ref())?;
    let (count, mut failed, mut studies) = (specs.len(), Vec::new(), Vec::new());
    for (i, (loaded, out)) in specs.into_iter().enumerate() {
        let (path, is_study) = (loaded.path.clone(), loaded.spec.kind == STUDY);
        tell(format_args!("[{}/{count}] {}", i + 1, path.display()));
        match run_one(loaded, options, (&out, study.as_deref()), Arc::clone(&stop)) {
            Ok(()) if is_study => studies.push(out),
            Ok(()) => {}
            Err(error) if error.kind == Kind::Interrupted => return Err(error),
            Err(error) => {
                tell(format_args!("error: {error}"));
                failed.push(path.display().to_string());
            }
        }
    }
    let claim_fails = judge(&studies)?;
    if !failed.is_empty() {
        tell(format_args!("{} of {count} could not be run: {}", failed.len(), failed.join(", ")));
        return Ok(COULD_NOT_RUN);
    }
    Ok(if claim_fails { CLAIM_FAILS } else { 0 })
}

/// Refuses options that are about one experiment.
fn refuse_options(folder: &Path, options: &RunOptions) -> Result<()> {
    let named = [
        ("--shard", options.shard.is_some()),
        ("--json", options.json),
        #[cfg(feature = "mpi")]
        ("--mpi", options.mpi),
    ];
    match named.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((option, _)) => {
            let problem = format!("is a folder, and {option} is about one experiment");
            let remedy = format!("name a file of the folder, or leave out {option}");
            Err(Error::new(Kind::Spec, folder.display(), problem, remedy))
        }
    }
}

/// Runs one experiment of a folder into `out`. If `study` is the run of a study of the same model, the
/// universal neurons are taken from there.
fn run_one(
    loaded: Loaded,
    options: &RunOptions,
    (out, study): (&Path, Option<&Path>),
    stop: Arc<AtomicBool>,
) -> Result<()> {
    let plan = planned(loaded)?;
    if options.resume && is_finished(&plan, out) {
        return show(&format!("{} has its results\n", out.display()));
    }
    let mut own = options.clone();
    if plan.spec.kind == STUDY {
        own.resume = options.resume && out.with_added_extension("checkpoint").exists();
    } else {
        (own.resume, own.checkpoint) = (false, None);
        let of_study = || study.filter(|study| has_reference(study, &plan)).map(Path::to_owned);
        own.universal = options.universal.clone().or_else(of_study);
    }
    run_plan(&plan, &own, out, stop)
}

/// Returns whether a folder has the results of a run of a plan, on the same models and text.
fn is_finished(plan: &Plan, out: &Path) -> bool {
    let Ok(found) = Provenance::read(out) else { return false };
    let weights = |i: usize| (plan.models[i].name.as_str(), plan.models[i].weights_digest.as_str());
    let recorded = found.models.iter().map(|m| (m.name.as_str(), m.content_sha256()));
    found.spec_sha256 == plan.spec_digest
        && found.corpus_sha256 == plan.corpus_digest
        && recorded.eq((0..plan.models.len()).map(weights))
}

/// Returns whether a folder has a run with the reference model of a plan.
fn has_reference(folder: &Path, plan: &Plan) -> bool {
    let own = &plan.reference().weights_digest;
    folder.join(MARK).exists()
        && Provenance::read(folder).is_ok_and(|found| {
            found.reference().is_some_and(|model| model.content_sha256() == *own)
        })
}

/// Judges the claims on every study that claims are about. Returns whether a verdict is not the
/// recorded one.
fn judge(studies: &[PathBuf]) -> Result<bool> {
    let claims = registry()?;
    let mut fails = false;
    for study in studies {
        match judge_run(study, &claims)? {
            None => show(&format!("{}: no claim is about its models\n", study.display()))?,
            Some(ledger) => {
                show(&format!("claims on {}\n{}", study.display(), report::ledger::text(&ledger)))?;
                fails |= ledger.fails(false);
            }
        }
    }
    Ok(fails)
}
