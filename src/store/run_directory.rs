//! The run directory, which appears complete or not at all.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::leftovers::{self, FinishedRecord, NEW, OLD, RECORD, StagingFolder};
use super::listing::{Files, Listed, refuse_foreign};
use super::{MARK, folder_of, follow_links, place, sync_folder};
use crate::digest::hex;
use crate::error::{Error, Kind, Result};
use crate::output::tell;

/// A run whose files are complete and on the disk.
#[derive(Debug)]
pub struct WrittenRun {
    /// Folder of the files.
    pub folder: PathBuf,
    /// The error of the last steps, if one failed: the run could not be moved to its target, or
    /// its page could not be made.
    pub failed: Option<Error>,
}

/// A run directory that is being written. Files go to a temporary folder beside the target,
/// which replaces the target when all are written.
pub struct RunDirectory {
    target: PathBuf,
    /// Holds the lock, the files of the run and, at the end, a record of it.
    staging: StagingFolder,
    files: RefCell<Files>,
}

impl RunDirectory {
    /// Prepares to write `target` and creates its parent. Leftovers of killed runs in the parent
    /// are removed or, if they are complete, moved to their targets.
    ///
    /// # Errors
    /// Returns an error if the target is anything but an earlier run, its parent cannot be
    /// written, or the target could not be renamed at the end of the run.
    pub fn begin(target: &Path) -> Result<Self> {
        refuse_nameless(target)?;
        let target = follow_links(target);
        let parent = folder_of(&target);
        let io = |doing, e: &std::io::Error| Error::io(Kind::Store, parent, doing, e);
        std::fs::create_dir_all(parent).map_err(|e| io("create the folder for runs", &e))?;
        leftovers::recover_runs(parent);
        refuse_foreign(&target)?;
        let staging =
            StagingFolder::make(parent).map_err(|e| io("write into the folder for runs", &e))?;
        prove(&target, staging.path())?;
        Ok(Self { target, staging, files: RefCell::default() })
    }

    /// Returns the folder of the files until they are moved to the target.
    pub fn path(&self) -> PathBuf {
        self.staging.path().join(NEW)
    }

    /// Writes one file and creates its folder within the run directory.
    ///
    /// # Errors
    /// Returns an error if the disk is full or the folder has vanished.
    pub fn write(
        &self,
        name: &str,
        content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<()> {
        let path = self.path().join(name);
        let write = || {
            std::fs::create_dir_all(folder_of(&path))?;
            let file = BufWriter::new(File::create(&path)?);
            let mut file = Digested { file, digest: Sha256::new() };
            content(&mut file)?;
            file.file.into_inner()?.sync_all()?;
            Ok(hex(&file.digest.finalize()))
        };
        let digest = write().map_err(|e: std::io::Error| {
            self.remove_part(&path);
            let shown = self.target.join(name);
            Error::io(Kind::Store, &shown, "write the file", &e)
        })?;
        self.files.borrow_mut().insert(name.to_owned(), digest);
        Ok(())
    }

    /// Removes an incomplete file, and its folder if that is empty.
    fn remove_part(&self, path: &Path) {
        let _ = std::fs::remove_file(path);
        if folder_of(path) != self.path() {
            let _ = std::fs::remove_dir(folder_of(path));
        }
    }

    /// Writes one JSON file.
    ///
    /// # Errors
    /// Returns an error as [`Self::write`] does.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        self.write(name, |out| {
            serde_json::to_writer_pretty(&mut *out, value)?;
            writeln!(out)
        })
    }

    /// Writes [`MARK`] with the list of all files and moves the finished folder to its target.
    /// An earlier run there is replaced.
    ///
    /// # Errors
    /// Returns an error if [`MARK`] cannot be written. If the folder cannot be moved, the results
    /// stay where they are, and [`WrittenRun`] names the folder.
    pub fn commit(self, provenance: &impl Serialize) -> Result<WrittenRun> {
        self.files.borrow_mut().remove(MARK);
        let files = Some(self.files.take());
        self.write_json(MARK, &Listed { provenance, files })?;
        if let Err(error) = self.put_in_place() {
            let folder = leftovers::keep_results(self.staging);
            return Ok(WrittenRun { folder, failed: Some(error) });
        }
        // The results are safe from here on, so later failures are not errors.
        if let Err(e) = sync_folder(folder_of(&self.target)) {
            tell(format_args!("warning: {}: cannot sync the folder: {e}", self.target.display()));
        }
        leftovers::discard(self.staging.path());
        // An earlier run with files of the user in it is still there.
        self.staging.keep();
        Ok(WrittenRun { folder: self.target, failed: None })
    }

    fn put_in_place(&self) -> Result<()> {
        let Self { target, .. } = self;
        let new = self.path();
        let io = |e: std::io::Error| Error::io(Kind::Store, target, "put the run in its place", &e);
        // Once the record is written, no process removes the files.
        let record = serde_json::to_vec(&FinishedRecord::of(&new, target)?);
        let keep = || {
            sync_folders(&new)?;
            let mut file = File::create(self.staging.path().join(RECORD))?;
            file.write_all(&record?)?;
            file.sync_all()?;
            sync_folder(self.staging.path())
        };
        keep().map_err(io)?;
        refuse_foreign(target)?;
        place::place(&new, target, &self.staging.path().join(OLD)).map_err(io)?;
        Ok(())
    }
}

