//! Downloads one file: resumes it after an interruption, and checks it before it gets its name.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use ureq::Body;
use ureq::http::StatusCode;

use super::client::{Client, Miss};
use crate::digest::hex;
use crate::error::{Error, Kind, Result};
use crate::store::folder_of;

/// Maximum number of bytes accepted of a file whose size is neither known nor announced.
const UNANNOUNCED: u64 = 1 << 28;

/// Returns the id that git gives a file of these bytes.
pub fn blob_id(bytes: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    hex(&hasher.finalize())
}

/// The digest that a file must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Digest {
    /// Its git blob id.
    Blob(String),
    /// Its SHA-256, in hexadecimal.
    Sha256(String),
}

impl Digest {
    /// Returns the digest of this text, whose length says which kind it is.
    pub fn of_length(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|b| b.is_ascii_hexdigit());
        match text.len() {
            40 if plain => Some(Self::Blob(text.to_lowercase())),
            64 if plain => Some(Self::Sha256(text.to_lowercase())),
            _ => None,
        }
    }

    /// Returns the digest in hexadecimal.
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

    /// Returns the digest of a file, of the same kind.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
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

    /// Returns whether a file exists and has this digest.
    ///
    /// # Errors
    /// Returns an error if the file exists and cannot be read.
    pub fn is_of(&self, path: &Path) -> std::io::Result<bool> {
        Ok(path.exists() && self.of_file(path)? == self.expected())
    }
}

/// One file that is being downloaded.
pub(super) struct Download<'a> {
    /// Sends the requests.
    pub client: &'a Client<'a>,
    /// Address of the file.
    pub url: String,
    /// Digest that the file must have.
    pub digest: Digest,
    /// Size in bytes, if it is known.
    pub size: Option<u64>,
    /// Called with the number of bytes of each part that arrives.
    pub came: &'a dyn Fn(u64),
}

impl Download<'_> {
    /// Fetches the file unless it is there. Returns whether it was fetched.
    ///
    /// # Errors
    /// Returns an error if the file cannot be fetched or written, or is not the one expected. What
    /// arrived of it stays, unless it is not part of the file.
    pub fn run(&self, target: &Path) -> Result<bool> {
        let store = |e: std::io::Error| unwritten(target, &e);
        if self.digest.is_of(target).map_err(store)? {
            return Ok(false);
        }
        std::fs::create_dir_all(folder_of(target)).map_err(store)?;
        let partial = partial_name(target);
        if self.size.is_some_and(|size| length(&partial) > size) {
            // It is not a part of this file.
            std::fs::remove_file(&partial).map_err(store)?;
        }
        self.client.persist(&self.url, || length(&partial), || self.attempt(&partial))?;
        if let Err(problem) = self.check(&partial).map_err(store)? {
            std::fs::remove_file(&partial).map_err(store)?;
            return Err(self.client.error(&self.url, problem));
        }
        std::fs::rename(&partial, target).map_err(store)?;
        Ok(true)
    }

    /// Sends one request for what is missing, which is appended to the partial file.
    fn attempt(&self, partial: &Path) -> Result<(), Miss> {
        let have = length(partial);
        if have > 0 && self.size == Some(have) {
            return Ok(());
        }
        let response = self.client.get(&self.url, have)?;
        let fresh = match response.status() {
            StatusCode::PARTIAL_CONTENT => have == 0,
            StatusCode::OK => true,
            // What is there already is all there is, or too much: the check will tell.
            StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => return Ok(()),
            _ => return Err(Miss::of_answer(&response)),
        };
        let announced = response.body().content_length();
        let most = self.allowance(if fresh { 0 } else { have }, announced)?;
        let out = open(partial, fresh).map_err(|e| Miss::Failed(unwritten(partial, &e)))?;
        let received = self.receive(response.into_body(), (partial, out), most)?;
        match announced {
            Some(expected) if received < expected => {
                let problem = format!("{received} of {expected} bytes came");
                Err(Miss::passing(format!("cannot be fetched: {problem}")))
            }
            _ => Ok(()),
        }
    }

    /// Returns how many bytes may come after the first `have`.
    fn allowance(&self, have: u64, announced: Option<u64>) -> Result<u64, Miss> {
        match (self.size, announced) {
            (Some(size), Some(more)) if have.saturating_add(more) > size => {
                let all = have.saturating_add(more);
                Err(Miss::Final(format!("the server announces {all} bytes, expected {size}")))
            }
            (Some(size), _) => Ok(size.saturating_sub(have)),
            (None, Some(more)) => Ok(more),
            (None, None) => Ok(UNANNOUNCED.saturating_sub(have)),
        }
    }

    /// Appends a body to the partial file, at most `most` bytes; returns how many came.
    fn receive(
        &self,
        body: Body,
        (partial, mut out): (&Path, File),
        most: u64,
    ) -> Result<u64, Miss> {
        let failed = |e: std::io::Error| Miss::Failed(unwritten(partial, &e));
        let chunks = Client::chunks(body);
        let mut received = 0;
        while let Some(chunk) = self.client.next(&chunks)? {
            let chunk = chunk.map_err(|e| Miss::passing(format!("cannot be fetched: {e}")))?;
            if chunk.len() as u64 > most - received {
                std::fs::remove_file(partial).map_err(failed)?;
                let expected = self.size.unwrap_or(UNANNOUNCED);
                let problem = "the server sends more bytes than the";
                return Err(Miss::Final(format!(
                    "{problem} {expected} expected; it was thrown away"
                )));
            }
            out.write_all(&chunk).map_err(failed)?;
            received += chunk.len() as u64;
            (self.came)(chunk.len() as u64);
        }
        Ok(received)
    }

    /// Checks size and digest of the file. The outer error is that of the disk.
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

/// Returns the error of a file that cannot be written.
fn unwritten(path: &Path, problem: &std::io::Error) -> Error {
    Error::io(Kind::Store, path, "write the file", problem)
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
