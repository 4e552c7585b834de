//! Figures, each with its data, a caption, a text alternative and a drawing.

pub mod canvas;

use crate::error::{Error, Kind, Result};
use crate::record::TextTable;
use canvas::{Axis, Cell, LARGEST, Mark, OTHERS, Panel, SERIES, Series, UNIVERSAL, draw};

/// Maximum number of layers in a figure.
const MAX_LAYERS: f64 = 10_000.0;

/// Width and height of a figure with one panel, in pixels.
pub const ONE_PANEL: (u32, u32) = (520, 360);

/// Returns the width and height, in pixels, and the number of columns of a figure with `n` small panels.
pub fn small_panels(n: usize) -> ((u32, u32), usize) {
    let columns = n.clamp(1, 2);
    ((280 * columns as u32, 240 * n.div_ceil(columns).max(1) as u32), columns)
}

/// A figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chart {
    /// Name of the files of the figure, without extension.
    pub name: String,
    /// Title.
    pub title: &'static str,
    /// Caption: how to read the figure, and its counterpart in the paper.
    pub caption: String,
    /// Text alternative for readers who do not see the figure.
    pub alt: String,
    /// The drawing.
    pub svg: String,
    /// The data of the figure.
    pub data: TextTable,
}

/// Counts values in bins of equal width. Values outside are not counted.
pub fn binned(values: &[f64], from: f64, to: f64, bins: usize) -> Vec<f64> {
    let mut counts = vec![0.0; bins];
    for value in values.iter().filter(|v| **v >= from && **v <= to) {
        let at = ((value - from) / (to - from) * bins as f64) as usize;
        counts[at.min(bins - 1)] += 1.0;
    }
    counts
}

/// Returns the outline of a histogram.
pub fn outline(counts: &[f64], from: f64, to: f64) -> Vec<(f64, f64)> {
    let width = (to - from) / counts.len() as f64;
    let step = |(i, n): (usize, &f64)| {
        let left = from + i as f64 * width;
        [(left, *n), (left + width, *n)]
    };
    counts.iter().enumerate().flat_map(step).collect()
}

/// Returns the height of a count on a logarithmic axis that has a place for none: 0 for none, 1 for
/// one, 2 for ten.
pub fn log_height(count: f64) -> f64 {
    if count > 0.0 { 1.0 + count.log10() } else { 0.0 }
}

/// Returns an axis for the heights of counts up to `most`.
pub fn log_axis(label: &str, most: f64) -> Axis {
    let top = log_height(most).max(1.0);
    let power = |e: u32| if e < 4 { 10_u32.pow(e).to_string() } else { format!("1e{e}") };
    let names = std::iter::once("0".to_owned()).chain((0..top as u32).map(power)).collect();
    Axis { range: 0.0..1.1 * top, ..Axis::named(label, names) }
}

/// Returns a map of values between 0 and 1 for pairs of layers, `[layer][other layer]`: the larger a
/// value, the stronger its colour. The squares of small models show their values as `text`.
pub fn map(matrix: &[Vec<f64>], other: &str, text: fn(f64) -> String) -> Panel {
    let columns = matrix.first().map_or(0, Vec::len);
    let most = matrix.iter().flatten().fold(1e-9_f64, |most, v| most.max(*v));
    let around = |i: usize| i as f64 - 0.5..i as f64 + 0.5;
    let places = || {
        let row = |l: usize| matrix[l].iter().enumerate().map(move |(other, v)| (l, other, *v));
        (0..matrix.len()).flat_map(row).filter(|(.., v)| v.is_finite())
    };
    let cell = |(l, other, v)| Cell { x: around(other), y: around(l), opacity: 0.85 * v / most };
    let mut series = vec![Series::new("", UNIVERSAL, Mark::Cells(places().map(cell).collect()))];
    // Only the squares of small models have room for text.
    if columns <= 8 {
        let word = |(l, other, v)| (other as f64, l as f64, text(v));
        series.push(Series::new("", OTHERS, Mark::Words(places().map(word).collect())));
    }
    let x = Axis { label: other.to_owned(), ..Axis::layers(columns) };
    Panel { title: String::new(), x, y: Axis::layers(matrix.len()), series }
}

/// Returns a share in percent, as text.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

