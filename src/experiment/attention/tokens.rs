//! Ablations token by token: the activation of a neuron at a destination token, and what the head does
//! there without the neuron (paper Fig. 8, 26).

use super::ablations::{Destination, PairSums};
use crate::charts::canvas::{Axis, Mark, Panel, Series, UNIVERSAL, draw};
use crate::charts::{Chart, grouped, range_of, small_panels, with_margin};
use crate::error::Result;
use crate::record::TextTable;
use crate::table::fixed_cell;

/// About how many destination tokens of a pair are recorded.
const RECORDED: usize = 500;
/// Maximum number of pairs that are drawn.
const DRAWN: usize = 6;
/// Name of the table.
pub const TABLE: &str = "attention-tokens";

/// Returns of how many destination tokens one is recorded, if `tokens` are read.
pub fn every(tokens: usize) -> usize {
    tokens.div_ceil(2 * RECORDED).max(1)
}

/// Returns the recorded tokens of all ablations.
pub fn table(ablations: &[PairSums]) -> TextTable {
    let header = [
        "pair",
        "activation",
        "bos_attention",
        "bos_attention_without",
        "output_norm",
        "output_norm_without",
    ];
    let row = |sums: &PairSums, token: &Destination| {
        let [clean, without] = token.attends;
        let numbers = [token.activation, clean.first, without.first, clean.norm, without.norm];
        let name = format!("{} {}", sums.pair.neuron, sums.pair.head);
        std::iter::once(name).chain(numbers.map(|v| fixed_cell(v, 6))).collect()
    };
    let rows = ablations.iter().flat_map(|a| a.recorded.iter().map(move |token| row(a, token)));
    TextTable { rows: rows.collect(), ..TextTable::with_header(header) }
}

/// Draws the change of the attention to the first token over the activation, with a panel for each
/// pair.
///
/// # Errors
/// Returns an error if the figure cannot be drawn.
pub fn chart(table: &TextTable) -> Result<Chart> {
    let activation = table.numbers("activation");
    let [clean, without] = ["bos_attention", "bos_attention_without"].map(|c| table.numbers(c));
    let groups = grouped(table, "pair");
    let panel = |(name, rows): &(&str, Vec<usize>)| {
        let points: Vec<(f64, f64)> =
            rows.iter().map(|&r| (activation[r], without[r] - clean[r])).collect();
        let axis = |label: &str, values: &mut dyn Iterator<Item = f64>| {
            Axis::of(label, with_margin(&range_of(values.chain([0.0]))))
        };
        Panel {
            title: (*name).to_owned(),
            x: axis("activation", &mut points.iter().map(|p| p.0)),
            y: axis("change of attention", &mut points.iter().map(|p| p.1)),
            series: vec![Series::new("", UNIVERSAL, Mark::Points(points))],
        }
    };
    let panels: Vec<Panel> = groups.iter().take(DRAWN).map(panel).collect();
    let (size, columns) = small_panels(panels.len());
    Ok(Chart {
        name: "attention-tokens".into(),
        title: "Attention to the first token, token by token",
        caption: "Destination tokens by the activation of the neuron and by how the head's attention to \
                  the first token changes when the neuron is taken out of its query; a sample of the \
                  tokens of each pair. Paper: Fig. 8, 26."
            .into(),
        alt: format!("Points for {} pairs of neuron and head.", panels.len()),
        svg: draw(size, columns, &panels)?,
        data: table.clone(),
    })
}
