//! Figures of a universality study, as the paper draws them.

use super::layer_charts::{by_layer, excess_of_layers, metrics, vocabulary};
use crate::charts::canvas::{
    Axis, Cell, Mark, OTHERS, PAPER, Panel, SERIES, Series, UNIVERSAL, draw,
};
use crate::charts::{
    Chart, ONE_PANEL, binned, log_axis, log_height, map, outline, percent, range_of, with_margin,
};
use crate::error::Result;
use crate::record::{Share, StudyRecord, TextTable};
use crate::stats::percentile::median;
use crate::table::Column;

/// Draws all figures of a study.
pub fn charts(study: &StudyRecord) -> Result<Vec<Chart>> {
    [
        correlations(study),
        by_threshold(study),
        agreement(study),
        depth(study),
        signatures(study),
        by_layer(study),
        excess_of_layers(study),
        metrics(study),
        vocabulary(study),
        frequency(study),
        all_pairs(study),
    ]
    .into_iter()
    .collect()
}

/// Distributions of best matches, chance and excess (paper Fig. 2a).
fn correlations(study: &StudyRecord) -> Result<Chart> {
    const BINS: usize = 60;
    let all = [
        ("best match", Column::MeanCorr, OTHERS),
        ("chance", Column::MeanBaseline, PAPER),
        ("excess", Column::ExcessCorr, UNIVERSAL),
    ];
    let range = range_of(all.iter().flat_map(|(_, c, _)| study.column(*c).iter().copied()));
    let (from, to) = (range.start.min(0.0), range.end.max(1.0));
    let counts = all.map(|(_, column, _)| binned(study.column(column), from, to, BINS));
    let most = counts.iter().flatten().fold(1.0_f64, |most, n| most.max(*n));
    let mut series: Vec<Series> = all
        .iter()
        .zip(&counts)
        .map(|((name, _, color), n)| Series::new(*name, *color, Mark::Line(outline(n, from, to))))
        .collect();
    let threshold = study.threshold();
    let line = vec![(threshold, 0.0), (threshold, most)];
    series.push(Series::new("", OTHERS, Mark::Line(line)));
    let panel = Panel {
        title: String::new(),
        x: Axis::of("correlation, mean over partners", from..to),
        y: Axis::of("neurons", 0.0..1.05 * most),
        series,
    };
    let width = (to - from) / BINS as f64;
    let row = |i: usize| vec![from + i as f64 * width, counts[0][i], counts[1][i], counts[2][i]];
    let share = study.summary.shares[0];
    Ok(Chart {
        name: "correlations".into(),
        title: "How well neurons are matched",
        caption: format!(
            "Each neuron's best match, the best match among rotated neurons (chance), and the \
             difference (excess), averaged over partners. The vertical line is the threshold, \
             {threshold}: {:.2} % of neurons lie to the right of it by their excess. Paper: Fig. 2a.",
            share.percent
        ),
        alt: format!(
            "Three histograms. Medians: best match {}, chance {}, excess {}.",
            middle(study.column(Column::MeanCorr)),
            middle(study.column(Column::MeanBaseline)),
            middle(study.column(Column::ExcessCorr))
        ),
        svg: draw(ONE_PANEL, 1, &[panel])?,
        data: TextTable::of_numbers(
            &["from", "best_match", "chance", "excess"],
            (0..BINS).map(row),
        ),
    })
}

