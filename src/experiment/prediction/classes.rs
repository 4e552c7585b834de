//! The token classes that prediction and suppression neurons promote or suppress.

use std::path::Path;

use super::effects::RoleNeuron;
use crate::error::Result;
use crate::families::{TokenClass, TokenTest, read_token_tests, token_classes};
use crate::model::Config;
use crate::model::weights::Weights;
use crate::plan::Plan;
use crate::record::TextTable;
use crate::stats::weights::vocabulary_effects;
use crate::table::{NeuronId, fixed_cell};

/// Number of classes of a neuron that are listed.
const LISTED: usize = 3;
/// Fewest tokens of a class.
const SUPPORT: usize = 2;

/// Returns the table of the token classes that explain most of the variance, over the vocabulary, of
/// each neuron's effects: best first.
///
/// # Errors
/// Returns an error if the file of tests is malformed.
pub fn class_table(
    (path, plan): (&Path, &Plan),
    (folded, config): (&Weights, &Config),
    neurons: impl Iterator<Item = RoleNeuron>,
    vocabulary: &[String],
) -> Result<TextTable> {
    let tests = read_token_tests(path, plan, vocabulary)?;
    let of_neuron = |neuron: RoleNeuron| rows(&neuron, &tests, (folded, config));
    let header = ["layer", "neuron", "kind", "class", "family", "tokens", "reduction", "t"];
    Ok(TextTable { rows: neurons.flat_map(of_neuron).collect(), ..TextTable::with_header(header) })
}

fn rows(
    neuron: &RoleNeuron,
    tests: &[TokenTest],
    (folded, config): (&Weights, &Config),
) -> Vec<Vec<String>> {
    let effects = vocabulary_effects(folded, config, neuron.index);
    let id = NeuronId::of(neuron.index, config.d_mlp());
    let found = token_classes(&effects, tests, SUPPORT, LISTED);
    let row = |class: &TokenClass| {
        let test = &tests[class.test];
        vec![
            id.layer.to_string(),
            id.neuron.to_string(),
            neuron.role.to_owned(),
            test.name.clone(),
            test.family.clone(),
            test.ids.len().to_string(),
            fixed_cell(class.reduction, 6),
            fixed_cell(class.t, 3),
        ]
    };
    found.iter().map(row).collect()
}
