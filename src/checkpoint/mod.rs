//! Sums on disk, so that an interrupted run can go on and end with the same bits.
//!
//! A checkpoint is one file: a line of JSON that identifies the run, the sums, and the SHA-256
//! of everything before it. It is written to a temporary file and renamed, so that a reader
//! never sees half of it.

mod file;
mod state;
mod transfer;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use self::state::{Part, State, Visit};
pub use self::transfer::add_state;

use self::file::{CheckpointHeader, Hashed, SumsFile, add, damaged, read_head, set, write_parts};
use crate::error::{Error, Kind, Result};
use crate::input::InputFile;
use crate::output::tell;
use crate::store::write_whole;

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