/// Number of neurons above each threshold, with the interval of each.
fn by_threshold(study: &StudyRecord) -> Result<Chart> {
    let curve = &study.summary.curve;
    let neurons = |percent: f64, of: usize| percent * of as f64 / 100.0;
    let line = |value: &dyn Fn(&Share) -> Option<f64>| -> Vec<(f64, f64)> {
        let point = |s: &Share| Some((s.threshold, log_height(neurons(value(s)?, s.of).max(1e-9))));
        curve.iter().filter_map(point).map(|(x, y)| (x, y.max(0.0))).collect()
    };
    let low = line(&|s| s.interval.map(|i| i.low));
    let high = line(&|s| s.interval.map(|i| i.high));
    let most = curve.first().map_or(1.0, |s| s.universal as f64);
    let series = vec![
        Series::new("95 % interval", OTHERS, Mark::Line(low)),
        Series::new("", OTHERS, Mark::Line(high)),
        Series::new("neurons above", UNIVERSAL, Mark::Line(line(&|s| Some(s.percent)))),
    ];
    let panel = Panel {
        title: String::new(),
        x: Axis::of("threshold of the excess correlation", 0.1..0.9),
        y: log_axis("neurons", most),
        series,
    };
    let row = |s: &Share| {
        let [low, high] =
            [s.interval.map(|i| i.low), s.interval.map(|i| i.high)].map(|v| v.unwrap_or(f64::NAN));
        vec![s.threshold, s.universal as f64, s.percent, low, high]
    };
    Ok(Chart {
        name: "by-threshold".into(),
        title: "How the number of universal neurons depends on the threshold",
        caption:
            "Number of neurons whose excess correlation lies above each threshold, with its 95 % \
                  interval over resampled documents."
                .into(),
        alt: format!("A falling curve from {most} neurons above 0.1."),
        svg: draw(ONE_PANEL, 1, &[panel])?,
        data: TextTable::of_numbers(
            &["threshold", "neurons", "percent", "percent_low", "percent_high"],
            curve.iter().map(row),
        ),
    })
}

fn middle(values: &[f64]) -> String {
    median(values.iter().copied()).map_or("none".into(), |m| format!("{m:.2}"))
}

/// Counts of points in the squares of a grid.
struct Squares {
    x: std::ops::Range<f64>,
    y: std::ops::Range<f64>,
    counts: Vec<f64>,
}

impl Squares {
    const SIDE: usize = 48;

    fn of(points: &[(f64, f64)], x: std::ops::Range<f64>, y: std::ops::Range<f64>) -> Self {
        let mut counts = vec![0.0; Self::SIDE * Self::SIDE];
        let place = |v: f64, r: &std::ops::Range<f64>| {
            let at = ((v - r.start) / (r.end - r.start) * Self::SIDE as f64) as usize;
            at.min(Self::SIDE - 1)
        };
        let finite = points.iter().filter(|(x, y)| (x + y).is_finite());
        finite.for_each(|(px, py)| counts[place(*py, &y) * Self::SIDE + place(*px, &x)] += 1.0);
        Self { x, y, counts }
    }

    /// Returns the edges and the count of each square that is not empty.
    fn filled(&self) -> impl Iterator<Item = (Cell, f64)> + '_ {
        let most = self.counts.iter().fold(1.0_f64, |most, n| most.max(*n));
        let edge = |r: &std::ops::Range<f64>, i: usize| {
            r.start + (r.end - r.start) * i as f64 / Self::SIDE as f64
        };
        let filled = self.counts.iter().enumerate().filter(|(_, n)| **n > 0.0);
        filled.map(move |(i, &n)| {
            let (column, row) = (i % Self::SIDE, i / Self::SIDE);
            let x = edge(&self.x, column)..edge(&self.x, column + 1);
            let y = edge(&self.y, row)..edge(&self.y, row + 1);
            // A single neuron must be visible.
            let opacity = 0.12 + 0.88 * (n.ln_1p() / most.ln_1p());
            (Cell { x, y, opacity }, n)
        })
    }

    fn cells(&self) -> Mark {
        Mark::Cells(self.filled().map(|(cell, _)| cell).collect())
    }

    fn data(&self) -> TextTable {
        let rows = self.filled().map(|(c, n)| vec![c.x.start, c.y.start, n]);
        TextTable::of_numbers(&["x_from", "y_from", "neurons"], rows)
    }
}

/// Returns a disc for each universal neuron, which links to its card.
fn universal_neurons(study: &StudyRecord, points: &[(f64, f64)]) -> Mark {
    let universal = study.universal();
    let rows = points.iter().zip(&study.table.ids).zip(universal).filter(|(_, u)| *u);
    Mark::Neurons(rows.map(|(((x, y), id), _)| (*x, *y, id.to_string())).collect())
}

