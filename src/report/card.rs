//! A neuron as text: its row of the neuron table with percentiles, its best matches, the tokens that it
//! promotes and suppresses, its best explanations, and the places where it is most active.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::cards::shown;
use crate::correlation::Layout;
use crate::error::{Error, Kind};
use crate::record::{Card, Context, SampledContext, StudyRecord};
use crate::stats::percentile::ranks_within;
use crate::table::{Column, NeuronId};

/// Number of neurons of the reference that are listed for a neuron of another model.
const SHOWN_MATCHES: usize = 10;

/// Returns the card of the neuron in a row of a study, as text.
pub fn text(study: &StudyRecord, row: usize, card: &Card) -> String {
    let id = study.table.ids[row];
    let title = titled(&id.to_string(), card);
    let mut text = format!("{title} of model {}\n{}\n", study.summary.reference, card.sentence());
    write_row(&mut text, study, row);
    write_partners(&mut text, study, row);
    write_card(&mut text, card);
    text
}

/// Returns the card of a neuron of another model than the reference, as text, with the neurons of
/// the reference that have it as their best match.
pub fn partner_text(study: &StudyRecord, model: &str, id: NeuronId, card: &Card) -> String {
    let reference = &study.summary.reference;
    let title = titled(&id.to_string(), card);
    let mut text = format!("{title} of model {model}\n{}\n", card.sentence());
    let matched = matched_by(study, model, id);
    let _ = match matched.len() {
        0 => writeln!(text, "\nno neuron of model {reference} has it as its best match"),
        n => writeln!(text, "\nbest match of {n} of the neurons of model {reference}"),
    };
    for (neuron, rho, chance) in matched.iter().take(SHOWN_MATCHES) {
        let _ = writeln!(text, "  {neuron:<10} ρ {rho:.3}  chance {chance:.3}");
    }
    write_card(&mut text, card);
    text
}

/// Returns the place of a neuron, with the name that the user gave it.
fn titled(id: &str, card: &Card) -> String {
    card.name.as_ref().map_or_else(|| id.to_owned(), |name| format!("{id} “{name}”"))
}

/// Returns the neurons of the reference whose best match in `model` is this neuron, with ρ and
/// chance, largest ρ first.
fn matched_by(study: &StudyRecord, model: &str, id: NeuronId) -> Vec<(String, f64, f64)> {
    let Some(partner) = study.summary.partners.iter().position(|name| name == model) else {
        return Vec::new();
    };
    let rows = study.extra.iter().zip(&study.table.ids);
    let best = rows.filter_map(|(row, own)| Some((own, row.matches.get(partner)?.as_ref()?)));
    let found = best.filter(|(_, best)| best.id == id);
    let mut found: Vec<_> = found.map(|(own, b)| (own.to_string(), b.rho, b.baseline)).collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    found
}

/// Returns what [`partner_text`] shows, as a JSON object, with all neurons of the reference.
pub fn partner_json(study: &StudyRecord, model: &str, id: NeuronId, card: &Card) -> Value {
    let matched = matched_by(study, model, id).into_iter();
    let matched = matched
        .map(|(neuron, rho, chance)| json!({ "neuron": neuron, "rho": rho, "chance": chance }));
    json!({
        "neuron": id.to_string(),
        "model": model,
        "sentence": card.sentence(),
        "matched_by": matched.collect::<Vec<_>>(),
        "card": card,
    })
}

/// Writes what a neuron promotes, what explains it, and where it is most active.
fn write_card(text: &mut String, card: &Card) {
    write_vocabulary(text, card);
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
    card.contexts.iter().for_each(|context| write_context(text, context));
    if !card.sampled.is_empty() {
        text.push_str("\nat percentiles of its activation\n");
    }
    for SampledContext { percentile, context } in &card.sampled {
        let _ = write!(text, "  {percentile:>4} %");
        write_context(text, context);
    }
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
    if card.promoted.is_empty() {
        // Units other than neurons have no effect on the vocabulary.
        return;
    }
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
