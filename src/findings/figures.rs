//! What an experiment that is no universality study says: figures that claims are about,
//! and tables.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::nullable::or_nan;
use crate::record::{Tables, TextTable};

/// Version of `figures.json`.
pub const SCHEMA: u32 = 2;

/// Figures by name; each is a list of numbers.
pub type Named = BTreeMap<String, Vec<f64>>;

/// What an experiment found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Figures by the name of the measure that claims use.
    pub named: Named,
    /// Tables by the name of their file, without `.csv`.
    pub tables: Tables,
    /// What a person reads on the terminal, line by line.
    pub lines: Vec<String>,
}

impl Figures {
    /// Adds a figure.
    pub fn add(&mut self, name: &str, values: impl Into<Vec<f64>>) {
        self.named.insert(name.to_owned(), values.into());
    }

    /// Adds a table.
    pub fn add_table(
        &mut self,
        name: &str,
        header: &[&str],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) {
        let empty = TextTable::with_header(header.iter().copied());
        let table = TextTable { rows: rows.into_iter().collect(), ..empty };
        self.tables.insert(name.to_owned(), table);
    }
}

/// `figures.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FigureFile {
    /// Version.
    pub schema: u32,
    /// Name of the experiment.
    pub experiment: String,
    /// What a person reads, line by line; none in files of version 1.
    #[serde(default)]
    pub lines: Vec<String>,
    /// Its figures; null in the file where a number does not exist.
    #[serde(deserialize_with = "or_nan")]
    pub figures: Named,
}

impl FigureFile {
    /// The file of an experiment, with NaN for each figure that is not finite.
    pub fn of(experiment: &str, figures: &Figures) -> Self {
        let known = |v: &f64| if v.is_finite() { *v } else { f64::NAN };
        let named = figures.named.iter();
        let named = named.map(|(name, values)| (name.clone(), values.iter().map(known).collect()));
        Self {
            schema: SCHEMA,
            experiment: experiment.to_owned(),
            lines: figures.lines.clone(),
            figures: named.collect(),
        }
    }
}
