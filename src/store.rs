//! The run directory: it appears complete, or not at all.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::error::{Error, Kind, Result};

/// The file that marks a folder as one of ours, so that it may be replaced.
pub const MARK: &str = "provenance.json";

/// A run directory in the making: files go to a temporary folder beside the
/// target, which takes the target's place when all are written.
pub struct RunDirectory {
    target: PathBuf,
    parts: TempDir,
}

impl RunDirectory {
    /// Prepares to write `target`; its parent is created if need be.
    ///
    /// # Errors
    /// If the target is something else than an earlier run, or the parent is
    /// not writable.
    pub fn begin(target: &Path) -> Result<Self> {
        refuse_foreign(target)?;
        let parent = folder_of(target);
        let io = |doing, e: &std::io::Error| Error::io(Kind::Store, parent, doing, e);
        std::fs::create_dir_all(parent).map_err(|e| io("create the folder for runs", &e))?;
        let parts = tempfile::Builder::new()
            .prefix(".unfinished-run-")
            .tempdir_in(parent)
            .map_err(|e| io("write into the folder for runs", &e))?;
        Ok(Self { target: target.to_path_buf(), parts })
    }

    /// Where the files are until they are put in their place.
    pub fn path(&self) -> &Path {
        self.parts.path()
    }

    /// Writes one file; its folder within this one is made if need be.
    ///
    /// # Errors
    /// If the disk is full or the folder has vanished.
    pub fn write(
        &self,
        name: &str,
        content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<()> {
        let path = self.parts.path().join(name);
        let write = || {
            std::fs::create_dir_all(folder_of(&path))?;
            let mut file = BufWriter::new(std::fs::File::create(&path)?);
            content(&mut file)?;
            file.into_inner()?.sync_all()
        };
        write().map_err(|e| {
            let shown = self.target.join(name);
            Error::io(Kind::Store, &shown, "write the file", &e)
        })
    }

    /// Writes one file of JSON.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        self.write(name, |out| {
            serde_json::to_writer_pretty(&mut *out, value)?;
            writeln!(out)
        })
    }

    /// Puts the finished folder in its place, replacing an earlier run.
    ///
    /// # Errors
    /// If a folder cannot be renamed.
    pub fn commit(self) -> Result<PathBuf> {
        let Self { target, parts } = self;
        let io =
            |e: std::io::Error| Error::io(Kind::Store, &target, "put the run in its place", &e);
        let old = parts.path().with_extension("old");
        if target.exists() {
            std::fs::rename(&target, &old).map_err(io)?;
        }
        std::fs::rename(parts.path(), &target).map_err(io)?;
        // The folder has moved, so there is nothing left for its guard to remove.
        let _ = parts.keep();
        if old.exists() {
            std::fs::remove_dir_all(&old).map_err(io)?;
        }
        readable_by_others(&target).map_err(io)?;
        Ok(target)
    }
}

/// Writes a single file, which appears whole or not at all.
///
/// # Errors
/// If its folder cannot be written, or `content` fails.
pub fn write_whole(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let write = || {
        let file = part_of_a_file().tempfile_in(folder_of(path))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        content(&mut file)?;
        let file = file.into_inner()?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(|e: std::io::Error| Error::io(Kind::Store, path, "write the file", &e))
}

/// A temporary file that others may read as far as files of the user's may be.
#[cfg(unix)]
fn part_of_a_file() -> tempfile::Builder<'static, 'static> {
    use std::os::unix::fs::PermissionsExt;
    let mut builder = tempfile::Builder::new();
    // The user's mask is taken off by the system.
    builder.permissions(std::fs::Permissions::from_mode(0o666));
    builder
}

#[cfg(not(unix))]
fn part_of_a_file() -> tempfile::Builder<'static, 'static> {
    tempfile::Builder::new()
}

/// Reads a file of JSON that a run wrote.
///
/// # Errors
/// If it is missing or damaged.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        let problem = format!("cannot read the file of a run: {e}");
        Error::new(Kind::Evidence, path.display(), problem, "name the folder of a finished run")
    })?;
    serde_json::from_str(&text).map_err(|e| damaged(path, e))
}

/// The error of a file of a run that is not as it was written.
pub fn damaged(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::new(Kind::Evidence, path.display(), problem, "run the experiment again")
}

/// The folder that a path lies in, `.` where it names none.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn refuse_foreign(target: &Path) -> Result<()> {
    let foreign = match std::fs::read_dir(target) {
        Ok(mut entries) => entries.next().is_some() && !target.join(MARK).exists(),
        Err(_) => target.exists(),
    };
    if foreign {
        let problem = format!("exists and is not an earlier run (it holds no {MARK})");
        let remedy = "choose another folder with --out, or move this one away";
        return Err(Error::new(Kind::Store, target.display(), problem, remedy));
    }
    Ok(())
}

/// Temporary folders are private; a finished run follows the parent folder.
#[cfg(unix)]
fn readable_by_others(target: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(target, std::fs::metadata(folder_of(target))?.permissions())
}

#[cfg(not(unix))]
fn readable_by_others(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// If the file cannot be read.
pub fn digest_file(kind: Kind, path: &Path) -> Result<String> {
    let digest = || {
        let mut hasher = Sha256::new();
        std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
        Ok(hex(&hasher.finalize()))
    };
    digest().map_err(|e: std::io::Error| Error::io(kind, path, "read the file", &e))
}

/// SHA-256 of bytes, in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("folder");
        entries.map(|e| e.expect("entry").file_name().into_string().expect("name")).collect()
    }

    #[test]
    fn a_run_appears_whole_and_replaces_an_earlier_one() {
        let root = tempfile::tempdir().expect("folder");
        let target = root.path().join("runs/x");
        for content in ["1", "2"] {
            let run = RunDirectory::begin(&target).expect("begin");
            run.write_json(MARK, &content).expect("write");
            run.commit().expect("commit");
            let text = std::fs::read_to_string(target.join(MARK)).expect("file");
            assert_eq!(text, format!("\"{content}\"\n"));
        }
        assert_eq!(names(&root.path().join("runs")), ["x"], "nothing is left beside it");
    }

    #[test]
    fn an_abandoned_run_leaves_nothing() {
        let root = tempfile::tempdir().expect("folder");
        let run = RunDirectory::begin(&root.path().join("x")).expect("begin");
        run.write_json("a.json", &1).expect("write");
        drop(run);
        assert!(names(root.path()).is_empty());
    }

    #[test]
    fn a_folder_of_the_user_is_not_replaced() {
        let root = tempfile::tempdir().expect("folder");
        std::fs::write(root.path().join("thesis.tex"), "…").expect("write");
        let error = RunDirectory::begin(root.path()).err().expect("refused");
        assert!(error.problem.contains(MARK) && root.path().join("thesis.tex").exists());
    }

    #[test]
    fn a_failed_write_names_the_file() {
        let root = tempfile::tempdir().expect("folder");
        let run = RunDirectory::begin(&root.path().join("x")).expect("begin");
        let full = |_: &mut dyn Write| Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
        let error = run.write("neurons.csv", full).expect_err("full");
        assert!(
            error.subject.ends_with("neurons.csv") && error.remedy.contains("space"),
            "{error}"
        );
    }
}
