//! The figures of the paper, and what is drawn of them on a page.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::experiment::{Desk, kind};

/// One entry of `expected/figures.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PaperFigure {
    /// Number of the figure in the paper.
    figure: String,
    /// What the figure shows.
    shows: String,
    /// The kind of experiment whose run draws its counterpart.
    kind: String,
    /// Name of the counterpart.
    chart: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FigureList {
    figures: Vec<PaperFigure>,
}

/// A run on the page, and the names of its figures.
pub struct DrawnRun<'a> {
    /// Kind of the experiment.
    pub kind: &'a str,
    /// Folder of the run.
    pub folder: &'a Path,
    /// Names of its figures.
    pub charts: Vec<String>,
}

/// A figure of the paper on the page.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct PaperLine {
    /// Number of the figure in the paper.
    figure: String,
    /// What the figure shows.
    shows: String,
    /// Name of the counterpart, if it is on the page.
    chart: Option<String>,
    /// The run that it is drawn from, or why it is not drawn.
    from: String,
}

/// Returns a line for every figure of the paper.
pub fn paper_lines(runs: &[DrawnRun]) -> Vec<PaperLine> {
    listed().into_iter().map(|figure| line(figure, runs)).collect()
}

fn listed() -> Vec<PaperFigure> {
    // A test parses the embedded file, so the default is never taken.
    let list: Result<FigureList, _> =
        serde_yaml::from_str(include_str!("../../expected/figures.yaml"));
    list.map(|list| list.figures).unwrap_or_default()
}

fn line(figure: PaperFigure, runs: &[DrawnRun]) -> PaperLine {
    let PaperFigure { figure, shows, kind, chart } = figure;
    let run = runs.iter().find(|run| run.kind == kind);
    let drawn = run.filter(|run| run.charts.contains(&chart));
    let from = match drawn {
        Some(run) => format!("drawn from {}", run.folder.display()),
        None => not_drawn(&kind, run),
    };
    PaperLine { figure, shows, chart: drawn.map(|_| chart), from }
}

/// Says why a figure of a kind of experiment is not drawn, and how it would be.
fn not_drawn(name: &str, run: Option<&DrawnRun>) -> String {
    if let Some(run) = run {
        return format!("not drawn: {} found nothing to draw", run.folder.display());
    }
    let spec = match kind(name).map(|kind| kind.desk) {
        Some(Desk::Spec(spec)) => spec.to_owned(),
        _ => format!("a spec of `kind: {name}`"),
    };
    format!(
        "not drawn: no run of `kind: {name}` is on the page; `universal-neurons run {spec}`, then \
         `report --paper --with` its folder"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_a_counterpart_of_a_kind() {
        let figures = listed();
        assert!(figures.len() >= 10);
        assert!(figures.iter().all(|f| kind(&f.kind).is_some()));
    }

    #[test]
    fn a_line_says_what_is_drawn_from_which_run_or_why_not() {
        let study = |charts: &[&str]| DrawnRun {
            kind: "universality",
            folder: Path::new("runs/x"),
            charts: charts.iter().map(|name| (*name).to_owned()).collect(),
        };
        let find = |runs: &[DrawnRun], name: &str| {
            paper_lines(runs).into_iter().find(|l| l.figure == name).expect(name)
        };
        let drawn = find(&[study(&["depth"])], "2c, 12c");
        assert_eq!(
            (drawn.chart.as_deref(), drawn.from.as_str()),
            (Some("depth"), "drawn from runs/x")
        );
        let empty = find(&[study(&[])], "2c, 12c");
        assert_eq!(empty.chart, None);
        assert!(empty.from.contains("found nothing to draw"), "{}", empty.from);
        let absent = find(&[study(&["depth"])], "7, 25");
        assert!(absent.from.contains("run experiments/entropy.yaml"), "{}", absent.from);
    }
}
