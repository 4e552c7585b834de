//! Evidence that claims are judged on.

use std::path::Path;

use super::prediction_table::PredictionLabel;
use crate::correlation::Layout;
use crate::error::Result;
use crate::experiment::KINDS;
use crate::findings::{Figures, Findings};
use crate::record::{FigureFile, NamedFigures, Sheet, StudyRecord, Summary, neurons};
use crate::table::{Column, NeuronId, Table};

/// The excess correlation above which a neuron is universal (paper §4.1).
const UNIVERSAL: f64 = 0.5;

/// Evidence of one tier about one model.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The layout of the model.
    pub shape: Layout,
    /// The neuron table.
    pub table: Table,
    /// Whether the table contains all neurons, rather than only the universal ones.
    pub whole: bool,
    /// The excess correlation above which a neuron is universal.
    pub threshold: f64,
    /// The neurons with a missing value.
    pub incomplete: Vec<NeuronId>,
    /// `[layer][partner layer]`: share of the best matches in each layer of the partner, if known.
    pub depth: Option<Vec<Vec<f64>>>,
    /// The authors' older table, if there is one.
    pub older: Option<Sheet>,
    /// The authors' table of neurons with low kurtosis, if there is one.
    pub subgaussian: Option<Sheet>,
    /// The authors' table of prediction neurons, if there is one.
    pub labels: Option<Vec<PredictionLabel>>,
    /// The figures of other experiments on the model.
    pub figures: NamedFigures,
}

impl Evidence {
    pub(super) fn new(shape: Layout, table: Table, whole: bool) -> Self {
        let complete = |row: usize| Column::ALL.iter().all(|c| table.column(*c)[row].is_finite());
        let rows = (0..table.ids.len()).filter(|&row| !complete(row));
        let incomplete = rows.map(|row| table.ids[row]).collect();
        let (depth, older, subgaussian, labels) = (None, None, None, None);
        let (figures, threshold) = (NamedFigures::new(), UNIVERSAL);
        Self {
            threshold,
            shape,
            table,
            whole,
            incomplete,
            depth,
            older,
            subgaussian,
            labels,
            figures,
        }
    }

    /// Returns the evidence of a run that has just ended.
    pub fn of_findings(findings: &Findings, shape: Layout) -> Self {
        let depth = Some(findings.summary.depth.clone());
        Self { depth, ..Self::new(shape, findings.table.clone(), true) }
    }

    /// Adds the figures of another experiment.
    #[must_use]
    pub fn with(mut self, figures: &Figures) -> Self {
        self.figures.extend(figures.named.clone());
        self
    }

    /// Returns the evidence of a table of all neurons of a model.
    pub fn of_neurons(shape: Layout, table: Table) -> Self {
        Self::new(shape, table, true)
    }

    /// Returns the evidence of a study that was read from `folder`, with the figures of the
    /// experiments in the folders below it that are named after their kinds.
    ///
    /// # Errors
    /// Returns an error if a file of figures is damaged.
    pub fn of_study(folder: &Path, study: &StudyRecord) -> Result<Self> {
        Self::of_table(folder, study.layout, study.table.clone(), &study.summary)
    }

    /// Returns the evidence of the run in `folder`, as [`Self::of_study`] does. Only `neurons.csv`
    /// and `summary.json` must exist.
    ///
    /// # Errors
    /// Returns an error if a file is damaged.
    pub fn of_run(folder: &Path, shape: Layout) -> Result<Self> {
        Self::of_table(folder, shape, neurons::read(folder, shape)?, &Summary::read(folder)?)
    }

    fn of_table(folder: &Path, shape: Layout, table: Table, summary: &Summary) -> Result<Self> {
        let mut figures = NamedFigures::new();
        for kind in KINDS {
            figures.extend(FigureFile::read_figures(&folder.join(kind.rules.name))?);
        }
        let depth = Some(summary.depth.clone());
        Ok(Self { depth, figures, ..Self::new(shape, table, true) })
    }
}
