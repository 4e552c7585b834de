//! One error type for every room.
//!
//! A message always has three parts, because a user needs all three to go on:
//! the *subject* (which file, field or tensor), the *problem* (what was found and
//! what was expected) and the *remedy* (what to do about it). The constructor
//! takes all of them, so an error without a remedy cannot be written.

use std::fmt;

use crate::printable::{line, text};

/// Result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong, for callers that must tell cases apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The experiment file is malformed or asks for something impossible.
    Spec,
    /// A model directory, config or tensor is missing, malformed or unsupported.
    Model,
    /// A corpus or tokenizer cannot be read or does not fit the models.
    Corpus,
    /// A run directory cannot be written or read back.
    Store,
    /// A table of evidence or a claims file cannot be read.
    Evidence,
    /// A graphics processor is missing, or does not do what it is asked.
    Device,
    /// The run was interrupted by the user.
    Interrupted,
}

/// A failure that the user can act on. Displayed as `subject: problem` and, on
/// a line of its own, `help: remedy`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error {
    /// Which room failed.
    pub kind: Kind,
    /// The file, field or tensor concerned.
    pub subject: String,
    /// What was found, and what was expected instead.
    pub problem: String,
    /// What the user can do.
    pub remedy: String,
}

impl Error {
    /// An error with its three parts.
    pub fn new(
        kind: Kind,
        subject: impl fmt::Display,
        problem: impl fmt::Display,
        remedy: impl fmt::Display,
    ) -> Self {
        Self {
            kind,
            subject: subject.to_string(),
            problem: problem.to_string(),
            remedy: remedy.to_string(),
        }
    }

    /// An error of the file system: names the path and says what was being done to it.
    pub fn io(kind: Kind, path: &std::path::Path, doing: &str, source: &std::io::Error) -> Self {
        Self::new(
            kind,
            path.display(),
            format_args!("cannot {doing}: {source}"),
            io_remedy(source.kind()),
        )
    }
}

fn io_remedy(kind: std::io::ErrorKind) -> &'static str {
    use std::io::ErrorKind as K;
    match kind {
        K::NotFound => "check the path; relative paths start at the experiment file",
        K::PermissionDenied | K::ReadOnlyFilesystem => {
            "check the permissions, or choose another folder"
        }
        K::StorageFull | K::QuotaExceeded => "free some space, or choose a folder on another disk",
        K::IsADirectory => "give the path of a file, not of a folder",
        _ => "check that the file system is healthy and try again",
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names and values of files that somebody else wrote stand in all three.
        let (subject, problem, remedy) =
            (line(&self.subject), text(&self.problem), text(&self.remedy));
        write!(f, "{subject}: {problem}\n  help: {remedy}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_about_a_file_suits_every_command() {
        use std::io::ErrorKind as K;
        let kinds = [
            K::NotFound,
            K::PermissionDenied,
            K::ReadOnlyFilesystem,
            K::StorageFull,
            K::QuotaExceeded,
            K::IsADirectory,
            K::Other,
        ];
        for kind in kinds {
            assert!(!io_remedy(kind).contains("--"), "not every command has the option: {kind}");
        }
    }

    #[test]
    fn an_error_about_a_hostile_file_is_plain_text() {
        let error =
            Error::new(Kind::Spec, "a\u{1b}]0;x\u{7}\nb", "`\u{202e}k` at\n  2 | x", "y\u{9b}z");
        let shown = error.to_string();
        assert_eq!(shown, "a\\u{1b}]0;x\\u{7}\\nb: `\\u{202e}k` at\n  2 | x\n  help: y\\u{9b}z");
    }
}
