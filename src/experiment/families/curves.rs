//! Activations of single neurons of two families: of position neurons along the position (paper Fig. 1c,
//! 19), and of unigram neurons by the form of the word (Fig. 4).

use std::collections::HashMap;

use super::explained::ExplainedNeuron;
use crate::charts::canvas::{Axis, Mark, Panel, Series, UNIVERSAL, draw};
use crate::charts::{Chart, ONE_PANEL, grouped, lines, range_of, small_panels, with_margin};
use crate::error::Result;
use crate::families::{FamilySums, GroupSums};
use crate::record::{Tables, TextTable};
use crate::table::{NeuronId, fixed_cell};

/// Maximum number of neurons of each family that are shown.
const SHOWN: usize = 6;
/// Name of the table of position neurons.
pub const POSITIONS: &str = "position-activations";
/// Name of the table of unigram neurons.
pub const FORMS: &str = "unigram-forms";
/// Makes a form of a word from the word in lower case.
type WriteForm = fn(&str) -> String;
/// The forms of a word.
const FORMS_OF_A_WORD: [(&str, WriteForm); 6] = [
    ("space, lower case", |word| format!(" {word}")),
    ("lower case", str::to_owned),
    ("space, capital first", |word| format!(" {}", capital_first(word))),
    ("capital first", capital_first),
    ("space, all capitals", |word| format!(" {}", word.to_uppercase())),
    ("all capitals", str::to_uppercase),
];

fn capital_first(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// What is shown of one neuron.
struct Shown {
    universal: bool,
    /// How strongly the neuron belongs to its family: bits, or share of the variance.
    strength: f64,
    rows: Vec<Vec<String>>,
}

/// The activations that are shown, of the neurons that belong most strongly to their family, universal
/// ones first.
#[derive(Default)]
pub struct Curves {
    positions: Vec<Shown>,
    forms: Vec<Shown>,
}

/// The neurons of one pass over the tokens.
pub struct Pass<'a> {
    /// What the tests say about each neuron.
    pub neurons: &'a [ExplainedNeuron],
    /// The sums of their activations.
    pub sums: &'a FamilySums,
    /// Whether each neuron of the model is universal.
    pub universal: &'a [bool],
    /// Neurons of a layer.
    pub d_mlp: usize,
}

impl Curves {
    /// Adds the position and unigram neurons of a pass. The firing of a position neuron tells more than
    /// `bits` of the position; a word explains more than `explained` of the variance of a unigram neuron.
    /// `ids` contains the id of each token by its text.
    pub fn add(&mut self, pass: &Pass, [bits, explained]: [f64; 2], ids: &HashMap<&str, usize>) {
        for (at, neuron) in pass.neurons.iter().enumerate() {
            let universal = pass.universal[neuron.index];
            let id = NeuronId::of(neuron.index, pass.d_mlp).to_string();
            if neuron.bits > bits {
                let rows = position_rows(&id, pass.sums.positions(), at);
                self.positions.push(Shown { universal, strength: neuron.bits, rows });
            }
            if let Some((word, strength)) = neuron.word().filter(|(_, r)| *r > explained) {
                let rows = form_rows(&id, word, pass.sums.tokens(), at, ids);
                self.forms.push(Shown { universal, strength, rows });
            }
        }
        strongest(&mut self.positions);
        strongest(&mut self.forms);
    }

    /// Adds the two tables.
    pub fn add_tables(self, tables: &mut Tables) {
        let table = |header: &[&str], all: Vec<Shown>| TextTable {
            rows: all.into_iter().flat_map(|shown| shown.rows).collect(),
            ..TextTable::with_header(header.iter().copied())
        };
        let header = ["neuron", "position", "tokens", "mean"];
        tables.insert(POSITIONS.into(), table(&header, self.positions));
        let header = ["neuron", "form", "token", "tokens", "mean"];
        tables.insert(FORMS.into(), table(&header, self.forms));
    }
}

/// Keeps the strongest neurons of a family.
fn strongest(all: &mut Vec<Shown>) {
    all.sort_by(|a, b| b.universal.cmp(&a.universal).then(b.strength.total_cmp(&a.strength)));
    all.truncate(SHOWN);
}

