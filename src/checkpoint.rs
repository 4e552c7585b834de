//! Sums on disk, so that an interrupted run can go on and end with the same bits.
//!
//! A checkpoint is one file: a line of JSON that identifies the run, the sums, and the SHA-256
//! of everything before it. It is written to a temporary file and renamed, so that a reader
//! never sees half of it.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};
use crate::input::InputFile;
use crate::output::tell;
use crate::store::write_whole;

/// A part of a state, as the writer and the reader of a checkpoint see it.
pub enum Part<'a> {
    /// A count.
    Count(&'a mut u64),
    /// A fixed-length list of counts.
    Counts(&'a mut [u32]),
    /// A fixed-length list of numbers.
    Numbers(&'a mut [f64]),
    /// A list of any length: activations, in the order of the tokens.
    Values(&'a mut Vec<f32>),
    /// The values subtracted from activations before summing (the pilots), one per neuron.
    Pilot(&'a mut Vec<f32>),
    /// The value subtracted from activations before summing (the pilot).
    Shift(&'a mut f64),
}

/// The function that is called with each part. Its error is that of the file.
pub type Visit<'a> = &'a mut dyn FnMut(Part) -> std::io::Result<()>;

/// A state that can be written and read back as parts in a fixed order. The writer and the
/// reader use the same method, so their orders cannot differ.
pub trait State {
    /// Calls `visit` with every part.
    ///
    /// # Errors
    /// Returns the first error of `visit`.
    fn parts(&mut self, visit: Visit) -> std::io::Result<()>;
}

/// A list of any length: activations, in the order of the tokens.
impl State for Vec<f32> {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        visit(Part::Values(self))
    }
}

/// Writes and reads the checkpoints of one run.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    path: PathBuf,
    every: Duration,
    last: Instant,
    identity: String,
    /// The share that the run sums, as `[number, count]`; None for a whole run.
    share: Option<[usize; 2]>,
}

#[derive(Debug, Serialize, Deserialize)]
struct CheckpointHeader {
    program: String,
    /// Digest of everything that the sums depend on.
    identity: String,
    /// Number of batches that were summed.
    batches: usize,
    /// For the finished sums of a share: the share, as `[number, count]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share: Option<[usize; 2]>,
    /// For the checkpoint of a share that is not finished: the share, as `[number, count]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part: Option<[usize; 2]>,
}

/// Maximum length of the line of JSON, in bytes.
const MAX_HEAD: usize = 1 << 12;

impl Checkpoints {
    /// Creates the checkpoints of a run, at `path`. `identity` is the digest of everything that
    /// its sums depend on.
    pub fn new(path: PathBuf, every: Duration, identity: String) -> Self {
        Self { path, every, last: Instant::now(), identity, share: None }
    }

    /// Sets the share that the run sums, as `[number, count]`.
    pub fn of_share(&mut self, share: [usize; 2]) {
        self.share = Some(share);
    }

    /// Returns the path of the checkpoint.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a checkpoint if the last one is old enough.
    ///
    /// # Errors
    /// Returns an error if the checkpoint cannot be written.
    pub fn write_if_due(&mut self, state: &mut dyn State, batches: usize) -> Result<()> {
        if self.last.elapsed() < self.every {
            return Ok(());
        }
        // Set before writing, so that a failure is not repeated at every batch.
        self.last = Instant::now();
        self.write(state, batches)
    }

    /// Writes a checkpoint, which replaces the one before.
    ///
    /// # Errors
    /// Returns an error if the checkpoint cannot be written.
    pub fn write(&mut self, state: &mut dyn State, batches: usize) -> Result<()> {
        let head = CheckpointHeader { part: self.share, ..self.head(batches) };
        write_whole(&self.path, |out| write_parts(out, &head, state))?;
        self.last = Instant::now();
        Ok(())
    }

    /// Writes the sums of a finished share and removes its checkpoint. Returns the path of the
    /// share.
    ///
    /// # Errors
    /// Returns an error if the share cannot be written.
    pub fn write_share(&self, state: &mut dyn State) -> Result<PathBuf> {
        let path = self.share_path();
        let head = CheckpointHeader { share: self.share, ..self.head(0) };
        write_whole(&path, |out| write_parts(out, &head, state))?;
        self.remove();
        Ok(path)
    }

    fn share_path(&self) -> PathBuf {
        self.path.with_extension("")
    }

    fn head(&self, batches: usize) -> CheckpointHeader {
        let program = env!("CARGO_PKG_VERSION").into();
        CheckpointHeader {
            program,
            identity: self.identity.clone(),
            batches,
            share: None,
            part: None,
        }
    }

    /// Checks that no file would be lost: neither the checkpoint of an earlier run nor a file
    /// other than a share at the path of the share.
    ///
    /// # Errors
    /// Returns an error that names the file which would be replaced.
    pub fn refuse_existing(&self, resume: bool) -> Result<()> {
        if !resume && std::fs::symlink_metadata(&self.path).is_ok() {
            let problem = "is the checkpoint of an earlier run, which this run would replace";
            let remedy = "go on from it with --resume, or remove it to start from the beginning";
            return Err(Error::new(Kind::Store, self.path.display(), problem, remedy));
        }
        let share = self.share_path();
        if self.share.is_none() || std::fs::symlink_metadata(&share).is_err() {
            return Ok(());
        }
        let another = |why: &dyn std::fmt::Display| {
            let problem = format!("exists and is not the share of a run: {why}");
            let remedy = "choose another folder with --out, or move this file away";
            Error::new(Kind::Store, share.display(), problem, remedy)
        };
        let file = InputFile::open_unchecked(Kind::Store, &share).and_then(InputFile::into_file);
        let file = file.map_err(|e| another(&e.problem))?;
        read_head(&mut Hashed::new(file)).map(|_| ()).map_err(|e| another(&e))
    }

    /// Reads the checkpoint into a new state. Returns the number of batches that were summed.
    ///
    /// # Errors
    /// Returns an error if the checkpoint is missing or damaged, or belongs to another spec,
    /// model, corpus, share or version of the program.
    pub fn read(&self, state: &mut dyn State) -> Result<usize> {
        let mut file = SumsFile::open(&self.path, &self.identity, "start without --resume")?;
        if file.head.share.is_some() || file.head.part != self.share {
            let problem = "holds the sums of other tokens: of another share, or of a whole run";
            let remedy = "rename it as it was, or remove it and start without --resume";
            return Err(Error::new(Kind::Store, self.path.display(), problem, remedy));
        }
        file.read(state, set)?;
        Ok(file.head.batches)
    }

    /// Returns the error of a checkpoint that is not damaged but contradicts the run.
    pub fn inconsistent(&self, why: &str) -> Error {
        damaged(&self.path, &std::io::Error::other(why))
    }

    /// Adds to the error of a run where its sums are and how to go on from them.
    pub fn keeps(&self, error: Error) -> Error {
        if !self.path.exists() {
            return error;
        }
        let problem = format!("{}; its sums are in {}", error.problem, self.path.display());
        let remedy = match error.kind {
            Kind::Interrupted => "continue with --resume".into(),
            _ => format!("{}; then continue with --resume", error.remedy),
        };
        Error { problem, remedy, ..error }
    }

    /// Removes the checkpoint of a run whose results are on the disk. A failure is printed as a
    /// warning, since no result is lost.
    pub fn remove(&self) {
        match std::fs::remove_file(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                let path = self.path.display();
                tell(format_args!("warning: {path}: cannot remove the checkpoint: {e}"));
            }
            _ => {}
        }
    }
}

/// Returns whether a file has the sums of the run with this `identity`; false if it cannot be read.
pub fn is_of(path: &Path, identity: &str) -> bool {
    let file = InputFile::open_unchecked(Kind::Store, path).and_then(InputFile::into_file);
    let head = file.ok().and_then(|file| read_head(&mut Hashed::new(file)).ok());
    head.is_some_and(|head| head.identity == identity)
}

/// All shares of a run, opened.
pub struct Shares(Vec<SumsFile>);

impl Shares {
    /// Opens the files of all shares, given in any order.
    ///
    /// # Errors
    /// Returns an error if a share is missing, is given twice, or belongs to another run than
    /// the one with this `identity`.
    pub fn open(paths: &[PathBuf], identity: &str) -> Result<Self> {
        let remedy = "give the files that `run --shard` wrote for this spec";
        let open = |path: &PathBuf| SumsFile::open(path, identity, remedy);
        let mut files = paths.iter().map(open).collect::<Result<Vec<_>>>()?;
        files.sort_by_key(|file| file.head.share);
        for (i, file) in files.iter().enumerate() {
            let [share, of] = file.head.share.unwrap_or([0, 0]);
            if share != i + 1 || of != files.len() {
                let problem = match file.head.share {
                    None => "is the checkpoint of a run that is not over".to_string(),
                    Some(_) => format!(
                        "is share {share} of {of}; with {} files, share {} of {} was expected here",
                        files.len(),
                        i + 1,
                        files.len()
                    ),
                };
                let remedy = "give every share of one run once, 1/n to n/n";
                return Err(Error::new(Kind::Store, file.path.display(), problem, remedy));
            }
        }
        Ok(Self(files))
    }

    /// Adds all shares to a new state, in the order of their numbers. Calls `each` after each.
    ///
    /// # Errors
    /// Returns an error if a share is damaged, or has other pilots than the first share.
    pub fn add_to(self, state: &mut dyn State, mut each: impl FnMut()) -> Result<()> {
        for (i, mut file) in self.0.into_iter().enumerate() {
            file.read(state, if i == 0 { set } else { add })?;
            each();
        }
        Ok(())
    }
}

/// A file of sums whose line of JSON was read.
struct SumsFile {
    path: PathBuf,
    head: CheckpointHeader,
    file: Hashed<BufReader<File>>,
}

impl SumsFile {
    fn open(path: &Path, identity: &str, if_missing: &str) -> Result<Self> {
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

    fn read(&mut self, state: &mut dyn State, enter: Enter) -> Result<()> {
        read_parts(&mut self.file, state, enter).map_err(|e| damaged(&self.path, &e))
    }
}

fn damaged(path: &Path, e: &std::io::Error) -> Error {
    let problem = format!("is not a whole checkpoint: {e}");
    Error::new(Kind::Store, path.display(), problem, "remove it, and make it again")
}

/// Combines the next part of a file with a part of a state.
type Enter = fn(Part, &mut Hashed<BufReader<File>>) -> std::io::Result<()>;

/// Replaces the part by that of the file.
fn set(part: Part, file: &mut Hashed<BufReader<File>>) -> std::io::Result<()> {
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
fn add(part: Part, file: &mut Hashed<BufReader<File>>) -> std::io::Result<()> {
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

fn write_parts(
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

fn read_head(file: &mut Hashed<impl Read>) -> std::io::Result<CheckpointHeader> {
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
        c.remove();
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
