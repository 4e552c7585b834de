//! The tables of a run with the names, columns and order of the authors' tables.

use std::collections::HashMap;

use super::TextTable;
use crate::table::{Column, NeuronId, Table, cell};

/// Header of the authors' tables of prediction neurons, with their spelling.
pub const PREDICTION_COLUMNS: [&str; 4] = ["layer", "neuron", "feature", "is_surpress"];

/// Returns the header of the authors' tables of all neurons, which have no `excess_corr`.
pub fn population_columns() -> Vec<&'static str> {
    let numeric = population().map(Column::name);
    ["layer", "neuron"].into_iter().chain(numeric).collect()
}

fn population() -> impl Iterator<Item = Column> {
    Column::ALL.iter().copied().filter(|column| *column != Column::ExcessCorr)
}

/// Returns the authors' table of universal neurons: the rows that are `universal`, with all
/// columns.
pub fn universal_table(table: &Table, universal: &[bool]) -> TextTable {
    let rows = (0..table.ids.len()).filter(|&row| universal[row]);
    numeric_table(table, rows, super::neurons::columns(), Column::ALL)
}

/// Returns the authors' table of all neurons.
pub fn population_table(table: &Table) -> TextTable {
    let columns: Vec<Column> = population().collect();
    numeric_table(table, 0..table.ids.len(), population_columns(), &columns)
}

fn numeric_table(
    table: &Table,
    rows: impl Iterator<Item = usize>,
    header: Vec<&str>,
    columns: &[Column],
) -> TextTable {
    let row = |row: usize| {
        let NeuronId { layer, neuron } = table.ids[row];
        let values = columns.iter().map(|column| cell(table.column(*column)[row]));
        [layer.to_string(), neuron.to_string()].into_iter().chain(values).collect()
    };
    TextTable { rows: rows.map(row).collect(), ..TextTable::with_header(header) }
}

/// Returns the authors' table of prediction neurons, from the tables of a run of `kind: prediction`:
/// its prediction and suppression neurons, in its order. The token class (`feature`) is the first one
/// that `classes` has of the neuron, or empty. The authors chose classes by hand, and gave a neuron
/// several. Returns `None` if a column is missing or a neuron is not given by numbers.
pub fn prediction_table(found: &TextTable, classes: Option<&TextTable>) -> Option<TextTable> {
    let classes = classes.map_or(Some(HashMap::new()), first_classes)?;
    let place = |name: &str| found.header.iter().position(|column| column == name);
    let [layer, neuron, kind] = [place("layer")?, place("neuron")?, place("kind")?];
    let row = |row: &Vec<String>| {
        // Python writes booleans with a capital letter.
        let suppresses = match row[kind].as_str() {
            "prediction" => "False",
            "suppression" => "True",
            _ => return None,
        };
        let number = |at: usize| row[at].parse::<usize>().ok();
        Some((number(layer), number(neuron), suppresses))
    };
    let cells = |(layer, neuron, suppresses): (Option<usize>, Option<usize>, &str)| {
        let id = NeuronId { layer: layer?, neuron: neuron? };
        let class = classes.get(&id).cloned().unwrap_or_default();
        Some(vec![id.layer.to_string(), id.neuron.to_string(), class, suppresses.to_owned()])
    };
    let rows = found.rows.iter().filter_map(row).map(cells).collect::<Option<_>>()?;
    Some(TextTable { rows, ..TextTable::with_header(PREDICTION_COLUMNS) })
}

/// Returns the first token class of each neuron of a table of classes.
fn first_classes(table: &TextTable) -> Option<HashMap<NeuronId, String>> {
    let place = |name: &str| table.header.iter().position(|column| column == name);
    let [layer, neuron, class] = [place("layer")?, place("neuron")?, place("class")?];
    let mut first = HashMap::new();
    for row in &table.rows {
        let id = NeuronId { layer: row[layer].parse().ok()?, neuron: row[neuron].parse().ok()? };
        first.entry(id).or_insert_with(|| row[class].clone());
    }
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_the_published_columns_and_the_rows_that_belong_to_them() {
        let mut table = Table::new();
        for neuron in 0..2 {
            let mut values = [0.5; Column::ALL.len()];
            values[0] = [0.25, f64::NAN][neuron];
            values[Column::ALL.len() - 1] = [0.1, 0.75][neuron];
            table.push(NeuronId { layer: 1, neuron }, values);
        }
        let universal = universal_table(&table, &[false, true]);
        assert_eq!((universal.header.len(), universal.rows.len()), (23, 1));
        assert_eq!(universal.rows[0][..4], ["1", "1", "", "0.5"]);
        assert_eq!(universal.rows[0][22], "0.75");
        let all = population_table(&table);
        assert_eq!((all.header.len(), all.rows.len()), (22, 2));
        assert_eq!(all.rows[0][..4], ["1", "0", "0.25", "0.5"]);
    }

    #[test]
    fn prediction_neurons_have_their_first_class_and_partition_neurons_are_left_out() {
        let mut found = TextTable::with_header(["layer", "neuron", "universal", "kind"]);
        for (neuron, kind) in [("3", "prediction"), ("4", "partition"), ("5", "suppression")] {
            found.rows.push(["0", neuron, "false", kind].map(str::to_owned).to_vec());
        }
        let table = prediction_table(&found, None).expect("a table");
        assert_eq!(table.rows, [["0", "3", "", "False"], ["0", "5", "", "True"]]);
        let mut classes = TextTable::with_header(["layer", "neuron", "class"]);
        for (neuron, class) in [("5", "year"), ("5", "a digit"), ("4", "month")] {
            classes.rows.push(["0", neuron, class].map(str::to_owned).to_vec());
        }
        let table = prediction_table(&found, Some(&classes)).expect("a table");
        assert_eq!(table.rows, [["0", "3", "", "False"], ["0", "5", "year", "True"]]);
        found.rows[0][1] = "=1+1".to_owned();
        assert_eq!(prediction_table(&found, None), None);
        found.rows[0][1] = "3".to_owned();
        found.header[3] = "role".to_owned();
        assert_eq!(prediction_table(&found, None), None);
    }
}
