//! A run folder, read back.

use std::path::{Path, PathBuf};

use super::{
    Card, CardFile, ExtraRow, FigureFile, PartnerCorrelations, Provenance, Summary, Tables,
    TextTable, neurons, read_extra, validate,
};
use crate::correlation::Layout;
use crate::error::{Error, Kind, Result};
use crate::store::read_json;
use crate::table::{Column, NeuronId, Table};

/// A run folder.
#[derive(Debug, Clone)]
pub struct RunFolder {
    /// Path of the folder.
    pub path: PathBuf,
    /// `provenance.json`.
    pub provenance: Provenance,
    /// The results, by the kind of the experiment.
    pub results: RunResults,
}

/// The results of a run.
#[derive(Debug, Clone)]
pub enum RunResults {
    /// The results of a universality study.
    Study(Box<StudyRecord>),
    /// The results of another kind of experiment.
    Figures(FiguresRecord),
}

/// The results of a universality study for its reference model.
#[derive(Debug, Clone)]
pub struct StudyRecord {
    /// `summary.json`.
    pub summary: Summary,
    /// How the neurons of the reference model are arranged.
    pub layout: Layout,
    /// `neurons.csv`.
    pub table: Table,
    /// `neurons-extra.csv`.
    pub extra: Vec<ExtraRow>,
    /// `correlations.json`, in the order of [`Summary::partners`].
    pub partners: Vec<PartnerCorrelations>,
    /// `cards.json`, which earlier versions did not write.
    pub cards: Option<CardFile>,
}

/// The results of an experiment other than a universality study.
#[derive(Debug, Clone)]
pub struct FiguresRecord {
    /// `figures.json`.
    pub figures: FigureFile,
    /// The tables, by name.
    pub tables: Tables,
}

impl RunFolder {
    /// Reads a run folder.
    ///
    /// # Errors
    /// Returns an error if the folder is not that of a run, or a file is damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let provenance = Provenance::read(path)?;
        let results = if path.join(FigureFile::FILE).exists() {
            RunResults::Figures(FiguresRecord::read(path)?)
        } else {
            RunResults::Study(Box::new(StudyRecord::read(path)?))
        };
        Ok(Self { path: path.to_path_buf(), provenance, results })
    }
}

impl StudyRecord {
    /// Reads the files of a study and checks that they fit each other.
    ///
    /// # Errors
    /// Returns an error if the folder is not that of a study, or a file is damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let summary = Summary::read(path)?;
        let layout = validate::layout(&path.join(Summary::FILE), &summary)?;
        let table = neurons::read(path, layout)?;
        let extra = path.join(ExtraRow::FILE);
        let extra = read_extra(&extra, &summary.partners, summary.neurons)?;
        let file = path.join(PartnerCorrelations::FILE);
        let partners: Vec<PartnerCorrelations> = read_json(&file)?;
        validate::correlations(&file, &partners, &summary)?;
        let file = path.join(CardFile::FILE);
        let cards: Option<CardFile> = file.exists().then(|| read_json(&file)).transpose()?;
        cards.as_ref().map_or(Ok(()), |cards| validate::cards(&file, cards, layout))?;
        Ok(Self { summary, layout, table, extra, partners, cards })
    }

    /// Returns the excess correlation above which a neuron is universal.
    pub fn threshold(&self) -> f64 {
        self.summary.shares[0].threshold
    }

    /// Returns a column of the neuron table.
    pub fn column(&self, column: Column) -> &[f64] {
        self.table.column(column)
    }

    /// Returns whether each neuron is universal.
    pub fn universal(&self) -> Vec<bool> {
        let threshold = self.threshold();
        self.column(Column::ExcessCorr).iter().map(|&e| e > threshold).collect()
    }

    /// Returns the row of a neuron.
    pub fn row(&self, id: NeuronId) -> Option<usize> {
        self.table.ids.iter().position(|i| *i == id)
    }

    /// Returns the card of a neuron, if the run wrote one.
    pub fn card(&self, id: NeuronId) -> Option<&Card> {
        let name = id.to_string();
        self.cards.as_ref()?.cards.iter().find(|card| card.neuron == name)
    }

    /// Returns the names of the partner models with the best match of the neuron in each: the name
    /// of the partner neuron, ρ, and the chance level. Without a match, the name is empty and both
    /// numbers are NaN.
    pub fn best_matches(&self, row: usize) -> impl Iterator<Item = (&str, String, f64, f64)> {
        let partners = self.summary.partners.iter().map(String::as_str);
        partners.zip(&self.extra[row].matches).map(|(model, best)| match best {
            Some(best) => (model, best.id.to_string(), best.rho, best.baseline),
            None => (model, String::new(), f64::NAN, f64::NAN),
        })
    }
}

impl FiguresRecord {
    fn read(path: &Path) -> Result<Self> {
        let figures = read_json(&path.join(FigureFile::FILE))?;
        let entries = std::fs::read_dir(path)
            .map_err(|e| Error::io(Kind::Evidence, path, "read the folder", &e))?;
        let mut tables = Tables::new();
        for file in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if file.extension().is_some_and(|e| e == "csv") {
                let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                tables.insert(name, TextTable::read(&file)?);
            }
        }
        Ok(Self { figures, tables })
    }
}
