//! `run --mpi`: a run with one share per rank, in folders that all ranks can access.

use std::path::{Path, PathBuf};

use mpi::environment::Universe;
use mpi::traits::{Communicator, CommunicatorCollectives};
use universal_neurons::backend::device::cuda::Cuda;
use universal_neurons::cli::RunOptions;
use universal_neurons::error::{Error, Kind, Result};
use universal_neurons::experiment::STUDY;
use universal_neurons::output::{show, tell};
use universal_neurons::plan::Plan;
use universal_neurons::run::{Control, Session, Shard, identity, open_card};
use universal_neurons::spec::{CardChoice, DeviceChoice};

use super::progress;
use super::shares::{checkpoint_of, merge_shares, shard_file};

/// Sums this rank's share. The first rank then merges all shares and writes the run. If a rank
/// fails, the others end too; their shares stay, and `--resume` continues with them.
pub fn run_rank(plan: &Plan, out: &Path, options: &RunOptions, control: Control) -> Result<()> {
    let universe = mpi::initialize().ok_or_else(|| {
        let remedy = "start it with `mpirun -n N universal-neurons run SPEC --mpi`, as src/guide/large-runs.md shows";
        Error::new(Kind::Interrupted, "MPI", "cannot be started", remedy)
    })?;
    let outcome = sum_and_merge(&universe, plan, out, options, control);
    if let Err(error) = &outcome {
        tell(format_args!("rank {}: error: {error}", universe.world().rank()));
        // The other ranks wait for this one. Aborting ends them; they keep their checkpoints.
        universe.world().abort(2);
    }
    outcome
}

fn sum_and_merge(
    universe: &Universe,
    plan: &Plan,
    out: &Path,
    options: &RunOptions,
    mut control: Control,
) -> Result<()> {
    let world = universe.world();
    let (rank, ranks) = (world.rank() as usize, world.size() as usize);
    if plan.spec.kind != STUDY {
        let problem = "ranks are for `kind: universality`";
        return Err(Error::new(Kind::Spec, plan.spec_path.display(), problem, "leave --mpi out"));
    }
    control.progress = progress(options.quiet || rank > 0);
    control.device = control.device.map(|device| of_rank(device, &world)).transpose()?;
    let card = open_card(plan, &control)?;
    let shards = (1..=ranks).map(|i| Shard::of(i, ranks)).collect::<Vec<_>>();
    let files: Vec<PathBuf> = shards.iter().map(|shard| shard_file(out, *shard)).collect();
    let own = shards[rank];
    let identity = identity(plan, card.as_deref());
    let checkpoints = checkpoint_of(out, Some(own), options, identity);
    // A rank that had not begun has no checkpoint to resume from.
    control.resume = options.resume && checkpoints.as_ref().is_some_and(|c| c.path().exists());
    control.checkpoints = checkpoints;
    if !(options.resume && files[rank].exists()) {
        Session::new(plan, &mut control).on(card.as_deref()).sum_share(own)?;
    }
    // The first rank merges with all of its card's memory.
    drop(card);
    world.barrier();
    if rank == 0 {
        if !options.json {
            show(&format!("{ranks} ranks have summed their shares\n"))?;
        }
        control.checkpoints = None;
        merge_shares(plan, &files, out, &mut control, options.json)?;
        for file in &files {
            std::fs::remove_file(file)
                .map_err(|e| Error::io(Kind::Store, file, "remove the share", &e))?;
        }
    }
    // No rank exits before the run is written.
    world.barrier();
    Ok(())
}

/// Returns the device of a rank: of several cards, that with the number of the rank on its machine.
/// With `auto` a rank uses the CPU, since all shares must be made by the same kind of device.
fn of_rank(device: DeviceChoice, world: &impl Communicator) -> Result<DeviceChoice> {
    let cards = match device {
        DeviceChoice::Cuda(CardChoice::All) => (0..Cuda::count()?).collect(),
        DeviceChoice::Cuda(CardChoice::Numbered(cards)) => cards,
        DeviceChoice::Auto | DeviceChoice::Cpu => return Ok(DeviceChoice::Cpu),
    };
    let local = world.split_shared(world.rank()).rank() as usize;
    Ok(DeviceChoice::Cuda(CardChoice::Numbered(vec![cards[local % cards.len()]])))
}