/// Returns the range of some values, which is never empty.
pub fn range_of(values: impl IntoIterator<Item = f64>) -> std::ops::Range<f64> {
    // Margins and lengths are computed from the ends; larger values would overflow them.
    let finite = values.into_iter().filter(|v| v.abs() < LARGEST);
    let (low, high) =
        finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    match low.partial_cmp(&high) {
        Some(std::cmp::Ordering::Less) => low..high,
        Some(std::cmp::Ordering::Equal) => low - 0.5..high + 0.5,
        _ => 0.0..1.0,
    }
}

/// Returns a range that is extended by a twentieth at both ends.
pub fn with_margin(range: &std::ops::Range<f64>) -> std::ops::Range<f64> {
    let margin = 0.05 * (range.end - range.start);
    range.start - margin..range.end + margin
}

/// Groups the rows of a table by a column, in the order in which the values of the column first
/// occur.
pub fn grouped<'a>(table: &'a TextTable, column: &str) -> Vec<(&'a str, Vec<usize>)> {
    let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
    for (row, value) in table.text(column).into_iter().enumerate() {
        match groups.iter_mut().find(|(name, _)| *name == value) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((value, vec![row])),
        }
    }
    groups
}

/// Returns a line through two columns for each group of rows.
pub fn lines(table: &TextTable, by: &str, x: &str, y: &str) -> Vec<Series> {
    let (xs, ys) = (table.numbers(x), table.numbers(y));
    let line = |((name, rows), color): ((&str, Vec<usize>), _)| {
        let points = rows.into_iter().map(|r| (xs[r], ys[r])).collect();
        Series::new(name, color, Mark::Line(points))
    };
    grouped(table, by).into_iter().zip(SERIES.iter().copied().cycle()).map(line).collect()
}

/// Returns the largest groups by the sum of a column, at most one for each colour.
fn largest_groups(table: &TextTable, by: &str, column: &str) -> TextTable {
    let values = table.numbers(column);
    let mut groups = grouped(table, by);
    let sum = |rows: &[usize]| rows.iter().map(|&r| values[r]).sum::<f64>();
    groups.sort_by(|(_, a), (_, b)| sum(b).total_cmp(&sum(a)));
    groups.truncate(SERIES.len());
    let rows = groups.into_iter().flat_map(|(_, rows)| rows);
    let rows = rows.map(|r| table.rows[r].clone()).collect();
    TextTable { header: table.header.clone(), rows }
}

/// Returns the number of layers that a column of a table names.
///
/// # Errors
/// Returns an error if it is not a number of layers that a figure can show.
pub fn layer_count(table: &TextTable, column: &str) -> Result<usize> {
    let last = range_of(table.numbers(column)).end;
    if !(0.0..MAX_LAYERS).contains(&last) {
        let problem = format!("layer {last} is out of range, expected 0 to {MAX_LAYERS}");
        return Err(Error::new(Kind::Evidence, "a table by layer", problem, "run it again"));
    }
    Ok(last as usize + 1)
}

/// Draws the number of neurons of each group over layers, largest groups only.
///
/// # Errors
/// Returns an error if the figure cannot be drawn.
pub fn by_depth(table: &TextTable, by: &str, label: &str) -> Result<String> {
    let table = &largest_groups(table, by, "neurons");
    let layers = layer_count(table, "layer")?;
    let most = range_of(table.numbers("neurons")).end.max(1.0);
    let panel = Panel {
        title: String::new(),
        x: Axis::layers(layers),
        y: Axis::of(label, 0.0..1.35 * most),
        series: lines(table, by, "layer", "neurons"),
    };
    draw((560, 420), 1, &[panel])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_both_ends_and_nothing_else() {
        assert_eq!(binned(&[0.0, 0.49, 0.5, 1.0, 1.1, -0.1, f64::NAN], 0.0, 1.0, 2), [2.0, 2.0]);
    }

    #[test]
    fn counts_on_a_logarithmic_axis_have_a_place_for_none() {
        assert_eq!([0.0, 1.0, 10.0, 1e5].map(log_height), [0.0, 1.0, 2.0, 6.0]);
        let axis = log_axis("tokens", 20_000.0);
        assert_eq!(axis.names, ["0", "1", "10", "100", "1000", "1e4"]);
        assert!(axis.range.end > log_height(20_000.0));
    }

    #[test]
    fn a_range_is_never_empty() {
        assert_eq!(range_of([1.0, f64::NAN, 3.0]), 1.0..3.0);
        assert_eq!(range_of([2.0]), 1.5..2.5);
        assert_eq!(range_of([f64::NAN]), 0.0..1.0);
    }
}
