//! Unfinished files that killed processes left behind.

use std::path::{Path, PathBuf};

use super::lock;

/// Prefix and suffix of the names of unfinished files.
pub(super) const PART: (&str, &str) = (".universal-neurons-", ".part");
/// Removes the unfinished files that dead processes left in a folder.
pub(super) fn remove_parts(folder: &Path) {
    let is_part = |name: &str| name.starts_with(PART.0) && name.ends_with(PART.1);
    for path in named(folder, is_part) {
        if let Some(_lock) = lock::of_dead_process(&path) {
            // A file that cannot be removed is tried again at the next start.
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// Returns the entries of a folder whose names are wanted.
pub(super) fn named(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok());
    let wanted = entries.filter(|entry| entry.file_name().to_str().is_some_and(&wanted));
    wanted.map(|entry| entry.path()).collect()
}
