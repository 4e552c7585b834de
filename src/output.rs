//! Output: results go to standard output, everything else to standard error.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
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

/// A piece of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The text.
    pub text: String,
    /// Strength of the background, from 0 (none) to 5.
    pub shade: u8,
}

impl Piece {
    /// Returns a piece without a background.
    pub fn plain(text: String) -> Self {
        Self { text, shade: 0 }
    }
}

/// The backgrounds of shades 1 to 5, in the palette of 256 colours, light to strong.
const BACKGROUNDS: [u8; 5] = [230, 223, 216, 209, 202];

/// Prints pieces of text to standard output, with backgrounds if `coloured` is set.
///
/// # Errors
/// Returns an error as [`show`] does.
pub fn show_pieces(pieces: &[Piece], coloured: bool) -> Result<()> {
    let mut bytes = String::new();
    for piece in pieces {
        let text = printable::text(&piece.text);
        match usize::from(piece.shade).checked_sub(1) {
            // Black on a light background, whatever the colours of the terminal are.
            Some(shade) if coloured => {
                let background = BACKGROUNDS[shade.min(BACKGROUNDS.len() - 1)];
                bytes.push_str(&format!("\u{1b}[30;48;5;{background}m{text}\u{1b}[0m"));
            }
            _ => bytes.push_str(&text),
        }
    }
    let mut out = std::io::stdout().lock();
    out.write_all(bytes.as_bytes()).and_then(|()| out.flush()).map_err(|e| unwritten(&e))
}

/// Returns whether standard output is a terminal whose user has not asked for text without colours
/// (`NO_COLOR`).
pub fn takes_colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !refused
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
