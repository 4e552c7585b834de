//! The figures of a run of `kind: matching`.

use super::tables::cluster_models;
use crate::charts::canvas::{Axis, Cell, Mark, OTHERS, Panel, SERIES, Series, UNIVERSAL, draw};
use crate::charts::{
    Chart, ONE_PANEL, layer_count, log_axis, log_height, map, percent, small_panels,
};
use crate::error::{Error, Kind, Result};
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

/// Returns the layer of each row of a table, and the number of layers.
fn layers(table: &TextTable, column: &str) -> Result<(Vec<usize>, usize)> {
    let layers = table.numbers(column).into_iter().map(|layer| layer as usize);
    Ok((layers.collect(), layer_count(table, column)?))
}

/// Returns the columns that a table has for each partner model.
fn of_partners(table: &TextTable, prefix: &str) -> Vec<Vec<f64>> {
    let names = table.header.iter().filter(|name| name.starts_with(prefix));
    names.map(|name| table.numbers(name)).collect()
}

/// Shares of mutual best matches and of closed cycles, by layer.
fn both_ways(table: &TextTable) -> Result<Chart> {
    let (layer, n) = layers(table, "layer")?;
    let (corr, ranks) = (of_partners(table, "corr_"), of_partners(table, "rank_"));
    let universal: Vec<bool> = table.text("universal").iter().map(|v| *v == "true").collect();
    let mutual = |row: usize| {
        let matched = corr.iter().zip(&ranks).filter(|(corr, _)| corr[row].is_finite());
        let mutual = mean(matched.map(|(_, rank)| f64::from(rank[row] == 1.0)));
        mutual.is_finite().then_some(mutual)
    };
    let (closed, of) = (table.numbers("cycles"), table.numbers("of_cycles"));
    let cycles = |row: usize| (of[row] > 0.0).then(|| closed[row] / of[row]);
    let percent_of = |of: &dyn Fn(usize) -> Option<f64>, within: Option<usize>, only: bool| {
        let wanted =
            |row: &usize| within.is_none_or(|l| layer[*row] == l) && (!only || universal[*row]);
        100.0 * mean((0..layer.len()).filter(wanted).filter_map(of))
    };
    let line = |name: &str, color, of: &dyn Fn(usize) -> Option<f64>, only: bool| {
        let of_layer = |l: usize| (l as f64, percent_of(of, Some(l), only));
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
        alt: format!(
            "Lines over layers. Over all layers, {:.0} % of best matches are mutual, and {:.0} % of \
             those of universal neurons.",
            percent_of(&mutual, None, false),
            percent_of(&mutual, None, true)
        ),
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
    let bar = |(at, n): (usize, &f64)| Cell {
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
    let models = of_partners(table, "rank_").len();
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
    let models = cluster_models(table).len().max(2);
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
    let (rows, n) = layers(table, "layer")?;
    let (columns, m) = layers(table, "partner_layer")?;
    if rows.len() < n * m {
        let problem = format!("has {} rows, expected at least {n} times {m}", rows.len());
        return Err(Error::new(Kind::Evidence, "layer-similarity.csv", problem, "run it again"));
    }
    let averaged = |column: &str| {
        let mut sums = vec![vec![(0.0, 0.0); m]; n];
        for ((&l, &other), value) in rows.iter().zip(&columns).zip(table.numbers(column)) {
            // A damaged table may name a layer that no figure can show.
            if let Some((sum, count)) = sums.get_mut(l).and_then(|row| row.get_mut(other)) {
                *sum += value;
                *count += 1.0;
            }
        }
        let mean_of = |row: Vec<(f64, f64)>| row.into_iter().map(|(sum, n)| sum / n).collect();
        sums.into_iter().map(mean_of).collect::<Vec<Vec<f64>>>()
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
        alt: format!(
            "Two maps of layers against layers. Layers at the same depth have a mean CKA of {:.2}.",
            mean((0..n.min(m)).map(|l| cka[l][l]))
        ),
        svg: draw(size, across, &panels)?,
        data: TextTable::of_numbers(&["layer", "partner_layer", "cka", "best_matches"], data),
    })
}
