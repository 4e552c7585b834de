//! The neurons that token tests explain: their families, and the figures about them.

use std::collections::BTreeSet;

use crate::correlation::Layout;
use crate::families::{FamilySettings, GroupedTests, TestExplanation};
use crate::findings::Figures;
use crate::record::TextTable;
use crate::stats::percentile::median;
use crate::stats::similar::SimilarWeights;
use crate::table::{NeuronId, fixed_cell};

/// Families of neurons that are active on one word. Alphabet neurons are a subclass of unigram
/// neurons in the paper.
const UNIGRAM: [&str; 2] = ["unigram", "alphabet"];
/// The first layers in which the paper finds most unigram neurons.
const EARLY: usize = 2;

/// Returns the median layer of neurons, as a share of the depth, from their number in each layer;
/// NaN if there are none.
pub fn median_depth(counts: &[f64]) -> Vec<f64> {
    let layer_of = |(layer, count): (usize, &f64)| vec![layer as f64; *count as usize];
    let layers = counts.iter().enumerate().flat_map(layer_of);
    vec![median(layers).map_or(f64::NAN, |layer| layer / counts.len() as f64)]
}

/// Returns the share of neurons in the first two layers, in percent, from their number in each
/// layer; NaN if there are none.
pub fn share_of_first_two(counts: &[f64]) -> Vec<f64> {
    let early: f64 = counts.iter().take(EARLY).sum();
    vec![100.0 * early / counts.iter().sum::<f64>()]
}

/// The test that explains a neuron best.
pub struct BestTest {
    name: String,
    family: String,
    found: TestExplanation,
}

impl BestTest {
    /// Returns the test that an explanation refers to.
    pub fn of(grouped: &[GroupedTests], found: &TestExplanation) -> Self {
        let of_group = &grouped[found.grouped];
        let test = &of_group.tests[found.test];
        let (name, family) = (test.name.clone(), test.family.clone());
        Self { name, family, found: *found }
    }
}

/// What the tests say about one neuron.
pub struct ExplainedNeuron {
    /// Index over all layers.
    pub index: usize,
    /// The best test, or `None` if no test has enough support.
    pub best: Option<BestTest>,
    /// Names of the tests of letters that explain enough of the neuron's variance.
    pub letters: BTreeSet<String>,
    /// Mutual information between firing and position, in bits.
    pub bits: f64,
}

impl ExplainedNeuron {
    /// Returns the word whose test explains the neuron best, in lower case, and the share of the variance
    /// that it explains; `None` if another test is the best.
    pub fn word(&self) -> Option<(&str, f64)> {
        let best = self.best.as_ref().filter(|best| best.family == "unigram")?;
        Some((best.name.strip_prefix("word ")?, best.found.reduction))
    }
}

/// What the tests say about the chosen neurons.
pub struct ExplainedNeurons<'a> {
    /// Layers and neurons of the model.
    pub layout: Layout,
    /// The settings.
    pub settings: &'a FamilySettings,
    /// The chosen neurons, in ascending order.
    pub neurons: &'a [ExplainedNeuron],
    /// Whether each neuron of the model is universal.
    pub universal: &'a [bool],
}

