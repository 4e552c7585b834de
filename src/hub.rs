//! Fetching the authors' tables: pinned, checked, resumable. Nothing else in
//! this program opens a socket.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;
use sha1::{Digest, Sha1};
use ureq::Agent;
use ureq::http::StatusCode;

use crate::error::{Error, Kind, Result};
use crate::progress::Progress;
use crate::store::{folder_of, hex};

/// Which files of which commit.
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
    /// Bytes, where known.
    pub size: Option<u64>,
    /// Git blob id.
    pub blob: String,
}

/// How patient to be.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Attempts without a single new byte before giving up.
    pub attempts: u32,
    /// Longest wait for an answer, and for the rest of a file before it is asked for again.
    pub timeout: Duration,
    /// Wait before the second attempt; doubled for each further one.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempts: 4, timeout: Duration::from_secs(60), pause: Duration::from_millis(500) }
    }
}

/// The authors' tables.
///
/// # Errors
/// If the embedded manifest is malformed.
pub fn manifest() -> Result<Manifest> {
    serde_yaml::from_str(include_str!("../expected/published.yaml"))
        .map_err(|e| Error::new(Kind::Evidence, "expected/published.yaml", e, "correct it"))
}

/// Fetches all files of a manifest into a folder; what is there and whole is
/// kept. Returns the number of files fetched.
///
/// # Errors
/// If a file cannot be had, or is not the one expected; files fetched before
/// stay, and the part of one that was cut short is gone on with next time.
pub fn fetch(
    manifest: &Manifest,
    to: &Path,
    patience: Patience,
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<usize> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(patience.timeout))
        .timeout_recv_response(Some(patience.timeout))
        .timeout_recv_body(Some(patience.timeout));
    let agent: Agent = config.build().into();
    progress.stage("fetching tables", manifest.files.len() as u64);
    let mut fetched = 0;
    for file in &manifest.files {
        let url =
            format!("{}/{}/{}", manifest.base.trim_end_matches('/'), manifest.commit, file.path);
        let download = Download { agent: &agent, url, file, patience, stop };
        fetched += usize::from(download.run(&to.join(&file.path))?);
        progress.advance(1);
    }
    progress.finish();
    Ok(fetched)
}

/// One file on its way.
struct Download<'a> {
    agent: &'a Agent,
    url: String,
    file: &'a RemoteFile,
    patience: Patience,
    stop: &'a AtomicBool,
}

/// Why an attempt brought no whole file.
enum Miss {
    /// Another attempt may succeed.
    Passing(String),
    /// No attempt will.
    Final(String),
}

impl Download<'_> {
    /// Fetches the file unless it is there; returns whether it was fetched.
    fn run(&self, target: &Path) -> Result<bool> {
        let store = |e: std::io::Error| Error::io(Kind::Store, target, "write the table", &e);
        if target.exists() && blob_id(target).map_err(store)? == self.file.blob {
            return Ok(false);
        }
        std::fs::create_dir_all(folder_of(target)).map_err(store)?;
        let partial = partial_name(target);
        self.until_whole(&partial).map_err(|problem| self.error(&problem))?;
        if let Err(problem) = self.check(&partial).map_err(store)? {
            std::fs::remove_file(&partial).map_err(store)?;
            return Err(self.error(&problem));
        }
        std::fs::rename(&partial, target).map_err(store)?;
        Ok(true)
    }

    fn error(&self, problem: &str) -> Error {
        let remedy =
            "check the connection and any proxy (HTTPS_PROXY), or name another source with --base";
        Error::new(Kind::Evidence, &self.url, problem, remedy)
    }

    /// Asks until the file is whole, starting where the last attempt stopped.
    fn until_whole(&self, partial: &Path) -> Result<(), String> {
        let (mut failures, mut pause) = (0, self.patience.pause);
        loop {
            let before = length(partial);
            let problem = match self.attempt(partial, before) {
                Ok(()) => return Ok(()),
                Err(Miss::Final(problem)) => return Err(problem),
                Err(Miss::Passing(problem)) => problem,
            };
            if length(partial) > before {
                (failures, pause) = (0, self.patience.pause);
            }
            failures += 1;
            if failures >= self.patience.attempts {
                return Err(format!("{problem} ({failures} attempts)"));
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
    }

    /// One request for what is missing, appended to the partial file.
    fn attempt(&self, partial: &Path, have: u64) -> Result<(), Miss> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Miss::Final("interrupted; run it again to go on".into()));
        }
        let request = self.agent.get(&self.url);
        let request =
            if have > 0 { request.header("Range", format!("bytes={have}-")) } else { request };
        let passing = |e: &dyn std::fmt::Display| Miss::Passing(format!("cannot be fetched: {e}"));
        let mut response = request.call().map_err(|e| match e {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => Miss::Final(e.to_string()),
            e => passing(&e),
        })?;
        let fresh = match response.status() {
            StatusCode::PARTIAL_CONTENT => false,
            StatusCode::OK => true,
            // What is there already is all there is, or too much: the check will tell.
            StatusCode::RANGE_NOT_SATISFIABLE => return Ok(()),
            status => return Err(refusal(status)),
        };
        let expected = response.body().content_length();
        let mut out = open(partial, fresh).map_err(|e| Miss::Final(e.to_string()))?;
        let received = std::io::copy(&mut response.body_mut().as_reader(), &mut out)
            .map_err(|e| passing(&e))?;
        match expected {
            Some(expected) if received < expected => {
                Err(passing(&format!("{received} of {expected} bytes came")))
            }
            _ => Ok(()),
        }
    }

    /// Whether the file is the one expected; the outer error is the disk's.
    fn check(&self, partial: &Path) -> std::io::Result<Result<(), String>> {
        let (size, blob) = (length(partial), blob_id(partial)?);
        if self.file.size.is_some_and(|expected| expected != size) {
            let expected = self.file.size.unwrap_or_default();
            return Ok(Err(format!("has {size} bytes, expected {expected}; it was thrown away")));
        }
        if blob != self.file.blob {
            let expected = &self.file.blob;
            return Ok(Err(format!(
                "has git blob id {blob}, expected {expected}; it was thrown away"
            )));
        }
        Ok(Ok(()))
    }
}

fn refusal(status: StatusCode) -> Miss {
    let problem = format!("the server answers {status}");
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        Miss::Passing(problem)
    } else {
        Miss::Final(problem)
    }
}

/// Opens the partial file, emptied where the server sends the whole file again.
fn open(partial: &Path, fresh: bool) -> std::io::Result<File> {
    if fresh { File::create(partial) } else { OpenOptions::new().append(true).open(partial) }
}

fn partial_name(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |m| m.len())
}

/// The id that git gives a file of this content.
fn blob_id(path: &Path) -> std::io::Result<String> {
    let content = std::fs::read(path)?;
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", content.len()));
    hasher.update(&content);
    Ok(hex(&hasher.finalize()))
}
