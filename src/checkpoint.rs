//! Sums on disk, so that an interrupted run can go on and end with the same bits.
//!
//! A checkpoint is one file: a line of JSON that says what it belongs to, the
//! sums, and a SHA-256 of all before it. It appears whole or not at all.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};
use crate::store::write_whole;

/// A part of a state, shown to whoever writes or reads it.
pub enum Part<'a> {
    /// A count.
    Count(&'a mut u64),
    /// Counts of a fixed number.
    Counts(&'a mut [u32]),
    /// Numbers of a fixed number.
    Numbers(&'a mut [f64]),
    /// Values of any number.
    Values(&'a mut Vec<f32>),
}

/// What is done with each part; the error is the file's.
pub type Visit<'a> = &'a mut dyn FnMut(Part) -> std::io::Result<()>;

/// State that can be written and read back: its parts, in a fixed order. One
/// walk serves both, so that they cannot disagree.
pub trait State {
    /// Shows every part.
    ///
    /// # Errors
    /// Those of `visit`.
    fn parts(&mut self, visit: Visit) -> std::io::Result<()>;
}

/// When and where checkpoints are written.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    path: PathBuf,
    every: Duration,
    last: Instant,
    identity: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    program: String,
    /// Digest of all that the sums depend on.
    identity: String,
    /// Batches that the sums hold.
    batches: usize,
}

/// Longest head that is read.
const MAX_HEAD: usize = 1 << 12;

impl Checkpoints {
    /// Checkpoints at `path` of the run that `identity` digests.
    pub fn new(path: PathBuf, every: Duration, identity: String) -> Self {
        Self { path, every, last: Instant::now(), identity }
    }

    /// Where the checkpoint is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a checkpoint if it is time for one.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_if_due(&mut self, state: &mut dyn State, batches: usize) -> Result<()> {
        if self.last.elapsed() < self.every {
            return Ok(());
        }
        self.write(state, batches)
    }

    /// Writes a checkpoint in place of the one before.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&mut self, state: &mut dyn State, batches: usize) -> Result<()> {
        let head = Head {
            program: env!("CARGO_PKG_VERSION").into(),
            identity: self.identity.clone(),
            batches,
        };
        write_whole(&self.path, |out| write_parts(out, &head, state))?;
        self.last = Instant::now();
        Ok(())
    }

    /// Reads the checkpoint into a fresh state; returns the batches that it holds.
    ///
    /// # Errors
    /// If there is none, it is damaged, or it belongs to another spec, model,
    /// corpus or program.
    pub fn read(&self, state: &mut dyn State) -> Result<usize> {
        let error = |problem: String, remedy: &str| {
            Error::new(Kind::Store, self.path.display(), problem, remedy)
        };
        let file = File::open(&self.path).map_err(|e| {
            error(format!("cannot open the checkpoint: {e}"), "start without --resume")
        })?;
        let mut file = Hashed::new(BufReader::new(file));
        let damaged = |e: std::io::Error| {
            error(format!("is not a whole checkpoint: {e}"), "remove it and start without --resume")
        };
        let head = read_head(&mut file).map_err(damaged)?;
        if head.program != env!("CARGO_PKG_VERSION") || head.identity != self.identity {
            let problem = "belongs to another spec, model, corpus or version of this program";
            return Err(error(problem.into(), "remove it, or start the run that it belongs to"));
        }
        read_parts(&mut file, state).map_err(damaged)?;
        Ok(head.batches)
    }

    /// Removes the checkpoint of a run that has ended.
    ///
    /// # Errors
    /// If it is there and cannot be removed.
    pub fn remove(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(Kind::Store, &self.path, "remove the checkpoint", &e))
            }
            _ => Ok(()),
        }
    }
}

/// A stream and the digest of what went through it.
struct Hashed<S> {
    stream: S,
    digest: Sha256,
}

impl<S> Hashed<S> {
    fn new(stream: S) -> Self {
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
    fn take<const N: usize>(&mut self) -> std::io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        self.digest.update(bytes);
        Ok(bytes)
    }
}

fn write_parts(out: &mut dyn Write, head: &Head, state: &mut dyn State) -> std::io::Result<()> {
    let mut out = Hashed::new(out);
    out.put(serde_json::to_string(head)?.as_bytes())?;
    out.put(b"\n")?;
    state.parts(&mut |part| match part {
        Part::Count(n) => out.put(&n.to_le_bytes()),
        Part::Counts(counts) => counts.iter().try_for_each(|n| out.put(&n.to_le_bytes())),
        Part::Numbers(numbers) => numbers.iter().try_for_each(|v| out.put(&v.to_le_bytes())),
        Part::Values(values) => {
            out.put(&(values.len() as u64).to_le_bytes())?;
            values.iter().try_for_each(|v| out.put(&v.to_le_bytes()))
        }
    })?;
    out.stream.write_all(&out.digest.finalize())
}

fn read_head(file: &mut Hashed<impl Read>) -> std::io::Result<Head> {
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

fn read_parts(file: &mut Hashed<impl Read>, state: &mut dyn State) -> std::io::Result<()> {
    state.parts(&mut |part| {
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
            Part::Values(values) => {
                let count = u64::from_le_bytes(file.take()?);
                values.clear();
                // No room is made before the values are there: the count may be damaged.
                for _ in 0..count {
                    values.push(f32::from_le_bytes(file.take()?));
                }
            }
        }
        Ok(())
    })?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Default)]
    struct Toy {
        n: u64,
        bins: [u32; 3],
        sums: [f64; 2],
        pending: Vec<f32>,
    }

    impl State for Toy {
        fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
            visit(Part::Count(&mut self.n))?;
            visit(Part::Counts(&mut self.bins))?;
            visit(Part::Numbers(&mut self.sums))?;
            visit(Part::Values(&mut self.pending))
        }
    }

    fn toy() -> Toy {
        Toy { n: 7, bins: [1, 0, u32::MAX], sums: [0.1, -0.0], pending: vec![1.5, f32::MIN] }
    }

    fn checkpoints(folder: &Path, identity: &str) -> Checkpoints {
        Checkpoints::new(folder.join("x.checkpoint"), Duration::ZERO, identity.into())
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().expect("folder");
        let mut c = checkpoints(folder.path(), "id");
        c.write_if_due(&mut toy(), 5).expect("write");
        let mut read = Toy::default();
        assert_eq!(c.read(&mut read).expect("read"), 5);
        assert_eq!(read, toy());
        c.remove().expect("remove");
        c.remove().expect("removing nothing is no error");
        assert!(c.read(&mut read).is_err(), "there is none left");
    }

    #[test]
    fn another_run_or_a_damaged_file_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let mut c = checkpoints(folder.path(), "id");
        c.write(&mut toy(), 5).expect("write");
        let other = checkpoints(folder.path(), "other").read(&mut Toy::default());
        assert!(other.expect_err("refused").problem.contains("another spec"));
        let whole = std::fs::read(c.path()).expect("read");
        for position in [0, whole.len() / 2, whole.len() - 40, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[position] ^= 1;
            std::fs::write(c.path(), &bytes).expect("write");
            assert!(c.read(&mut Toy::default()).is_err(), "byte {position} was changed");
            std::fs::write(c.path(), &whole[..position]).expect("write");
            assert!(c.read(&mut Toy::default()).is_err(), "cut at {position}");
        }
    }
}
