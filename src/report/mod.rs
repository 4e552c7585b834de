//! Reports of a run: its files, its page and the text on the terminal.

pub mod card;
pub mod comparison;
pub mod files;
mod layer_charts;
pub mod ledger;
pub mod page;
mod paper_figures;
mod study_charts;
pub mod terminal;
pub mod text_reading;

use crate::charts::Chart;
use crate::error::Result;
use crate::experiment;
use crate::record::{RunFolder, RunResults};

/// Draws all figures of a run.
///
/// # Errors
/// Returns an error if a figure cannot be drawn.
pub fn charts(run: &RunFolder) -> Result<Vec<Chart>> {
    match &run.results {
        RunResults::Study(study) => study_charts::charts(study),
        RunResults::Figures(record) => match experiment::kind(&run.provenance.spec.kind) {
            Some(kind) => (kind.charts)(&record.tables),
            None => Ok(Vec::new()),
        },
    }
}
