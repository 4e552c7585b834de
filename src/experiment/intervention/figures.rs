//! The figures, the table and the chart of an intervention experiment.

use super::effects::Effect;
use super::variations::Variation;
use crate::charts::canvas::{Axis, Cell, Mark, Panel, Series, UNIVERSAL, draw};
use crate::charts::{Chart, range_of, with_margin};
use crate::error::Result;
use crate::findings::Figures;
use crate::record::TextTable;
use crate::roles::bootstrap::Interval;
use crate::table::fixed_cell;

/// Maximum number of changes in the chart.
const SHOWN: usize = 40;

/// The change of the unchanged model: none was measured.
const NOTHING: Interval = Interval { mean: f64::NAN, low: f64::NAN, high: f64::NAN };

/// Returns the figures of all effects.
pub fn figures(effects: &[Effect], variations: &[Variation]) -> Figures {
    let mut figures = Figures::default();
    let change = |measure: &str, variation: usize| {
        let is = |e: &&Effect| {
            e.variation == Some(variation) && e.measure == measure && e.positions == "all"
        };
        effects.iter().find(is).and_then(|effect| effect.change).unwrap_or(NOTHING)
    };
    for measure in ["loss", "entropy", "kl"] {
        let means = (0..variations.len()).map(|v| change(measure, v).mean);
        figures.add(&format!("intervention-{measure}"), means.collect::<Vec<_>>());
    }
    figures.lines.push(
        "change from the unchanged model: loss (95 % of resampled documents), entropy, rank, KL"
            .into(),
    );
    for (v, variation) in variations.iter().enumerate() {
        let loss = change("loss", v);
        let [entropy, rank, kl] = ["entropy", "rank", "kl"].map(|m| change(m, v).mean);
        figures.lines.push(format!(
            "  {:<22} {:<14} {:+.4} ({:+.4} to {:+.4})  {entropy:+.4}  {rank:+.2}  KL {kl:.4}",
            variation.set,
            format!("{} {}", variation.action.name(), variation.value),
            loss.mean,
            loss.low,
            loss.high,
        ));
    }
    figures.tables.insert("intervention".into(), table(effects, variations));
    figures
}

fn table(effects: &[Effect], variations: &[Variation]) -> TextTable {
    let header = [
        "set",
        "neurons",
        "action",
        "value",
        "positions",
        "measure",
        "mean",
        "mean_low",
        "mean_high",
        "change",
        "change_low",
        "change_high",
        "tokens",
    ];
    let row = |effect: &Effect| {
        let mut row = match effect.variation.map(|v| &variations[v]) {
            None => vec![String::new(), "0".into(), "none".into(), String::new()],
            Some(Variation { set, neurons, action, value, .. }) => {
                vec![set.clone(), neurons.to_string(), action.name().into(), value.clone()]
            }
        };
        row.extend([effect.positions.to_owned(), effect.measure.clone()]);
        let (mean, change) = (effect.mean, effect.change.unwrap_or(NOTHING));
        let numbers = [mean.mean, mean.low, mean.high, change.mean, change.low, change.high];
        row.extend(numbers.map(|v| fixed_cell(v, 6)));
        row.push(effect.tokens.to_string());
        row
    };
    TextTable { rows: effects.iter().map(row).collect(), ..TextTable::with_header(header) }
}

/// Draws the changes of loss and entropy over all predictions.
///
/// # Errors
/// Returns an error if the figure cannot be drawn.
pub fn chart(table: &TextTable) -> Result<Chart> {
    let of = |measure: &str| changes(table, measure);
    let (loss, entropy) = (of("loss"), of("entropy"));
    let n = loss.rows.len();
    let panels = [
        panel(&loss, "change of the loss, nats", true),
        panel(&entropy, "change of the entropy, nats", false),
    ];
    Ok(Chart {
        name: "intervention".into(),
        title: "What the model does when activations are changed",
        caption: format!(
            "Differences from the unchanged model, for the first {n} changes. Points: mean over \
             predictions; bars: 95 % of resampled documents. Paper: §5."
        ),
        alt: format!("{n} changes of activations with the changes of loss and entropy."),
        svg: draw((900, 80 + 30 * n as u32), 2, &panels)?,
        data: table.clone(),
    })
}

/// Returns the rows of a measure over all predictions, without the unchanged model.
fn changes(table: &TextTable, measure: &str) -> TextTable {
    let wanted = |row: &usize| {
        table.cell(*row, "measure") == measure
            && table.cell(*row, "positions") == "all"
            && !table.cell(*row, "change").is_empty()
    };
    let rows = (0..table.rows.len()).filter(wanted).take(SHOWN);
    TextTable { rows: rows.map(|r| table.rows[r].clone()).collect(), header: table.header.clone() }
}

fn panel(table: &TextTable, label: &str, named: bool) -> Panel {
    let [mean, low, high] =
        ["change", "change_low", "change_high"].map(|column| table.numbers(column));
    let n = table.rows.len();
    let place = |i: usize| (n - 1 - i) as f64;
    let bar =
        |i: usize| Cell { x: low[i]..high[i], y: place(i) - 0.12..place(i) + 0.12, opacity: 0.35 };
    let name = |row: usize| {
        let cell = |column: &str| table.cell(row, column);
        let text = format!("{} {} {}", cell("set"), cell("action"), cell("value"));
        if named { text.trim_end().to_owned() } else { String::new() }
    };
    let points = (0..n).map(|i| (mean[i], place(i))).collect();
    let all = mean.iter().chain(&low).chain(&high).copied().chain([0.0]);
    Panel {
        title: String::new(),
        x: Axis::of(label, with_margin(&range_of(all))),
        y: Axis::named("", (0..n).rev().map(name).collect()),
        series: vec![
            Series::new("", UNIVERSAL, Mark::Cells((0..n).map(bar).collect())),
            Series::new("", UNIVERSAL, Mark::Points(points)),
        ],
    }
}
