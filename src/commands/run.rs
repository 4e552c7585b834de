//! `run` and `merge`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use universal_neurons::checkpoint::Checkpoints;
use universal_neurons::claims::Evidence;
use universal_neurons::cli::RunOptions;
use universal_neurons::error::{Error, Kind, Result};
use universal_neurons::estimate::Estimate;
use universal_neurons::experiment::{self, STUDY, load_spec};
use universal_neurons::findings::{FigureFile, Outcome, Universal};
use universal_neurons::plan::Plan;
use universal_neurons::run::{Control, Shard};
use universal_neurons::store::{RunDirectory, folder_of};
use universal_neurons::{cards, report, run};

use super::{progress, show, show_folder, show_json, stop_on_interrupt, use_threads};

/// Seconds between the checkpoints of a resumed run.
const CHECKPOINT_SECONDS: u64 = 300;

/// Runs an experiment, or one share of it, or tells what it would cost.
pub fn run_experiment(spec: &Path, options: &RunOptions) -> Result<()> {
    let stop = stop_on_interrupt()?;
    use_threads(options.threads)?;
    let plan = Plan::make(load_spec(spec)?)?;
    if options.dry_run {
        show(&Estimate::of(&plan).to_string());
        return Ok(());
    }
    let out = options.out.clone().unwrap_or_else(|| default_out(&plan));
    // A share is written beside the run, at the end; its folder is made first.
    let beside = folder_of(&out);
    std::fs::create_dir_all(beside)
        .map_err(|e| Error::io(Kind::Store, beside, "create the folder for runs", &e))?;
    let mut control = Control {
        progress: progress(options.quiet),
        stop,
        device: Some(options.device.unwrap_or(plan.spec.device)),
        checkpoints: checkpoint_of(&plan, &out, options.shard, options),
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
        show(&format!("sums in {}\n", path.display()));
        return Ok(());
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
        let evidence = Evidence::of_run(folder, plan.reference().layout())?;
        Ok(Universal::above(&evidence.table, plan.spec.correlation.threshold))
    };
    let universal = options.universal.as_ref().map(universal).transpose()?;
    let directory = RunDirectory::begin(out)?;
    let figures = experiment::run(plan, universal, control)?;
    let folder =
        report::files::write_figures(plan, &figures, options.universal.as_deref(), directory)?;
    if options.json {
        return show_json(&FigureFile::of(&plan.spec.name, &figures));
    }
    show(&report::terminal::figures(&plan.spec, &figures));
    show_folder(&folder);
    Ok(())
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
    let cards = cards::of(plan, &outcome.reference, &control.progress, &control.stop)?;
    let folder = report::files::write(plan, outcome, &cards, directory)?;
    if json {
        return show_json(&outcome.reference.summary);
    }
    show(&report::terminal::summary(outcome));
    show_folder(&folder);
    Ok(())
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
    Some(Checkpoints::new(path.with_added_extension("checkpoint"), every, plan.identity()))
}
