//! The commands, and helpers that several of them share.

mod check;
mod export;
mod folder;
mod look;
mod publish;
#[cfg(feature = "mpi")]
mod ranks;
mod run;
mod shares;
mod specs;
mod tools;
mod verify;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use universal_neurons::error::{Error, Kind, Result};
use universal_neurons::output::show;
use universal_neurons::printable;
use universal_neurons::progress::Progress;

pub use check::check_model;
pub use export::export;
pub use folder::run_experiment;
pub use look::{activations, compare, inspect, make_report};
pub use shares::merge;
pub use specs::{new_spec, validate};
pub use tools::{bench_host, completions, convert, fetch, fetch_model, man};
pub use verify::verify;

/// Exit code: a claim that ran does not hold.
pub const CLAIM_FAILS: u8 = 1;
/// Exit code: the command, or a part of it, could not run.
pub const COULD_NOT_RUN: u8 = 2;

fn show_folder(folder: &Path) -> Result<()> {
    let report = folder.join("report.html");
    show(&format!("report in {}, tables beside it\n", report.display()))
}

pub fn show_json(value: &impl serde::Serialize) -> Result<()> {
    show(&printable::json(&format!("{:#}\n", serde_json::json!(value))))
}

fn progress(quiet: bool) -> Progress {
    if quiet { Progress::Quiet } else { Progress::on_stderr() }
}

/// Installs a handler for interrupts and returns the flag that it sets. The current batch still
/// ends; then the run stops and leaves nothing behind.
fn stop_on_interrupt() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).map_err(|e| {
        Error::new(Kind::Interrupted, "signals", e, "check that the system allows signal handlers")
    })?;
    Ok(stop)
}

/// Maximum number of threads per core; more would only cost time.
const THREADS_PER_CORE: usize = 4;
/// Number of threads that is allowed on any machine.
const FEW_THREADS: usize = 64;
/// The environment variable that the thread pool reads if no number is given.
const THREADS_VARIABLE: &str = "RAYON_NUM_THREADS";

/// Starts the thread pool, with as many threads as an option asks for, or else the environment.
///
/// # Errors
/// Returns an error if more threads are requested than are useful: with thousands, a run spends
/// minutes on switching between them.
pub fn use_threads(threads: Option<u16>) -> Result<()> {
    let variable = || std::env::var(THREADS_VARIABLE).ok()?.parse().ok();
    let (name, asked) = match threads {
        Some(threads) => ("--threads", Some(usize::from(threads))),
        None => (THREADS_VARIABLE, variable()),
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let most = (THREADS_PER_CORE * cores).max(FEW_THREADS);
    let Some(asked) = asked else { return Ok(()) };
    let error = |problem: String| {
        let remedy = "ask for as many threads as there are cores, or remove the setting";
        Error::new(Kind::Spec, format_args!("{name} {asked}"), problem, remedy)
    };
    if asked > most {
        return Err(error(format!("at most {most} threads are useful on {cores} cores")));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(asked);
    pool.build_global().map_err(|e| error(e.to_string()))
}
