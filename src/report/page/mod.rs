//! `report.html`: one page that opens from disk and needs no network.

mod answer;
mod clusters;
mod columns;
mod data;
mod packed;
mod shown;
mod verdicts;

use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;

use crate::charts::Chart;
use crate::claims::Claim;
use crate::error::{Error, Kind, Result};
use crate::record::{RunFolder, RunResults, StudyRecord};
use crate::report::paper_figures::{DrawnRun, PaperLine, paper_lines};

use answer::{Best, Headline};
use clusters::{ClusterTable, cluster_table};
use data::{FigureData, PageData};
use packed::Packed;
use verdicts::{Line, RunVerdicts, VerdictCount};

/// The report of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The page, as HTML.
    pub html: String,
    /// The figures of the run, without those of other runs on the page.
    pub charts: Vec<Chart>,
}

/// The page's script. Its parts share one scope.
const SCRIPT: &str = concat!(
    include_str!("script/text.js"),
    include_str!("script/page.js"),
    include_str!("script/packed.js"),
    include_str!("script/figures.js"),
    include_str!("script/study.js"),
    include_str!("script/card.js"),
    include_str!("script/compared.js"),
    include_str!("script/neurons.js"),
);

/// The text on the page of a run that no claim is about.
const NOT_JUDGED: &str =
    "No claim of the papers is about models of this shape, so no claim is judged on this run.";

/// The terms that the page explains.
const TERMS: [(&str, &str); 9] = [
    (
        "neuron",
        "one unit of an MLP layer: its pre-activation is a sum over the residual stream, its post-activation GELU of it. L1.N507 is neuron 507 of layer 1, both counted from 0.",
    ),
    ("ρ, correlation", "Pearson's, of the post-activations of two neurons over the same tokens."),
    (
        "best match",
        "the largest ρ of a neuron with any neuron of another model; tables give its mean, largest and smallest over the other models.",
    ),
    (
        "chance, baseline",
        "the best match among neurons of the other model that are replaced by random combinations, layer by layer.",
    ),
    ("excess correlation", "best match minus chance, each averaged over the other models."),
    (
        "universal",
        "a neuron is universal if its excess correlation lies above the threshold, 0.5 in the paper.",
    ),
    ("percentile", "rank of a value among all neurons of the same layer, 0 to 100."),
    ("⟨E2 80⟩", "the bytes of a token that is not a whole character."),
    (
        "verdicts",
        "a claim holds, fails, is undecided (no value can be computed on this evidence, or its interval satisfies the claim only in part), is contradicted (its own source contradicts it, and so does the evidence), or was not run, for a stated reason. Some claims show how often they would hold if layers or universal neurons were labelled at random.",
    ),
];

/// Makes the report of a run, with sections for runs of other kinds and, if `paper` is true, a list of
/// the paper's figures.
///
/// # Errors
/// Returns an error if a figure cannot be drawn, or one of the other runs is a study or has another
/// reference model.
pub fn report(
    folder: &RunFolder,
    with: &[RunFolder],
    claims: &[Claim],
    paper: bool,
) -> Result<Report> {
    with.iter().try_for_each(|other| fits(folder, other))?;
    let charts = super::charts(folder)?;
    let mut tables = FigureData::default();
    let drawn: Vec<Drawn> = charts.iter().map(|c| Drawn::of(c, &mut tables)).collect();
    let study = match &folder.results {
        RunResults::Study(study) => Some(study.as_ref()),
        RunResults::Figures(_) => None,
    };
    let sections = with.iter().map(|other| ExperimentSection::of(other, study, &mut tables));
    let sections = sections.collect::<Result<Vec<_>>>()?;
    let judged = RunVerdicts::of(folder, with, claims)?;
    let bundled = judged.as_ref().is_some_and(RunVerdicts::is_of_bundled_models);
    let asked = &folder.provenance.spec;
    let page = Page {
        title: &asked.name,
        kind: &asked.kind,
        question: &asked.question,
        style: include_str!("page.css"),
        script: SCRIPT,
        answer: answer::answer(folder, claims),
        counts: judged.as_ref().map(RunVerdicts::counts),
        judged: study.map(|_| judged.as_ref().map_or(NOT_JUDGED.into(), RunVerdicts::about)),
        headline: study.map(|s| answer::headline(s, asked.noun(), claims)),
        lines: match &folder.results {
            RunResults::Figures(other) => &other.figures.lines,
            RunResults::Study(_) => &[],
        },
        shared: study.and_then(answer::shared),
        best: study.map(answer::best_of_layers),
        sure: study.map(|s| answer::sure(folder, s, with, bundled)),
        charts: drawn,
        clusters: cluster_table(folder, None),
        tables: tables.packed(),
        data: study.map(PageData::of),
        paper: paper.then(|| paper_lines(&drawn_runs(folder, &charts, with, &sections))),
        sections,
        ledger: judged.as_ref().map(|j| j.lines(claims)),
        terms: TERMS,
        commit: folder.provenance.commit.as_deref(),
        command: format!("universal-neurons run {}", folder.provenance.spec_path.display()),
        provenance: provenance(folder),
    };
    let html = page.render()?;
    Ok(Report { html, charts })
}

