//! A neuron as text: its row of the neuron table with percentiles, its best matches, the tokens that it
//! promotes and suppresses, its best explanations, and the places where it is most active.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::cards::shown;
use crate::correlation::Layout;
use crate::error::{Error, Kind};
use crate::record::{Card, Context, StudyRecord};
use crate::stats::percentile::ranks_within;
use crate::table::{Column, NeuronId};

/// Returns the card of the neuron in a row of a study, as text.
pub fn text(study: &StudyRecord, row: usize, card: &Card) -> String {
    let id = study.table.ids[row];
    let mut text = format!("{id} of model {}\n{}\n", study.summary.reference, card.sentence());
    write_row(&mut text, study, row);
    write_partners(&mut text, study, row);
    write_vocabulary(&mut text, card);
    if !card.explanations.is_empty() {
        text.push_str("\nbest explanations\n");
    }
    for e in &card.explanations {
        let (percent, way) =
            (100.0 * e.reduction, if e.difference > 0.0 { "more" } else { "less" });
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  {percent:>5.1} % of the variance  {way} active: {} ({}, {} tokens)",
            e.test, e.family, e.support
        );
    }
    text.push_str("\nmost active, one place of each text\n");
    card.contexts.iter().for_each(|context| write_context(&mut text, context));
    text
}

/// Returns the card of the neuron in a row of a study, as a JSON object. Values that do not exist
/// are null.
pub fn json(study: &StudyRecord, row: usize, card: &Card) -> Value {
    let layers = study.table.layers();
    let column = |&column: &Column| {
        let values = study.column(column);
        let percentile = ranks_within(&layers, values)[row];
        let value = json!({ "value": values[row], "percentile": percentile });
        (column.name().to_owned(), value)
    };
    let partner = |(model, neuron, rho, chance): (&str, String, f64, f64)| {
        let neuron = (!neuron.is_empty()).then_some(neuron);
        json!({ "model": model, "neuron": neuron, "rho": rho, "chance": chance })
    };
    json!({
        "neuron": study.table.ids[row].to_string(),
        "model": study.summary.reference,
        "sentence": card.sentence(),
        "columns": Column::ALL.iter().map(column).collect::<Map<_, _>>(),
        "partners": study.best_matches(row).map(partner).collect::<Vec<_>>(),
        "card": card,
    })
}

fn write_row(out: &mut String, study: &StudyRecord, row: usize) {
    let layers = study.table.layers();
    out.push_str("\n                       value  percentile in its layer\n");
    for &column in Column::ALL {
        let values = study.column(column);
        let rank = ranks_within(&layers, values)[row];
        let _ = writeln!(out, "  {:<14} {:>11.4}  {rank:>5.1}", column.name(), values[row]);
    }
}

fn write_partners(out: &mut String, study: &StudyRecord, row: usize) {
    out.push_str("\nbest partner of each model\n");
    for (model, neuron, rho, chance) in study.best_matches(row) {
        let _ = writeln!(out, "  {model:<8} {neuron:<10} ρ {rho:.3}  chance {chance:.3}");
    }
}

fn write_vocabulary(out: &mut String, card: &Card) {
    let list = |tokens: &[(String, f64)]| {
        let token = |(token, effect): &(String, f64)| format!("{token:?} {effect:+.2}");
        tokens.iter().map(token).collect::<Vec<_>>().join("  ")
    };
    let _ = writeln!(out, "\npromotes    {}", list(&card.promoted));
    let _ = writeln!(out, "suppresses  {}", list(&card.suppressed));
}

fn write_context(out: &mut String, context: &Context) {
    let Context { sample, tokens, values, at, .. } = context;
    let place = context.place();
    let piece = |tokens: &[String]| shown(&tokens.concat());
    let _ = writeln!(
        out,
        "  {:>6.2}  {}[{}]{}  ({sample})",
        values[*at].unwrap_or(f64::NAN),
        piece(&tokens[..place.start]),
        piece(&tokens[place.clone()]),
        piece(&tokens[place.end..])
    );
}

/// Returns the error for a neuron that a model does not have.
pub fn missing(layout: Layout, id: NeuronId) -> Error {
    let problem = format!("the model has {} layers of {} neurons", layout.n_layers, layout.d_mlp);
    Error::new(Kind::Spec, id, problem, "name one of them, as in L0.N12")
}
