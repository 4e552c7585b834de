//! Figures of experiments of other kinds, each from one of their tables.

use std::collections::BTreeMap;

use super::canvas::{Axis, Cell, Mark, OTHERS, PAPER, Panel, SERIES, Series, UNIVERSAL, draw};
use super::{Chart, binned, range_of, with_margin};
use crate::error::Result;
use crate::report::folder::{Other, TextFile};

/// Size of a figure of one panel.
const ONE: (u32, u32) = (520, 360);

/// The figures of an experiment of some kind; those whose table is missing are left out.
pub fn charts(kind: &str, found: &Other) -> Result<Vec<Chart>> {
    let of = |table: &str, chart: fn(&TextFile) -> Result<Chart>| {
        found.tables.get(table).filter(|t| !t.rows.is_empty()).map(chart)
    };
    let all = match kind {
        "families" => vec![of("families-by-layer", families)],
        "prediction" => vec![of("roles-by-layer", roles)],
        "entropy" => vec![of("entropy", entropy)],
        "attention" => vec![of("attention", attention)],
        "ablation" => vec![of("ablation", ablation)],
        "convergence" => vec![of("convergence", convergence)],
        "split-half" => vec![of("split-half", split_half)],
        "perturbed" => vec![of("perturbed", perturbed)],
        "dynamics" => vec![of("dynamics", dynamics)],
        _ => Vec::new(),
    };
    all.into_iter().flatten().collect()
}

/// Rows of a table, put together by a column, in the order in which its values first come.
fn grouped<'a>(table: &'a TextFile, column: &str) -> Vec<(&'a str, Vec<usize>)> {
    let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
    for (row, value) in table.text(column).into_iter().enumerate() {
        match groups.iter_mut().find(|(name, _)| *name == value) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((value, vec![row])),
        }
    }
    groups
}

/// A line through two columns for each group of rows.
fn lines(table: &TextFile, by: &str, x: &str, y: &str) -> Vec<Series> {
    let (xs, ys) = (table.numbers(x), table.numbers(y));
    let line = |((name, rows), color): ((&str, Vec<usize>), _)| {
        let points = rows.into_iter().map(|r| (xs[r], ys[r])).collect();
        Series::new(name, color, Mark::Line(points))
    };
    grouped(table, by).into_iter().zip(SERIES.iter().copied().cycle()).map(line).collect()
}

/// The largest groups, as many as there are colours, by the sum of a column.
fn largest_groups(table: &TextFile, by: &str, column: &str) -> TextFile {
    let values = table.numbers(column);
    let mut groups = grouped(table, by);
    let sum = |rows: &[usize]| rows.iter().map(|&r| values[r]).sum::<f64>();
    groups.sort_by(|(_, a), (_, b)| sum(b).total_cmp(&sum(a)));
    groups.truncate(SERIES.len());
    let rows = groups.into_iter().flat_map(|(_, rows)| rows);
    let rows = rows.map(|r| table.rows[r].clone()).collect();
    TextFile { header: table.header.clone(), rows }
}

fn by_depth(table: &TextFile, by: &str, label: &str) -> Result<String> {
    let table = &largest_groups(table, by, "neurons");
    let layers = range_of(table.numbers("layer")).end as usize + 1;
    let most = range_of(table.numbers("neurons")).end.max(1.0);
    let panel = Panel {
        title: String::new(),
        x: Axis::layers(layers),
        y: Axis::of(label, 0.0..1.35 * most),
        series: lines(table, by, "layer", "neurons"),
    };
    draw((560, 420), 1, &[panel])
}

fn families(table: &TextFile) -> Result<Chart> {
    Ok(Chart {
        name: "families-by-depth".into(),
        title: "Families by depth",
        caption:
            "Neurons that a simple question about the text explains, by layer, in the largest \
                  families; the data have all. Paper: §4.3."
                .into(),
        alt: format!("Lines for {} families over layers.", grouped(table, "family").len()),
        svg: by_depth(table, "family", "neurons explained")?,
        data: table.clone(),
    })
}

fn roles(table: &TextFile) -> Result<Chart> {
    Ok(Chart {
        name: "roles-by-depth".into(),
        title: "Prediction and suppression neurons by depth",
        caption: "Neurons of large vocabulary kurtosis that promote tokens (prediction), suppress \
                  them (suppression), and partition neurons, by layer. Paper: §5.1."
            .into(),
        alt: "Lines for three roles over layers.".into(),
        svg: by_depth(table, "role", "neurons")?,
        data: table.clone(),
    })
}

