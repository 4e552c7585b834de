//! Writes a finished run such that no result is lost if a step fails.

use std::path::{Path, PathBuf};

use universal_neurons::cards;
use universal_neurons::checkpoint::Checkpoints;
use universal_neurons::error::{Error, Kind, Result};
use universal_neurons::findings::Outcome;
use universal_neurons::output::{kept_in, show};
use universal_neurons::record::CardFile;
use universal_neurons::report;
use universal_neurons::run::{Control, Session};
use universal_neurons::store::{RunDirectory, WrittenRun};

use super::{show_folder, show_json};

/// Computes intervals, reads the cards of the neurons that stand out, and writes the run.
///
/// # Errors
/// Returns an error if a step fails. The error names the folder of the results if they were
/// written.
pub fn publish(
    session: &mut Session,
    outcome: &mut Outcome,
    directory: RunDirectory,
    json: bool,
) -> Result<()> {
    let intervals = session.add_intervals(outcome);
    let cards = intervals.and_then(|()| cards::of(session, &outcome.reference));
    let outcome = &*outcome;
    let (plan, control) = (session.plan, &*session.control);
    let (cards, no_cards) = match (cards, kept_sums(control)) {
        (Ok(cards), _) => (cards, None),
        (Err(error), Some(checkpoints)) => return Err(checkpoints.keeps(error)),
        // The study is written without cards and perhaps intervals, so that it is not lost.
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
        show(&report::terminal::summary(&plan.spec, outcome)).and_then(|()| show_folder(&folder))
    };
    shown.map_err(|error| kept_in(&folder, error))?;
    // The statistics are valid even if no correlation exists, so they are kept.
    outcome.check_correlated().map_err(|error| kept_in(&folder, error))
}

/// Returns the checkpoint that holds the sums of a run until its results are on disk.
fn kept_sums(control: &Control) -> Option<&Checkpoints> {
    control.checkpoints.as_ref().filter(|checkpoints| checkpoints.path().exists())
}

fn without_cards(folder: &Path, error: Error) -> Error {
    if error.kind != Kind::Interrupted {
        return kept_in(folder, error);
    }
    let folder = folder.display();
    let problem = format!("interrupted; its results are in {folder}, without cards of neurons");
    Error::new(
        Kind::Interrupted,
        "the run",
        problem,
        "run it again if you want cards and intervals",
    )
}

/// Writes the files of a run, and removes its checkpoint when they are on disk. If the folder
/// cannot be written and no checkpoint holds the sums, the files are written to the system's
/// folder for temporary files.
///
/// # Errors
/// Returns an error that names the place of the results or of the sums.
pub fn save(
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

/// Writes a run to a temporary folder after writing to its own folder failed with `error`. Returns
/// `error`, extended by the name of the temporary folder.
fn save_elsewhere(error: Error, write: impl Fn(RunDirectory) -> Result<WrittenRun>) -> Error {
    let folder = tempfile::Builder::new().prefix("universal-neurons-run-").tempdir();
    let Ok(folder) = folder.map(tempfile::TempDir::keep) else { return error };
    match RunDirectory::begin(&folder).and_then(write) {
        Ok(written) => kept_in(&written.folder, error),
        Err(_) => error,
    }
}
