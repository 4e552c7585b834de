//! `merge`, and the files that hold the sums of a run or of a share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use universal_neurons::cards;
use universal_neurons::checkpoint::{Checkpoints, is_of};
use universal_neurons::cli::RunOptions;
use universal_neurons::error::Result;
use universal_neurons::experiment::load_spec;
use universal_neurons::plan::Plan;
use universal_neurons::run::{Control, Session, Shard, open_card};
use universal_neurons::spec::DeviceChoice;
use universal_neurons::store::RunDirectory;

use super::publish::publish;
use super::{progress, stop_on_interrupt};

/// Seconds between the checkpoints of a resumed run.
const CHECKPOINT_SECONDS: u64 = 300;

/// Plans a spec, merges the shares of its run, and writes the run.
pub fn merge(
    spec: &Path,
    shares: &[PathBuf],
    out: Option<PathBuf>,
    quiet: bool,
    json: bool,
) -> Result<()> {
    let stop = stop_on_interrupt()?;
    let plan = Plan::make(load_spec(spec)?)?;
    let out = out.unwrap_or_else(|| default_out(&plan));
    // Sums are merged by the device that made them.
    let on_cpu = shares.first().is_none_or(|share| is_of(share, &plan.identity()));
    let device = Some(if on_cpu { DeviceChoice::Cpu } else { DeviceChoice::Auto });
    let mut control = Control { progress: progress(quiet), stop, device, ..Control::default() };
    merge_shares(&plan, shares, &out, &mut control, json)
}

/// Merges shares and writes the run.
pub fn merge_shares(
    plan: &Plan,
    shares: &[PathBuf],
    out: &Path,
    control: &mut Control,
    json: bool,
) -> Result<()> {
    let directory = RunDirectory::begin(out)?;
    cards::check(plan)?;
    let card = open_card(plan, control)?;
    let mut session = Session::new(plan, control).on(card.as_deref());
    let mut outcome = session.merge(shares)?;
    publish(&mut session, &mut outcome, directory, json)
}

/// Returns the folder of a run if none is given.
pub fn default_out(plan: &Plan) -> PathBuf {
    Path::new("runs").join(&plan.spec.name)
}

/// Returns the path of the file of a share.
pub fn shard_file(out: &Path, shard: Shard) -> PathBuf {
    out.with_added_extension(format!("shard-{shard}"))
}

/// Returns the checkpoints of a run or of a share, or `None` if there are none. `identity` is the
/// digest of everything that its sums depend on.
pub fn checkpoint_of(
    out: &Path,
    shard: Option<Shard>,
    options: &RunOptions,
    identity: String,
) -> Option<Checkpoints> {
    // A resumed run writes checkpoints too, and the file of a share is itself one.
    let kept = (options.resume || shard.is_some()).then_some(CHECKPOINT_SECONDS);
    let every = Duration::from_secs(options.checkpoint.or(kept)?);
    let path = match shard {
        Some(shard) => shard_file(out, shard),
        None => out.to_path_buf(),
    };
    let path = path.with_added_extension("checkpoint");
    let mut checkpoints = Checkpoints::new(path, every, identity);
    if let Some(shard) = shard {
        checkpoints.of_share(shard.fraction());
    }
    Some(checkpoints)
}
