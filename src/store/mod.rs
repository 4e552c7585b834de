//! Files on disk that are whole or not there, and the run directory made of them.
//!
//! Nothing that a user wrote is ever replaced or removed: a folder is replaced only if it is
//! an earlier run whose files are all as that run left them ([`RunDirectory`]), and a path
//! that is a device, a pipe or a link is written through ([`write_whole`]).

mod digest;
mod leftovers;
mod listing;
mod lock;
mod place;
mod run_directory;
mod whole_file;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::{Error, Kind, Result};
use crate::input::InputFile;

pub use digest::{digest, digest_file, hex};
pub use listing::{MARK, replace_in_run};
pub use run_directory::{RunDirectory, WrittenRun};
pub use whole_file::write_whole;

/// Most bytes of a file of JSON that are read: ten times what a run of GPT-2 medium writes.
const MAX_JSON: u64 = 512 << 20;

/// Reads a file of JSON that a run wrote.
///
/// # Errors
/// Returns an error if the file is missing, too long or damaged.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let remedy = "name the folder of a finished run";
    let named = |e: Error| Error { remedy: remedy.into(), ..e };
    let text = InputFile::open(Kind::Evidence, path).and_then(|mut file| file.text(MAX_JSON));
    serde_json::from_str(&text.map_err(named)?).map_err(|e| damaged(path, e))
}

/// The error of a file of a run that is not as it was written.
pub fn damaged(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::new(Kind::Evidence, path.display(), problem, "run the experiment again")
}

/// The folder that a path lies in, `.` where it names none.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Symbolic links that are followed in a row, as on Linux.
const MAX_LINKS: usize = 40;

/// Returns what a path stands for after its last component's symbolic links are followed,
/// whether or not a file is there.
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
        // Some file systems cannot do it for a folder.
        Err(e) if matches!(e.kind(), InvalidInput | Unsupported) => Ok(()),
        outcome => outcome,
    }
}