/// Agreement between partners (paper §4.1).
fn agreement(study: &StudyRecord) -> Result<Chart> {
    let pairs = study.column(Column::MaxCorr).iter().zip(study.column(Column::MinCorr));
    let points: Vec<(f64, f64)> = pairs.map(|(max, min)| (*max, *min)).collect();
    let range = with_margin(&range_of(points.iter().flat_map(|(x, y)| [*x, *y])));
    let squares = Squares::of(&points, range.clone(), range.clone());
    let diagonal = vec![(range.start, range.start), (range.end, range.end)];
    let panel = Panel {
        title: String::new(),
        x: Axis::of("largest best match over partners", range.clone()),
        y: Axis::of("smallest best match", range),
        series: vec![
            Series::new("all neurons", OTHERS, squares.cells()),
            Series::new("", OTHERS, Mark::Line(diagonal)),
            Series::new("universal", UNIVERSAL, universal_neurons(study, &points)),
        ],
    };
    let gaps: Vec<f64> = points.iter().map(|(max, min)| max - min).collect();
    Ok(Chart {
        name: "agreement".into(),
        title: "Whether partners agree",
        caption: "Every neuron by its best match in the partner that matches it best and in the \
                  one that matches it worst; the more neurons a square holds, the stronger its colour. \
                  Points are universal neurons and lead to their cards. On the line both are equal. \
                  Paper: §4.1."
            .into(),
        alt: format!("A cloud below the diagonal; the median gap is {}.", middle(&gaps)),
        svg: draw((440, 400), 1, &[panel])?,
        data: squares.data(),
    })
}

/// Layers of best matches (paper Fig. 2c).
fn depth(study: &StudyRecord) -> Result<Chart> {
    let matrix = &study.summary.depth;
    let columns = matrix.first().map_or(0, Vec::len);
    let places = matrix
        .iter()
        .enumerate()
        .flat_map(|(l, row)| row.iter().enumerate().map(move |(other, v)| (l, other, *v)));
    let diagonal: f64 = (0..matrix.len().min(columns)).map(|l| matrix[l][l]).sum();
    Ok(Chart {
        name: "depth".into(),
        title: "Where in depth the matches lie",
        caption: "For the neurons of each layer, the share whose best match lies in each layer of \
                  the partner, averaged over partners. Paper: Fig. 2c."
            .into(),
        alt: format!(
            "A map of layers against layers; {:.0} % of best matches lie in the same layer.",
            100.0 * diagonal / matrix.len() as f64
        ),
        svg: draw((440, 380), 1, &[map(matrix, "layer of the best match", percent)])?,
        data: TextTable::of_numbers(
            &["layer", "partner_layer", "share"],
            places.map(|(l, other, v)| vec![l as f64, other as f64, v]),
        ),
    })
}

/// Percentiles of the properties of universal neurons (paper Fig. 3).
fn signatures(study: &StudyRecord) -> Result<Chart> {
    let all = &study.summary.signatures;
    let at = |i: usize, up: f64| (all.len() - 1 - i) as f64 + up;
    let mut here = Vec::new();
    let mut others = Vec::new();
    let mut paper = Vec::new();
    for (i, s) in all.iter().enumerate() {
        here.push((s.universal.unwrap_or(f64::NAN), at(i, 0.12)));
        others.push((s.others.unwrap_or(f64::NAN), at(i, 0.12)));
        paper.push((s.published.universal, at(i, -0.2)));
    }
    let names = all.iter().rev().map(|s| s.property.clone()).collect();
    let mut y = Axis::named("", names);
    // The legend is above the first property.
    y.range.end += 1.8;
    let panel = Panel {
        title: String::new(),
        x: Axis::of("median percentile within the layer", 0.0..100.0),
        y,
        series: vec![
            Series::new("universal, here", UNIVERSAL, Mark::Points(here)),
            Series::new("others, here", OTHERS, Mark::Points(others)),
            Series::new("universal, paper", PAPER, Mark::Points(paper)),
        ],
    };
    let row = |s: &crate::record::Signature| {
        let values = [
            s.universal,
            s.others,
            s.interval.map(|i| i.low),
            s.interval.map(|i| i.high),
            Some(s.published.universal),
            Some(s.published.others),
        ];
        let cells = values.map(|v| v.map_or(String::new(), |v| v.to_string()));
        std::iter::once(s.property.clone()).chain(cells).collect()
    };
    let header = [
        "property",
        "universal",
        "others",
        "difference_low",
        "difference_high",
        "paper_universal",
        "paper_others",
    ];
    let same = all.iter().filter(|s| s.points_as_published()).count();
    Ok(Chart {
        name: "signatures".into(),
        title: "What sets universal neurons apart",
        caption: "Eight properties, each as a percentile among the neurons of the same layer: the \
                  median over universal and over all other neurons here, and over the universal \
                  neurons of GPT-2 small a in the paper. The data have 95 % intervals of the differences. Paper: Fig. 3 and 14."
            .into(),
        alt: format!("{same} of {} medians lie on the same side as in the paper.", all.len()),
        svg: draw((560, 420), 1, &[panel])?,
        data: TextTable {
            header: header.map(String::from).to_vec(),
            rows: all.iter().map(row).collect(),
        },
    })
}

