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
        let Hashed { stream, digest } = &mut self.file;
        let mut stored = Hashed { stream: stream as &mut dyn Read, digest: digest.clone() };
        read_state(&mut stored, state, enter).map_err(|e| damaged(&self.path, &e))
    }
}

pub(super) fn damaged(path: &Path, e: &std::io::Error) -> Error {
    let problem = format!("is not a whole checkpoint: {e}");
    Error::new(Kind::Store, path.display(), problem, "remove it, and make it again")
}

/// A state that is read: a file, or what another thread writes.
pub(super) type StateReader<'a> = Hashed<&'a mut dyn Read>;

/// Combines the next part of a stored state with a part of a state in memory.
pub(super) type Enter = fn(Part, &mut StateReader) -> std::io::Result<()>;

/// Replaces the part by the stored one.
pub(super) fn set(part: Part, stored: &mut StateReader) -> std::io::Result<()> {
    match part {
        Part::Count(n) => *n = u64::from_le_bytes(stored.take()?),
        Part::Counts(counts) => stored.each(counts, |n, bytes| *n = u32::from_le_bytes(bytes))?,
        Part::Numbers(numbers) => {
            stored.each(numbers, |v, bytes| *v = f64::from_le_bytes(bytes))?
        }
        Part::Values(values) | Part::Pilot(values) => {
            values.clear();
            stored.append(values)?;
        }
        Part::Shift(v) => *v = f64::from_le_bytes(stored.take()?),
    }
    Ok(())
}

/// Adds the stored part to the part. Pilots must be equal.
pub(super) fn add(part: Part, stored: &mut StateReader) -> std::io::Result<()> {
    let other = || Err(std::io::Error::other("its sums are relative to other values"));
    match part {
        Part::Count(n) => {
            let more = u64::from_le_bytes(stored.take()?);
            *n = n.checked_add(more).ok_or_else(|| std::io::Error::other("it counts too much"))?;
        }
        Part::Counts(counts) => {
            stored.each(counts, |n, bytes| *n = n.saturating_add(u32::from_le_bytes(bytes)))?;
        }
        Part::Numbers(numbers) => {
            stored.each(numbers, |v, bytes| *v += f64::from_le_bytes(bytes))?;
        }
        Part::Values(values) => stored.append(values)?,
        Part::Pilot(pilot) => {
            let mut theirs = Vec::new();
            stored.append(&mut theirs)?;
            if theirs != *pilot {
                return other();
            }
        }
        Part::Shift(shift) => {
            if f64::from_le_bytes(stored.take()?) != *shift {
                return other();
            }
        }
    }
    Ok(())
}

/// Number of values that are read or written at a time.
const AT_ONCE: usize = 1 << 13;

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

    fn put_each<T, const N: usize>(
        &mut self,
        values: &[T],
        bytes: impl Fn(&T) -> [u8; N],
    ) -> std::io::Result<()> {
        values
            .chunks(AT_ONCE)
            .try_for_each(|values| self.put(&values.iter().flat_map(&bytes).collect::<Vec<u8>>()))
    }
}

impl<S: Read> Hashed<S> {
    /// Appends the values of a list, whose length comes first.
    fn append(&mut self, values: &mut Vec<f32>) -> std::io::Result<()> {
        let mut left = u64::from_le_bytes(self.take()?);
        // Memory is not reserved for the whole list, since its length may be damaged.
        while left > 0 {
            let (old, more) = (values.len(), left.min(AT_ONCE as u64));
            values.resize(old + more as usize, 0.0);
            self.each(&mut values[old..], |v, bytes| *v = f32::from_le_bytes(bytes))?;
            left -= more;
        }
        Ok(())
    }

    /// Combines each value with its `N` stored bytes.
    fn each<T, const N: usize>(
        &mut self,
        values: &mut [T],
        enter: impl Fn(&mut T, [u8; N]),
    ) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        for values in values.chunks_mut(AT_ONCE) {
            bytes.resize(values.len() * N, 0);
            self.stream.read_exact(&mut bytes)?;
            self.digest.update(&bytes);
            let stored = bytes.as_chunks::<N>().0;
            values.iter_mut().zip(stored).for_each(|(value, bytes)| enter(value, *bytes));
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

/// Writes a line of JSON, a state, and the digest of both.
pub(super) fn write_parts(
    out: &mut dyn Write,
    head: &CheckpointHeader,
    state: &mut dyn State,
) -> std::io::Result<()> {
    let mut out = Hashed::new(out);
    out.put(serde_json::to_string(head)?.as_bytes())?;
    out.put(b"\n")?;
    write_state(&mut out, state)
}

/// Writes a state and the digest of everything that was written.
pub(super) fn write_state(
    out: &mut Hashed<&mut dyn Write>,
    state: &mut dyn State,
) -> std::io::Result<()> {
    state.parts(&mut |part| match part {
        Part::Count(n) => out.put(&n.to_le_bytes()),
        Part::Counts(counts) => out.put_each(counts, |n| n.to_le_bytes()),
        Part::Numbers(numbers) => out.put_each(numbers, |v| v.to_le_bytes()),
        Part::Shift(v) => out.put(&v.to_le_bytes()),
        Part::Values(values) | Part::Pilot(values) => {
            out.put(&(values.len() as u64).to_le_bytes())?;
            out.put_each(values, |v| v.to_le_bytes())
        }
    })?;
    let digest = out.digest.clone().finalize();
    out.stream.write_all(&digest)
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

/// Combines a stored state with one in memory, and checks the digest.
pub(super) fn read_state(
    stored: &mut StateReader,
    state: &mut dyn State,
    enter: Enter,
) -> std::io::Result<()> {
    state.parts(&mut |part| enter(part, stored))?;
    let expected = stored.digest.clone().finalize();
    let mut digest = [0; 32];
    stored.stream.read_exact(&mut digest)?;
    let end = stored.stream.read(&mut [0])? == 0;
    if digest[..] == expected[..] && end {
        Ok(())
    } else {
        Err(std::io::Error::other("its content does not match its digest"))
    }
}
