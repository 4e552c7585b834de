//! `run` and `merge`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use universal_neurons::checkpoint::Checkpoints;
use universal_neurons::cli::RunOptions;
use universal_neurons::error::{Error, Kind, Result};
use universal_neurons::estimate::Estimate;
use universal_neurons::experiment::{self, STUDY, load_spec};
use universal_neurons::findings::{Outcome, Universal};
use universal_neurons::output::{kept_in, show};
use universal_neurons::plan::Plan;
use universal_neurons::record::{CardFile, neurons};
use universal_neurons::run::{Control, Shard};
use universal_neurons::store::{RunDirectory, WrittenRun, digest_file, folder_of};
use universal_neurons::{cards, report, run};

use super::{progress, show_folder, show_json, stop_on_interrupt};

/// Seconds between the checkpoints of a resumed run.
const CHECKPOINT_SECONDS: u64 = 300;

/// Runs an experiment, or one share of it, or tells what it would cost.
pub fn run_experiment(spec: &Path, options: &RunOptions) -> Result<()> {
    let stop = stop_on_interrupt()?;
    let plan = Plan::make(load_spec(spec)?)?;
    if options.dry_run {
        return show(&Estimate::of(&plan).to_string());
    }
    let out = options.out.clone().unwrap_or_else(|| default_out(&plan));
    // A share is written beside the run, at the end; its folder is made first.
    let beside = folder_of(&out);
    std::fs::create_dir_all(beside)
        .map_err(|e| Error::io(Kind::Store, beside, "create the folder for runs", &e))?;
    let checkpoints = checkpoint_of(&plan, &out, options.shard, options);
    checkpoints.as_ref().map_or(Ok(()), |c| c.refuse_existing(options.resume))?;
    let mut control = Control {
        progress: progress(options.quiet),
        stop,
        device: Some(options.device.unwrap_or(plan.spec.device)),
        checkpoints,
        resume: options.resume,
    };
    #[cfg(feature = "mpi")]
    if options.mpi {
        return super::ranks::run_rank(&plan, &out, options, control);
    }
    if plan.spec.kind != STUDY {
        return run_kind(&plan, options, &out, &mut control);
    }
    if let Some(shard) = options.shard {
        run::refuse_device(&control, "--shard")?;
        let path = run::run_shard(&plan, shard, &mut control)?;
        return show(&format!("sums in {}\n", path.display()));
    }
    // Opened first, so that a folder that cannot be written costs no run.
    let directory = RunDirectory::begin(&out)?;
    cards::check(&plan)?;
    let outcome = run::run(&plan, &mut control)?;
    publish(&plan, &outcome, directory, &control, options.json)
}

/// Runs an experiment of another kind.
fn run_kind(plan: &Plan, options: &RunOptions, out: &Path, control: &mut Control) -> Result<()> {
    if options.shard.is_some() || control.checkpoints.is_some() {
        let problem = "shares and checkpoints are for `kind: universality`";
        return Err(Error::new(Kind::Spec, plan.spec_path.display(), problem, "leave them out"));
    }
    run::refuse_device(control, "this kind of experiment")?;
    let universal = |folder: &PathBuf| {
        let table = neurons::read(folder, plan.reference().layout())?;
        Ok(Universal::above(&table, plan.spec.correlation.threshold))
    };
    let universal = options.universal.as_ref().map(universal).transpose()?;
    let digest = |folder: &PathBuf| digest_file(Kind::Evidence, &folder.join(neurons::FILE));
    let digest = options.universal.as_ref().map(digest).transpose()?;
    let directory = RunDirectory::begin(out)?;
    let figures = experiment::run(plan, universal, control)?;
    let folder = save(directory, control, |directory| {
        report::files::write_figures(plan, &figures, digest.clone(), directory)
    })?;
    let shown = if options.json {
        show_json(&figures.file(&plan.spec.name))
    } else {
        show(&report::terminal::figures(&plan.spec, &figures)).and_then(|()| show_folder(&folder))
    };
    shown.map_err(|error| kept_in(&folder, error))
}

/// Adds shares and writes what follows.
pub fn merge(spec: &Path, shares: &[PathBuf], out: Option<PathBuf>, quiet: bool) -> Result<()> {
    let stop = stop_on_interrupt()?;
    let plan = Plan::make(load_spec(spec)?)?;
    let out = out.unwrap_or_else(|| default_out(&plan));
    let mut control = Control { progress: progress(quiet), stop, ..Control::default() };
    merge_shares(&plan, shares, &out, &mut control, false)
}

