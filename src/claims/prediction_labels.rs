//! Quantities of the authors' table of prediction neurons.

use std::collections::HashSet;

use super::evidence::Evidence;
use super::measure::Quantity;
use super::prediction_table::PredictionLabel;
use crate::table::{Column, NeuronId};

/// Takes a quantity of the table from the evidence about its model.
pub(super) fn take(quantity: Quantity, evidence: &Evidence) -> Result<Vec<f64>, String> {
    let labels = evidence.labels.as_ref().ok_or("no prediction_neurons table is here")?;
    let counts = |counts: &[usize]| Ok(counts.iter().map(|&n| n as f64).collect());
    let suppressing =
        |rows: &[&PredictionLabel]| rows.iter().filter(|label| label.suppresses).count();
    let neurons = |rows: &[&PredictionLabel]| {
        rows.iter().map(|label| label.id).collect::<HashSet<NeuronId>>().len()
    };
    let all: Vec<&PredictionLabel> = labels.iter().collect();
    let place = |id: NeuronId| evidence.table.ids.iter().position(|other| *other == id);
    let universal: Vec<(&PredictionLabel, usize)> =
        labels.iter().filter_map(|label| Some((label, place(label.id)?))).collect();
    let n_layers = evidence.shape.n_layers;
    match quantity {
        Quantity::PredictionTableCounts => {
            let features: HashSet<&str> = labels.iter().map(|l| l.feature.as_str()).collect();
            counts(&[all.len(), neurons(&all), features.len(), suppressing(&all)])
        }
        Quantity::PredictionTableEarly => {
            counts(&[labels.iter().filter(|label| 2 * label.id.layer < n_layers).count()])
        }
        Quantity::PredictionTableSuppression => {
            let (last, before): (Vec<_>, Vec<_>) =
                labels.iter().partition(|label| label.id.layer == n_layers - 1);
            counts(&[suppressing(&last), last.len(), suppressing(&before), before.len()])
        }
        Quantity::PredictionTableUniversal => {
            let rows: Vec<&PredictionLabel> = universal.iter().map(|(label, _)| *label).collect();
            counts(&[rows.len(), neurons(&rows)])
        }
        Quantity::PredictionTableKurt => {
            let kurt = evidence.table.column(Column::VocabKurt);
            Ok(vec![universal.iter().map(|(_, row)| kurt[*row]).fold(f64::INFINITY, f64::min)])
        }
        Quantity::PredictionTableAgreement => {
            let skew = evidence.table.column(Column::VocabSkew);
            let agrees =
                |(label, row): &&(&PredictionLabel, usize)| (skew[*row] < 0.0) == label.suppresses;
            counts(&[universal.iter().filter(agrees).count()])
        }
        _ => Err("is not a quantity of the table of prediction neurons".into()),
    }
}
