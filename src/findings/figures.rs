//! What an experiment that is no universality study says: figures that claims are about,
//! and tables.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
    /// Its figures. What does not exist is null.
    pub figures: BTreeMap<String, Vec<Option<f64>>>,
}

impl FigureFile {
    /// Of an experiment.
    pub fn of(experiment: &str, figures: &Figures) -> Self {
        let finite =
            |values: &Vec<f64>| values.iter().map(|v| v.is_finite().then_some(*v)).collect();
        let lines = figures.lines.clone();
        let figures = figures.named.iter().map(|(name, values)| (name.clone(), finite(values)));
        Self {
            schema: SCHEMA,
            experiment: experiment.to_owned(),
            lines,
            figures: figures.collect(),
        }
    }

    /// The figures as numbers; NaN for what does not exist.
    pub fn named(self) -> Named {
        let number = |values: Vec<Option<f64>>| values.into_iter().map(|v| v.unwrap_or(f64::NAN));
        self.figures.into_iter().map(|(name, values)| (name, number(values).collect())).collect()
    }
}
