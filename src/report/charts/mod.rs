//! Figures: each is data, what it says in words, and a drawing.

mod canvas;
mod kinds;
mod study;

use super::folder::{Folder, Found, TextFile};
use crate::error::Result;

/// A figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chart {
    /// Name of its files, without ending.
    pub name: String,
    /// What it shows.
    pub title: &'static str,
    /// How to read it, and its counterpart in the paper.
    pub caption: String,
    /// What one sees, for those who do not.
    pub alt: String,
    /// The drawing.
    pub svg: String,
    /// What is drawn.
    pub data: TextFile,
}

/// All figures of a run.
///
/// # Errors
/// If a figure cannot be drawn.
pub fn of(folder: &Folder) -> Result<Vec<Chart>> {
    match &folder.found {
        Found::Study(study) => study::charts(study),
        Found::Other(other) => kinds::charts(&folder.provenance.spec.kind, other),
    }
}

/// A table of numbers with names of columns.
fn numbers(header: &[&str], rows: impl IntoIterator<Item = Vec<f64>>) -> TextFile {
    let text = |row: Vec<f64>| row.into_iter().map(crate::table::cell).collect();
    TextFile {
        header: header.iter().map(|h| (*h).to_owned()).collect(),
        rows: rows.into_iter().map(text).collect(),
    }
}

/// Counts of values in bins of equal width; those outside are left out.
fn binned(values: &[f64], from: f64, to: f64, bins: usize) -> Vec<f64> {
    let mut counts = vec![0.0; bins];
    for value in values.iter().filter(|v| **v >= from && **v <= to) {
        let at = ((value - from) / (to - from) * bins as f64) as usize;
        counts[at.min(bins - 1)] += 1.0;
    }
    counts
}

/// Smallest and largest of some values, a little apart where they are equal.
fn range_of(values: impl IntoIterator<Item = f64>) -> std::ops::Range<f64> {
    let finite = values.into_iter().filter(|v| v.is_finite());
    let (low, high) =
        finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    match low.partial_cmp(&high) {
        Some(std::cmp::Ordering::Less) => low..high,
        Some(std::cmp::Ordering::Equal) => low - 0.5..high + 0.5,
        _ => 0.0..1.0,
    }
}

/// A range and a twentieth more at both ends.
fn with_margin(range: &std::ops::Range<f64>) -> std::ops::Range<f64> {
    let margin = 0.05 * (range.end - range.start);
    range.start - margin..range.end + margin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_both_ends_and_nothing_else() {
        assert_eq!(binned(&[0.0, 0.49, 0.5, 1.0, 1.1, -0.1, f64::NAN], 0.0, 1.0, 2), [2.0, 2.0]);
    }

    #[test]
    fn a_range_is_never_empty() {
        assert_eq!(range_of([1.0, f64::NAN, 3.0]), 1.0..3.0);
        assert_eq!(range_of([2.0]), 1.5..2.5);
        assert_eq!(range_of([f64::NAN]), 0.0..1.0);
    }
}
