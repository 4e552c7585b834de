//! A run's folder, read back: reports, comparisons and cards are made of nothing else.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::validate;
use crate::cards::{Card, CardFile};
use crate::charts::Chart;
use crate::claims::Evidence;
use crate::correlation::Layout;
use crate::error::{Error, Kind, Result};
use crate::experiment;
use crate::findings::{FigureFile, Summary};
use crate::nullable::or_nan;
use crate::record::{Tables, TextTable};
use crate::stats::Moments;
use crate::store::{MARK, read_json};
use crate::table::{Column, NeuronId};

/// A run's folder.
#[derive(Debug, Clone)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// From `provenance.json`.
    pub provenance: Provenance,
    /// What the run found.
    pub found: Found,
}

/// What a run found, by its kind.
#[derive(Debug, Clone)]
pub enum Found {
    /// A universality study.
    Study(Box<Study>),
    /// Another kind of experiment.
    Other(Other),
}

/// The part of `provenance.json` that is shown.
#[derive(Debug, Clone, Deserialize)]
pub struct Provenance {
    /// Version of the program.
    pub version: String,
    /// Commit of the repository that the spec lies in.
    pub commit: Option<String>,
    /// What was asked.
    pub spec: Asked,
    /// Where the spec was read.
    pub spec_path: String,
    /// Its digest.
    pub spec_sha256: String,
    /// The family.
    pub models: Vec<ModelProvenance>,
    /// Digest of the text.
    pub corpus_sha256: String,
    /// Digest of its tokens.
    pub tokens_sha256: String,
    /// What multiplied.
    pub device: String,
}

/// A model and its weights.
#[derive(Debug, Clone, Deserialize)]
pub struct ModelProvenance {
    /// Its name in the spec.
    pub name: String,
    /// Digest of its weights.
    pub weights_sha256: String,
}

/// The part of a spec that is shown.
#[derive(Debug, Clone, Deserialize)]
pub struct Asked {
    /// Name of the experiment.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Its question.
    pub question: String,
    /// Where the method is described.
    pub source: String,
    /// The models.
    pub models: AskedModels,
    /// How neurons are compared.
    pub correlation: AskedCorrelation,
}

/// The model whose neurons are judged.
#[derive(Debug, Clone, Deserialize)]
pub struct AskedModels {
    /// Its name.
    pub reference: String,
}

/// When a neuron is universal.
#[derive(Debug, Clone, Deserialize)]
pub struct AskedCorrelation {
    /// Where its excess is above this.
    #[serde(deserialize_with = "or_nan")]
    pub threshold: f64,
    /// What chance looks like.
    pub baseline: AskedBaseline,
}

/// What chance looks like.
#[derive(Debug, Clone, Deserialize)]
pub struct AskedBaseline {
    /// Its kind.
    pub kind: String,
    /// How often it was drawn.
    pub draws: usize,
}

/// What a universality study found of its reference.
#[derive(Debug, Clone)]
pub struct Study {
    /// The headline.
    pub summary: Summary,
    /// How the neurons are arranged.
    pub layout: Layout,
    /// The neuron table, and figures of experiments in folders below.
    pub evidence: Evidence,
    /// `neurons-extra.csv`.
    pub extra: TextTable,
    /// How correlations with each partner are spread.
    pub partners: Vec<Spread>,
    /// Neurons looked at closely; none in folders of earlier versions.
    pub cards: Option<CardFile>,
}

/// Of `correlations.json`: the correlations with one partner.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
pub struct Spread {
    /// The partner.
    pub partner: String,
    /// Pairs of neurons that have a correlation.
    #[serde(deserialize_with = "or_nan")]
    pub pairs: f64,
    /// Moments of ρ over these pairs.
    pub rho: Moments,
    /// Counts of ρ in bins of equal width from −1 to 1.
    #[serde(deserialize_with = "or_nan")]
    pub histogram: Vec<f64>,
}

/// What an experiment of another kind found.
#[derive(Debug, Clone)]
pub struct Other {
    /// Its figures.
    pub figures: FigureFile,
    /// Its tables, by name.
    pub tables: Tables,
}

