//! Figures of a universality study that go through the layers.

use crate::charts::canvas::{Axis, Cell, Mark, OTHERS, Panel, Series, UNIVERSAL, draw};
use crate::charts::{Chart, binned, outline, range_of, with_margin};
use crate::error::Result;
use crate::record::{StudyRecord, TextTable};
use crate::stats::percentile::median;
use crate::table::Column;

/// Universal share and mean excess of each layer.
pub fn by_layer(study: &StudyRecord) -> Result<Chart> {
    let shares: Vec<f64> = study.summary.by_layer.iter().map(|s| s.percent).collect();
    let excess = &study.summary.mean_excess_by_layer;
    let bars = |values: &[f64]| {
        let bar = |(l, v): (usize, &f64)| Cell {
            x: l as f64 - 0.35..l as f64 + 0.35,
            y: 0.0..*v,
            opacity: 0.85,
        };
        Mark::Cells(values.iter().enumerate().filter(|(_, v)| v.is_finite()).map(bar).collect())
    };
    let top = |values: &[f64]| 1.1 * range_of(values.iter().copied()).end.max(1e-6);
    let panel = |title: &str, label: &str, values: &[f64]| Panel {
        title: title.into(),
        x: Axis::layers(values.len()),
        y: Axis::of(label, 0.0_f64.min(1.1 * range_of(values.iter().copied()).start)..top(values)),
        series: vec![Series::new("", UNIVERSAL, bars(values))],
    };
    let panels = [
        panel("universal neurons", "percent of the layer", &shares),
        panel("mean excess", "correlation", excess),
    ];
    let rows = shares.iter().zip(excess).enumerate();
    let counts: Vec<String> = study
        .summary
        .by_layer
        .iter()
        .enumerate()
        .map(|(l, s)| format!("L{l} {} of {}", s.universal, s.of))
        .collect();
    Ok(Chart {
        name: "by-layer".into(),
        title: "Universal neurons by layer",
        caption: format!(
            "Share of universal neurons, and mean excess correlation of all neurons, layer by \
             layer. Universal: {}. Paper: §4.2.",
            counts.join(", ")
        ),
        alt: format!("Bars of universal neurons by layer: {}.", counts.join(", ")),
        svg: draw((640, 300), 2, &panels)?,
        data: TextTable::of_numbers(
            &["layer", "universal_percent", "mean_excess"],
            rows.map(|(l, (share, excess))| vec![l as f64, *share, *excess]),
        ),
    })
}

/// Distributions of the excess correlation, with a small panel for each layer.
pub fn excess_of_layers(study: &StudyRecord) -> Result<Chart> {
    const BINS: usize = 30;
    const COLUMNS: usize = 4;
    let excess = study.column(Column::ExcessCorr);
    let range = range_of(excess.iter().copied());
    let (from, to) = (range.start.min(0.0), range.end.max(1.0));
    let n_layers = study.layout.n_layers;
    let counts: Vec<Vec<f64>> = (0..n_layers)
        .map(|layer| binned(&excess[study.layout.neurons(layer)], from, to, BINS))
        .collect();
    let most = counts.iter().flatten().fold(1.0_f64, |most, n| most.max(*n));
    let threshold = vec![(study.threshold(), 0.0), (study.threshold(), most)];
    let panel = |(layer, counts): (usize, &Vec<f64>)| Panel {
        title: format!("layer {layer}"),
        x: Axis::of("excess", from..to),
        y: Axis::of("", 0.0..1.05 * most),
        series: vec![
            Series::new("", UNIVERSAL, Mark::Line(outline(counts, from, to))),
            Series::new("", OTHERS, Mark::Line(threshold.clone())),
        ],
    };
    let panels: Vec<Panel> = counts.iter().enumerate().map(panel).collect();
    let columns = COLUMNS.min(n_layers);
    let size = (230 * columns as u32, 190 * n_layers.div_ceil(columns) as u32);
    let width = (to - from) / BINS as f64;
    let rows = counts.iter().enumerate().flat_map(|(layer, counts)| {
        let row = move |(i, n): (usize, &f64)| vec![layer as f64, from + i as f64 * width, *n];
        counts.iter().enumerate().map(row).collect::<Vec<_>>()
    });
    Ok(Chart {
        name: "excess-of-layers".into(),
        title: "Excess correlation, layer by layer",
        caption: format!(
            "Neurons of each layer by their excess correlation, on the same axes. The vertical line is \
             the threshold, {}. Paper: Fig. 2a, which shows all layers together.",
            study.threshold()
        ),
        alt: "A small histogram for each layer.".into(),
        svg: draw(size, columns, &panels)?,
        data: TextTable::of_numbers(&["layer", "from", "neurons"], rows),
    })
}

