//! The authors' tables.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use serde::Deserialize;

use super::client::{Client, Patience};
use super::download::{Digest, Download};
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;

/// The remedy if a table cannot be fetched.
const REMEDY: &str =
    "check the connection and any proxy (HTTPS_PROXY), or name another source with --base";

/// The files of a commit.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The commit; part of every address.
    pub commit: String,
    /// Address that commit and path are appended to.
    pub base: String,
    /// The files.
    pub files: Vec<RemoteFile>,
}

/// One file of the repository.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteFile {
    /// Path in the repository, and below the target folder.
    pub path: String,
    /// Size in bytes, if it is known.
    pub size: Option<u64>,
    /// Git blob id.
    pub blob: String,
}

/// Returns the list of the authors' tables.
///
/// # Errors
/// Returns an error if the embedded list is malformed.
pub fn manifest() -> Result<Manifest> {
    serde_yaml::from_str(include_str!("../../expected/published.yaml"))
        .map_err(|e| Error::new(Kind::Evidence, "expected/published.yaml", e, "correct it"))
}

/// Fetches all files of a manifest into a folder. Complete files that are already there are kept.
/// Returns the number of files fetched.
///
/// # Errors
/// Returns an error if a file cannot be fetched or is not the one expected. Files fetched before
/// stay, and a partial file is resumed next time.
pub fn fetch(
    manifest: &Manifest,
    to: &Path,
    patience: Patience,
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<usize> {
    let client = Client::new(Kind::Evidence, REMEDY, patience, stop);
    progress.stage("fetching tables", manifest.files.len() as u64);
    let mut fetched = 0;
    for file in &manifest.files {
        let url =
            format!("{}/{}/{}", manifest.base.trim_end_matches('/'), manifest.commit, file.path);
        let digest = Digest::Blob(file.blob.clone());
        let download = Download { client: &client, url, digest, size: file.size, came: &|_| () };
        fetched += usize::from(download.run(&to.join(&file.path))?);
        progress.advance(1);
    }
    progress.finish();
    Ok(fetched)
}
