//! Finds the folder of a model, even if a repository folder of the hub's cache is given instead of
//! one of its snapshots.

use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::input::InputFile;

/// Name of the folder in a repository of the cache that has one folder per commit.
const SNAPSHOTS: &str = "snapshots";
/// The file that holds the commit of the branch `main`.
const MAIN: &str = "refs/main";
/// Maximum length of that file, in bytes; a commit has 40.
const MAX_REF: u64 = 256;

/// Returns the folder that holds the files of a model. This is `folder` itself unless `folder` is a
/// repository in the hub's cache (`models--OWNER--NAME`): then it is the snapshot of `main`, or else
/// the only snapshot.
///
/// # Errors
/// Returns an error naming the snapshots if there are several and none is that of `main`.
pub fn resolve(folder: &Path) -> Result<PathBuf> {
    let snapshots = folder.join(SNAPSHOTS);
    if folder.join("config.json").exists() || !snapshots.is_dir() {
        return Ok(folder.to_path_buf());
    }
    let main = folder.join(MAIN);
    if main.exists() {
        let commit = InputFile::open(Kind::Model, &main)?.text(MAX_REF)?;
        let commit = commit.trim();
        let plain = Path::new(commit).file_name().is_some_and(|name| name == commit);
        let snapshot = snapshots.join(commit);
        if plain && snapshot.is_dir() {
            return Ok(snapshot);
        }
    }
    let entries = std::fs::read_dir(&snapshots)
        .map_err(|e| Error::io(Kind::Model, &snapshots, "list the snapshots", &e))?;
    let mut found: Vec<PathBuf> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|path| path.is_dir()).collect();
    found.sort();
    match &found[..] {
        [one] => Ok(one.clone()),
        [] => Err(Error::new(
            Kind::Model,
            snapshots.display(),
            "holds no snapshot of the model",
            "download the model again",
        )),
        several => {
            let name = |path: &PathBuf| path.file_name().map(|n| n.to_string_lossy().into_owned());
            let names: Vec<String> = several.iter().filter_map(name).collect();
            let problem = format!("holds several snapshots: {}", names.join(", "));
            Err(Error::new(Kind::Model, snapshots.display(), problem, "give the path of one"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_snapshot_of_main_or_the_only_one_is_meant() {
        let root = tempfile::tempdir().expect("folder");
        let folder = root.path().join("models--a--b");
        let snapshot = |name: &str| folder.join("snapshots").join(name);
        std::fs::create_dir_all(snapshot("")).expect("folder");
        assert!(resolve(&folder).expect_err("none").problem.contains("no snapshot"));
        std::fs::create_dir(snapshot("aaa")).expect("folder");
        assert_eq!(resolve(&folder).expect("one"), snapshot("aaa"));
        std::fs::create_dir(snapshot("bbb")).expect("folder");
        let error = resolve(&folder).expect_err("two");
        assert!(error.problem.contains("aaa, bbb"), "{error}");
        std::fs::create_dir(folder.join("refs")).expect("folder");
        for (main, found) in [("bbb\n", Some("bbb")), ("ccc", None), ("../snapshots/aaa", None)] {
            std::fs::write(folder.join("refs/main"), main).expect("write");
            assert_eq!(resolve(&folder).ok(), found.map(snapshot), "{main}");
        }
        assert_eq!(resolve(&snapshot("aaa")).expect("itself"), snapshot("aaa"));
    }
}
