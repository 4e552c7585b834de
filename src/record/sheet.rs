//! A strict reader of neuron tables: a table that is damaged anywhere is refused, so that no claim
//! is judged on half of it.

use std::collections::HashSet;
use std::path::Path;

use crate::correlation::Layout;
use crate::error::{Error, Kind, Result};
use crate::input::InputFile;
use crate::table::{Column, NeuronId, Table};

/// Maximum size of a table, in bytes: ten times that of the largest published table.
pub const MAX_TABLE_BYTES: u64 = 256 << 20;

/// A table of numeric columns, with one row for each neuron.
#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    /// The neuron of each row.
    pub ids: Vec<NeuronId>,
    names: Vec<String>,
    columns: Vec<Vec<f64>>,
}

impl Sheet {
    /// Returns the column of this name, if the file has one.
    pub fn column(&self, name: &str) -> Option<&[f64]> {
        let index = self.names.iter().position(|n| n == name)?;
        Some(&self.columns[index])
    }

    /// Reads a CSV file whose columns are exactly `expected`, in any order, and
    /// among them `layer` and `neuron`; an unnamed first column (a row number) is
    /// skipped. Empty cells and NaN are read as NaN.
    ///
    /// # Errors
    /// Returns an error naming file, line and column if the columns are others, a cell is not
    /// a number, a row is cut short, a neuron is not in the model or comes twice, lines end as
    /// on Windows, or there is no row.
    pub fn read(path: &Path, expected: &[&str], shape: Layout) -> Result<Self> {
        let bytes = InputFile::open(Kind::Evidence, path)?.read(MAX_TABLE_BYTES)?;
        Self::of_bytes(path, &bytes, expected, shape)
    }

    /// Reads a table as [`Self::read`] does, from the bytes of the file at `path`.
    ///
    /// # Errors
    /// Returns an error as [`Self::read`] does.
    pub fn of_bytes(path: &Path, bytes: &[u8], expected: &[&str], shape: Layout) -> Result<Self> {
        Self::parse(bytes, expected, shape).map_err(|(at, problem)| {
            let remedy =
                "fetch the table or run the experiment again; check that it is this model's";
            Error::new(Kind::Evidence, format_args!("{}{at}", path.display()), problem, remedy)
        })
    }

    fn parse(bytes: &[u8], expected: &[&str], shape: Layout) -> Result<Self, (String, String)> {
        let at_file = |problem: String| (String::new(), problem);
        if bytes.contains(&b'\r') {
            return Err(at_file("has Windows line endings, expected line feeds only".into()));
        }
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
        let header = reader.headers().map_err(|e| at_file(e.to_string()))?.clone();
        let skipped = usize::from(header.get(0) == Some(""));
        let names: Vec<String> = header.iter().skip(skipped).map(String::from).collect();
        check_names(&names, expected).map_err(|problem| (":1".into(), problem))?;
        let mut sheet = Self { ids: Vec::new(), columns: vec![Vec::new(); names.len()], names };
        let mut seen = HashSet::new();
        for record in reader.records() {
            let record = record.map_err(|e| at_file(e.to_string()))?;
            let line = record.position().map_or(0, csv::Position::line);
            if record.len() != header.len() {
                let problem = format!("{} cells, expected {}", record.len(), header.len());
                return Err((format!(":{line}"), problem));
            }
            let cells = record.iter().skip(skipped);
            sheet.push(cells, line)?;
            let id = sheet.take_id(shape).map_err(|problem| (format!(":{line}"), problem))?;
            if !seen.insert(id) {
                return Err((format!(":{line}"), format!("neuron {id} comes twice")));
            }
        }
        if sheet.ids.is_empty() {
            return Err(at_file("holds no row".into()));
        }
        Ok(sheet)
    }

