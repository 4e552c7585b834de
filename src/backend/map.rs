//! Read-only memory maps of weight files.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::error::{Error, Kind, Result};

/// Maps a file into memory without copying it.
///
/// # Errors
/// If the file is missing, unreadable, or not a regular file.
pub fn map_file(path: &Path) -> Result<Mmap> {
    let open = |doing, e: &std::io::Error| Error::io(Kind::Model, path, doing, e);
    let file = File::open(path).map_err(|e| open("open the file", &e))?;
    if !file.metadata().map_err(|e| open("inspect the file", &e))?.is_file() {
        return Err(Error::new(
            Kind::Model,
            path.display(),
            "is not a regular file",
            "give the path of a safetensors file",
        ));
    }
    map(&file).map_err(|e| open("map the file", &e))
}

/// Maps an open file into memory without copying it.
///
/// # Errors
/// Returns the error of the system if it refuses the map.
pub fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is read-only and private to this process. Another process
    // that truncates the file meanwhile would end the run with SIGBUS, as it
    // would end any program that maps its weights; no memory is corrupted.
    unsafe { Mmap::map(file) }
}
