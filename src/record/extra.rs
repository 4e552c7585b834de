//! `neurons-extra.csv`: what the published columns of `neurons.csv` do not hold.

use std::io::Write;
use std::path::Path;

use super::{PercentileInterval, TextTable};
use crate::error::Result;
use crate::store::damaged;
use crate::table::{NeuronId, cell};

/// Columns that come before those of the partner models.
const FIXED: [&str; 10] = [
    "layer",
    "neuron",
    "excess_low",
    "excess_high",
    "baseline_sd",
    "baseline_se",
    "published_sparsity",
    "note_sparsity",
    "dead",
    "non_finite",
];

/// The last column of the table if some neuron has a name.
const NAME: &str = "name";

/// One row of `neurons-extra.csv`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExtraRow {
    /// Best match in each partner model, in the order of
    /// [`Summary::partners`](super::Summary::partners).
    pub matches: Vec<Option<BestMatch>>,
    /// 95 % interval of the excess correlation over resampled documents.
    pub excess: Option<PercentileInterval>,
    /// Standard deviation of the mean baseline over draws.
    pub baseline_sd: f64,
    /// Standard error of the mean baseline, from its draws; NaN for a single draw.
    pub baseline_se: f64,
    /// Share of tokens with post-activation below 0.01.
    pub note_sparsity: f64,
    /// Share of tokens with pre-activation in or above the published bin below zero.
    pub published_sparsity: f64,
    /// Whether the activation never varies, so that the neuron has no correlation.
    pub dead: bool,
    /// Whether some activation is NaN or infinite, so that the neuron has no correlation.
    pub non_finite: bool,
    /// The name that the user gave the neuron.
    pub name: Option<String>,
}

/// The best match of a neuron in one partner model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BestMatch {
    /// The neuron of the partner model.
    pub id: NeuronId,
    /// ρ with this neuron.
    pub rho: f64,
    /// ρ of the best baseline neuron, mean over draws.
    pub baseline: f64,
}

/// Returns the three columns of a partner model.
pub(super) fn columns_of(partner: &str) -> [String; 3] {
    ["best", "corr", "baseline"].map(|what| format!("{what}_{partner}"))
}

/// Writes `neurons-extra.csv`.
///
/// # Errors
/// Returns an error if writing to `out` fails.
pub fn write_extra(
    ids: &[NeuronId],
    partners: &[String],
    rows: &[ExtraRow],
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    let named = rows.iter().any(|row| row.name.is_some());
    let of_partners = partners.iter().flat_map(|name| columns_of(name));
    let header = FIXED.map(String::from).into_iter().chain(of_partners);
    csv.write_record(header.chain(named.then(|| NAME.into())))?;
    for (id, row) in ids.iter().zip(rows) {
        let name = named.then(|| row.name.clone().unwrap_or_default());
        csv.write_record(row.record(*id).into_iter().chain(name))?;
    }
    csv.flush()
}

/// Reads `neurons-extra.csv` of a run with these partner models and `neurons` neurons. A column
/// that earlier versions did not write may be missing.
///
/// # Errors
/// Returns an error naming the cell, column or number of rows if the file is not such a table.
pub fn read_extra(path: &Path, partners: &[String], neurons: usize) -> Result<Vec<ExtraRow>> {
    let table = TextTable::read(path)?;
    if table.rows.len() != neurons {
        let problem = format!("has {} rows, expected {neurons}", table.rows.len());
        return Err(damaged(path, problem));
    }
    let mut columns = partners.iter().flat_map(|name| columns_of(name));
    if let Some(missing) = columns.find(|column| !table.header.contains(column)) {
        return Err(damaged(path, format!("has no column `{missing}`")));
    }
    let reader = Reader::of(&table, partners);
    let rows = (0..neurons).map(|row| reader.row(row));
    rows.collect::<Result<_, _>>().map_err(|problem| damaged(path, problem))
}

impl ExtraRow {
    /// Name of the file.
    pub const FILE: &str = "neurons-extra.csv";

    /// Returns the cells of the row.
    fn record(&self, id: NeuronId) -> Vec<String> {
        let mut record = vec![
            id.layer.to_string(),
            id.neuron.to_string(),
            cell(self.excess.map_or(f64::NAN, |e| e.low)),
            cell(self.excess.map_or(f64::NAN, |e| e.high)),
            cell(self.baseline_sd),
            cell(self.baseline_se),
            cell(self.published_sparsity),
            cell(self.note_sparsity),
            self.dead.to_string(),
            self.non_finite.to_string(),
        ];
        record.extend(self.matches.iter().flat_map(|m| match m {
            Some(m) => [m.id.to_string(), cell(m.rho), cell(m.baseline)],
            None => [""; 3].map(String::from),
        }));
        record
    }
}

/// A table and the places of its columns.
struct Reader<'a> {
    table: &'a TextTable,
    fixed: [Option<usize>; FIXED.len()],
    name: Option<usize>,
    partners: Vec<[Option<usize>; 3]>,
}

