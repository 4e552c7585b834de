//! The result of an experiment other than a universality study: figures that claims are about, and
//! tables.

use crate::record::{FIGURES_SCHEMA, FigureFile, NamedFigures, Tables, TextTable};

/// The result of an experiment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Figures, by the name that claims use.
    pub named: NamedFigures,
    /// Tables, by the name of their file without `.csv`.
    pub tables: Tables,
    /// The lines that are shown on the terminal.
    pub lines: Vec<String>,
    /// The device that the models ran on, and how it multiplies.
    pub device: String,
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

    /// Returns `figures.json` of the experiment `name`, with NaN for each figure that is not finite.
    pub fn file(&self, name: &str) -> FigureFile {
        let known = |v: &f64| if v.is_finite() { *v } else { f64::NAN };
        let named = self.named.iter();
        let named = named.map(|(name, values)| (name.clone(), values.iter().map(known).collect()));
        FigureFile {
            schema: FIGURES_SCHEMA,
            experiment: name.to_owned(),
            lines: self.lines.clone(),
            figures: named.collect(),
        }
    }
}