/// Adds shares and writes the run.
pub(super) fn merge_shares(
    plan: &Plan,
    shares: &[PathBuf],
    out: &Path,
    control: &mut Control,
    json: bool,
) -> Result<()> {
    let directory = RunDirectory::begin(out)?;
    cards::check(plan)?;
    let outcome = run::merge(plan, shares, control)?;
    publish(plan, &outcome, directory, control, json)
}

fn default_out(plan: &Plan) -> PathBuf {
    Path::new("runs").join(&plan.spec.name)
}

/// Looks at the neurons that stand out, and writes everything.
fn publish(
    plan: &Plan,
    outcome: &Outcome,
    directory: RunDirectory,
    control: &Control,
    json: bool,
) -> Result<()> {
    let cards = cards::of(plan, &outcome.reference, &control.progress, &control.stop);
    let (cards, no_cards) = match (cards, kept_sums(control)) {
        (Ok(cards), _) => (cards, None),
        (Err(error), Some(checkpoints)) => return Err(checkpoints.keeps(error)),
        // The study is written without them rather than lost.
        (Err(error), None) => (CardFile::default(), Some(error)),
    };
    let write = |directory| report::files::write(plan, outcome, &cards, directory);
    let folder = save(directory, control, write)?;
    if let Some(error) = no_cards {
        return Err(without_cards(&folder, error));
    }
    let shown = if json {
        show_json(&outcome.reference.summary)
    } else {
        show(&report::terminal::summary(outcome)).and_then(|()| show_folder(&folder))
    };
    shown.map_err(|error| kept_in(&folder, error))?;
    // The statistics are right even where no correlation exists, so they are kept.
    outcome.check_correlated().map_err(|error| kept_in(&folder, error))
}

/// The checkpoint that holds the sums of a run until its results are on the disk.
fn kept_sums(control: &Control) -> Option<&Checkpoints> {
    control.checkpoints.as_ref().filter(|checkpoints| checkpoints.path().exists())
}

fn without_cards(folder: &Path, error: Error) -> Error {
    if error.kind != Kind::Interrupted {
        return kept_in(folder, error);
    }
    let folder = folder.display();
    let problem = format!("interrupted; its results are in {folder}, without cards of neurons");
    Error::new(Kind::Interrupted, "the run", problem, "run it again if you want the cards")
}

/// Writes the files of a run, and removes its checkpoint when they are on the disk. Where
/// the folder cannot be written and no checkpoint keeps the sums, the files are written to
/// the system's folder for temporary files.
///
/// # Errors
/// Returns an error that says where the results or the sums are.
fn save(
    directory: RunDirectory,
    control: &Control,
    write: impl Fn(RunDirectory) -> Result<WrittenRun>,
) -> Result<PathBuf> {
    let written = match (write(directory), kept_sums(control)) {
        (Err(error), Some(checkpoints)) => return Err(checkpoints.keeps(error)),
        (Err(error), None) => return Err(save_elsewhere(error, write)),
        (Ok(written), _) => written,
    };
    match written.failed {
        Some(error) => {
            let error = kept_in(&written.folder, error);
            Err(kept_sums(control).map_or(error.clone(), |c| c.keeps(error)))
        }
        None => {
            control.checkpoints.as_ref().inspect(|checkpoints| checkpoints.remove());
            Ok(written.folder)
        }
    }
}

/// Writes a run that cannot be written where it should be; returns the error that says so.
fn save_elsewhere(error: Error, write: impl Fn(RunDirectory) -> Result<WrittenRun>) -> Error {
    let folder = tempfile::Builder::new().prefix("universal-neurons-run-").tempdir();
    let Ok(folder) = folder.map(tempfile::TempDir::keep) else { return error };
    match RunDirectory::begin(&folder).and_then(write) {
        Ok(written) => kept_in(&written.folder, error),
        Err(_) => error,
    }
}

/// Where a share is written.
pub(super) fn shard_file(out: &Path, shard: Shard) -> PathBuf {
    out.with_added_extension(format!("shard-{shard}"))
}

/// Where the sums of a run or of a share are kept meanwhile, if they are.
pub(super) fn checkpoint_of(
    plan: &Plan,
    out: &Path,
    shard: Option<Shard>,
    options: &RunOptions,
) -> Option<Checkpoints> {
    // A run that goes on keeps its sums too, now and then; a share is such sums.
    let kept = (options.resume || shard.is_some()).then_some(CHECKPOINT_SECONDS);
    let every = Duration::from_secs(options.checkpoint.or(kept)?);
    let path = match shard {
        Some(shard) => shard_file(out, shard),
        None => out.to_path_buf(),
    };
    let path = path.with_added_extension("checkpoint");
    let mut checkpoints = Checkpoints::new(path, every, plan.identity());
    if let Some(shard) = shard {
        checkpoints.of_share(shard.fraction());
    }
    Some(checkpoints)
}