impl<'a> Reader<'a> {
    fn of(table: &'a TextTable, partners: &[String]) -> Self {
        let place = |name: &str| table.header.iter().position(|h| h == name);
        let fixed = FIXED.map(place);
        let partners = partners.iter().map(|name| columns_of(name).map(|c| place(&c)));
        Self { table, fixed, name: place(NAME), partners: partners.collect() }
    }

    /// Returns a value of a row, or the default if the table has no such column.
    fn value<T>(
        &self,
        row: usize,
        column: Option<usize>,
        default: T,
        parse: fn(&str) -> Option<T>,
    ) -> Result<T, String> {
        let Some(column) = column else { return Ok(default) };
        let text = &self.table.rows[row][column];
        parse(text).ok_or_else(|| {
            let name = &self.table.header[column];
            // The first line of the file is the header.
            format!("line {}: `{name}` is \"{text}\"", row + 2)
        })
    }

    fn row(&self, row: usize) -> Result<ExtraRow, String> {
        let [_, _, low, high, baseline_sd, baseline_se, published, note, dead, non_finite] =
            self.fixed;
        let number = |column| self.value(row, column, f64::NAN, number);
        let flag = |column| self.value(row, column, false, |text| text.parse().ok());
        let best = |[id, rho, baseline]: &[Option<usize>; 3]| {
            let best = self.value(row, *id, None, neuron)?;
            let (rho, baseline) = (number(*rho)?, number(*baseline)?);
            Ok(best.map(|id| BestMatch { id, rho, baseline }))
        };
        let excess = PercentileInterval { low: number(low)?, high: number(high)? };
        Ok(ExtraRow {
            excess: Some(excess).filter(|e| !e.low.is_nan()),
            matches: self.partners.iter().map(best).collect::<Result<_, String>>()?,
            baseline_sd: number(baseline_sd)?,
            baseline_se: number(baseline_se)?,
            note_sparsity: number(note)?,
            published_sparsity: number(published)?,
            dead: flag(dead)?,
            non_finite: flag(non_finite)?,
            name: self.value(row, self.name, None, |text| Some(name(text)))?,
        })
    }
}

/// Reads a number; an empty cell is NaN.
fn number(text: &str) -> Option<f64> {
    if text.is_empty() { Some(f64::NAN) } else { text.parse().ok() }
}

/// Reads the name that a user gave; an empty cell means that there is none.
fn name(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Reads the place of a neuron, such as `L0.N12`; an empty cell means that there is none.
fn neuron(text: &str) -> Option<Option<NeuronId>> {
    if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<ExtraRow> {
        let id = NeuronId { layer: 1, neuron: 3 };
        let best = BestMatch { id, rho: 0.1 + 0.2, baseline: -0.0 };
        let row = |best, dead| ExtraRow {
            matches: vec![best, None],
            excess: best.map(|_| PercentileInterval { low: -0.1, high: 1.0 / 7.0 }),
            baseline_sd: f64::MIN_POSITIVE,
            baseline_se: 0.1 + 0.2,
            note_sparsity: 1.0 / 3.0,
            published_sparsity: 0.0,
            dead,
            non_finite: !dead,
            name: dead.then(|| "a, \"b\"".into()),
        };
        vec![row(Some(best), false), row(None, true)]
    }

    fn read(text: &str) -> Result<Vec<ExtraRow>> {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), text).expect("write");
        read_extra(file.path(), &["a".into(), "b".into()], 2)
    }

    fn written() -> String {
        let ids = [0, 1].map(|neuron| NeuronId { layer: 0, neuron });
        let mut csv = Vec::new();
        write_extra(&ids, &["a".into(), "b".into()], &rows(), &mut csv).expect("memory");
        String::from_utf8(csv).expect("UTF-8")
    }

    #[test]
    fn rows_are_read_back_to_the_same_bits() {
        assert_eq!(read(&written()).expect("a table"), rows());
    }

    #[test]
    fn damaged_tables_are_refused_in_words() {
        let text = written();
        let cut = text.lines().take(2).collect::<Vec<_>>().join("\n");
        for (text, problem) in [
            (text.replace("L1.N3", "x"), "line 2: `best_a` is \"x\""),
            (text.replace("true", "yes"), "`non_finite` is \"yes\""),
            (text.replace("corr_b", "corr_c"), "no column `corr_b`"),
            (cut, "1 rows, expected 2"),
        ] {
            let error = read(&text).expect_err(problem);
            assert!(error.problem.contains(problem), "{error}");
        }
    }

    #[test]
    fn columns_of_later_versions_may_be_missing() {
        let text = "best_a,corr_a,baseline_a,best_b,corr_b,baseline_b\n,,,,,\n,,,,,\n";
        let rows = read(text).expect("a table");
        assert!(rows[1].baseline_sd.is_nan() && !rows[1].dead && rows[1].matches == [None, None]);
    }
}
