//! Files and folders that killed processes left behind. Unfinished ones are removed; a finished
//! run is moved to its target.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::parts::named;
use super::{MARK, digest_file, folder_of, listing, lock, place};
use crate::error::{Kind, Result};
use crate::output::tell;

/// Prefix of the names of folders of unfinished runs.
pub(super) const UNFINISHED: &str = ".unfinished-run-";
/// Name of the lock in such a folder.
pub(super) const LOCK: &str = "lock";
/// Name of the folder with the run's files. After an exchange it holds the replaced run.
pub(super) const NEW: &str = "run";
/// Name of the folder of the replaced run, on systems that cannot exchange two names.
pub(super) const OLD: &str = "earlier-run";
/// Name of the file that records that the run is whole, and where it belongs.
pub(super) const RECORD: &str = "finished.json";

/// Maximum number of attempts to create a folder.
const ATTEMPTS: usize = 16;

/// The record of a finished run, written before the run is moved to its target.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FinishedRecord {
    /// Name of its folder.
    pub target: PathBuf,
    /// Digest of its [`MARK`].
    pub new: String,
    /// Digest of the [`MARK`] of the run that it replaces.
    pub replaces: Option<String>,
}

impl FinishedRecord {
    /// Creates the record of the run in `new`, which is to be moved to `target`.
    pub(super) fn of(new: &Path, target: &Path) -> Result<Self> {
        Ok(Self {
            target: target.file_name().unwrap_or_default().into(),
            new: digest_file(Kind::Store, &new.join(MARK))?,
            replaces: mark_of(target),
        })
    }

    fn read(staging: &Path) -> Option<Self> {
        let bytes = std::fs::read(staging.join(RECORD)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// Keeps the folder of a run that could not be moved to its target. Returns the path of its
/// files.
pub(super) fn keep_results(staging: StagingFolder) -> PathBuf {
    let staging = staging.keep();
    if FinishedRecord::read(&staging).is_none() {
        // Without a record, the next start would remove a folder that has a lock.
        let _ = std::fs::remove_file(staging.join(LOCK));
    }
    staging.join(NEW)
}

fn mark_of(run: &Path) -> Option<String> {
    digest_file(Kind::Store, &run.join(MARK)).ok()
}

/// Removes the unfinished runs that dead processes left in a folder. A finished run is moved to
/// its target if the target is unchanged since the run ended.
pub(super) fn recover_runs(folder: &Path) {
    for staging in named(folder, |name| name.starts_with(UNFINISHED)) {
        if !std::fs::symlink_metadata(&staging).is_ok_and(|m| m.is_dir()) {
            continue;
        }
        let lock = staging.join(LOCK);
        if !lock.exists() {
            // Its process was killed before it locked the folder, which is removed if empty.
            let _ = std::fs::remove_dir(&staging);
        } else if let Some(_lock) = lock::of_dead_process(&lock) {
            recover(&staging);
        }
    }
}

/// Removes or publishes the run in a folder whose lock this process holds.
fn recover(staging: &Path) {
    let Some(record) = FinishedRecord::read(staging) else {
        // The run was not finished: the folder holds only files that its process wrote.
        remove(staging);
        return;
    };
    let target = folder_of(staging).join(&record.target);
    let new = staging.join(NEW);
    if mark_of(&new).as_ref() == Some(&record.new) {
        put_in_place(staging, &new, &target, &record);
    } else {
        discard(staging);
    }
}

/// Moves a finished run to its target, unless the target holds another run by now.
fn put_in_place(staging: &Path, new: &Path, target: &Path, record: &FinishedRecord) {
    let there = mark_of(target);
    let placed = if target.exists() && there != record.replaces {
        Err("another run has taken its place".to_string())
    } else {
        let place = || place::place(new, target, &staging.join(OLD));
        listing::refuse_foreign(target)
            .map_err(|e| e.problem)
            .and_then(|()| place().map_err(|e| e.to_string()))
    };
    match placed {
        Ok(_) => {
            tell(format_args!(
                "{}: a run was killed just before its results were put here; they are here now",
                target.display()
            ));
            discard(staging);
        }
        Err(why) => tell(format_args!(
            "warning: the results of an earlier run are in {} and cannot be put in {}: {why}; \
             move them where you want them, or remove them",
            new.display(),
            target.display()
        )),
    }
}

/// Removes the folder that a run was written in, and the replaced run, which may be in it.
pub(super) fn discard(staging: &Path) {
    for earlier in [staging.join(NEW), staging.join(OLD)] {
        if earlier.exists()
            && let Err(error) = listing::discard(&earlier)
        {
            tell(format_args!(
                "warning: the earlier run is in {} and could not be removed: {}",
                earlier.display(),
                error.problem
            ));
            return;
        }
    }
    remove(staging);
}

/// Removes the folder of an unfinished run. The lock is removed last, so that a folder that is
/// left by a kill is still recognised. What cannot be removed is tried again at the next start.
fn remove(staging: &Path) {
    let _ = std::fs::remove_dir_all(staging.join(NEW));
    let _ = std::fs::remove_dir_all(staging.join(OLD));
    let _ = std::fs::remove_file(staging.join(RECORD));
    if std::fs::read_dir(staging).is_ok_and(|entries| entries.count() <= 1) {
        let _ = std::fs::remove_file(staging.join(LOCK));
        let _ = std::fs::remove_dir(staging);
    }
}

/// The temporary folder that a run is written in. It is removed on drop unless it is kept.
pub(super) struct StagingFolder {
    path: PathBuf,
    /// The lock, held as long as this process uses the folder.
    _lock: File,
    kept: bool,
}

impl StagingFolder {
    /// Creates a folder with a lock and a folder for the run's files.
    ///
    /// # Errors
    /// Returns an error if `parent` cannot be written.
    pub(super) fn make(parent: &Path) -> std::io::Result<Self> {
        for _ in 0..ATTEMPTS {
            let path = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(parent)?.keep();
            let lock = path.join(LOCK);
            match File::create_new(&lock) {
                // Another process may remove the folder as a leftover before it is locked.
                Ok(file) if lock::own(&file, &lock) => {
                    let staging = Self { path, _lock: file, kept: false };
                    // The folder of the files gets its mode from the umask, whereas a
                    // temporary folder is private.
                    std::fs::create_dir(staging.path.join(NEW))?;
                    return Ok(staging);
                }
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Err(std::io::Error::other("its temporary folder vanishes"))
    }

    /// Returns its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the folder on the disk and returns its path.
    pub(super) fn keep(mut self) -> PathBuf {
        self.kept = true;
        self.path.clone()
    }
}

impl Drop for StagingFolder {
    fn drop(&mut self) {
        if !self.kept {
            remove(&self.path);
        }
    }
}
