//! `kind: families`: simple properties of tokens that explain neurons (paper §4.3).

mod curves;
mod duplicates;
mod explained;
mod memory;

use std::collections::{BTreeSet, HashMap};

use self::curves::{Curves, Pass};
use self::explained::{
    BestTest, ExplainedNeuron, ExplainedNeurons, median_depth, share_of_first_two,
};
use self::memory::neurons_at_once;
use super::cost::KindCost;
use super::kind::{Desk, Experiment, FigureName, drawn, figure, refuse_none, say_none};
use super::named::{distinct, neurons_in_model};
use crate::charts::{Chart, by_depth, grouped};
use crate::error::Result;
use crate::families::{
    FamilySettings, FamilySums, NeuronChoice, NeuronGroup, Syntax, TestSuite, TokenGroup,
    TokenGrouping, best_explanations, check,
};
use crate::findings::Figures;
use crate::model::Site;
use crate::model::capture::{Activations, Capture};
use crate::model::fold::preprocess;
use crate::plan::{Plan, Workload};
use crate::record::{Tables, TextTable};
use crate::run::Session;
use crate::spec::{Finding, Section, Spec, Tokenisation, finding};
use crate::stats::percentile::mean;
use crate::stats::similar::similar_weights;

/// Share of the neurons that is assumed universal where none is known: the papers found 1 to 4 %.
const ASSUMED_UNIVERSAL: f64 = 0.05;

/// The experiment on neuron families.
pub struct Families;

