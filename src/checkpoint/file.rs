//! The format of checkpoints and shares: a line of JSON, the parts of a state, and the SHA-256 of
//! everything before it.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::state::{Part, State};
use crate::error::{Error, Kind, Result};
use crate::input::InputFile;

/// The first line of a file of sums.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CheckpointHeader {
    pub program: String,
    /// Digest of everything that the sums depend on.
    pub identity: String,
    /// Number of batches that were summed.
    pub batches: usize,
    /// For the finished sums of a share: the share, as `[number, count]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<[usize; 2]>,
    /// For the checkpoint of a share that is not finished: the share, as `[number, count]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<[usize; 2]>,
}

/// Maximum length of the line of JSON, in bytes.
const MAX_HEAD: usize = 1 << 12;

/// A file of sums whose line of JSON was read.
pub(super) struct SumsFile {
    pub path: PathBuf,
    pub head: CheckpointHeader,
    file: Hashed<BufReader<File>>,
}

impl SumsFile {
    pub fn open(path: &Path, identity: &str, if_missing: &str) -> Result<Self> {
        let error = |problem: String, remedy: &str| {
            Error::new(Kind::Store, path.display(), problem, remedy)
        };
        let file = InputFile::open_unchecked(Kind::Store, path).and_then(InputFile::into_file);
        let file = file.map_err(|e| Error { remedy: if_missing.into(), ..e })?;
        let mut file = Hashed::new(BufReader::with_capacity(1 << 20, file));
        let head = read_head(&mut file).map_err(|e| damaged(path, &e))?;
        if head.program != env!("CARGO_PKG_VERSION") || head.identity != identity {
            let problem = "belongs to another spec, model, corpus or version of this program";
            return Err(error(problem.into(), "remove it, or start the run that it belongs to"));
        }
        Ok(Self { path: path.to_path_buf(), head, file })
    }

    pub fn read(&mut self, state: &mut dyn State, enter: Enter) -> Result<()> {
        read_parts(&mut self.file, state, enter).map_err(|e| damaged(&self.path, &e))
    }
}

pub(super) fn damaged(path: &Path, e: &std::io::Error) -> Error {
    let problem = format!("is not a whole checkpoint: {e}");
    Error::new(Kind::Store, path.display(), problem, "remove it, and make it again")
}

/// Combines the next part of a file with a part of a state.
pub(super) type Enter = fn(Part, &mut Hashed<BufReader<File>>) -> std::io::Result<()>;

/// Replaces the part by that of the file.
pub(super) fn set(part: Part, file: &mut Hashed<BufReader<File>>) -> std::io::Result<()> {
    match part {
        Part::Count(n) => *n = u64::from_le_bytes(file.take()?),
        Part::Counts(counts) => {
            for n in counts {
                *n = u32::from_le_bytes(file.take()?);
            }
        }
        Part::Numbers(numbers) => {
            for v in numbers {
                *v = f64::from_le_bytes(file.take()?);
            }
        }
        Part::Values(values) | Part::Pilot(values) => {
            values.clear();
            file.append(values)?;
        }
        Part::Shift(v) => *v = f64::from_le_bytes(file.take()?),
    }
    Ok(())
}

/// Adds the part of the file to the part. Pilots must be equal.
pub(super) fn add(part: Part, file: &mut Hashed<BufReader<File>>) -> std::io::Result<()> {
    let other = || Err(std::io::Error::other("its sums are relative to other values"));
    match part {
        Part::Count(n) => {
            let more = u64::from_le_bytes(file.take()?);
            *n = n.checked_add(more).ok_or_else(|| std::io::Error::other("it counts too much"))?;
        }
        Part::Counts(counts) => {
            for n in counts {
                *n = n.saturating_add(u32::from_le_bytes(file.take()?));
            }
        }
        Part::Numbers(numbers) => {
            for v in numbers {
                *v += f64::from_le_bytes(file.take()?);
            }
        }
        Part::Values(values) => file.append(values)?,
        Part::Pilot(pilot) => {
            let mut theirs = Vec::new();
            file.append(&mut theirs)?;
            if theirs != *pilot {
                return other();
            }
        }
        Part::Shift(shift) => {
            if f64::from_le_bytes(file.take()?) != *shift {
                return other();
            }
        }
    }
    Ok(())
}

/// A stream that digests the bytes read from it or written to it.
pub(super) struct Hashed<S> {
    stream: S,
    digest: Sha256,
}

impl<S> Hashed<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, digest: Sha256::new() }
    }
}

impl<S: Write> Hashed<S> {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.digest.update(bytes);
        self.stream.write_all(bytes)
    }
}

impl<S: Read> Hashed<S> {
    /// Appends the values of a list, whose length comes first in the file.
    fn append(&mut self, values: &mut Vec<f32>) -> std::io::Result<()> {
        let count = u64::from_le_bytes(self.take()?);
        // Memory is not reserved for the count, which may be damaged.
        for _ in 0..count {
            values.push(f32::from_le_bytes(self.take()?));
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> std::io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        self.digest.update(bytes);
        Ok(bytes)
    }
}

pub(super) fn write_parts(
    out: &mut dyn Write,
    head: &CheckpointHeader,
    state: &mut dyn State,
) -> std::io::Result<()> {
    let mut out = Hashed::new(out);
    out.put(serde_json::to_string(head)?.as_bytes())?;
    out.put(b"\n")?;
    state.parts(&mut |part| match part {
        Part::Count(n) => out.put(&n.to_le_bytes()),
        Part::Counts(counts) => counts.iter().try_for_each(|n| out.put(&n.to_le_bytes())),
        Part::Numbers(numbers) => numbers.iter().try_for_each(|v| out.put(&v.to_le_bytes())),
        Part::Shift(v) => out.put(&v.to_le_bytes()),
        Part::Values(values) | Part::Pilot(values) => {
            out.put(&(values.len() as u64).to_le_bytes())?;
            values.iter().try_for_each(|v| out.put(&v.to_le_bytes()))
        }
    })?;
    out.stream.write_all(&out.digest.finalize())
}

pub(super) fn read_head(file: &mut Hashed<impl Read>) -> std::io::Result<CheckpointHeader> {
    let mut line = Vec::new();
    loop {
        let [byte] = file.take()?;
        if byte == b'\n' {
            return Ok(serde_json::from_slice(&line)?);
        }
        line.push(byte);
        if line.len() > MAX_HEAD {
            return Err(std::io::Error::other("its first line is too long"));
        }
    }
}

fn read_parts(
    file: &mut Hashed<BufReader<File>>,
    state: &mut dyn State,
    enter: Enter,
) -> std::io::Result<()> {
    state.parts(&mut |part| enter(part, file))?;
    let expected = file.digest.clone().finalize();
    let mut stored = [0; 32];
    file.stream.read_exact(&mut stored)?;
    let end = file.stream.read(&mut [0])? == 0;
    if stored[..] == expected[..] && end {
        Ok(())
    } else {
        Err(std::io::Error::other("its content does not match its digest"))
    }
}
