//! `kind: reading`: the activations of named neurons on texts that the spec gives, which say where
//! the first neuron is expected to be active (replication note, results 4).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cost::KindCost;
use super::kind::{Desk, Experiment, FigureName, drawn, figure};
use super::named::{distinct, neurons_in_model};
use crate::charts::canvas::{Axis, Mark, Panel, SERIES, Series, draw};
use crate::charts::{Chart, ONE_PANEL, grouped, range_of, with_margin};
use crate::corpus::Row;
use crate::corpus::tokenizer::BpeTokenizer;
use crate::error::{Error, Kind, Result};
use crate::findings::Figures;
use crate::model::capture::NeuronColumns;
use crate::plan::{Plan, Workload};
use crate::record::{Tables, TextTable};
use crate::run::Session;
use crate::spec::{Finding, Section, Spec, finding};
use crate::stats::percentile::mean;
use crate::table::{NeuronId, fixed_cell};

/// `kind: reading`: named neurons on texts that the spec gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadingSettings {
    /// The neurons. Figures are about the first one.
    #[schemars(length(min = 1, max = 1000))]
    pub neurons: Vec<NeuronId>,
    /// Texts at whose last token the first neuron is expected to be active. Each is read by itself,
    /// after the beginning-of-sequence token.
    #[schemars(length(min = 1, max = 10_000))]
    pub active: Vec<String>,
    /// Texts at whose last token it is expected not to be.
    #[schemars(length(min = 1, max = 10_000))]
    pub quiet: Vec<String>,
}

impl ReadingSettings {
    /// Returns the texts with what is expected at each.
    fn texts(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let active = self.active.iter().map(|text| ("active", text));
        active.chain(self.quiet.iter().map(|text| ("quiet", text)))
    }
}

/// The reading experiment.
pub struct Reading;

impl Experiment for Reading {
    type Settings = ReadingSettings;
    const KIND: &'static str = "reading";
    const PURPOSE: &'static str =
        "Reads texts of one's own, and shows named neurons at each token.";
    const SECTION: Section = Section::Required;
    const FIGURES: &'static [FigureName] = &[figure(
        "reading-gap",
        "mean activation of the first neuron at the last tokens of the texts where it is expected to be active, minus that of the others",
    )];
    const EXAMPLE: &'static str = include_str!("../../experiments/reading.yaml");
    const DESK: Desk = Desk::Spec("experiments/reading.yaml");

    fn check(settings: &Self::Settings, _: &Spec) -> Result<(), Finding> {
        distinct("reading.neurons", &settings.neurons)?;
        for (key, texts) in [("active", &settings.active), ("quiet", &settings.quiet)] {
            distinct(&format!("reading.{key}"), texts)?;
            if let Some(i) = texts.iter().position(String::is_empty) {
                let remedy = "write a text, or leave it out";
                return finding(format!("reading.{key}[{i}]"), "is empty", remedy);
            }
        }
        match settings.quiet.iter().position(|text| settings.active.contains(text)) {
            None => Ok(()),
            Some(i) => {
                let problem = "is among `reading.active` too";
                finding(format!("reading.quiet[{i}]"), problem, "expect one thing of each text")
            }
        }
    }

    fn check_files(settings: &Self::Settings, plan: &Plan) -> Result<()> {
        neurons_in_model("reading.neurons", &settings.neurons, plan)?;
        rows(settings, plan, &plan.reference().tokenizer()?).map(drop)
    }

    fn cost(_: &Self::Settings, _: &Workload) -> KindCost {
        // Reading a few texts takes far less time than loading the model.
        KindCost::default()
    }

    fn run(settings: &Self::Settings, session: &mut Session) -> Result<Figures> {
        Self::check_files(settings, session.plan)?;
        let plan = session.plan;
        let tokenizer = plan.reference().tokenizer()?;
        let rows = rows(settings, plan, &tokenizer)?;
        let of = settings.neurons.iter().map(|id| (id.layer, id.neuron)).collect();
        let mut columns = NeuronColumns::new(of);
        let tokens = plan.tokens.with_rows(rows).excluding(&[]);
        session.read_tokens("reading the texts", &tokens, |model, batch| {
            model.forward(&batch.ids(), &mut columns).map(drop)
        })?;
        Ok(figures(settings, &tokens.rows, &columns, &tokenizer.shown_texts()))
    }

    fn charts(tables: &Tables) -> Result<Vec<Chart>> {
        drawn(tables, "reading", chart)
    }
}

