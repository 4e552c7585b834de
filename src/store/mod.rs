//! Files and run folders that appear complete or not at all.
//!
//! Files of the user are never replaced or removed. A folder is replaced only if it is an
//! earlier run whose files are unchanged ([`RunDirectory`]); devices and pipes are written to,
//! and links are followed, instead of being replaced ([`write_whole`]).

mod leftovers;
mod listing;
mod lock;
mod parts;
mod place;
mod run_directory;
mod whole_file;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::{Error, Kind, Result};
use crate::input::InputFile;

pub use listing::{MARK, replace_in_run};
pub use run_directory::{RunDirectory, WrittenRun};
pub use whole_file::write_whole;

/// Maximum length of a JSON file of a run, in bytes: ten times the largest of GPT-2 medium.
const MAX_JSON: u64 = 512 << 20;

/// Reads a JSON file of a run.
///
/// # Errors
/// Returns an error if the file is missing, too long or damaged.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let remedy = "name the folder of a finished run";
    let named = |e: Error| Error { remedy: remedy.into(), ..e };
    let text = InputFile::open(Kind::Evidence, path).and_then(|mut file| file.text(MAX_JSON));
    serde_json::from_str(&text.map_err(named)?).map_err(|e| damaged(path, e))
}

/// Returns the SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// Returns an error if the file cannot be read, or is not a regular file.
pub fn digest_file(kind: Kind, path: &Path) -> Result<String> {
    InputFile::open_unchecked(kind, path)?.digest()
}

/// Returns the error of a damaged file of a run.
pub fn damaged(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::new(Kind::Evidence, path.display(), problem, "run the experiment again")
}

/// Returns the parent folder of a path, or `.` if the path has no parent.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Maximum number of symbolic links that are followed in a row, as on Linux.
const MAX_LINKS: usize = 40;

/// Follows the symbolic links of the last component of a path. The file itself need not exist.
fn follow_links(path: &Path) -> PathBuf {
    let mut path = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match std::fs::read_link(&path) {
            Ok(link) => path = folder_of(&path).join(link),
            Err(_) => break,
        }
    }
    path
}

/// Waits until the entries of a folder are on the disk.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    use std::io::ErrorKind::{InvalidInput, Unsupported};
    if cfg!(not(unix)) {
        return Ok(());
    }
    match std::fs::File::open(folder)?.sync_all() {
        // Some file systems cannot sync a folder.
        Err(e) if matches!(e.kind(), InvalidInput | Unsupported) => Ok(()),
        outcome => outcome,
    }
}
