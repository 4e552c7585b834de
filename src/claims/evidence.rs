//! Evidence that claims are judged on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::origin::RunWeights;
use super::prediction_table::PredictionLabel;
use crate::correlation::Layout;
use crate::error::{Error, Kind, Result};
use crate::experiment::KINDS;
use crate::findings::{Figures, Findings};
use crate::plan::Plan;
use crate::record::{
    FigureFile, NamedFigures, PercentileInterval, Provenance, Share, Sheet, Signature, StudyRecord,
    Summary, neurons,
};
use crate::store::MARK;
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
    /// The shares of universal neurons, with their intervals, if they are known.
    pub shares: Vec<Share>,
    /// The signatures, with the intervals of their differences, if they are known.
    pub signatures: Vec<Signature>,
    /// The authors' older table, if there is one.
    pub older: Option<Sheet>,
    /// The authors' table of neurons with low kurtosis, if there is one.
    pub subgaussian: Option<Sheet>,
    /// The authors' table of prediction neurons, if there is one.
    pub labels: Option<Vec<PredictionLabel>>,
    /// The figures of other experiments on the model.
    pub figures: NamedFigures,
    /// The weights of the run that the neuron table is from.
    pub weights: RunWeights,
    /// The weights of the run that each figure is from.
    pub figure_weights: BTreeMap<String, RunWeights>,
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
            shares: Vec::new(),
            signatures: Vec::new(),
            older,
            subgaussian,
            labels,
            figures,
            weights: RunWeights::default(),
            figure_weights: BTreeMap::new(),
        }
    }

    /// Returns the evidence of a run that has just ended.
    pub fn of_findings(findings: &Findings, plan: &Plan) -> Self {
        let weights = RunWeights::of_plan(plan);
        let evidence = Self::new(plan.reference().layout(), findings.table.clone(), true);
        Self { weights, ..evidence }.with_summary(&findings.summary)
    }

    /// Adds what the summary of the run says.
    fn with_summary(self, summary: &Summary) -> Self {
        Self {
            depth: Some(summary.depth.clone()),
            shares: summary.shares.clone(),
            signatures: summary.signatures.clone(),
            ..self
        }
    }

    /// Returns the interval of the universal share, in percent, if it is known.
    pub(super) fn interval_of_share(&self) -> Option<PercentileInterval> {
        self.shares.iter().find(|share| share.threshold == self.threshold)?.interval
    }

    /// Returns the interval of the difference of median percentiles of a column, universal minus
    /// other neurons, if it is known.
    pub(super) fn interval_of_gap(&self, column: Column) -> Option<PercentileInterval> {
        // Signatures are of the first threshold.
        let same = self.shares.first()?.threshold == self.threshold;
        let signature = self.signatures.iter().find(|s| s.column == column.name());
        signature.filter(|_| same)?.interval
    }

    /// Adds the figures of another experiment that has just ended.
    #[must_use]
    pub fn with(mut self, figures: &Figures, plan: &Plan) -> Self {
        self.add(figures.named.clone(), &RunWeights::of_plan(plan));
        self
    }

    /// Adds the figures of a run of another kind of experiment.
    pub fn add(&mut self, figures: NamedFigures, weights: &RunWeights) {
        self.figure_weights.extend(figures.keys().map(|name| (name.clone(), weights.clone())));
        self.figures.extend(figures);
    }

    /// Returns the weights that a measure rests on: those of the run that a figure is from, or those
    /// of the neuron table.
    pub fn weights_of(&self, figure: Option<&str>) -> &RunWeights {
        figure.and_then(|name| self.figure_weights.get(name)).unwrap_or(&self.weights)
    }

    /// Returns the evidence of a table of all neurons of a model.
    pub fn of_neurons(shape: Layout, table: Table) -> Self {
        Self::new(shape, table, true)
    }

    /// Returns the evidence of a study that was read from `folder`, with the figures of the
    /// experiments in the folders directly below it. If several report a figure, that of the folder
    /// which is named after its kind counts.
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
        let weights = recorded_weights(folder)?;
        let evidence = Self { weights, ..Self::new(shape, table, true) };
        let mut evidence = evidence.with_summary(summary);
        for folder in folders_with_figures(folder)? {
            evidence.add(FigureFile::read_figures(&folder)?, &recorded_weights(&folder)?);
        }
        Ok(evidence)
    }
}

/// Returns the folders directly below a folder that have figures, those named after a kind last.
fn folders_with_figures(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .map_err(|e| Error::io(Kind::Evidence, folder, "read the folder", &e))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> =
        paths.filter(|path| path.join(FigureFile::FILE).exists()).collect();
    found.sort_by_key(|path| {
        let name = path.file_name().unwrap_or_default().to_os_string();
        (KINDS.iter().any(|kind| *kind.rules.name == *name), name)
    });
    Ok(found)
}

/// Returns the digests that the run in a folder recorded; none if it has no provenance.
fn recorded_weights(folder: &Path) -> Result<RunWeights> {
    if !folder.join(MARK).exists() {
        return Ok(RunWeights::default());
    }
    Ok(RunWeights::of_run(&Provenance::read(folder)?))
}