/// The values that the template shows.
#[derive(Serialize)]
struct Page<'a> {
    title: &'a str,
    kind: &'a str,
    question: &'a str,
    style: &'static str,
    script: &'static str,
    answer: String,
    counts: Option<Vec<VerdictCount>>,
    judged: Option<String>,
    headline: Option<Vec<Headline>>,
    lines: &'a [String],
    shared: Option<String>,
    best: Option<Vec<Best>>,
    sure: Option<Vec<String>>,
    charts: Vec<Drawn<'a>>,
    clusters: Option<ClusterTable>,
    tables: Packed,
    data: Option<PageData>,
    paper: Option<Vec<PaperLine>>,
    sections: Vec<ExperimentSection>,
    ledger: Option<Vec<Line<'a>>>,
    terms: [(&'static str, &'static str); 9],
    commit: Option<&'a str>,
    command: String,
    provenance: Vec<(String, String)>,
}

impl Page<'_> {
    fn render(&self) -> Result<String> {
        let mut environment = Environment::new();
        shown::install(&mut environment);
        // The extension of the name turns escaping on.
        let html = environment
            .add_template("page.html", include_str!("page.html"))
            .and_then(|()| environment.get_template("page.html")?.render(Serde(self)));
        html.map_err(|e| {
            Error::new(Kind::Store, "report.html", e, "report this with the run's folder")
        })
    }
}

/// Returns the runs on the page, with the names of their figures.
fn drawn_runs<'a>(
    folder: &'a RunFolder,
    charts: &[Chart],
    with: &'a [RunFolder],
    sections: &[ExperimentSection],
) -> Vec<DrawnRun<'a>> {
    let run = |run: &'a RunFolder, charts: Vec<String>| DrawnRun {
        kind: &run.provenance.spec.kind,
        folder: &run.path,
        charts,
    };
    let own = run(folder, charts.iter().map(|chart| chart.name.clone()).collect());
    let others = with.iter().zip(sections).map(|(other, section)| run(other, section.names()));
    std::iter::once(own).chain(others).collect()
}

/// Checks that a run of another kind has the same reference model.
fn fits(folder: &RunFolder, other: &RunFolder) -> Result<()> {
    let refuse = |problem: &str, remedy: &str| {
        Err(Error::new(Kind::Evidence, other.path.display(), problem, remedy))
    };
    if matches!(other.results, RunResults::Study(_)) {
        return refuse(
            "is a universality study",
            "give it a report of its own, or `compare` the two",
        );
    }
    let weights =
        |run: &RunFolder| run.provenance.reference().map(|m| m.content_sha256().to_owned());
    if weights(folder) != weights(other) {
        return refuse("is a run of another model", "give runs with the same reference model");
    }
    Ok(())
}

/// A figure on the page.
#[derive(Serialize)]
struct Drawn<'a> {
    name: &'a str,
    title: &'a str,
    caption: &'a str,
    alt: &'a str,
    svg: &'a str,
    /// Role for assistive technology: an image has no links, so that a figure with links is a group.
    role: &'static str,
    /// Index of its data.
    table: usize,
}

impl<'a> Drawn<'a> {
    fn of(chart: &'a Chart, tables: &mut FigureData) -> Self {
        Self {
            name: &chart.name,
            title: chart.title,
            caption: &chart.caption,
            alt: &chart.alt,
            svg: &chart.svg,
            role: if chart.svg.contains("<a href=") { "group" } else { "img" },
            table: tables.add(&chart.data),
        }
    }
}

/// The section about a run of another kind.
#[derive(Serialize)]
struct ExperimentSection {
    name: String,
    question: String,
    lines: Vec<String>,
    charts: Vec<serde_json::Value>,
    clusters: Option<ClusterTable>,
}

impl ExperimentSection {
    /// Returns the names of the figures.
    fn names(&self) -> Vec<String> {
        self.charts.iter().filter_map(|chart| Some(chart["name"].as_str()?.to_owned())).collect()
    }

    fn of(
        folder: &RunFolder,
        study: Option<&StudyRecord>,
        tables: &mut FigureData,
    ) -> Result<Self> {
        let charts = super::charts(folder)?;
        let RunResults::Figures(other) = &folder.results else { unreachable!("checked before") };
        Ok(Self {
            name: folder.provenance.spec.name.clone(),
            question: folder.provenance.spec.question.clone(),
            lines: other.figures.lines.clone(),
            charts: charts.iter().map(|c| serde_json::json!(Drawn::of(c, tables))).collect(),
            clusters: cluster_table(folder, study),
        })
    }
}

fn provenance(folder: &RunFolder) -> Vec<(String, String)> {
    let p = &folder.provenance;
    let mut rows = vec![
        ("program".to_owned(), format!("universal-neurons {}", p.version)),
        ("commit".to_owned(), p.commit.clone().unwrap_or_else(|| "not in a repository".into())),
        ("method".to_owned(), p.spec.source.clone()),
        ("spec".to_owned(), p.spec_path.display().to_string()),
        ("spec, SHA-256".to_owned(), p.spec_sha256.clone()),
    ];
    let models = p.models.iter();
    rows.extend(models.map(|m| {
        let what = if m.activations_sha256.is_some() { "activations of" } else { "model" };
        (format!("{what} {}, SHA-256", m.name), m.content_sha256().to_owned())
    }));
    if !p.corpus_sha256.is_empty() {
        rows.push(("text, SHA-256".into(), p.corpus_sha256.clone()));
    }
    rows.push(("tokens, SHA-256".into(), p.tokens_sha256.clone()));
    rows.push(("device".into(), p.device.clone()));
    rows
}
