//! The figures of a run of `kind: matching`.

use crate::charts::canvas::{Axis, Mark, OTHERS, Panel, SERIES, Series, UNIVERSAL, draw};
use crate::charts::{Chart, ONE_PANEL, log_axis, log_height, map, percent, small_panels};
use crate::error::Result;
use crate::experiment::kind::drawn;
use crate::record::{Tables, TextTable};
use crate::stats::percentile::mean;

/// Draws all figures of a run.
pub fn all(tables: &Tables) -> Result<Vec<Chart>> {
    let mut charts = drawn(tables, "matching", both_ways)?;
    charts.extend(drawn(tables, "matching", found_in)?);
    charts.extend(drawn(tables, "clusters", clusters)?);
    charts.extend(drawn(tables, "layer-similarity", layer_similarity)?);
    Ok(charts)
}

/// Returns the layers of a table's rows, and their number.
fn layers(table: &TextTable, column: &str) -> (Vec<usize>, usize) {
    let layers: Vec<usize> = table.numbers(column).into_iter().map(|v| v as usize).collect();
    let n = layers.iter().max().map_or(0, |last| last + 1);
    (layers, n)
}

/// Shares of mutual best matches and of closed cycles, by layer.
fn both_ways(table: &TextTable) -> Result<Chart> {
    let (layer, n) = layers(table, "layer");
    let ranks: Vec<Vec<f64>> = table
        .header
        .iter()
        .filter(|name| name.starts_with("rank_"))
        .map(|name| table.numbers(name))
        .collect();
    let universal: Vec<bool> = table.text("universal").iter().map(|v| *v == "true").collect();
    let mutual = |row: usize| Some(mean(ranks.iter().map(|r| f64::from(r[row] == 1.0))));
    let (closed, of) = (table.numbers("cycles"), table.numbers("of_cycles"));
    let cycles = |row: usize| (of[row] > 0.0).then(|| closed[row] / of[row]);
    let line = |name: &str, color, of: &dyn Fn(usize) -> Option<f64>, only: bool| {
        let of_layer = |l: usize| {
            let rows = (0..layer.len()).filter(|&row| layer[row] == l && (!only || universal[row]));
            (l as f64, 100.0 * mean(rows.filter_map(of)))
        };
        Series::new(name, color, Mark::Line((0..n).map(of_layer).collect()))
    };
    let series = vec![
        line("mutual, all", OTHERS, &mutual, false),
        line("mutual, universal", UNIVERSAL, &mutual, true),
        line("cycles closed, all", SERIES[2], &cycles, false),
        line("cycles closed, universal", SERIES[3], &cycles, true),
    ];
    let values = |series: &Series| match &series.mark {
        Mark::Line(points) => points.iter().map(|p| p.1).collect(),
        _ => Vec::new(),
    };
    let columns: Vec<Vec<f64>> = series.iter().map(values).collect();
    let data = TextTable::of_numbers(
        &["layer", "mutual", "mutual_universal", "cycles", "cycles_universal"],
        (0..n).map(|l| std::iter::once(l as f64).chain(columns.iter().map(|c| c[l])).collect()),
    );
    let panel = Panel {
        title: String::new(),
        x: Axis::layers(n),
        y: Axis::of("percent", 0.0..105.0),
        series,
    };
    Ok(Chart {
        name: "mutual-matches".into(),
        title: "Whether matches hold in both directions",
        caption: "By layer of the reference model: the share of best matches that are mutual, and \
                  the share of ways through two other models that return to the neuron where they \
                  began."
            .into(),
        alt: "Lines over layers; those of universal neurons are higher.".into(),
        svg: draw(ONE_PANEL, 1, &[panel])?,
        data,
    })
}

/// Counts the rows of a table by a whole number.
fn counts(table: &TextTable, column: &str, from: usize, to: usize) -> Vec<f64> {
    let values = table.numbers(column);
    (from..=to).map(|n| values.iter().filter(|v| **v == n as f64).count() as f64).collect()
}

