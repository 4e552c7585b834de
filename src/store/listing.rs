//! The list of a run's files. A folder is replaced only if it holds exactly the listed files,
//! unchanged.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{digest_file, write_whole};
use crate::digest::digest;
use crate::error::{Error, Kind, Result};
use crate::input::InputFile;

/// Name of the file that records what a run's numbers depend on and lists the run's files.
pub const MARK: &str = "provenance.json";

/// Maximum length of [`MARK`], in bytes.
const MAX_MARK: u64 = 64 << 20;
const MOVE_AWAY: &str = "choose another folder for the results, or move this one away";

/// The SHA-256 of each file of a run, by its path in the folder.
pub(super) type Files = BTreeMap<String, String>;

/// The content of [`MARK`]: a provenance, and the list of the run's files, which comes last.
/// Runs of earlier versions have no list.
#[derive(Serialize, Deserialize)]
pub(super) struct Listed<T> {
    #[serde(flatten)]
    pub provenance: T,
    pub files: Option<Files>,
}

/// The part of a provenance that names the program.
#[derive(Deserialize)]
struct Author {
    program: Option<String>,
}

/// Refuses a folder that holds anything but the unchanged files of an earlier run.
///
/// # Errors
/// Returns an error that names the first file that is not the run's, or has changed since.
pub(super) fn refuse_foreign(target: &Path) -> Result<()> {
    let refused = |problem: String| Error::new(Kind::Store, target.display(), problem, MOVE_AWAY);
    let Ok(metadata) = std::fs::metadata(target) else { return Ok(()) };
    if !metadata.is_dir() {
        return Err(refused("exists and is not a folder".into()));
    }
    let entries = Entries::of(target)?;
    if entries.files.is_empty() && entries.folders.is_empty() {
        return Ok(());
    }
    if !entries.files.iter().any(|name| name == MARK) {
        let problem = format!("exists and is not an earlier run (it holds no {MARK})");
        return Err(refused(problem));
    }
    let files = files_of(target)?;
    for name in entries.files.iter().filter(|name| *name != MARK) {
        let Some(listed) = files.get(name) else {
            return Err(refused(format!("holds `{name}`, which no run wrote")));
        };
        if !target.join(name).is_file() || digest_file(Kind::Store, &target.join(name))? != *listed
        {
            let problem = format!("holds `{name}`, which has changed since the run wrote it");
            return Err(refused(problem));
        }
    }
    let foreign = |folder: &&String| !files.keys().any(|f| Path::new(f).starts_with(folder));
    match entries.folders.iter().find(foreign) {
        Some(folder) => Err(refused(format!("holds the folder `{folder}`, which no run made"))),
        None => Ok(()),
    }
}

/// Reads the list of a run's files.
fn files_of(run: &Path) -> Result<Files> {
    let refused = |problem: &str| Error::new(Kind::Store, run.display(), problem, MOVE_AWAY);
    let text = InputFile::open_unchecked(Kind::Store, &run.join(MARK))?.text(MAX_MARK)?;
    let mark: Listed<Author> = serde_json::from_str(&text)
        .map_err(|e| refused(&format!("exists, and its {MARK} is not that of a run: {e}")))?;
    if mark.provenance.program.as_deref() != Some(env!("CARGO_PKG_NAME")) {
        let problem = format!("exists, and its {MARK} is not that of a run of this program");
        return Err(refused(&problem));
    }
    mark.files.ok_or_else(|| {
        refused("is a run of an earlier version, which did not record the files that it wrote")
    })
}

/// Removes the files that a run lists from its folder, and the folder if nothing is left.
///
/// # Errors
/// Returns an error if a file cannot be removed, or a file that the run did not write is in
/// the folder; it stays there.
pub(super) fn discard(run: &Path) -> Result<()> {
    let entries = Entries::of(run)?;
    let io = |path: &Path, e: std::io::Error| Error::io(Kind::Store, path, "remove it", &e);
    let files = if entries.files.is_empty() { Files::new() } else { files_of(run)? };
    let listed = |name: &&String| files.contains_key(*name);
    let remove = |name: &String| {
        let path = run.join(name);
        std::fs::remove_file(&path).map_err(|e| io(&path, e))
    };
    entries.files.iter().filter(listed).try_for_each(remove)?;
    // The deepest folders come last.
    for folder in entries.folders.iter().rev() {
        // A folder that is not empty holds files that the run did not write.
        let _ = std::fs::remove_dir(run.join(folder));
    }
    let left = Entries::of(run)?;
    if left.folders.is_empty() && left.files.iter().all(|name| name == MARK) {
        left.files.iter().try_for_each(remove)?;
    }
    std::fs::remove_dir(run).map_err(|e| io(run, e))
}

/// The content of a folder, as paths relative to it.
#[derive(Default)]
struct Entries {
    /// Everything except folders; links are included.
    files: Vec<String>,
    /// The folders; a folder comes before those in it.
    folders: Vec<String>,
}

impl Entries {
    fn of(folder: &Path) -> Result<Self> {
        let mut entries = Self::default();
        entries
            .add(folder, "")
            .map_err(|e| Error::io(Kind::Store, folder, "read the folder", &e))?;
        entries.files.sort();
        Ok(entries)
    }

    fn add(&mut self, root: &Path, within: &str) -> std::io::Result<()> {
        for entry in std::fs::read_dir(root.join(within))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = if within.is_empty() { name } else { format!("{within}/{name}") };
            if entry.file_type()?.is_dir() {
                self.folders.push(name.clone());
                self.add(root, &name)?;
            } else {
                self.files.push(name);
            }
        }
        Ok(())
    }
}

/// Replaces a file of a finished run and updates its digest in the run's list.
///
/// # Errors
/// Returns an error if a file cannot be written, or the run's [`MARK`] is damaged.
pub fn replace_in_run(run: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    write_whole(&run.join(name), |out| out.write_all(bytes))?;
    let mark = run.join(MARK);
    let text = InputFile::open_unchecked(Kind::Store, &mark)?.text(MAX_MARK)?;
    let damaged = |e: &dyn std::fmt::Display| super::damaged(&mark, e);
    let read: Listed<Author> = serde_json::from_str(&text).map_err(|e| damaged(&e))?;
    // Runs of earlier versions have no list.
    let Some(mut files) = read.files else { return Ok(()) };
    files.insert(name.to_owned(), digest(bytes));
    // Only the list, at the end, is rewritten, so that all numbers keep their digits.
    let at = text.rfind("\"files\":").ok_or_else(|| damaged(&"has no list of files"))?;
    let list = serde_json::to_string_pretty(&files).map_err(|e| damaged(&e))?;
    let text = format!("{}\"files\": {}\n}}\n", &text[..at], list.replace('\n', "\n  "));
    let again: Listed<Author> = serde_json::from_str(&text).map_err(|e| damaged(&e))?;
    if again.files.as_ref() != Some(&files) {
        return Err(damaged(&"its list of files is not its last member"));
    }
    write_whole(&mark, |out| out.write_all(text.as_bytes()))
}