impl Experiment for Families {
    type Settings = FamilySettings;
    const KIND: &'static str = "families";
    const PURPOSE: &'static str =
        "Finds which simple properties of tokens explain the neurons of the reference model.";
    const SECTION: Section = Section::Required;
    const PATHS: &'static [&'static str] = &["path", "syntax"];
    const FIGURES: &'static [FigureName] = &[
        figure("unigram-by-layer", "unigram neurons of each layer, alphabet neurons among them")
            .with_layers("unigram-by-layer", <[f64]>::to_vec),
        figure("unigram-lead", "unigram neurons minus the neurons of the largest other family"),
        figure("unigram-early", "share of the unigram neurons in the first two layers, in percent")
            .with_layers("unigram-by-layer", share_of_first_two),
        figure("alphabet-letters", "letters that have an alphabet neuron"),
        figure(
            "previous-token-depth",
            "median layer of the previous-token neurons, as a share of the depth",
        ),
        figure("position-depth", "median layer of the position neurons, as a share of the depth")
            .with_layers("position-by-layer", median_depth),
        figure("position-by-layer", "position neurons of each layer"),
        figure("syntax-depth", "median layer of the syntax neurons, as a share of the depth"),
        figure("context-neurons", "neurons explained by the kind of text"),
        figure("universal-unigram-by-layer", "`unigram-by-layer` of universal neurons alone")
            .with_layers("universal-unigram-by-layer", <[f64]>::to_vec),
        figure("universal-unigram-lead", "`unigram-lead` of universal neurons alone"),
        figure("universal-unigram-early", "`unigram-early` of universal neurons alone")
            .with_layers("universal-unigram-by-layer", share_of_first_two),
        figure("universal-alphabet-letters", "`alphabet-letters` of universal neurons alone"),
        figure(
            "universal-previous-token-depth",
            "`previous-token-depth` of universal neurons alone",
        ),
        figure("universal-position-depth", "`position-depth` of universal neurons alone")
            .with_layers("universal-position-by-layer", median_depth),
        figure("universal-position-by-layer", "`position-by-layer` of universal neurons alone"),
        figure("universal-syntax-depth", "`syntax-depth` of universal neurons alone"),
        figure("universal-context-neurons", "`context-neurons` of universal neurons alone"),
        figure(
            "nearest-neighbour-gap",
            "mean distance to the nearest neuron in weight space: universal minus others",
        ),
    ];
    const EXAMPLE: &'static str = include_str!("../../experiments/families.yaml");
    const DESK: Desk = Desk::Spec("experiments/families.yaml");

    fn check(settings: &Self::Settings, spec: &Spec) -> Result<(), Finding> {
        if let NeuronChoice::Named(neurons) = &settings.neurons {
            if neurons.is_empty() {
                let remedy = "name one such as [L0.N3], or leave it out for all neurons";
                return finding("families.neurons", "names no neuron", remedy);
            }
            distinct("families.neurons", neurons)?;
        }
        if settings.syntax.is_some() && spec.corpus.tokenisation == Tokenisation::TlV1 {
            let problem = "needs the tokens of whole samples, which `tl_v1` cuts into pieces";
            return finding("families.syntax", problem, "use `tokenisation: concatenated`");
        }
        Ok(())
    }

    fn keeps_texts(settings: &Self::Settings) -> bool {
        settings.syntax.is_some()
    }

    fn check_files(settings: &Self::Settings, plan: &Plan) -> Result<()> {
        read_syntax(settings, plan).map(drop)
    }

    fn cost(settings: &Self::Settings, work: &Workload) -> KindCost {
        let of = work.reference();
        let neurons = match &settings.neurons {
            NeuronChoice::Group(NeuronGroup::All) => of.n_neurons(),
            NeuronChoice::Group(NeuronGroup::Universal) => {
                (ASSUMED_UNIVERSAL * of.n_neurons() as f64).ceil() as usize
            }
            NeuronChoice::Named(neurons) => neurons.len(),
        };
        let bytes_each = memory::bytes_of_a_neuron(2 * of.d_vocab + work.spec.corpus.context);
        let at_once = neurons_at_once(work, bytes_each).min(neurons.max(1));
        let passes = neurons.div_ceil(at_once) as f64;
        let bytes = (at_once * bytes_each) as f64;
        KindCost { universal: true, bytes, ..KindCost::of_passes(passes) }
    }

    fn run(settings: &Self::Settings, session: &mut Session) -> Result<Figures> {
        let plan = session.plan;
        // Checked before the tokens are read, so that a mistake is reported at once.
        let syntax = read_syntax(settings, plan)?;
        let grouping = TokenGrouping::new(plan, syntax.as_ref())?;
        let work = plan.workload();
        let at_once = neurons_at_once(&work, memory::bytes_of_a_neuron(grouping.groups()));
        let universal = session.universal()?;
        if settings.neurons == NeuronChoice::Group(NeuronGroup::Universal) {
            refuse_none(plan, &universal)?;
        }
        let layout = plan.reference().layout();
        let chosen = settings.neurons.indices(&universal, layout.d_mlp);
        let vocabulary = plan.vocabulary()?;
        let ids: HashMap<&str, usize> =
            vocabulary.iter().enumerate().map(|(id, text)| (text.as_str(), id)).collect();
        let strong = [settings.position_bits, settings.explained];
        let (mut neurons, mut curves) = (Vec::new(), Curves::default());
        let passes = chosen.len().div_ceil(at_once);
        for (pass, some) in chosen.chunks(at_once).enumerate() {
            let stage = match passes {
                1 => "reading tokens".to_owned(),
                _ => format!("reading tokens, part {} of {passes} of the neurons", pass + 1),
            };
            let sums = read(session, &stage, &grouping, some)?;
            let explained = explain(settings, plan, syntax.as_ref(), (some, &sums))?;
            let d_mlp = layout.d_mlp;
            let pass = Pass { neurons: &explained, sums: &sums, universal: &universal, d_mlp };
            curves.add(&pass, strong, &ids);
            neurons.extend(explained);
        }
        let found = ExplainedNeurons { layout, settings, neurons: &neurons, universal: &universal };
        let mut figures = found.figures();
        let model = session.reference()?;
        let folded = preprocess(&model.weights, &model.config, &plan.spec.weights);
        let near = similar_weights(&folded, &model.config);
        let distance = |wanted: bool| {
            let of = near.iter().zip(&universal).filter(move |(_, u)| **u == wanted);
            mean(of.map(|(near, _)| near.distance))
        };
        figures.add("nearest-neighbour-gap", vec![distance(true) - distance(false)]);
        figures.tables.insert("families".into(), found.table(&near));
        figures.tables.insert(duplicates::TABLE.into(), duplicates::table(&near, &universal));
        curves.add_tables(&mut figures.tables);
        say_none(&mut figures, plan, &universal);
        Ok(figures)
    }

    fn charts(tables: &Tables) -> Result<Vec<Chart>> {
        let charts = [
            drawn(tables, "families-by-layer", chart)?,
            drawn(tables, curves::POSITIONS, curves::position_chart)?,
            drawn(tables, curves::FORMS, curves::form_chart)?,
            drawn(tables, duplicates::TABLE, duplicates::chart)?,
        ];
        Ok(charts.concat())
    }
}