/// Activation frequency and cosine of weights (paper §6.2).
fn frequency(study: &StudyRecord) -> Result<Chart> {
    let pairs = study.column(Column::Sparsity).iter().zip(study.column(Column::InOutSim));
    let points: Vec<(f64, f64)> = pairs.map(|(x, y)| (*x, *y)).collect();
    let y = with_margin(&range_of(points.iter().map(|(_, y)| *y)));
    let squares = Squares::of(&points, 0.0..1.0, y.clone());
    let panel = Panel {
        title: String::new(),
        x: Axis::of("activation frequency", 0.0..1.0),
        y: Axis::of("cos(w_in, w_out)", y),
        series: vec![
            Series::new("all neurons", OTHERS, squares.cells()),
            Series::new("universal", UNIVERSAL, universal_neurons(study, &points)),
        ],
    };
    Ok(Chart {
        name: "frequency-cosine".into(),
        title: "Activation frequency against cosine",
        caption: "How often a neuron is active, and the cosine of its input and output weights; \
                  squares count all neurons, points are the universal ones and lead to their \
                  cards. Paper: §6.2."
            .into(),
        alt: "A cloud of all neurons with the universal ones marked.".into(),
        svg: draw(ONE_PANEL, 1, &[panel])?,
        data: squares.data(),
    })
}

fn all_pairs(study: &StudyRecord) -> Result<Chart> {
    let log = |n: &f64| if *n > 0.0 { n.log10() } else { 0.0 };
    let bins = study.partners.first().map_or(0, |p| p.histogram.len());
    let series = study.partners.iter().zip(SERIES.iter().cycle()).map(|(p, color)| {
        let counts: Vec<f64> = p.histogram.iter().map(log).collect();
        Series::new(p.partner.clone(), *color, Mark::Line(outline(&counts, -1.0, 1.0)))
    });
    let most = study.partners.iter().flat_map(|p| &p.histogram).map(log).fold(1.0, f64::max);
    let names = (0..=most.ceil() as usize).map(|e| format!("1e{e}")).collect();
    let mut y = Axis::named("pairs of neurons", names);
    y.range = 0.0..1.1 * most;
    let panel =
        Panel { title: String::new(), x: Axis::of("ρ", -1.0..1.0), y, series: series.collect() };
    let row = |i: usize| {
        let from = -1.0 + 2.0 * i as f64 / bins as f64;
        std::iter::once(from).chain(study.partners.iter().map(|p| p.histogram[i])).collect()
    };
    let partners = study.partners.iter().map(|p| p.partner.as_str());
    let header: Vec<&str> = std::iter::once("rho_from").chain(partners).collect();
    let spread: Vec<String> =
        study.partners.iter().map(|p| format!("{} {:.3}", p.partner, p.rho.var.sqrt())).collect();
    Ok(Chart {
        name: "all-pairs".into(),
        title: "Correlations of all pairs",
        caption: format!(
            "ρ of every neuron with every neuron of each partner, counted on a logarithmic scale. \
             Standard deviations: {}.",
            spread.join(", ")
        ),
        alt: "A narrow peak at zero with thin tails.".into(),
        svg: draw(ONE_PANEL, 1, &[panel])?,
        data: TextTable::of_numbers(&header, (0..bins).map(row)),
    })
}