    /// Adds the cells of a row.
    fn push<'a>(
        &mut self,
        cells: impl Iterator<Item = &'a str>,
        line: u64,
    ) -> Result<(), (String, String)> {
        for ((cell, column), name) in cells.zip(&mut self.columns).zip(&self.names) {
            let value = if cell.is_empty() { Ok(f64::NAN) } else { cell.parse::<f64>() };
            let value = value.map_err(|_| {
                (format!(":{line}"), format!("`{name}` is \"{cell}\", expected a number"))
            })?;
            column.push(value);
        }
        Ok(())
    }

    /// Adds the neuron of the last row to `ids` and returns it.
    fn take_id(&mut self, shape: Layout) -> Result<NeuronId, String> {
        let last =
            |name: &str| self.column(name).and_then(|c| c.last().copied()).unwrap_or(f64::NAN);
        let (layer, neuron) = (last("layer"), last("neuron"));
        let within = |v: f64, end: usize| v.fract() == 0.0 && (0.0..end as f64).contains(&v);
        if !within(layer, shape.n_layers) || !within(neuron, shape.d_mlp) {
            return Err(format!(
                "layer {layer}, neuron {neuron} is not in a model of {} layers of {} neurons",
                shape.n_layers, shape.d_mlp
            ));
        }
        let id = NeuronId { layer: layer as usize, neuron: neuron as usize };
        self.ids.push(id);
        Ok(id)
    }

    /// Converts the sheet into a neuron table. Computes `excess_corr` if the file has no such
    /// column.
    pub fn into_table(self) -> Table {
        let column = |c: Column| self.column(c.name());
        let missing = vec![f64::NAN; self.ids.len()];
        let mut table = Table::new();
        for (row, id) in self.ids.iter().enumerate() {
            let value = |c: &Column| match c {
                Column::ExcessCorr if column(*c).is_none() => {
                    let of = |c| column(c).unwrap_or(&missing)[row];
                    of(Column::MeanCorr) - of(Column::MeanBaseline)
                }
                c => column(*c).unwrap_or(&missing)[row],
            };
            let values: Vec<f64> = Column::ALL.iter().map(value).collect();
            table.push(*id, std::array::from_fn(|i| values[i]));
        }
        table
    }
}

/// Checks that the columns are exactly the expected ones.
fn check_names(names: &[String], expected: &[&str]) -> Result<(), String> {
    if let Some(unknown) = names.iter().find(|n| !expected.contains(&n.as_str())) {
        return Err(format!("unknown column `{unknown}`"));
    }
    if let Some(missing) = expected.iter().find(|e| !names.iter().any(|n| n == *e)) {
        return Err(format!("column `{missing}` is missing"));
    }
    let unique: HashSet<_> = names.iter().collect();
    if unique.len() < names.len() { Err("a column comes twice".into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Layout = Layout { n_layers: 2, d_mlp: 4 };

    fn parse(text: &str) -> Result<Sheet, (String, String)> {
        Sheet::parse(text.as_bytes(), &["layer", "neuron", "kurt"], SHAPE)
    }

    #[test]
    fn row_numbers_are_skipped_and_empty_cells_are_nan() {
        let sheet = parse(",layer,neuron,kurt\n0,0,3,1.5\n1,1,0,\n").expect("a sheet");
        assert_eq!(sheet.ids, [NeuronId { layer: 0, neuron: 3 }, NeuronId { layer: 1, neuron: 0 }]);
        let kurt = sheet.column("kurt").expect("a column");
        assert!(kurt[0] == 1.5 && kurt[1].is_nan());
    }

    #[test]
    fn damaged_tables_are_refused_with_their_line() {
        for (text, at, problem) in [
            ("layer,neuron,kurt,x\n0,0,1,2\n", ":1", "unknown column `x`"),
            ("layer,neuron\n0,0\n", ":1", "`kurt` is missing"),
            ("layer,neuron,kurt,kurt\n0,0,1,1\n", ":1", "comes twice"),
            ("layer,neuron,kurt\n0,0,1\n0,1,many\n", ":3", "expected a number"),
            ("layer,neuron,kurt\n0,0,1\n0,1\n", ":3", "2 cells, expected 3"),
            ("layer,neuron,kurt\n0,0,1\n0,0,2\n", ":3", "L0.N0 comes twice"),
            ("layer,neuron,kurt\n2,0,1\n", ":2", "not in a model of 2 layers"),
            ("layer,neuron,kurt\n0,4,1\n", ":2", "not in a model"),
            ("layer,neuron,kurt\n0.5,1,1\n", ":2", "not in a model"),
            ("layer,neuron,kurt\r\n0,0,1\r\n", "", "line endings"),
            ("layer,neuron,kurt\n", "", "no row"),
        ] {
            let (place, message) = parse(text).expect_err(text);
            assert!(place == at && message.contains(problem), "{place} {message}");
        }
    }
}
