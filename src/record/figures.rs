//! `figures.json`: the figures of an experiment other than a universality study.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::nullable::or_nan;
use crate::store::read_json;

/// Version of `figures.json`.
pub const FIGURES_SCHEMA: u32 = 2;

/// Figures by name; each is a list of numbers.
pub type NamedFigures = BTreeMap<String, Vec<f64>>;

/// `figures.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FigureFile {
    /// Version of the file's structure.
    pub schema: u32,
    /// Name of the experiment.
    pub experiment: String,
    /// The lines that are shown on the terminal; empty in files of version 1.
    #[serde(default)]
    pub lines: Vec<String>,
    /// The figures; null in the file where a number does not exist.
    #[serde(deserialize_with = "or_nan")]
    pub figures: NamedFigures,
}

impl FigureFile {
    /// Name of the file.
    pub const FILE: &str = "figures.json";

    /// Reads the figures in a folder; there are none if the file does not exist.
    ///
    /// # Errors
    /// Returns an error if the file is damaged.
    pub fn read_figures(folder: &Path) -> Result<NamedFigures> {
        let path = folder.join(Self::FILE);
        let file: Option<Self> = path.exists().then(|| read_json(&path)).transpose()?;
        Ok(file.map(|file| file.figures).unwrap_or_default())
    }
}