/// Draws counts as bars on a logarithmic axis.
fn bars(label: &str, what: &str, from: usize, counts: &[f64]) -> Result<String> {
    let most = counts.iter().fold(1.0_f64, |most, n| most.max(*n));
    let bar = |(at, n): (usize, &f64)| crate::charts::canvas::Cell {
        x: at as f64 - 0.4..at as f64 + 0.4,
        y: 0.0..log_height(*n),
        opacity: 0.85,
    };
    let cells = counts.iter().enumerate().map(bar).collect();
    let words = counts.iter().enumerate();
    let words = words.map(|(at, n)| (at as f64, log_height(*n) + 0.15, n.to_string())).collect();
    let names = (from..from + counts.len()).map(|n| n.to_string()).collect();
    let mut y = log_axis(what, most);
    y.range.end += 0.2;
    let series = vec![
        Series::new("", UNIVERSAL, Mark::Cells(cells)),
        Series::new("", OTHERS, Mark::Words(words)),
    ];
    draw(ONE_PANEL, 1, &[Panel { title: String::new(), x: Axis::named(label, names), y, series }])
}

/// Returns counts as a table.
fn counted(column: &str, what: &str, from: usize, counts: &[f64]) -> TextTable {
    let rows = counts.iter().enumerate().map(|(at, n)| vec![(from + at) as f64, *n]);
    TextTable::of_numbers(&[column, what], rows)
}

/// Number of neurons by the number of other models in which they are found.
fn found_in(table: &TextTable) -> Result<Chart> {
    let models = table.header.iter().filter(|name| name.starts_with("rank_")).count();
    let counts = counts(table, "found_in", 0, models);
    Ok(Chart {
        name: "found-in".into(),
        title: "In how many models each neuron is found",
        caption: "Number of neurons by the number of other models whose best match lies above \
                  chance by more than the threshold."
            .into(),
        alt: format!("Bars; {} neurons are found in all {models} other models.", counts[models]),
        svg: bars("other models", "neurons", 0, &counts)?,
        data: counted("models", "neurons", 0, &counts),
    })
}

/// Number of clusters by the number of models that they span.
fn clusters(table: &TextTable) -> Result<Chart> {
    // The first five columns are not models.
    let models = table.header.len().saturating_sub(5).max(2);
    let counts = counts(table, "models", 2, models);
    Ok(Chart {
        name: "clusters".into(),
        title: "Neurons that are one and the same in several models",
        caption:
            "Number of clusters by the number of models that they span. A cluster consists of \
                  neurons that are connected by mutual best matches above chance; clusters.csv \
                  lists their members."
                .into(),
        alt: format!("Bars; {} clusters span all {models} models.", counts[models - 2]),
        svg: bars("models", "clusters", 2, &counts)?,
        data: counted("models", "clusters", 2, &counts),
    })
}

/// Linear CKA of layers beside the share of best matches.
fn layer_similarity(table: &TextTable) -> Result<Chart> {
    let (rows, n) = layers(table, "layer");
    let (columns, m) = layers(table, "partner_layer");
    let averaged = |column: &str| {
        let values = table.numbers(column);
        let at = |l: usize, other: usize| {
            let of = (0..rows.len()).filter(|&row| rows[row] == l && columns[row] == other);
            mean(of.map(|row| values[row]))
        };
        (0..n).map(|l| (0..m).map(|other| at(l, other)).collect()).collect::<Vec<Vec<f64>>>()
    };
    let [cka, best] = ["cka", "best_matches"].map(averaged);
    let other = "layer of the other model";
    let panels = [
        ("linear CKA", map(&cka, other, |cka| format!("{cka:.2}"))),
        ("share of best matches", map(&best, other, percent)),
    ];
    let panels = panels.map(|(title, panel)| Panel { title: title.to_owned(), ..panel });
    let data = (0..n).flat_map(|l| (0..m).map(move |other| (l, other)));
    let data = data.map(|(l, o)| vec![l as f64, o as f64, cka[l][o], best[l][o]]);
    let (size, across) = small_panels(2);
    Ok(Chart {
        name: "layer-similarity".into(),
        title: "How similar layers are",
        caption:
            "For every pair of layers, averaged over every two models: linear CKA, which does \
                  not depend on single neurons, and the share of the layer's neurons whose best \
                  match lies in the other layer."
                .into(),
        alt: "Two maps of layers against layers.".into(),
        svg: draw(size, across, &panels)?,
        data: TextTable::of_numbers(&["layer", "partner_layer", "cka", "best_matches"], data),
    })
}
