//! Tables of text, as CSV files hold them.

use std::path::Path;

use crate::error::{Kind, Result};
use crate::input::InputFile;
use crate::store::damaged;

/// Maximum length of a table that is read, in bytes.
const MAX_TABLE: u64 = 1 << 30;

/// A table whose cells are text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextTable {
    /// Names of the columns.
    pub header: Vec<String>,
    /// The rows, each as long as the header.
    pub rows: Vec<Vec<String>>,
}

impl TextTable {
    /// Creates a table without rows.
    pub fn with_header<'a>(header: impl IntoIterator<Item = &'a str>) -> Self {
        Self { header: header.into_iter().map(str::to_owned).collect(), rows: Vec::new() }
    }

    /// Creates a table of numbers; NaN becomes an empty cell.
    pub fn of_numbers(header: &[&str], rows: impl IntoIterator<Item = Vec<f64>>) -> Self {
        let text = |row: Vec<f64>| row.into_iter().map(crate::table::cell).collect();
        Self {
            rows: rows.into_iter().map(text).collect(),
            ..Self::with_header(header.iter().copied())
        }
    }

    /// Reads a CSV file.
    ///
    /// # Errors
    /// Returns an error if the file is missing or is not CSV with rows of one length.
    pub fn read(path: &Path) -> Result<Self> {
        let file = InputFile::open(Kind::Evidence, path)?.text(MAX_TABLE)?;
        let read = || -> csv::Result<Self> {
            let mut reader = csv::Reader::from_reader(file.as_bytes());
            let header = reader.headers()?.iter().map(String::from).collect();
            let record = |r: csv::Result<csv::StringRecord>| {
                Ok(r?.iter().map(String::from).collect::<Vec<_>>())
            };
            Ok(Self { header, rows: reader.records().map(record).collect::<csv::Result<_>>()? })
        };
        read().map_err(|e| damaged(path, e))
    }

    /// Returns the table as CSV.
    pub fn to_csv(&self) -> Vec<u8> {
        let mut csv = csv::Writer::from_writer(Vec::new());
        // Writing to memory cannot fail, and rows are as long as the header.
        let _ = csv.write_record(&self.header);
        // Labels and names of tests are printed wherever the table is looked at.
        let safe = |row: &Vec<String>| {
            csv.write_record(
                row.iter().map(|cell| crate::printable::text(cell).as_bytes().to_vec()),
            )
        };
        self.rows.iter().map(safe).for_each(drop);
        csv.into_inner().unwrap_or_default()
    }

    /// Returns a cell, or an empty text if there is no such column.
    pub fn cell(&self, row: usize, column: &str) -> &str {
        let at = self.header.iter().position(|h| h == column);
        at.and_then(|at| self.rows[row].get(at)).map_or("", String::as_str)
    }

    /// Returns a column as text.
    pub fn text(&self, column: &str) -> Vec<&str> {
        (0..self.rows.len()).map(|row| self.cell(row, column)).collect()
    }

    /// Returns a column as numbers; a cell that is not a number becomes NaN.
    pub fn numbers(&self, column: &str) -> Vec<f64> {
        self.text(column).into_iter().map(|cell| cell.parse().unwrap_or(f64::NAN)).collect()
    }
}
