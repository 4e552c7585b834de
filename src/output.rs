//! Output: results go to standard output, everything else to standard error.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::printable;

/// Prints results to standard output.
///
/// # Errors
/// Returns an error if the results cannot be written, for example because the device is full or
/// the reader has closed the pipe.
pub fn show(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(printable::text(text).as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| unwritten(&e))
}

/// Returns the error for a standard output that cannot be written to.
pub fn unwritten(error: &std::io::Error) -> Error {
    let remedy = if error.kind() == std::io::ErrorKind::BrokenPipe {
        "let the command that reads the output read all of it"
    } else {
        "redirect the output to a place that has room for it"
    };
    let problem = format_args!("cannot write the results: {error}");
    Error::new(Kind::Store, "standard output", problem, remedy)
}

/// Prints a line to standard error. Errors are ignored, because a message that cannot be shown is
/// no reason to fail.
pub fn tell(line: impl Display) {
    let line = line.to_string();
    let _ = writeln!(std::io::stderr().lock(), "{}", printable::text(&line));
}

/// Returns the error of a command whose results are in `folder`, extended by that folder's name.
pub fn kept_in(folder: &Path, error: Error) -> Error {
    let problem = format!("{}; the results are in {}", error.problem, folder.display());
    Error { problem, ..error }
}
