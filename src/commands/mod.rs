//! What each command does, and what several of them need.

mod look;
#[cfg(feature = "mpi")]
mod ranks;
mod run;
mod specs;
mod tools;
mod verify;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use universal_neurons::error::{Error, Kind, Result};
use universal_neurons::printable;
use universal_neurons::progress::Progress;

pub use look::{activations, compare, inspect, make_report};
pub use run::{merge, run_experiment};
pub use specs::{new_spec, validate};
pub use tools::{bench_host, completions, convert, fetch, fetch_model, man};
pub use verify::verify;

/// Exit code: a claim that ran does not hold.
pub const CLAIM_FAILS: u8 = 1;

fn show_folder(folder: &Path) {
    let report = folder.join("report.html");
    show(&format!("report in {}, tables beside it\n", report.display()));
}

pub fn show_json(value: &impl serde::Serialize) -> Result<()> {
    show(&printable::json(&format!("{:#}\n", serde_json::json!(value))));
    Ok(())
}

fn progress(quiet: bool) -> Progress {
    if quiet { Progress::Quiet } else { Progress::on_stderr() }
}

/// An interrupt lets the current batch end; the run then stops and leaves nothing behind.
fn stop_on_interrupt() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).map_err(|e| {
        Error::new(Kind::Interrupted, "signals", e, "check that the system allows signal handlers")
    })?;
    Ok(stop)
}

fn use_threads(threads: Option<u16>) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.into());
    pool.build_global().map_err(|e| {
        Error::new(Kind::Spec, format_args!("--threads {threads}"), e, "ask for fewer threads")
    })
}

/// Prints results. A reader that has gone away (`| head`) is no failure.
pub fn show(text: &str) {
    let _ = std::io::stdout().write_all(printable::text(text).as_bytes());
}