/// A best partner of a neuron, in one model.
#[derive(Debug, Clone, PartialEq)]
pub struct BestPartner {
    /// The model.
    pub model: String,
    /// Its neuron; empty where there is none.
    pub neuron: String,
    /// ρ with it.
    pub rho: f64,
    /// ρ of the best chance neuron.
    pub baseline: f64,
}

impl Folder {
    /// Reads a folder.
    ///
    /// # Errors
    /// If it is no run's, or one of its files is damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let provenance: Provenance = read_json(&path.join(MARK))?;
        let found = if path.join("figures.json").exists() {
            Found::Other(Other::read(path)?)
        } else {
            Found::Study(Box::new(Study::read(path)?))
        };
        Ok(Self { path: path.to_path_buf(), provenance, found })
    }

    /// Draws all figures of the run.
    ///
    /// # Errors
    /// Returns an error if a figure cannot be drawn.
    pub fn charts(&self) -> Result<Vec<Chart>> {
        match &self.found {
            Found::Study(study) => super::study_charts::charts(study),
            Found::Other(other) => match experiment::kind(&self.provenance.spec.kind) {
                Some(kind) => (kind.charts)(&other.tables),
                None => Ok(Vec::new()),
            },
        }
    }

    /// Digest of the reference's weights.
    pub fn reference_weights(&self) -> Option<&str> {
        let reference = &self.provenance.spec.models.reference;
        let model = self.provenance.models.iter().find(|m| m.name == *reference)?;
        Some(&model.weights_sha256)
    }
}

impl Study {
    /// Reads the files of a study, and checks that they fit each other.
    ///
    /// # Errors
    /// Returns an error if the folder is not of a study, or one of its files is damaged.
    pub fn read(path: &Path) -> Result<Self> {
        let file = path.join("summary.json");
        let summary: Summary = read_json(&file)?;
        let layout = validate::layout(&file, &summary)?;
        let evidence = Evidence::of_run(path, layout)?;
        let file = path.join("neurons-extra.csv");
        let extra = TextTable::read(&file)?;
        validate::extra(&file, &extra, &summary)?;
        let file = path.join("correlations.json");
        let partners: Vec<Spread> = read_json(&file)?;
        validate::spreads(&file, &partners, &summary)?;
        let file = path.join("cards.json");
        let cards: Option<CardFile> = file.exists().then(|| read_json(&file)).transpose()?;
        cards.as_ref().map_or(Ok(()), |cards| validate::cards(&file, cards, layout))?;
        Ok(Self { partners, cards, summary, layout, evidence, extra })
    }

    /// The threshold that neurons are universal above.
    pub fn threshold(&self) -> f64 {
        self.summary.shares[0].threshold
    }

    /// A column of the neuron table.
    pub fn column(&self, column: Column) -> &[f64] {
        self.evidence.table.column(column)
    }

    /// Which neurons are universal, row by row.
    pub fn universal(&self) -> Vec<bool> {
        let threshold = self.threshold();
        self.column(Column::ExcessCorr).iter().map(|&e| e > threshold).collect()
    }

    /// Row of a neuron.
    pub fn row(&self, id: NeuronId) -> Option<usize> {
        self.evidence.table.ids.iter().position(|i| *i == id)
    }

    /// Card of a neuron, if it was looked at closely.
    pub fn card(&self, id: NeuronId) -> Option<&Card> {
        let name = id.to_string();
        self.cards.as_ref()?.cards.iter().find(|card| card.neuron == name)
    }

    /// Best partners of the neuron in a row, model by model.
    pub fn best_partners(&self, row: usize) -> Vec<BestPartner> {
        let extra = &self.extra;
        let of = |what: &str, model: &str| extra.cell(row, &format!("{what}_{model}"));
        let best = |model: &str| BestPartner {
            model: model.to_owned(),
            neuron: of("best", model).to_owned(),
            rho: of("corr", model).parse().unwrap_or(f64::NAN),
            baseline: of("baseline", model).parse().unwrap_or(f64::NAN),
        };
        extra.header.iter().filter_map(|h| h.strip_prefix("best_")).map(best).collect()
    }
}

impl Other {
    fn read(path: &Path) -> Result<Self> {
        let figures = read_json(&path.join("figures.json"))?;
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
