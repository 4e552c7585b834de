//! `kind: families`: simple properties of tokens that explain neurons (paper §4.3).

use super::cost::KindCost;
use super::kind::{Desk, Experiment, FigureName, drawn, figure, say_none};
use crate::charts::{Chart, by_depth, grouped};
use crate::correlation::Layout;
use crate::error::Result;
use crate::families::{
    BYTES_PER_GROUP, FamilySettings, FamilySums, GroupedTests, Syntax, TestExplanation, TestSuite,
    TokenGroup, TokenGrouping, TokenTest, best_explanations, check,
};
use crate::findings::Figures;
use crate::model::Site;
use crate::model::capture::{Activations, Capture};
use crate::model::fold::preprocess;
use crate::plan::{Plan, Workload};
use crate::record::{Tables, TextTable};
use crate::run::Session;
use crate::spec::{Finding, Section, Spec, Tokenisation, finding};
use crate::stats::percentile::{mean, median};
use crate::stats::weights::nearest_neighbours;
use crate::table::{NeuronId, fixed_cell};

/// The experiment on neuron families.
pub struct Families;

/// Returns the median layer of neurons, as a share of the depth, from their number in each layer;
/// NaN if there are none.
fn median_depth(counts: &[f64]) -> Vec<f64> {
    let layer_of = |(layer, count): (usize, &f64)| vec![layer as f64; *count as usize];
    let layers = counts.iter().enumerate().flat_map(layer_of);
    vec![median(layers).map_or(f64::NAN, |layer| layer / counts.len() as f64)]
}

impl Experiment for Families {
    type Settings = FamilySettings;
    const KIND: &'static str = "families";
    const PURPOSE: &'static str =
        "Finds which simple properties of tokens explain the neurons of the reference model.";
    const SECTION: Section = Section::Required;
    const PATHS: &'static [&'static str] = &["path", "syntax"];
    const FIGURES: &'static [FigureName] = &[
        figure("unigram-by-layer", "unigram neurons of each layer")
            .with_layers("unigram-by-layer", <[f64]>::to_vec),
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
        figure(
            "nearest-neighbour-gap",
            "mean distance to the nearest neuron in weight space: universal minus others",
        ),
    ];
    const EXAMPLE: &'static str = include_str!("../../experiments/families.yaml");
    const DESK: Desk = Desk::Spec("experiments/families.yaml");

    fn check(settings: &Self::Settings, spec: &Spec) -> Result<(), Finding> {
        if settings.syntax.is_some() && spec.corpus.sample.is_some() {
            let problem = "needs every row of a sample, which `corpus.sample` does not keep";
            return finding("families.syntax", problem, "use `corpus.limit` instead");
        }
        if settings.syntax.is_some() && spec.corpus.tokenisation != Tokenisation::PerDoc {
            let problem = "needs rows of one sample each";
            return finding("families.syntax", problem, "use `tokenisation: per_doc`");
        }
        Ok(())
    }

    fn keeps_texts(settings: &Self::Settings) -> bool {
        settings.syntax.is_some()
    }

    fn check_files(settings: &Self::Settings, plan: &Plan) -> Result<()> {
        Syntax::of_spec(settings, plan)?;
        check(&settings.path, plan)
    }

    fn cost(_: &Self::Settings, work: &Workload) -> KindCost {
        let of = work.reference();
        let groups = 2 * of.d_vocab + work.spec.corpus.context;
        let bytes = (of.n_neurons() * groups * BYTES_PER_GROUP) as f64;
        KindCost { universal: true, bytes, ..KindCost::of_passes(1.0) }
    }

    fn run(settings: &Self::Settings, session: &mut Session) -> Result<Figures> {
        let plan = session.plan;
        let syntax = Syntax::of_spec(settings, plan)?;
        let grouping = TokenGrouping::new(plan, syntax.as_ref())?;
        let readings = FamilySums::new(&grouping, plan.reference().layout().n_neurons());
        // Checked before the tokens are read, so that a mistake is reported at once.
        check(&settings.path, plan)?;
        let universal = session.universal()?;
        let readings = read_all(session, &grouping, readings)?;
        let suite = TestSuite::read(settings, plan, &readings, syntax.as_ref())?;
        let layout = plan.reference().layout();
        let mut letters = std::collections::BTreeSet::new();
        let grouped = suite.over(&readings);
        let see = |g: usize, t: usize, reductions: &[Option<(f64, f64)>]| {
            let test = &grouped[g].tests[t];
            let explains =
                reductions.iter().flatten().any(|(r, d)| *r > settings.explained && *d > 0.0);
            if test.family == "alphabet" && grouped[g].group == TokenGroup::Token && explains {
                letters.insert(test.name.clone());
            }
        };
        let best = best_explanations(&grouped, layout.n_neurons(), settings.support, see);
        let bits = readings.position_bits();
        let found = ExplainedNeurons {
            layout,
            spec: settings,
            grouped: &grouped,
            best: &best,
            bits: &bits,
        };
        let mut figures = found.figures(&universal);
        figures.add("alphabet-letters", vec![letters.len() as f64]);
        let model = session.reference()?;
        let folded = preprocess(&model.weights, &model.config, &plan.spec.weights);
        let near = nearest_neighbours(&folded, &model.config);
        let distance = |wanted: bool| {
            let of = near.iter().zip(&universal).filter(move |(_, u)| **u == wanted);
            mean(of.map(|(near, _)| near.distance))
        };
        figures.add("nearest-neighbour-gap", vec![distance(true) - distance(false)]);
        figures.tables.insert("families".into(), found.table(&universal, &near));
        say_none(&mut figures, plan, &universal);
        Ok(figures)
    }

    fn charts(tables: &Tables) -> Result<Vec<Chart>> {
        drawn(tables, "families-by-layer", chart)
    }
}