/// Means over the controls at each value.
fn control_means(table: &TextFile, column: &str) -> Vec<(f64, f64)> {
    let (values, numbers) = (table.numbers("value"), table.numbers(column));
    let mut sums: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for (row, control) in table.text("control").into_iter().enumerate() {
        if control == "true" {
            // Values are few and exact; thousandths tell them apart.
            let sum = sums.entry((values[row] * 1000.0).round() as i64).or_default();
            *sum = (sum.0 + numbers[row], sum.1 + 1.0);
        }
    }
    sums.into_iter().map(|(value, (sum, n))| (value as f64 / 1000.0, sum / n)).collect()
}

fn entropy(table: &TextFile) -> Result<Chart> {
    let mut named = table.clone();
    named.header.push("name".into());
    for (row, cells) in named.rows.iter_mut().enumerate() {
        let name = format!("L{}.N{}", table.cell(row, "layer"), table.cell(row, "neuron"));
        cells.push(if table.cell(row, "control") == "true" { String::new() } else { name });
    }
    let candidates = TextFile {
        header: named.header.clone(),
        rows: named
            .rows
            .iter()
            .filter(|r| r.last().is_some_and(|n| !n.is_empty()))
            .cloned()
            .collect(),
    };
    // A legend of many names hides the figure; the data have them all.
    let few = grouped(&candidates, "name").into_iter().take(5).map(|(name, _)| name.to_owned());
    let few: Vec<String> = few.collect();
    let panel = |column: &str, label: &str, legend: bool| {
        let mut series = lines(&candidates, "name", "value", column);
        series.retain(|s| few.contains(&s.name));
        series.push(Series::new(
            "random neurons, mean",
            OTHERS,
            Mark::Line(control_means(table, column)),
        ));
        if !legend {
            series.iter_mut().for_each(|s| s.name.clear());
        }
        let values = series.iter().flat_map(|s| match &s.mark {
            Mark::Line(points) => points.iter().map(|p| p.1).collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        let mut range = with_margin(&range_of(values));
        if legend {
            range.end += 0.6 * (range.end - range.start);
        }
        Panel {
            title: String::new(),
            x: Axis::of("activation fixed at", range_of(table.numbers("value"))),
            y: Axis::of(label, range),
            series,
        }
    };
    let panels = [
        panel("entropy", "entropy of the prediction, nats", true),
        panel("scale", "scale of the final LayerNorm", false),
    ];
    Ok(Chart {
        name: "entropy-sweep".into(),
        title: "What fixing late neurons does to certainty",
        caption:
            "Next-token entropy and the scale of the final LayerNorm while one neuron is held \
                  at a value; the first candidates, and the mean over random neurons of the same \
                  layers. Paper: §5.2."
                .into(),
        alt: "Lines of entropy and of scale against the activation that is fixed.".into(),
        svg: draw((780, 360), 2, &panels)?,
        data: table.clone(),
    })
}

fn attention(table: &TextFile) -> Result<Chart> {
    let (h, change) = (table.numbers("heuristic"), table.numbers("bos_attention_change"));
    let points: Vec<(f64, f64)> = h.into_iter().zip(change).collect();
    let panel = Panel {
        title: String::new(),
        x: Axis::of(
            "heuristic w_out·W_Q·k_BOS",
            with_margin(&range_of(points.iter().map(|p| p.0))),
        ),
        y: Axis::of(
            "change of BOS attention",
            with_margin(&range_of(points.iter().map(|p| p.1).chain([0.0]))),
        ),
        series: vec![Series::new("", UNIVERSAL, Mark::Points(points))],
    };
    Ok(Chart {
        name: "attention".into(),
        title: "Neurons that turn heads towards the first token",
        caption: "What the weights alone suggest a neuron does to a head's attention to the first \
                  token, and how that attention changes when the neuron is taken out of the head's \
                  query. Paper: §5.3."
            .into(),
        alt: format!("{} pairs of neuron and head as points.", table.rows.len()),
        svg: draw(ONE, 1, &[panel])?,
        data: table.clone(),
    })
}

fn ablation(table: &TextFile) -> Result<Chart> {
    let (loss, low, high) =
        (table.numbers("loss"), table.numbers("loss_low"), table.numbers("loss_high"));
    let n = table.rows.len();
    let place = |i: usize| (n - 1 - i) as f64;
    let whiskers = (0..n).map(|i| Cell {
        x: low[i]..high[i],
        y: place(i) - 0.12..place(i) + 0.12,
        opacity: 0.35,
    });
    let points = (0..n).map(|i| (loss[i], place(i))).collect();
    let names = table.text("set").into_iter().rev().map(String::from).collect();
    let all = loss.iter().chain(&low).chain(&high).copied().chain([0.0]);
    let panel = Panel {
        title: String::new(),
        x: Axis::of("loss above the whole model's, nats", with_margin(&range_of(all))),
        y: Axis::named("", names),
        series: vec![
            Series::new("", UNIVERSAL, Mark::Cells(whiskers.collect())),
            Series::new("", UNIVERSAL, Mark::Points(points)),
        ],
    };
    Ok(Chart {
        name: "ablation".into(),
        title: "What the model loses without some neurons",
        caption: "Points: mean over tokens; bars: 95 % of resampled sequences. Source: arXiv \
                  2508.00903."
            .into(),
        alt: format!("{n} sets of neurons with their loss and its interval."),
        svg: draw((600, 80 + 34 * n as u32), 1, &[panel])?,
        data: table.clone(),
    })
}

fn convergence(table: &TextFile) -> Result<Chart> {
    let wanted = ["0.30", "0.40", "0.50"];
    let rows = (0..table.rows.len()).filter(|&r| wanted.contains(&table.cell(r, "threshold")));
    let few = TextFile {
        header: table.header.clone(),
        rows: rows.map(|r| table.rows[r].clone()).collect(),
    };
    let mut series = lines(&few, "threshold", "tokens", "percent");
    series.iter_mut().for_each(|s| s.name = format!("above {}", s.name));
    let panel = Panel {
        title: String::new(),
        x: Axis::of("tokens", with_margin(&range_of(few.numbers("tokens")))),
        y: Axis::of("percent of neurons", 0.0..1.4 * range_of(few.numbers("percent")).end),
        series,
    };
    Ok(Chart {
        name: "convergence".into(),
        title: "How many tokens are enough",
        caption: "Share of neurons whose excess correlation lies above a threshold, over samples \
                  of the text of growing size."
            .into(),
        alt: "Three lines that level off as tokens grow.".into(),
        svg: draw(ONE, 1, &[panel])?,
        data: table.clone(),
    })
}

fn split_half(table: &TextFile) -> Result<Chart> {
    let points: Vec<(f64, f64)> =
        table.numbers("excess_first").into_iter().zip(table.numbers("excess_second")).collect();
    let range = with_margin(&range_of(points.iter().flat_map(|p| [p.0, p.1])));
    let diagonal = vec![(range.start, range.start), (range.end, range.end)];
    let panel = Panel {
        title: String::new(),
        x: Axis::of("excess, first half of the text", range.clone()),
        y: Axis::of("excess, second half", range),
        series: vec![
            Series::new("", OTHERS, Mark::Line(diagonal)),
            Series::new("", UNIVERSAL, Mark::Points(thinned(points))),
        ],
    };
    Ok(Chart {
        name: "split-half".into(),
        title: "Whether two halves of the text agree",
        caption: "Every neuron's excess correlation over one half of the rows and over the other \
                  (at most 2,000 neurons are drawn; the data have all)."
            .into(),
        alt: "A narrow cloud along the diagonal.".into(),
        svg: draw((440, 400), 1, &[panel])?,
        data: table.clone(),
    })
}

/// Evenly spaced ones of many points.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let step = points.len().div_ceil(2000).max(1);
    points.into_iter().step_by(step).collect()
}

fn perturbed(table: &TextFile) -> Result<Chart> {
    const BINS: usize = 50;
    let counts = binned(&table.numbers("mean_best_match"), 0.0, 1.0, BINS);
    let most = counts.iter().fold(1.0_f64, |most, n| most.max(*n));
    let bar = |(i, n): (usize, &f64)| Cell {
        x: i as f64 / BINS as f64..(i + 1) as f64 / BINS as f64,
        y: 0.0..*n,
        opacity: 0.85,
    };
    let panel = Panel {
        title: String::new(),
        x: Axis::of("best match, mean over copies", 0.0..1.0),
        y: Axis::of("neurons", 0.0..1.05 * most),
        series: vec![Series::new(
            "",
            PAPER,
            Mark::Cells(counts.iter().enumerate().map(bar).collect()),
        )],
    };
    Ok(Chart {
        name: "perturbed".into(),
        title: "One model beside disturbed copies of itself",
        caption:
            "Best matches among copies with noise and partial rotation: how universal a model \
                  looks where other seeds are simulated instead of trained."
                .into(),
        alt: "A histogram of best matches.".into(),
        svg: draw(ONE, 1, &[panel])?,
        data: table.clone(),
    })
}

fn dynamics(table: &TextFile) -> Result<Chart> {
    let mut series = lines(table, "layer", "step", "percent");
    series.iter_mut().for_each(|s| s.name = format!("layer {}", s.name));
    let panel = Panel {
        title: String::new(),
        x: Axis::of("step of training", with_margin(&range_of(table.numbers("step")))),
        y: Axis::of(
            "percent universal",
            0.0..1.4 * range_of(table.numbers("percent")).end.max(1e-3),
        ),
        series,
    };
    Ok(Chart {
        name: "dynamics".into(),
        title: "Universal neurons while a model is trained",
        caption: "Share of universal neurons of each layer at several steps. Source: arXiv \
                  2508.00903."
            .into(),
        alt: "A line for each layer over steps of training.".into(),
        svg: draw(ONE, 1, &[panel])?,
        data: table.clone(),
    })
}