/// Returns a row for each text.
///
/// # Errors
/// Returns an error naming the text if it has no tokens or too many.
fn rows(settings: &ReadingSettings, plan: &Plan, tokenizer: &BpeTokenizer) -> Result<Vec<Row>> {
    let config = &plan.reference().config;
    let row = |(_, text): (_, &String)| {
        let subject = || format!("{}: reading: {text:?}", plan.spec_path.display());
        let ids = tokenizer
            .encode(text)
            .map_err(|fault| Error::new(Kind::Spec, subject(), fault.problem, fault.remedy))?;
        if ids.is_empty() || ids.len() >= config.n_ctx {
            let problem = format!("has {} tokens, expected 1 to {}", ids.len(), config.n_ctx - 1);
            return Err(Error::new(Kind::Spec, subject(), problem, "give another text"));
        }
        Ok(Row::of_sample(Some(config.bos_token_id), &ids, 0, 0))
    };
    settings.texts().map(row).collect()
}

fn figures(
    settings: &ReadingSettings,
    rows: &[Row],
    columns: &NeuronColumns,
    vocabulary: &[String],
) -> Figures {
    let mut figures = Figures::default();
    let mut table =
        TextTable::with_header(["neuron", "expected", "text", "position", "token", "pre", "post"]);
    for (neuron, column) in settings.neurons.iter().zip(&columns.columns) {
        let (mut at, mut last) = (0, Vec::new());
        for ((expected, text), row) in settings.texts().zip(rows) {
            let values = column[at..at + row.ids.len()].iter();
            at += row.ids.len();
            for (position, (id, [pre, post])) in row.ids.iter().zip(values).enumerate().skip(1) {
                table.rows.push(vec![
                    neuron.to_string(),
                    expected.into(),
                    text.clone(),
                    position.to_string(),
                    vocabulary[*id as usize].clone(),
                    fixed_cell(f64::from(*pre), 6),
                    fixed_cell(f64::from(*post), 6),
                ]);
            }
            last.push((expected, f64::from(column[at - 1][1])));
        }
        let of = |wanted| mean(last.iter().filter(|(e, _)| *e == wanted).map(|(_, v)| *v));
        let (active, quiet) = (of("active"), of("quiet"));
        figures.lines.push(format!(
            "{neuron}: {active:.3} at the end of {} texts where it is expected to be active, \
             {quiet:.3} at the end of {} others",
            settings.active.len(),
            settings.quiet.len()
        ));
        if neuron == &settings.neurons[0] {
            figures.add("reading-gap", [active - quiet]);
        }
    }
    figures.tables.insert("reading".into(), table);
    figures
}

fn chart(table: &TextTable) -> Result<Chart> {
    let values = table.numbers("post");
    let series = grouped(table, "expected").into_iter().zip(SERIES).map(|((name, rows), color)| {
        let points = rows.into_iter().map(|row| (row as f64, values[row])).collect();
        Series::new(name, color, Mark::Points(points))
    });
    let panel = Panel {
        title: String::new(),
        x: Axis::of("token, in the order of the texts", with_margin(&(0.0..values.len() as f64))),
        y: Axis::of("activation", with_margin(&range_of(values.iter().copied()))),
        series: series.collect(),
    };
    Ok(Chart {
        name: "reading".into(),
        title: "Named neurons on given texts",
        caption:
            "Activation at each token of texts where the first neuron is expected to be active, \
                  and of others. Replication note, results 4."
                .into(),
        alt: "A point for each token, in two colours.".into(),
        svg: draw(ONE_PANEL, 1, &[panel])?,
        data: table.clone(),
    })
}