/// Returns the median of a column over universal or other neurons, layer by layer.
fn medians(study: &StudyRecord, column: Column, wanted: bool) -> Vec<f64> {
    let universal = study.universal();
    let values = study.column(column);
    let of_layer = |l: usize| {
        let chosen = study.layout.neurons(l).filter(|&i| universal[i] == wanted);
        median(chosen.map(|i| values[i])).unwrap_or(f64::NAN)
    };
    (0..study.layout.n_layers).map(of_layer).collect()
}

/// Draws medians over universal and other neurons by layer, with a panel for each column.
fn median_panels(study: &StudyRecord, columns: &[(Column, &str)]) -> (Vec<Panel>, TextTable) {
    let mut rows = Vec::new();
    let panel = |(i, &(column, title)): (usize, &(Column, &str))| {
        let all = [true, false].map(|wanted| medians(study, column, wanted));
        let line = |values: &[f64]| {
            Mark::Line(values.iter().enumerate().map(|(l, v)| (l as f64, *v)).collect())
        };
        for (l, (universal, others)) in all[0].iter().zip(&all[1]).enumerate() {
            let cells = [*universal, *others].map(crate::table::cell);
            let place = [column.name().to_owned(), l.to_string()];
            rows.push(place.into_iter().chain(cells).collect());
        }
        let name = |name: &str| if i == 0 { name.to_owned() } else { String::new() };
        let points = |values: &[f64]| {
            Mark::Points(values.iter().enumerate().map(|(l, v)| (l as f64, *v)).collect())
        };
        let mut range = with_margin(&range_of(all.iter().flatten().copied()));
        if i == 0 {
            // Only the first panel needs room for the legend.
            range.end += 0.5 * (range.end - range.start);
        }
        Panel {
            title: title.to_owned(),
            x: Axis::layers(study.layout.n_layers),
            y: Axis::of("", range),
            series: vec![
                Series::new("", OTHERS, line(&all[1])),
                Series::new("", UNIVERSAL, line(&all[0])),
                Series::new(name("others"), OTHERS, points(&all[1])),
                Series::new(name("universal"), UNIVERSAL, points(&all[0])),
            ],
        }
    };
    let panels = columns.iter().enumerate().map(panel).collect();
    let header = ["column", "layer", "universal", "others"].map(String::from).to_vec();
    (panels, TextTable { header, rows })
}

/// Medians of properties by layer (paper Fig. 3 and 14).
pub fn metrics(study: &StudyRecord) -> Result<Chart> {
    let (panels, data) = median_panels(
        study,
        &[
            (Column::Skew, "activation skewness"),
            (Column::Kurt, "activation kurtosis"),
            (Column::InputBias, "input bias"),
            (Column::L2Penalty, "L2 penalty"),
            (Column::Sparsity, "activation frequency"),
            (Column::InOutSim, "cos(w_in, w_out)"),
        ],
    );
    Ok(Chart {
        name: "metrics-by-layer".into(),
        title: "The same properties by layer",
        caption: "Medians over universal and over other neurons of each layer, in their own \
                  units. A point is missing where a layer has no such neuron. Paper: Fig. 3 and 14."
            .into(),
        alt: "Six small plots of medians by layer.".into(),
        svg: draw((760, 460), 3, &panels)?,
        data,
    })
}

/// Moments of the effect on the vocabulary by layer (paper §5.1).
pub fn vocabulary(study: &StudyRecord) -> Result<Chart> {
    let (panels, data) = median_panels(
        study,
        &[
            (Column::VocabKurt, "kurtosis of cos(W_U, w_out)"),
            (Column::VocabSkew, "skewness of cos(W_U, w_out)"),
        ],
    );
    Ok(Chart {
        name: "vocabulary-by-layer".into(),
        title: "Effects on the vocabulary over depth",
        caption: "How unevenly a neuron's direct effect is spread over the tokens: medians of \
                  kurtosis (3 for a Gaussian) and skewness by layer. Positive skewness: it \
                  promotes a few tokens; negative: it suppresses a few. Paper: §5.1."
            .into(),
        alt: "Two plots of medians by layer.".into(),
        svg: draw((640, 300), 2, &panels)?,
        data,
    })
}