impl ExplainedNeurons<'_> {
    /// Returns the family of a neuron, or `None` if no test explains enough of its variance.
    fn family<'n>(&self, neuron: &'n ExplainedNeuron) -> Option<&'n str> {
        let best = neuron.best.as_ref().filter(|b| b.found.reduction > self.settings.explained)?;
        Some(&best.family)
    }

    /// Returns the number of neurons of each layer.
    fn by_layer<'n>(&self, neurons: impl Iterator<Item = &'n ExplainedNeuron>) -> Vec<f64> {
        let mut counts = vec![0.0; self.layout.n_layers];
        neurons.for_each(|neuron| counts[self.layout.layer(neuron.index)] += 1.0);
        counts
    }

    /// Returns the names of the families, in alphabetical order.
    fn families(&self) -> BTreeSet<&str> {
        self.neurons.iter().filter_map(|neuron| self.family(neuron)).collect()
    }

    /// Returns the figures about all chosen neurons, the same figures about the universal ones
    /// among them, and the table of families by layer.
    pub fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        self.add_figures("", |_| true, &mut figures);
        self.add_figures("universal-", |neuron| self.universal[neuron.index], &mut figures);
        self.add_families(&mut figures);
        figures
    }

    /// Adds the figures about the `wanted` neurons, with `prefix` before their names.
    fn add_figures(
        &self,
        prefix: &str,
        wanted: impl Fn(&ExplainedNeuron) -> bool + Copy,
        figures: &mut Figures,
    ) {
        let chosen = || self.neurons.iter().filter(move |neuron| wanted(neuron));
        let members = |family| chosen().filter(move |neuron| self.family(neuron) == Some(family));
        let is_unigram = |family: &str| UNIGRAM.contains(&family);
        let mut add = |name: &str, values| figures.add(&format!("{prefix}{name}"), values);
        let unigrams =
            self.by_layer(chosen().filter(|neuron| self.family(neuron).is_some_and(is_unigram)));
        let others = self.families().into_iter().filter(|family| !is_unigram(family));
        let largest = others.map(|family| members(family).count()).max().unwrap_or(0);
        add("unigram-lead", vec![unigrams.iter().sum::<f64>() - largest as f64]);
        add("unigram-early", share_of_first_two(&unigrams));
        add("unigram-by-layer", unigrams);
        let letters: BTreeSet<&String> = chosen().flat_map(|neuron| &neuron.letters).collect();
        add("alphabet-letters", vec![letters.len() as f64]);
        let depth = |family| median_depth(&self.by_layer(members(family)));
        add("previous-token-depth", depth("previous-token"));
        let by_position =
            self.by_layer(chosen().filter(|neuron| neuron.bits > self.settings.position_bits));
        add("position-depth", median_depth(&by_position));
        add("position-by-layer", by_position);
        if self.settings.syntax.is_some() {
            add("syntax-depth", depth("syntax"));
        }
        add("context-neurons", vec![members("context").count() as f64]);
    }

    /// Adds the table of families by layer, and a line about each.
    fn add_families(&self, figures: &mut Figures) {
        figures.lines.push(format!(
            "{} neurons; a family where the best test reduces the variance by more than {}",
            self.neurons.len(),
            self.settings.explained
        ));
        let mut table = TextTable::with_header(["family", "layer", "neurons", "universal"]);
        for name in self.families() {
            let members = || self.neurons.iter().filter(|neuron| self.family(neuron) == Some(name));
            let counts = self.by_layer(members());
            let universal = self.by_layer(members().filter(|n| self.universal[n.index]));
            for (layer, (all, universal)) in counts.iter().zip(universal).enumerate() {
                let numbers = [layer.to_string(), all.to_string(), universal.to_string()];
                table.rows.push(std::iter::once(name.to_owned()).chain(numbers).collect());
            }
            let layers: Vec<String> =
                counts.iter().enumerate().map(|(l, n)| format!("L{l} {n}")).collect();
            let layers = layers.join(" · ");
            figures.lines.push(format!("  {name:<15} {:>4}  {layers}", members().count()));
        }
        let bits = self.settings.position_bits;
        figures.lines.push(format!(
            "  by position     {:>4}  tell more than {bits} bits of the position by firing",
            self.neurons.iter().filter(|neuron| neuron.bits > bits).count(),
        ));
        figures.tables.insert("families-by-layer".into(), table);
    }

    /// Returns the table of the chosen neurons. `near` has the nearest neuron in weight space of
    /// every neuron of the model.
    pub fn table(&self, near: &[SimilarWeights]) -> TextTable {
        let header = [
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
        let rows = self.neurons.iter().map(|neuron| self.row(neuron, &near[neuron.index]));
        TextTable { rows: rows.collect(), ..TextTable::with_header(header) }
    }

    fn row(&self, neuron: &ExplainedNeuron, near: &SimilarWeights) -> Vec<String> {
        let d_mlp = self.layout.d_mlp;
        let number = |v: f64| fixed_cell(v, 6);
        let id = NeuronId::of(neuron.index, d_mlp);
        let universal = self.universal[neuron.index].to_string();
        let mut row = vec![id.layer.to_string(), id.neuron.to_string(), universal];
        row.push(self.family(neuron).unwrap_or("").to_owned());
        match &neuron.best {
            None => row.extend([""; 4].map(String::from)),
            Some(BestTest { name, found, .. }) => row.extend([
                name.clone(),
                number(found.reduction),
                number(found.difference),
                found.support.to_string(),
            ]),
        }
        let nearest = NeuronId::of(near.neuron, d_mlp).to_string();
        row.extend([number(neuron.bits), nearest, number(near.distance)]);
        row
    }
}
