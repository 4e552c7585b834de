//! `kind: families` (paper §4.3).

use super::Experiment;
use crate::corpus::Batch;
use crate::correlation::Layout;
use crate::error::Result;
use crate::families::{
    Explained, Group, GroupSums, Grouped, Syntax, TokenTest, best_explanations, read, unigrams,
};
use crate::findings::{Figures, TextTable};
use crate::model::Site;
use crate::model::capture::{Activations, Capture};
use crate::model::fold::preprocess;
use crate::plan::Plan;
use crate::spec::Families;
use crate::stats::percentile::{mean, median};
use crate::stats::weights::nearest_neighbours;
use crate::table::NeuronId;

/// Runs the experiment.
///
/// # Errors
/// If the token tests are malformed, or the run was stopped.
pub fn run(experiment: &mut Experiment) -> Result<Figures> {
    let spec = experiment.plan.spec.families.clone();
    let spec = spec.unwrap_or_else(|| unreachable!("checked when the spec was loaded"));
    let vocabulary = experiment.plan.vocabulary()?;
    let tests = read(&spec.path, &vocabulary)?;
    let samples = &experiment.plan.samples;
    let syntax = spec.syntax.as_ref().map(|path| Syntax::read(path, samples)).transpose()?;
    let universal = experiment.universal()?;
    let sums = Sums::read(experiment, vocabulary.len(), syntax.as_ref())?;
    let mut tests = AllTests::new(&sums, tests, &vocabulary, &spec, &experiment.plan.labels());
    tests.syntax = syntax.map_or_else(Default::default, |s| s.names.map(|n| each(&n, "syntax")));
    let layout = experiment.plan.reference().layout();
    let mut letters = std::collections::BTreeSet::new();
    let grouped = tests.grouped(&sums);
    let see = |g: usize, t: usize, reductions: &[Option<(f64, f64)>]| {
        let test = &grouped[g].tests[t];
        let explains = reductions.iter().flatten().any(|(r, d)| *r > spec.explained && *d > 0.0);
        if test.family == "alphabet" && grouped[g].group == Group::Token && explains {
            letters.insert(test.name.clone());
        }
    };
    let best = best_explanations(&grouped, layout.n_neurons(), spec.support, see);
    let bits = sums.position.information();
    let found = Found { layout, spec: &spec, grouped: &grouped, best: &best, bits: &bits };
    let mut figures = found.figures(&universal);
    figures.add("alphabet-letters", vec![letters.len() as f64]);
    let folded = preprocess(
        &experiment.model.weights,
        &experiment.model.config,
        &experiment.plan.spec.weights,
    );
    let near = nearest_neighbours(&folded, &experiment.model.config);
    let distance = |wanted: bool| {
        let of = near.iter().zip(&universal).filter(move |(_, u)| **u == wanted);
        mean(of.map(|(near, _)| near.distance))
    };
    figures.add("nearest-neighbour-gap", vec![distance(true) - distance(false)]);
    figures.tables.push(found.table(&universal, &near));
    Ok(figures)
}

/// Sums by token, previous token, position and label.
struct Sums {
    token: GroupSums,
    previous: GroupSums,
    position: GroupSums,
    label: GroupSums,
    /// By part of speech, and by dependency.
    syntax: [GroupSums; 2],
}

/// Labels of every token of the rows, in their order.
fn syntax_of(plan: &Plan, syntax: Option<&Syntax>) -> Result<Vec<Option<[usize; 2]>>> {
    let Some(syntax) = syntax else { return Ok(Vec::new()) };
    let lengths = plan.token_bytes()?;
    let (mut sample, mut at) = (usize::MAX, 0);
    let mut labels = Vec::new();
    for row in &plan.tokens.rows {
        if row.sample != sample {
            (sample, at) = (row.sample, 0);
        }
        labels.push(None);
        for &id in &row.ids[1..] {
            let end = at + lengths[id as usize];
            labels.push(syntax.at(sample, &plan.samples[sample].text, at..end));
            at = end;
        }
    }
    Ok(labels)
}

impl Sums {
    fn read(experiment: &mut Experiment, d_vocab: usize, syntax: Option<&Syntax>) -> Result<Self> {
        let plan = experiment.plan;
        let syntax_of = syntax_of(plan, syntax)?;
        let mut read = 0;
        let n = plan.reference().layout().n_neurons();
        let labels = plan.labels();
        let of_sample: Vec<usize> = plan
            .samples
            .iter()
            .map(|s| labels.iter().position(|l| *l == s.domain).unwrap_or(0))
            .collect();
        let mut sums = Self {
            token: GroupSums::new(d_vocab, n),
            previous: GroupSums::new(d_vocab, n),
            position: GroupSums::new(plan.tokens.context, n),
            label: GroupSums::new(labels.len(), n),
            syntax: [0, 1].map(|k| GroupSums::new(syntax.map_or(0, |s| s.names[k].len()), n)),
        };
        experiment.read("reading tokens", |model, batch| {
            let rows = batch.ids();
            let keep = batch.kept();
            let mut post = Activations::new(n);
            model.forward(&rows, &mut Capture::new(&keep, vec![(Site::MlpPost, &mut post)]));
            sums.absorb(batch, &keep, &of_sample, &post.values);
            let labels = syntax_of.iter().skip(read).zip(&keep).filter(|(_, keep)| **keep);
            let labels: Vec<Option<[usize; 2]>> = labels.map(|(label, _)| *label).collect();
            for (kind, sums) in sums.syntax.iter_mut().enumerate().filter(|_| !labels.is_empty()) {
                let groups: Vec<_> = labels.iter().map(|l| l.map(|l| l[kind])).collect();
                sums.absorb(&groups, &post.values);
            }
            read += keep.len();
        })?;
        Ok(sums)
    }

