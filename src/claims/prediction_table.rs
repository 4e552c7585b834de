//! The authors' table of prediction neurons: the token class that a neuron promotes or suppresses.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;

use crate::correlation::Layout;
use crate::error::{Error, Kind, Result};
use crate::table::NeuronId;

/// A token class that a neuron promotes or suppresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PredictionLabel {
    /// The neuron.
    pub id: NeuronId,
    /// The authors' name of the token class.
    pub feature: String,
    /// Whether the neuron suppresses the class.
    pub suppresses: bool,
}

/// A row as the file has it, with the authors' spelling.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelRow {
    layer: usize,
    neuron: usize,
    feature: String,
    is_surpress: String,
}

/// Reads the table, one label for each row. A neuron may have several labels.
///
/// # Errors
/// Returns an error naming file, line and problem if a column is missing or unknown, a value has
/// the wrong form, a neuron is not in the model, a row comes twice, or there is no row.
pub fn read_labels(path: &Path, bytes: &[u8], shape: Layout) -> Result<Vec<PredictionLabel>> {
    let refuse = |line: u64, problem: String| {
        let remedy = "fetch the table again with `universal-neurons fetch tables`";
        Error::new(Kind::Evidence, format_args!("{}:{line}", path.display()), problem, remedy)
    };
    let (mut labels, mut seen) = (Vec::new(), HashSet::new());
    let mut reader = csv::Reader::from_reader(bytes);
    for row in reader.deserialize::<LabelRow>() {
        let line = labels.len() as u64 + 2;
        let label = label(row, shape).map_err(|problem| refuse(line, problem))?;
        if !seen.insert((label.id, label.feature.clone())) {
            return Err(refuse(line, format!("{} has this feature twice", label.id)));
        }
        labels.push(label);
    }
    if labels.is_empty() { Err(refuse(1, "holds no row".into())) } else { Ok(labels) }
}

fn label(row: csv::Result<LabelRow>, shape: Layout) -> Result<PredictionLabel, String> {
    let row = row.map_err(|e| e.to_string())?;
    let id = NeuronId { layer: row.layer, neuron: row.neuron };
    if row.layer >= shape.n_layers || row.neuron >= shape.d_mlp {
        let (layers, neurons) = (shape.n_layers, shape.d_mlp);
        return Err(format!("{id} is not in a model of {layers} layers of {neurons} neurons"));
    }
    // Python writes booleans with a capital letter.
    let suppresses = match row.is_surpress.as_str() {
        "True" => true,
        "False" => false,
        other => return Err(format!("`is_surpress` is \"{other}\", expected True or False")),
    };
    Ok(PredictionLabel { id, feature: row.feature, suppresses })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Layout = Layout { n_layers: 2, d_mlp: 4 };

    fn read(text: &str) -> Result<Vec<PredictionLabel>> {
        read_labels(Path::new("t.csv"), text.as_bytes(), SHAPE)
    }

    #[test]
    fn a_neuron_may_have_several_labels() {
        let labels = read("layer,neuron,feature,is_surpress\n1,3,digits,False\n1,3,caps,True\n");
        let id = NeuronId { layer: 1, neuron: 3 };
        let label = |feature: &str, suppresses| {
            let feature = feature.to_owned();
            PredictionLabel { id, feature, suppresses }
        };
        assert_eq!(labels.expect("sound"), [label("digits", false), label("caps", true)]);
    }

    #[test]
    fn damaged_tables_are_refused_with_their_line() {
        let head = "layer,neuron,feature,is_surpress\n";
        for (text, line, problem) in [
            (head.to_owned(), 1, "no row"),
            (format!("{head}0,1,a,True\n0,1,a,False\n"), 3, "twice"),
            (format!("{head}2,1,a,True\n"), 2, "not in a model of 2 layers"),
            (format!("{head}0,4,a,True\n"), 2, "not in a model"),
            (format!("{head}0,1,a,true\n"), 2, "expected True or False"),
            (format!("{head}0,-1,a,True\n"), 2, "invalid digit"),
            (format!("{head}0,1,a,True\n0,1\n"), 3, "fields"),
            ("layer,neuron,feature\n0,1,a\n".to_owned(), 2, "is_surpress"),
            (format!("{}0,1,a,True,x\n", head.replace('\n', ",more\n")), 2, "unknown field"),
        ] {
            let error = read(&text).expect_err(&text);
            assert!(error.subject.ends_with(&format!(":{line}")), "{error}");
            assert!(error.problem.contains(problem), "{error}");
        }
    }
}
