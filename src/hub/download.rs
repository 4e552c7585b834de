//! One file from a server: resumed where it broke, checked before it counts.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use ureq::Agent;
use ureq::http::StatusCode;

use crate::error::{Error, Kind, Result};
use crate::store::{folder_of, hex};

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

/// Asks servers, with these limits.
pub fn agent(patience: Patience) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(patience.timeout))
        .timeout_recv_response(Some(patience.timeout))
        .timeout_recv_body(Some(patience.timeout));
    config.build().into()
}

/// Returns the id that git gives a file of these bytes.
pub fn blob_id(bytes: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    hex(&hasher.finalize())
}

/// What a file must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Digest {
    /// The id that git gives it.
    Blob(String),
    /// Its SHA-256, in hexadecimal.
    Sha256(String),
}

impl Digest {
    /// The digest that a server calls by its length.
    pub fn of_length(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|b| b.is_ascii_hexdigit());
        match text.len() {
            40 if plain => Some(Self::Blob(text.to_lowercase())),
            64 if plain => Some(Self::Sha256(text.to_lowercase())),
            _ => None,
        }
    }

    /// What it must be, in hexadecimal.
    pub fn expected(&self) -> &str {
        match self {
            Self::Blob(expected) | Self::Sha256(expected) => expected,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Blob(_) => "git blob id",
            Self::Sha256(_) => "SHA-256",
        }
    }

    /// The digest of the same kind of a file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of_file(&self, path: &Path) -> std::io::Result<String> {
        let mut file = File::open(path)?;
        Ok(match self {
            Self::Blob(_) => {
                let mut hasher = Sha1::new();
                hasher.update(format!("blob {}\0", file.metadata()?.len()));
                std::io::copy(&mut file, &mut hasher)?;
                hex(&hasher.finalize())
            }
            Self::Sha256(_) => {
                let mut hasher = Sha256::new();
                std::io::copy(&mut file, &mut hasher)?;
                hex(&hasher.finalize())
            }
        })
    }

    /// Whether a file is there and is the one.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn is_of(&self, path: &Path) -> std::io::Result<bool> {
        Ok(path.exists() && self.of_file(path)? == self.expected())
    }
}

/// One file on its way.
pub struct Download<'a> {
    /// Who asks.
    pub agent: &'a Agent,
    /// Where it lies.
    pub url: String,
    /// What is said to be let in.
    pub token: Option<&'a str>,
    /// What it must be.
    pub digest: Digest,
    /// Its bytes, where known.
    pub size: Option<u64>,
    /// How patient to be.
    pub patience: Patience,
    /// Set to stop.
    pub stop: &'a AtomicBool,
    /// Told how many bytes have come.
    pub came: &'a dyn Fn(u64),
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
    ///
    /// # Errors
    /// If it cannot be had or written, or is not the one expected; a part of it stays.
    pub fn run(&self, target: &Path) -> Result<bool> {
        let store = |e: std::io::Error| Error::io(Kind::Store, target, "write the file", &e);
        if self.digest.is_of(target).map_err(store)? {
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
        let request = match self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        };
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
        let mut body =
            Counted { inner: response.body_mut().as_reader(), came: self.came, stop: self.stop };
        let received = std::io::copy(&mut body, &mut out).map_err(|e| passing(&e))?;
        match expected {
            Some(expected) if received < expected => {
                Err(passing(&format!("{received} of {expected} bytes came")))
            }
            _ => Ok(()),
        }
    }

    /// Whether the file is the one expected; the outer error is the disk's.
    fn check(&self, partial: &Path) -> std::io::Result<Result<(), String>> {
        let size = length(partial);
        if let Some(expected) = self.size.filter(|expected| *expected != size) {
            return Ok(Err(format!("has {size} bytes, expected {expected}; it was thrown away")));
        }
        let (found, expected) = (self.digest.of_file(partial)?, self.digest.expected());
        if found != expected {
            let name = self.digest.name();
            return Ok(Err(format!("has {name} {found}, expected {expected}; it was thrown away")));
        }
        Ok(Ok(()))
    }
}

/// A body that tells how much of it has come, and ends where it is stopped.
struct Counted<'a, R> {
    inner: R,
    came: &'a dyn Fn(u64),
    stop: &'a AtomicBool,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(std::io::Error::other("interrupted"));
        }
        let n = self.inner.read(buffer)?;
        (self.came)(n as u64);
        Ok(n)
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