    fn absorb(&mut self, batch: &Batch, keep: &[bool], of_sample: &[usize], post: &[f32]) {
        let (mut token, mut previous, mut position, mut label) = (vec![], vec![], vec![], vec![]);
        let places = batch.rows.iter().flat_map(|row| (0..row.ids.len()).map(move |p| (row, p)));
        for ((row, p), _) in places.zip(keep).filter(|(_, keep)| **keep) {
            token.push(Some(row.ids[p] as usize));
            // The beginning of a sequence is no token of the text.
            previous.push((p > 1).then(|| row.ids[p - 1] as usize));
            position.push(Some(p));
            label.push(Some(of_sample[row.sample]));
        }
        self.token.absorb(&token, post);
        self.previous.absorb(&previous, post);
        self.position.absorb(&position, post);
        self.label.absorb(&label, post);
    }
}

/// All tests, by what their ids are.
struct AllTests {
    token: Vec<TokenTest>,
    previous: Vec<TokenTest>,
    position: Vec<TokenTest>,
    label: Vec<TokenTest>,
    syntax: [Vec<TokenTest>; 2],
}

/// A test for each of some names, of that name alone.
fn each(names: &[String], family: &str) -> Vec<TokenTest> {
    let test = |(i, name): (usize, &String)| TokenTest {
        name: name.clone(),
        family: family.into(),
        ids: vec![i],
    };
    names.iter().enumerate().map(test).collect()
}

impl AllTests {
    fn new(
        sums: &Sums,
        mut token: Vec<TokenTest>,
        vocabulary: &[String],
        spec: &Families,
        labels: &[String],
    ) -> Self {
        let counts: Vec<f64> = (0..vocabulary.len()).map(|id| sums.token.tokens(id)).collect();
        token.extend(unigrams(vocabulary, &counts, spec.frequent));
        let previous = token.iter().map(|test| TokenTest {
            name: format!("previous: {}", test.name),
            family: "previous-token".into(),
            ids: test.ids.clone(),
        });
        let context = sums.position.groups();
        let ends = std::iter::successors(Some(2), |end| Some(end * 2)).take_while(|&e| e < context);
        let position = ends.map(|end| TokenTest {
            name: format!("position below {end}"),
            family: "position".into(),
            ids: (0..end).collect(),
        });
        let labels: Vec<String> = labels.iter().map(|label| format!("label {label}")).collect();
        Self {
            previous: previous.collect(),
            position: position.collect(),
            label: each(&labels, "context"),
            syntax: Default::default(),
            token,
        }
    }

    fn grouped<'a>(&'a self, sums: &'a Sums) -> Vec<Grouped<'a>> {
        vec![
            Grouped { group: Group::Token, sums: &sums.token, tests: &self.token },
            Grouped { group: Group::PreviousToken, sums: &sums.previous, tests: &self.previous },
            Grouped { group: Group::Position, sums: &sums.position, tests: &self.position },
            Grouped { group: Group::Label, sums: &sums.label, tests: &self.label },
            Grouped { group: Group::Syntax, sums: &sums.syntax[0], tests: &self.syntax[0] },
            Grouped { group: Group::Syntax, sums: &sums.syntax[1], tests: &self.syntax[1] },
        ]
    }
}

/// What was found of every neuron.
struct Found<'a> {
    layout: Layout,
    spec: &'a Families,
    grouped: &'a [Grouped<'a>],
    best: &'a [Option<Explained>],
    /// Bits that firing tells of the position.
    bits: &'a [f64],
}

impl Found<'_> {
    fn test(&self, explained: &Explained) -> &TokenTest {
        &self.grouped[explained.grouped].tests[explained.test]
    }

    /// Family of a neuron, if anything explains it.
    fn family(&self, neuron: usize) -> Option<&str> {
        let best = self.best[neuron].filter(|b| b.reduction > self.spec.explained)?;
        Some(&self.test(&best).family)
    }

    fn members(&self, family: &str) -> Vec<usize> {
        (0..self.best.len()).filter(|&i| self.family(i) == Some(family)).collect()
    }

    /// Median layer of some neurons, as a share of the depth; NaN without any.
    fn depth(&self, neurons: &[usize]) -> f64 {
        let layers = neurons.iter().map(|&i| self.layout.layer(i) as f64);
        median(layers).map_or(f64::NAN, |layer| layer / self.layout.n_layers as f64)
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
        figures.add("previous-token-depth", vec![self.depth(&self.members("previous-token"))]);
        figures.add("position-depth", vec![self.depth(&position)]);
        if self.grouped.iter().any(|g| g.group == Group::Syntax && !g.tests.is_empty()) {
            figures.add("syntax-depth", vec![self.depth(&self.members("syntax"))]);
        }
        figures.add("context-neurons", vec![self.members("context").len() as f64]);
        let tests: usize = self.grouped.iter().map(|g| g.tests.len()).sum();
        figures.lines.push(format!(
            "{tests} tests on {} neurons; a family where the best one reduces the variance by more than {}",
            self.best.len(),
            self.spec.explained
        ));
        let mut profile = TextTable {
            name: "families-by-layer",
            header: vec!["family", "layer", "neurons", "universal"],
            rows: Vec::new(),
        };
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
        figures.tables.push(profile);
        figures
    }

    fn table(&self, universal: &[bool], near: &[crate::stats::weights::Neighbour]) -> TextTable {
        let d_mlp = self.layout.d_mlp;
        let number = |v: f64| format!("{v:.6}");
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
        TextTable { name: "families", header, rows: (0..self.best.len()).map(row).collect() }
    }
}
