//! The distribution of the heuristic over all pairs of a neuron and a head (paper Fig. 8, 26).

use super::choice::Pair;
use crate::charts::canvas::{Axis, Mark, OTHERS, Panel, Series, UNIVERSAL, draw};
use crate::charts::{Chart, ONE_PANEL, log_axis, log_height, outline, range_of};
use crate::error::Result;
use crate::record::TextTable;
use crate::stats::histogram::Bins;
use crate::table::cell;

/// Number of bins.
const BINS: usize = 100;
/// Name of the table.
pub const TABLE: &str = "attention-scores";

/// Returns the number of pairs in each bin of the heuristic, and of random directions with a head.
pub fn table(all: &[Pair], random: &[f64]) -> TextTable {
    let scores = || all.iter().map(|pair| pair.heuristic);
    let bins = Bins::of(&range_of(scores().chain(random.iter().copied())), BINS);
    let pairs = bins.counts(scores());
    let directions = bins.counts(random.iter().copied());
    let row = |i: usize| {
        let edges = [bins.edges[i], bins.edges[i + 1]].map(cell);
        edges.into_iter().chain([pairs[i], directions[i]].map(|n| n.to_string())).collect()
    };
    let header = ["from", "to", "pairs", "directions"];
    TextTable { rows: (0..BINS).map(row).collect(), ..TextTable::with_header(header) }
}

/// Draws the two distributions, that of the directions as of as many as there are pairs.
///
/// # Errors
/// Returns an error if the figure cannot be drawn.
pub fn chart(table: &TextTable) -> Result<Chart> {
    let (from, to) = (table.numbers("from"), table.numbers("to"));
    let (pairs, directions) = (table.numbers("pairs"), table.numbers("directions"));
    let total = |counts: &[f64]| counts.iter().sum::<f64>();
    let share = total(&pairs) / total(&directions).max(1.0);
    let scaled: Vec<f64> = directions.iter().map(|n| n * share).collect();
    let range = from.first().copied().unwrap_or(0.0)..to.last().copied().unwrap_or(1.0);
    let line = |counts: &[f64]| {
        let heights: Vec<f64> = counts.iter().map(|n| log_height(*n)).collect();
        Mark::Line(outline(&heights, range.start, range.end))
    };
    let most = pairs.iter().chain(&scaled).copied().fold(1.0, f64::max);
    let panel = Panel {
        title: String::new(),
        x: Axis::of("heuristic w_out·W_Q·k_BOS", range.clone()),
        // The legend has room above the lines.
        y: log_axis("pairs", 10.0 * most),
        series: vec![
            Series::new("random directions", OTHERS, line(&scaled)),
            Series::new("neurons", UNIVERSAL, line(&pairs)),
        ],
    };
    let ends = [range.start, range.end].map(|v| format!("{v:.2}"));
    Ok(Chart {
        name: "attention-scores".into(),
        title: "What the weights suggest about all neurons and heads",
        caption:
            "Pairs of a neuron and an attention head of a later layer by the heuristic, counted on \
                  a logarithmic scale. Grey: random directions in place of the neurons' output \
                  weights, scaled to as many pairs. Neurons in the tails, where directions do not \
                  reach, turn heads off (right) or on (left). Paper: Fig. 8, 26."
                .into(),
        alt: format!(
            "Two histograms from {} to {}, of {} pairs and {} directions.",
            ends[0],
            ends[1],
            total(&pairs),
            total(&directions)
        ),
        svg: draw(ONE_PANEL, 1, &[panel])?,
        data: table.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{HeadId, NeuronId};

    #[test]
    fn every_pair_and_direction_is_in_one_bin() {
        let pair = |i: usize| Pair {
            neuron: NeuronId { layer: 0, neuron: i },
            head: HeadId { layer: 1, head: 0 },
            heuristic: (i as f64 * 0.37).sin(),
        };
        let all: Vec<Pair> = (0..500).map(pair).collect();
        let random = [-1.5, 0.0, 0.25];
        let table = table(&all, &random);
        let column = |name: &str| table.numbers(name);
        let (from, to) = (column("from"), column("to"));
        assert_eq!((from[0], from.len()), (-1.5, BINS));
        for i in 0..BINS {
            // The definition: the lower edge belongs to the bin, and the upper one to the last.
            let is_in = |v: f64| v >= from[i] && (v < to[i] || i + 1 == BINS && v == to[i]);
            let pairs = all.iter().filter(|p| is_in(p.heuristic)).count();
            let directions = random.iter().filter(|v| is_in(**v)).count();
            assert_eq!(
                [column("pairs")[i], column("directions")[i]],
                [pairs as f64, directions as f64]
            );
        }
        assert_eq!(
            [column("pairs"), column("directions")].map(|c| c.iter().sum::<f64>()),
            [500.0, 3.0]
        );
    }
}
