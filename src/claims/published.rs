//! The authors' tables, which must be byte for byte as they were published.

use std::path::Path;

use crate::correlation::Layout;
use crate::error::{Error, Kind, Result};
use crate::hub::{RemoteFile, blob_id};
use crate::input::InputFile;
use crate::record::{MAX_TABLE_BYTES, Sheet};

/// Reads a published table as [`Sheet::read`] does.
///
/// # Errors
/// Returns an error as [`published_bytes`] and [`Sheet::of_bytes`] do.
pub fn read_published(
    path: &Path,
    published: &RemoteFile,
    expected: &[&str],
    shape: Layout,
) -> Result<Sheet> {
    Sheet::of_bytes(path, &published_bytes(path, published)?, expected, shape)
}

/// Returns the bytes of a published table.
///
/// # Errors
/// Returns an error if the file cannot be read, or naming both ids if its git blob id is not the
/// published one.
pub fn published_bytes(path: &Path, published: &RemoteFile) -> Result<Vec<u8>> {
    let bytes = InputFile::open(Kind::Evidence, path)?.read(MAX_TABLE_BYTES)?;
    refuse_another(path, &bytes, published)?;
    Ok(bytes)
}

/// Refuses a file that differs from the published table. A claim that is judged on a damaged table
/// would seem to fail.
fn refuse_another(path: &Path, bytes: &[u8], published: &RemoteFile) -> Result<()> {
    let found = blob_id(bytes);
    if found == published.blob {
        return Ok(());
    }
    let size = bytes.len() as u64;
    let hint = match published.size {
        _ if bytes.contains(&b'\r') => "; it has Windows line endings".to_owned(),
        Some(whole) if size != whole => format!("; it has {size} bytes, expected {whole}"),
        _ => String::new(),
    };
    let problem = format!(
        "is not the table as published: git blob id {found}, expected {}{hint}",
        published.blob
    );
    let remedy = "remove it and run `universal-neurons fetch tables`, which gets the published one";
    Err(Error::new(Kind::Evidence, path.display(), problem, remedy))
}