/// Checks the neurons and the tests that the settings name. Returns the labels of syntax, if they name
/// any.
fn read_syntax(settings: &FamilySettings, plan: &Plan) -> Result<Option<Syntax>> {
    if let NeuronChoice::Named(neurons) = &settings.neurons {
        neurons_in_model("families.neurons", neurons, plan)?;
    }
    let syntax = Syntax::of_spec(settings, plan)?;
    check(&settings.path, plan)?;
    Ok(syntax)
}

/// Reads all tokens and sums the activations of some neurons by group.
fn read(
    session: &mut Session,
    stage: &str,
    grouping: &TokenGrouping,
    neurons: &[usize],
) -> Result<FamilySums> {
    let n = session.plan.reference().layout().n_neurons();
    let mut sums = FamilySums::new(grouping, neurons.len());
    session.read(stage, |model, batch| {
        let keep = batch.kept();
        let mut post = Activations::new(n);
        model.forward(&batch.ids(), &mut Capture::new(&keep, vec![(Site::MlpPost, &mut post)]))?;
        let of_token = |token: &[f32]| neurons.iter().map(|&i| token[i]).collect::<Vec<_>>();
        let values: Vec<f32> = post.values.chunks_exact(n).flat_map(of_token).collect();
        sums.absorb(&grouping.of(batch, &keep), &values);
        Ok(())
    })?;
    Ok(sums)
}

/// Returns the best explanation of each of the neurons that the sums are of.
fn explain(
    settings: &FamilySettings,
    plan: &Plan,
    syntax: Option<&Syntax>,
    (neurons, sums): (&[usize], &FamilySums),
) -> Result<Vec<ExplainedNeuron>> {
    let suite = TestSuite::read(settings, plan, sums, syntax)?;
    let grouped = suite.over(sums);
    let mut letters: Vec<BTreeSet<String>> = vec![BTreeSet::new(); neurons.len()];
    let see = |g: usize, t: usize, reductions: &[Option<(f64, f64)>]| {
        let test = &grouped[g].tests[t];
        if test.family != "alphabet" || grouped[g].group != TokenGroup::Token {
            return;
        }
        for (letters, reduction) in letters.iter_mut().zip(reductions) {
            if reduction.is_some_and(|(r, d)| r > settings.explained && d > 0.0) {
                letters.insert(test.name.clone());
            }
        }
    };
    let best = best_explanations(&grouped, neurons.len(), settings.support, see);
    let bits = sums.position_bits();
    let of_neuron = |(at, letters): (usize, BTreeSet<String>)| ExplainedNeuron {
        index: neurons[at],
        best: best[at].as_ref().map(|found| BestTest::of(&grouped, found)),
        letters,
        bits: bits[at],
    };
    Ok(letters.into_iter().enumerate().map(of_neuron).collect())
}

fn chart(table: &TextTable) -> Result<Chart> {
    Ok(Chart {
        name: "families-by-depth".into(),
        title: "Families by depth",
        caption:
            "Neurons that a simple question about the text explains, by layer, in the largest \
                  families; the data have all of them. Paper: §4.3."
                .into(),
        alt: format!("Lines for {} families over layers.", grouped(table, "family").len()),
        svg: by_depth(table, "family", "neurons explained")?,
        data: table.clone(),
    })
}