/// Returns the mean activation at each position that has tokens. `at` is the place of the neuron in the
/// sums.
fn position_rows(id: &str, sums: &GroupSums, at: usize) -> Vec<Vec<String>> {
    let row = |position: usize| {
        let n = sums.tokens(position);
        let mean = fixed_cell(sums.sum(position, at) / n, 6);
        (n > 0.0).then(|| vec![id.to_owned(), position.to_string(), n.to_string(), mean])
    };
    (0..sums.groups()).filter_map(row).collect()
}

/// Returns the mean activation over the tokens that are a form of a word, for each form that is a token,
/// and over all other tokens.
fn form_rows(
    id: &str,
    word: &str,
    sums: &GroupSums,
    at: usize,
    ids: &HashMap<&str, usize>,
) -> Vec<Vec<String>> {
    let row = |form: &str, text: String, [n, sum]: [f64; 2]| {
        vec![id.to_owned(), form.to_owned(), text, n.to_string(), fixed_cell(sum / n, 6)]
    };
    let of = |token: usize| [sums.tokens(token), sums.sum(token, at)];
    let (mut rows, mut others) = (Vec::new(), [0.0; 2]);
    for token in 0..sums.groups() {
        others = [0, 1].map(|i| others[i] + of(token)[i]);
    }
    for (form, write) in FORMS_OF_A_WORD {
        let text = write(word);
        let shown = format!("{text:?}");
        let Some(&token) = ids.get(text.as_str()) else { continue };
        // A word without letters is the same in all cases.
        if rows.iter().all(|row: &Vec<String>| row[2] != shown) {
            others = [0, 1].map(|i| others[i] - of(token)[i]);
            rows.push(row(form, shown, of(token)));
        }
    }
    rows.push(row("other tokens", String::new(), others));
    rows
}

/// Draws the mean activation over the position, with a line for each neuron.
///
/// # Errors
/// Returns an error if the figure cannot be drawn.
pub fn position_chart(table: &TextTable) -> Result<Chart> {
    let x = table.numbers("position");
    let means = range_of(table.numbers("mean"));
    // Room for the names of the neurons above the lines.
    let y = means.start..means.end + 0.5 * (means.end - means.start);
    let panel = Panel {
        title: String::new(),
        x: Axis::of("position in the row", 0.0..range_of(x).end),
        y: Axis::of("mean activation", with_margin(&y)),
        series: lines(table, "neuron", "position", "mean"),
    };
    Ok(Chart {
        name: POSITIONS.into(),
        title: "Position neurons along the position",
        caption: "Mean activation over the tokens at each position of a row, of the neurons whose firing \
                  tells most about the position, universal ones first. Paper: Fig. 1c, 19."
            .into(),
        alt: format!("Lines for {} neurons over positions.", grouped(table, "neuron").len()),
        svg: draw(ONE_PANEL, 1, &[panel])?,
        data: table.clone(),
    })
}

/// Draws the mean activation for each form of the word, with a panel for each neuron.
///
/// # Errors
/// Returns an error if the figure cannot be drawn.
pub fn form_chart(table: &TextTable) -> Result<Chart> {
    let groups = grouped(table, "neuron");
    let panels: Vec<Panel> = groups.iter().map(|(id, rows)| form_panel(table, id, rows)).collect();
    let (size, columns) = small_panels(panels.len());
    Ok(Chart {
        name: FORMS.into(),
        title: "Unigram neurons by the form of the word",
        caption: "Mean activation over the tokens that are a form of the neuron's word, and over all other \
                  tokens, of the neurons of whose variance a word explains most, universal ones first. \
                  Paper: Fig. 4."
            .into(),
        alt: format!("Points for {} neurons, one for each form of a word.", groups.len()),
        svg: draw(size, columns, &panels)?,
        data: table.clone(),
    })
}

fn form_panel(table: &TextTable, id: &str, rows: &[usize]) -> Panel {
    let mean = table.numbers("mean");
    // The first form stands at the top.
    let names = rows.iter().rev().map(|&row| match table.cell(row, "token") {
        "" => table.cell(row, "form").to_owned(),
        token => token.to_owned(),
    });
    let points = rows.iter().rev().enumerate().map(|(place, &row)| (mean[row], place as f64));
    let points: Vec<(f64, f64)> = points.collect();
    let range = range_of(points.iter().map(|p| p.0).chain([0.0]));
    Panel {
        title: id.to_owned(),
        x: Axis::of("mean activation", with_margin(&range)),
        y: Axis::named("", names.collect()),
        series: vec![Series::new("", UNIVERSAL, Mark::Points(points))],
    }
}