/// Refuses the working folder, and a path that does not end in the name of a folder.
fn refuse_nameless(target: &Path) -> Result<()> {
    let working = std::env::current_dir().and_then(|folder| folder.canonicalize()).ok();
    let is_working = working.is_some_and(|w| target.canonicalize().is_ok_and(|t| t == w));
    if target.file_name().is_some() && !is_working {
        return Ok(());
    }
    let problem = if is_working {
        "is the folder that the program runs in, which cannot be replaced"
    } else {
        "does not end with the name of a folder"
    };
    let remedy = format!("name a folder in it, as in --out {}", target.join("NAME").display());
    Err(Error::new(Kind::Store, target.display(), problem, remedy))
}

/// Checks, before anything is computed, that the run can be moved to its target.
fn prove(target: &Path, staging: &Path) -> Result<()> {
    let (new, moved) = (staging.join(NEW), staging.join(OLD));
    let renames = std::fs::rename(&new, &moved).and_then(|()| std::fs::rename(&moved, &new));
    let proven =
        renames.and_then(|()| if target.exists() { place::prove(target, staging) } else { Ok(()) });
    proven.map_err(|e| {
        let problem = format!("cannot be replaced by a run: {e}");
        let remedy = format!(
            "it may be a mount point; name a folder in it, as in --out {}",
            target.join("NAME").display()
        );
        Error::new(Kind::Store, target.display(), problem, remedy)
    })
}

/// Syncs all folders of a run to the disk.
fn sync_folders(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    sync_folder(folder)
}

/// A file that digests the bytes written to it.
struct Digested {
    file: BufWriter<File>,
    digest: Sha256,
}

impl Write for Digested {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::leftovers::{LOCK, UNFINISHED};
    use super::*;
    use crate::store::replace_in_run;

    #[derive(Serialize)]
    struct SmallProvenance {
        program: &'static str,
        value: f64,
    }

