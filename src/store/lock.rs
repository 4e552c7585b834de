//! Locks that tell the temporary files of running processes from those of dead ones.
//!
//! The system releases a lock when its process ends for any reason. A temporary file of this
//! program whose lock can be taken was therefore left by a dead process.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

/// Locks a file that this process has just created at `path`. Returns false if another process
/// removed the file as a leftover between its creation and this call.
pub(super) fn own(file: &File, path: &Path) -> bool {
    match file.try_lock() {
        Ok(()) => is_at(file, path),
        Err(TryLockError::WouldBlock) => false,
        // On systems without locks, no process removes the file as a leftover.
        Err(TryLockError::Error(_)) => true,
    }
}

/// Opens and locks a temporary file if the process that made it has ended.
pub(super) fn of_dead_process(path: &Path) -> Option<File> {
    let regular = std::fs::symlink_metadata(path).is_ok_and(|m| m.is_file());
    let file = OpenOptions::new().read(true).write(true).open(path).ok().filter(|_| regular)?;
    (file.try_lock().is_ok() && is_at(&file, path)).then_some(file)
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |m: std::io::Result<std::fs::Metadata>| m.ok().map(|m| (m.dev(), m.ino()));
    identity(file.metadata()) == identity(std::fs::symlink_metadata(path))
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}