/// Reads all tokens and sums activations by group.
fn read_all(
    session: &mut Session,
    grouping: &TokenGrouping,
    mut readings: FamilySums,
) -> Result<FamilySums> {
    let n = session.plan.reference().layout().n_neurons();
    session.read("reading tokens", |model, batch| {
        let rows = batch.ids();
        let keep = batch.kept();
        let mut post = Activations::new(n);
        model.forward(&rows, &mut Capture::new(&keep, vec![(Site::MlpPost, &mut post)]))?;
        readings.absorb(&grouping.of(batch, &keep), &post.values);
        Ok(())
    })?;
    Ok(readings)
}

/// The best explanation of every neuron.
struct ExplainedNeurons<'a> {
    layout: Layout,
    spec: &'a FamilySettings,
    grouped: &'a [GroupedTests<'a>],
    best: &'a [Option<TestExplanation>],
    /// Mutual information between firing and position for every neuron, in bits.
    bits: &'a [f64],
}

impl ExplainedNeurons<'_> {
    fn test(&self, explained: &TestExplanation) -> &TokenTest {
        &self.grouped[explained.grouped].tests[explained.test]
    }

    /// Returns the family of a neuron, or `None` if no test explains enough of its variance.
    fn family(&self, neuron: usize) -> Option<&str> {
        let best = self.best[neuron].filter(|b| b.reduction > self.spec.explained)?;
        Some(&self.test(&best).family)
    }

    fn members(&self, family: &str) -> Vec<usize> {
        (0..self.best.len()).filter(|&i| self.family(i) == Some(family)).collect()
    }

    /// Returns the median layer of some neurons, as a share of the depth; NaN if there are none.
    fn depth(&self, neurons: &[usize]) -> Vec<f64> {
        median_depth(&self.by_layer(neurons))
    }

    fn by_layer(&self, neurons: &[usize]) -> Vec<f64> {
        let mut counts = vec![0.0; self.layout.n_layers];
        neurons.iter().for_each(|&i| counts[self.layout.layer(i)] += 1.0);
        counts
    }

    fn figures(&self, universal: &[bool]) -> Figures {
        let mut figures = Figures::default();
        let position: Vec<usize> =
            (0..self.bits.len()).filter(|&i| self.bits[i] > self.spec.position_bits).collect();
        figures.add("unigram-by-layer", self.by_layer(&self.members("unigram")));
        figures.add("previous-token-depth", self.depth(&self.members("previous-token")));
        figures.add("position-depth", self.depth(&position));
        figures.add("position-by-layer", self.by_layer(&position));
        if self.grouped.iter().any(|g| g.group == TokenGroup::Syntax && !g.tests.is_empty()) {
            figures.add("syntax-depth", self.depth(&self.members("syntax")));
        }
        figures.add("context-neurons", vec![self.members("context").len() as f64]);
        let tests: usize = self.grouped.iter().map(|g| g.tests.len()).sum();
        figures.lines.push(format!(
            "{tests} tests on {} neurons; a family where the best one reduces the variance by more than {}",
            self.best.len(),
            self.spec.explained
        ));
        let mut profile = TextTable::with_header(["family", "layer", "neurons", "universal"]);
        let mut names: Vec<&str> = (0..self.best.len()).filter_map(|i| self.family(i)).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let members = self.members(name);
            let chosen: Vec<usize> = members.iter().copied().filter(|&i| universal[i]).collect();
            let counts = self.by_layer(&members);
            for (layer, (all, universal)) in counts.iter().zip(self.by_layer(&chosen)).enumerate() {
                profile.rows.push(vec![
                    name.into(),
                    layer.to_string(),
                    all.to_string(),
                    universal.to_string(),
                ]);
            }
            let layers: Vec<String> =
                counts.iter().enumerate().map(|(l, n)| format!("L{l} {n}")).collect();
            figures.lines.push(format!(
                "  {name:<15} {:>4}  {}",
                members.len(),
                layers.join(" · ")
            ));
        }
        figures.lines.push(format!(
            "  by position     {:>4}  tell more than {} bits of the position by firing",
            position.len(),
            self.spec.position_bits
        ));
        figures.tables.insert("families-by-layer".into(), profile);
        figures
    }

    fn table(&self, universal: &[bool], near: &[crate::stats::weights::Neighbour]) -> TextTable {
        let d_mlp = self.layout.d_mlp;
        let number = |v: f64| fixed_cell(v, 6);
        let row = |i: usize| {
            let id = NeuronId::of(i, d_mlp);
            let mut row =
                vec![id.layer.to_string(), id.neuron.to_string(), universal[i].to_string()];
            row.push(self.family(i).unwrap_or("").to_owned());
            match &self.best[i] {
                None => row.extend([""; 4].map(String::from)),
                Some(best) => row.extend([
                    self.test(best).name.clone(),
                    number(best.reduction),
                    number(best.difference),
                    best.support.to_string(),
                ]),
            }
            row.extend([
                number(self.bits[i]),
                NeuronId::of(near[i].neuron, d_mlp).to_string(),
                number(near[i].distance),
            ]);
            row
        };
        let header = vec![
            "layer",
            "neuron",
            "universal",
            "family",
            "test",
            "reduction",
            "mean_difference",
            "support",
            "position_bits",
            "nearest",
            "distance",
        ];
        let rows = (0..self.best.len()).map(row).collect();
        TextTable { rows, ..TextTable::with_header(header) }
    }
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