    const OURS: SmallProvenance = SmallProvenance { program: env!("CARGO_PKG_NAME"), value: 0.1 };

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("folder");
        entries.map(|e| e.expect("entry").file_name().into_string().expect("name")).collect()
    }

    fn finish(target: &Path, content: &str) {
        let run = RunDirectory::begin(target).unwrap_or_else(|e| panic!("{e}"));
        run.write_json("a.json", &content).expect("write");
        run.write("figures/b.svg", |out| out.write_all(content.as_bytes())).expect("write");
        let written = run.commit(&OURS).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(written.failed, None);
    }

    fn holds(target: &Path, content: &str) -> bool {
        std::fs::read_to_string(target.join("figures/b.svg")).is_ok_and(|text| text == content)
    }

    #[test]
    fn a_run_appears_whole_and_replaces_an_earlier_one() {
        let root = tempfile::tempdir().expect("folder");
        let target = root.path().join("runs/x");
        for content in ["1", "2"] {
            finish(&target, content);
            assert!(holds(&target, content));
        }
        assert_eq!(names(&root.path().join("runs")), ["x"], "nothing is left beside it");
        std::fs::create_dir(root.path().join("empty")).expect("folder");
        finish(&root.path().join("empty"), "3");
        assert!(holds(&root.path().join("empty"), "3"), "an empty folder is replaced");
    }

    #[test]
    fn an_abandoned_run_leaves_nothing() {
        let root = tempfile::tempdir().expect("folder");
        let run = RunDirectory::begin(&root.path().join("x")).expect("begin");
        run.write_json("a.json", &1).expect("write");
        drop(run);
        assert!(names(root.path()).is_empty());
    }

    /// Something that a user did in the folder of a run, and what the refusal says of it.
    type Change = (&'static str, fn(&Path));

    #[test]
    fn a_folder_with_anything_of_the_user_is_not_replaced() {
        let write = |path: &Path, text: &str| std::fs::write(path, text).expect("write");
        let changes: [Change; 9] = [
            ("thesis.tex", |run| std::fs::write(run.join("thesis.tex"), "…").expect("write")),
            ("figures/mine.svg", |run| {
                std::fs::write(run.join("figures/mine.svg"), "…").expect("write");
            }),
            ("a.json", |run| std::fs::write(run.join("a.json"), "2").expect("write")),
            ("notes", |run| std::fs::create_dir(run.join("notes")).expect("folder")),
            ("no provenance.json", |run| std::fs::remove_file(run.join(MARK)).expect("remove")),
            ("not that of a run", |run| std::fs::write(run.join(MARK), "{}").expect("write")),
            ("not that of a run", |run| std::fs::write(run.join(MARK), "1 }").expect("write")),
            ("not that of a run", |run| {
                std::fs::write(run.join(MARK), r#"{"program": "x", "files": {}}"#).expect("write");
            }),
            ("earlier version", |run| {
                let text = r#"{"program": "universal-neurons"}"#;
                std::fs::write(run.join(MARK), text).expect("write");
            }),
        ];
        for (says, change) in changes {
            let root = tempfile::tempdir().expect("folder");
            let target = root.path().join("x");
            finish(&target, "1");
            change(&target);
            let error = RunDirectory::begin(&target).err().expect("refused");
            assert!(error.problem.contains(says), "{says}: {error}");
            assert!(holds(&target, "1"));
            assert_eq!(names(root.path()), ["x"]);
        }
        let root = tempfile::tempdir().expect("folder");
        write(&root.path().join("x"), "…");
        let error = RunDirectory::begin(&root.path().join("x")).err().expect("refused");
        assert!(error.problem.contains("not a folder"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_the_users_too() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().expect("folder");
        let [target, link] = ["x", "link"].map(|name| root.path().join(name));
        symlink("x", &link).expect("link");
        finish(&link, "1");
        finish(&link, "2");
        assert!(link.is_symlink() && !target.is_symlink() && holds(&target, "2"));
        std::fs::rename(target.join("a.json"), root.path().join("a.json")).expect("rename");
        symlink("../a.json", target.join("a.json")).expect("link");
        // The link is not the file that the run wrote, but its content is.
        finish(&target, "3");
        assert!(root.path().join("a.json").exists(), "what a link names stays");
        symlink("../a.json", target.join("other")).expect("link");
        assert!(RunDirectory::begin(&target).is_err());
    }

    #[test]
    fn results_stay_when_the_user_takes_their_place() {
        let root = tempfile::tempdir().expect("folder");
        let target = root.path().join("x");
        let run = RunDirectory::begin(&target).expect("begin");
        run.write_json("a.json", &1).expect("write");
        std::fs::create_dir(&target).expect("folder");
        std::fs::write(target.join("thesis.tex"), "…").expect("write");
        let written = run.commit(&OURS).expect("written");
        let error = written.failed.expect("not put in its place");
        assert!(error.problem.contains("not an earlier run"), "{error}");
        assert!(written.folder.join("a.json").exists());
        assert!(target.join("thesis.tex").exists());
        std::fs::remove_dir_all(&target).expect("remove");
        drop(RunDirectory::begin(&root.path().join("y")).expect("begin"));
        assert!(target.join("a.json").exists(), "they are put in their place at the next start");
        assert_eq!(names(root.path()), ["x"]);
    }

    #[test]
    fn leftovers_of_dead_processes_are_removed_and_others_kept() {
        let root = tempfile::tempdir().expect("folder");
        let folder = |name: &str, files: &[&str]| {
            let folder = root.path().join(format!("{UNFINISHED}{name}"));
            std::fs::create_dir(&folder).expect("folder");
            files.iter().for_each(|f| std::fs::write(folder.join(f), "x").expect("write"));
            folder
        };
        let (dead, bare) = (folder("dead", &[LOCK, RECORD]), folder("bare", &[]));
        std::fs::create_dir(dead.join(NEW)).expect("folder");
        std::fs::write(dead.join(NEW).join("a.json"), "x").expect("write");
        let foreign = folder("foreign", &["thesis.tex"]);
        let alive = RunDirectory::begin(&root.path().join("y")).expect("begin");
        drop(RunDirectory::begin(&root.path().join("x")).expect("begin"));
        assert!(!dead.exists() && !bare.exists() && foreign.exists() && alive.path().exists());
    }

    /// Leaves what a process leaves that is killed at the end: before its results are put in
    /// their place, after that, or between two renames.
    fn killed(target: &Path, content: &str, then: impl FnOnce(&RunDirectory)) {
        let run = RunDirectory::begin(target).unwrap_or_else(|e| panic!("{e}"));
        run.write("figures/b.svg", |out| out.write_all(content.as_bytes())).expect("write");
        let files = run.files.take();
        run.write_json(MARK, &Listed { provenance: &OURS, files: Some(files) }).expect("write");
        let record = FinishedRecord::of(&run.path(), target).expect("record");
        let record = serde_json::to_vec(&record).expect("JSON");
        std::fs::write(run.staging.path().join(RECORD), record).expect("write");
        then(&run);
        let _ = run.staging.keep();
    }

    #[test]
    fn a_run_that_was_killed_at_its_end_is_put_in_its_place() {
        for earlier in [false, true] {
            for moment in 0..3 {
                let root = tempfile::tempdir().expect("folder");
                let target = root.path().join("x");
                if earlier {
                    finish(&target, "1");
                }
                killed(&target, "2", |run| {
                    let old = run.staging.path().join(OLD);
                    if moment == 1 {
                        place::place(&run.path(), &target, &old).expect("placed");
                    } else if moment == 2 && earlier {
                        std::fs::rename(&target, &old).expect("renamed");
                    }
                });
                drop(RunDirectory::begin(&root.path().join("y")).expect("begin"));
                assert!(holds(&target, "2"), "moment {moment} earlier {earlier}");
                assert_eq!(names(root.path()), ["x"], "moment {moment} earlier {earlier}");
            }
        }
    }

    #[test]
    fn a_killed_run_does_not_take_the_place_of_a_later_one() {
        let root = tempfile::tempdir().expect("folder");
        let target = root.path().join("x");
        killed(&target, "1", |_| ());
        let other = tempfile::tempdir().expect("folder");
        finish(&other.path().join("x"), "2");
        std::fs::rename(other.path().join("x"), &target).expect("renamed");
        finish(&root.path().join("y"), "3");
        assert!(holds(&target, "2"));
        assert_eq!(names(root.path()).len(), 3, "the results of the killed run are kept");
    }

    #[test]
    fn a_page_that_is_made_again_is_the_runs() {
        let root = tempfile::tempdir().expect("folder");
        let target = root.path().join("x");
        finish(&target, "1");
        let before = std::fs::read_to_string(target.join(MARK)).expect("read");
        replace_in_run(&target, "report.html", b"new").expect("written");
        replace_in_run(&target, "a.json", b"new").expect("written");
        let after = std::fs::read_to_string(target.join(MARK)).expect("read");
        assert!(after.contains("\"value\": 0.1") && after != before);
        assert_eq!(after.lines().count(), before.lines().count() + 1);
        finish(&target, "2");
        assert!(!target.join("report.html").exists());
    }

    #[test]
    fn a_place_that_cannot_be_taken_is_refused() {
        let root = tempfile::tempdir().expect("folder");
        for target in [Path::new("/"), &root.path().join("..")] {
            let error = RunDirectory::begin(target).err().expect("refused");
            assert!(error.problem.contains("name of a folder"), "{error}");
        }
        let working = std::env::current_dir().expect("folder");
        for target in [Path::new("."), Path::new(""), &working] {
            assert!(RunDirectory::begin(target).is_err(), "{}", target.display());
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_run_folder_has_the_mode_that_the_users_mask_leaves() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().expect("folder");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode();
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o1777))
            .expect("mode");
        let usual = root.path().join("usual");
        std::fs::create_dir(&usual).expect("folder");
        finish(&root.path().join("x"), "1");
        assert_eq!(mode(&root.path().join("x")), mode(&usual));
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
