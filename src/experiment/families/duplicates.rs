//! Cosines of the most similar weights, of universal and of other neurons (paper Fig. 10).

use crate::charts::canvas::{Axis, Mark, OTHERS, Panel, Series, UNIVERSAL, draw};
use crate::charts::{Chart, grouped, outline, range_of, small_panels};
use crate::error::Result;
use crate::record::TextTable;
use crate::stats::histogram::Bins;
use crate::stats::similar::{PAIRS, SimilarWeights};
use crate::table::cell;

/// Number of bins of a histogram.
const BINS: usize = 40;
/// Name of the table.
pub const TABLE: &str = "weight-cosines";

/// Returns the number of universal and of other neurons in each bin of the largest cosine, for each pair
/// of weights.
pub fn table(similar: &[SimilarWeights], universal: &[bool]) -> TextTable {
    let of_pair = |(pair, name): (usize, &&str)| {
        let cosines = || similar.iter().map(move |s| s.cosines[pair]);
        let bins = Bins::of(&range_of(cosines()), BINS);
        let counts = [true, false].map(|wanted| {
            bins.counts(cosines().zip(universal).filter(|(_, u)| **u == wanted).map(|(c, _)| c))
        });
        let row = |i: usize| {
            let edges = [bins.edges[i], bins.edges[i + 1]].map(cell);
            let counts = [counts[0][i], counts[1][i]].map(|n| n.to_string());
            std::iter::once((*name).to_owned()).chain(edges).chain(counts).collect()
        };
        (0..BINS).map(row).collect::<Vec<_>>()
    };
    let rows = PAIRS.iter().enumerate().flat_map(of_pair).collect();
    TextTable { rows, ..TextTable::with_header(["weights", "from", "to", "universal", "others"]) }
}

/// Draws the distributions, with a panel for each pair of weights.
///
/// # Errors
/// Returns an error if the figure cannot be drawn.
pub fn chart(table: &TextTable) -> Result<Chart> {
    let groups = grouped(table, "weights");
    let panels: Vec<Panel> = groups.iter().map(|(name, rows)| panel(table, name, rows)).collect();
    let (size, columns) = small_panels(panels.len());
    Ok(Chart {
        name: TABLE.into(),
        title: "The most similar weights of other neurons",
        caption: "For each neuron, the largest cosine of its input or output weights with the input or output \
                  weights of another neuron of any layer: percent of the universal neurons and of the others. \
                  Paper: Fig. 10."
            .into(),
        alt: "Histograms of four cosines, of universal and of other neurons.".into(),
        svg: draw(size, columns, &panels)?,
        data: table.clone(),
    })
}

fn panel(table: &TextTable, name: &str, rows: &[usize]) -> Panel {
    let (from, to) = (table.numbers("from"), table.numbers("to"));
    let range = from[rows[0]]..to[rows[rows.len() - 1]];
    let shares = ["universal", "others"].map(|column| {
        let counts = table.numbers(column);
        let all: f64 = rows.iter().map(|&row| counts[row]).sum();
        rows.iter().map(|&row| 100.0 * counts[row] / all.max(1.0)).collect::<Vec<f64>>()
    });
    let most = shares.iter().flatten().copied().fold(1.0, f64::max);
    let line = |shares: &[f64]| Mark::Line(outline(shares, range.start, range.end));
    Panel {
        title: name.to_owned(),
        x: Axis::of("largest cosine", range.clone()),
        y: Axis::of("percent of neurons", 0.0..1.4 * most),
        series: vec![
            Series::new("others", OTHERS, line(&shares[1])),
            Series::new("universal", UNIVERSAL, line(&shares[0])),
        ],
    }
}
