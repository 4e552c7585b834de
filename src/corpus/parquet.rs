//! Rows of Parquet. The library that reads them panics on some damaged files; here that is
//! an error like any other.

use std::cell::Cell;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use parquet::file::reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};

/// Rows of a file, or what is wrong with it.
pub struct Rows(RowIter<'static>);

impl Rows {
    /// Of a file.
    ///
    /// # Errors
    /// If it is damaged, or compressed in a way that this program does not read.
    pub fn of(file: File) -> Result<Self, String> {
        let rows = || {
            let reader = SerializedFileReader::new(file).map_err(|e| e.to_string())?;
            Ok(RowIter::from_file_into(Box::new(reader)))
        };
        guarded(rows)?.map(Self)
    }
}

impl Iterator for Rows {
    type Item = Result<Row, String>;

    fn next(&mut self) -> Option<Self::Item> {
        match guarded(|| self.0.next()) {
            Ok(row) => row.map(|row| row.map_err(|e| e.to_string())),
            Err(problem) => Some(Err(problem)),
        }
    }
}

/// The text in a column of a row, if it is there and is text.
pub fn text(row: &Row, column: &str) -> Option<String> {
    let found = row.get_column_iter().find(|(name, _)| *name == column);
    found.and_then(|(_, field)| match field {
        Field::Str(text) => Some(text.clone()),
        _ => None,
    })
}

thread_local! {
    /// Whether a panic of this thread is caught and told in an error.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs what may panic on damaged input.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                before(info);
            }
        }));
    });
    GUARDED.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    outcome.map_err(|_| "is damaged: the reader of Parquet gave up on it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_library_is_an_error() {
        assert!(guarded(|| panic!("as on negative lengths")).is_err());
        assert_eq!(guarded(|| 3), Ok(3));
        let caught = catch_unwind(|| panic!("of somebody else"));
        assert!(caught.is_err() && !GUARDED.get());
    }
}
