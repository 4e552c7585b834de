//! What single neurons do to the logits of all tokens, and what their best matches in other models do
//! (paper Fig. 5, 6).

use crate::charts::canvas::{Axis, Mark, OTHERS, Panel, Series, UNIVERSAL, draw};
use crate::charts::{Chart, grouped, log_axis, log_height, outline, range_of, small_panels};
use crate::error::Result;
use crate::model::fold::preprocess;
use crate::record::TextTable;
use crate::run::{ModelMatches, Session};
use crate::stats::histogram::Bins;
use crate::stats::weights::vocabulary_effects;
use crate::table::{NeuronId, cell, fixed_cell};

/// Number of bins of a histogram.
const BINS: usize = 40;
/// Maximum number of neurons that are shown.
const SHOWN: usize = 6;
/// Name of the table.
pub const TABLE: &str = "vocabulary-effects";

/// A neuron and its role.
pub struct RoleNeuron {
    /// Index of the neuron, counted over all layers.
    pub index: usize,
    /// Its role.
    pub role: &'static str,
}

/// What a neuron of some model does to the vocabulary.
struct Effects {
    model: String,
    neuron: NeuronId,
    /// ρ with the neuron of the reference model.
    rho: f64,
    /// cos(W_U, w_out) for each token of the vocabulary.
    cosines: Vec<f64>,
}

/// Returns the distributions of the effects of some neurons and of their best matches: the number of
/// tokens in each bin of cos(W_U, w_out). The bins of a neuron are also those of its matches.
///
/// # Errors
/// Returns an error if a model cannot be loaded.
pub fn distributions(session: &mut Session, examples: &[RoleNeuron]) -> Result<TextTable> {
    let examples = &examples[..examples.len().min(SHOWN)];
    let (reference, d_mlp) = (session.plan.judged[0], session.plan.reference().layout().d_mlp);
    let own = examples.iter().map(|e| Some((NeuronId::of(e.index, d_mlp), f64::NAN)));
    let own = of_model(session, reference, own.collect())?;
    let mut of_examples: Vec<Vec<Effects>> = own.into_iter().map(Vec::from_iter).collect();
    for (model, neurons) in best_matches(session, examples) {
        let found = of_model(session, model, neurons)?;
        session.drop_partners();
        for (all, effects) in of_examples.iter_mut().zip(found) {
            all.extend(effects);
        }
    }
    let header = ["neuron", "role", "model", "match", "rho", "from", "to", "tokens"];
    let mut table = TextTable::with_header(header);
    for (example, all) in examples.iter().zip(&of_examples) {
        table.rows.extend(rows(example, all));
    }
    Ok(table)
}

/// Some neurons of a model, each with its ρ with a neuron of the reference model.
type Matched = Vec<Option<(NeuronId, f64)>>;

/// Returns the best matches of some neurons in each partner model, which is given by its index.
fn best_matches(session: &Session, examples: &[RoleNeuron]) -> Vec<(usize, Matched)> {
    let of = |matches: &ModelMatches| {
        let best = examples.iter().map(|e| matches.best[e.index].map(|best| (best.id, best.rho)));
        (matches.model, best.collect())
    };
    session.matches.iter().map(of).collect()
}

/// Returns the effects of neurons of a model.
fn of_model(session: &mut Session, model: usize, neurons: Matched) -> Result<Vec<Option<Effects>>> {
    if neurons.iter().all(Option::is_none) {
        return Ok(Vec::new());
    }
    let loaded = session.model(model)?;
    let (config, name) = (&loaded.config, &session.plan.models[model].name);
    let folded = preprocess(&loaded.weights, config, &session.plan.spec.weights);
    let one = |(neuron, rho): (NeuronId, f64)| {
        let index = neuron.layer * config.d_mlp() + neuron.neuron;
        let cosines = vocabulary_effects(&folded, config, index);
        Effects { model: name.clone(), neuron, rho, cosines }
    };
    Ok(neurons.into_iter().map(|neuron| neuron.map(one)).collect())
}

/// Returns the rows about a neuron; its own effects come first.
fn rows(example: &RoleNeuron, all: &[Effects]) -> Vec<Vec<String>> {
    let bins = Bins::of(&range_of(all.iter().flat_map(|e| e.cosines.iter().copied())), BINS);
    let row = |effects: &Effects, bin: usize, count: u64| {
        vec![
            all[0].neuron.to_string(),
            example.role.to_owned(),
            effects.model.clone(),
            effects.neuron.to_string(),
            fixed_cell(effects.rho, 6),
            cell(bins.edges[bin]),
            cell(bins.edges[bin + 1]),
            count.to_string(),
        ]
    };
    let of = |effects: &Effects| {
        let counts = bins.counts(effects.cosines.iter().copied());
        counts.into_iter().enumerate().map(|(i, n)| row(effects, i, n)).collect::<Vec<_>>()
    };
    all.iter().flat_map(of).collect()
}

/// Draws the distributions, with a panel for each neuron.
///
/// # Errors
/// Returns an error if the figure cannot be drawn.
pub fn chart(table: &TextTable) -> Result<Chart> {
    let groups = grouped(table, "neuron");
    let panels: Vec<Panel> = groups.iter().map(|(name, rows)| panel(table, name, rows)).collect();
    let (size, columns) = small_panels(panels.len());
    let matches = table.numbers("rho").iter().any(|rho| rho.is_finite());
    let others = if matches {
        " Grey: the neurons that match it best in the other models, found by their activations alone."
    } else {
        ""
    };
    Ok(Chart {
        name: "vocabulary-effects".into(),
        title: "What single neurons do to the vocabulary",
        caption: format!(
            "Tokens of the vocabulary by the cosine of the neuron's output weights and the token's \
             unembedding, counted on a logarithmic scale. Blue: the neuron with the largest vocabulary \
             kurtosis of its role (for partition neurons, variance), universal ones first.{others} Paper: \
             Fig. 5, 6."
        ),
        alt: format!("Histograms of {} neurons.", groups.len()),
        svg: draw(size, columns, &panels)?,
        data: table.clone(),
    })
}

/// Draws the distributions of one neuron and of its matches; the rows of a model follow each other.
fn panel(table: &TextTable, name: &str, rows: &[usize]) -> Panel {
    let (from, to, tokens) = (table.numbers("from"), table.numbers("to"), table.numbers("tokens"));
    let ends = [rows[0], rows[rows.len() - 1]];
    let range = from[ends[0]]..to[ends[1]];
    let of_models = rows.chunk_by(|a, b| table.cell(*a, "model") == table.cell(*b, "model"));
    let line = |rows: &[usize]| {
        let heights: Vec<f64> = rows.iter().map(|&row| log_height(tokens[row])).collect();
        Mark::Line(outline(&heights, range.start, range.end))
    };
    let own_first: Vec<Mark> = of_models.map(line).collect();
    // The neuron itself is drawn last, above the others.
    let series = own_first
        .into_iter()
        .enumerate()
        .rev()
        .map(|(i, mark)| Series::new("", if i == 0 { UNIVERSAL } else { OTHERS }, mark));
    let most = rows.iter().map(|&row| tokens[row]).fold(1.0, f64::max);
    Panel {
        title: format!("{name}, {}", table.cell(rows[0], "role")),
        x: Axis::of("cos(W_U, w_out)", range.clone()),
        y: log_axis("tokens", most),
        series: series.collect(),
    }
}
