//! Facts for the provenance of a run that become known while its plan is carried out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::error::{Error, Kind, Result};
use crate::input::InputFile;

/// The files that the settings of a spec name and that were read, each with its SHA-256. Copies
/// of a plan share them.
#[derive(Debug, Clone, Default)]
pub struct ReadFiles(Arc<Mutex<BTreeMap<PathBuf, String>>>);

impl ReadFiles {
    /// Reads a text of at most `limit` bytes and records the digest of its bytes.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, is too long or is not UTF-8, or if it was read
    /// before and held other bytes.
    pub fn text(&self, kind: Kind, path: &Path, limit: u64) -> Result<String> {
        let (text, digest) = InputFile::open(kind, path)?.digested_text(limit)?;
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *files.entry(path.to_path_buf()).or_insert_with(|| digest.clone()) == digest {
            return Ok(text);
        }
        let problem = "changed since the command began";
        let remedy = "run the command again when it is complete";
        Err(Error::new(kind, path.display(), problem, remedy))
    }

    /// Records the digest of weights that a folder holds.
    pub fn weights(&self, folder: &Path, digest: &str) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.insert(folder.to_path_buf(), digest.to_owned());
    }

    /// Returns the digests of the files read so far, by path.
    pub fn digests(&self) -> BTreeMap<String, String> {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.iter().map(|(path, digest)| (path.display().to_string(), digest.clone())).collect()
    }
}

/// The tensors of a model that hold NaN or infinity, each described in words; known once the
/// model is loaded. Copies of a plan share them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NonFiniteWeights(Arc<OnceLock<Vec<String>>>);

impl NonFiniteWeights {
    /// Records the tensors that loading found. Only the first call has an effect.
    pub fn keep(&self, found: Vec<String>) {
        self.0.get_or_init(|| found);
    }

    /// Returns the tensors that loading found; empty before the model is loaded.
    pub fn found(&self) -> &[String] {
        self.0.get().map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_between_two_readings_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), "one").expect("write");
        let files = ReadFiles::default();
        let copy = files.clone();
        let read = |files: &ReadFiles| files.text(Kind::Spec, file.path(), 10);
        assert_eq!(read(&files).expect("read"), "one");
        assert_eq!(read(&copy).expect("read again"), "one");
        assert_eq!(copy.digests().len(), 1);
        std::fs::write(file.path(), "two").expect("write");
        assert!(read(&copy).expect_err("changed").problem.contains("changed since"));
    }

    #[test]
    fn what_the_first_loading_found_is_kept() {
        let (found, none) = (NonFiniteWeights::default(), NonFiniteWeights::default());
        found.clone().keep(vec!["x".into()]);
        found.keep(Vec::new());
        assert_eq!((found.found(), none.found().len()), (&["x".to_owned()][..], 0));
    }
}
