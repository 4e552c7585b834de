//! The data of a page that its script reads.

use serde::{Serialize, Serializer};

use crate::printable;
use crate::record::{Card, PartnerCard, StudyRecord};
use crate::table::Column;

#[derive(Serialize)]
struct Data<'a> {
    /// Indices of the universal neurons.
    universal: Vec<usize>,
    columns: Vec<&'static str>,
    /// For each neuron: layer, index, and the values of the columns.
    neurons: Vec<Vec<Short>>,
    partners: &'a [String],
    /// For each neuron and partner: best match, ρ, chance level.
    best: Vec<Vec<(String, Short, Short)>>,
    cards: Vec<Shown<'a>>,
    tokens_of_partners: usize,
    partner_cards: &'a [PartnerCard],
}

/// A card, and its summary in words.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    card: &'a Card,
    sentence: String,
    /// 95 % interval of the excess correlation.
    interval: Option<[Short; 2]>,
}

/// A number that is written with four significant digits, or as null if it is not finite. It has
/// more digits where its first three would otherwise be rounded twice.
struct Short(f64);

impl Serialize for Short {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.0.is_finite() {
            return serializer.serialize_none();
        }
        if self.0 == self.0.trunc() && self.0.abs() < 1e9 {
            return serializer.serialize_i64(self.0 as i64);
        }
        let three = |value: f64| format!("{value:.2e}");
        let rounded = (3..17).filter_map(|digits| format!("{:.digits$e}", self.0).parse().ok());
        let faithful = rounded.into_iter().find(|v| three(*v) == three(self.0));
        serializer.serialize_f64(faithful.unwrap_or(self.0))
    }
}

fn shown<'a>(study: &StudyRecord, card: &'a Card) -> Shown<'a> {
    let row = card.neuron.parse().ok().and_then(|id| study.row(id));
    let interval = row.and_then(|row| study.extra[row].excess);
    let interval = interval.map(|i| [Short(i.low), Short(i.high)]);
    Shown { card, sentence: card.sentence(), interval }
}

/// Returns the data of a study as JSON that is safe inside a page.
pub fn json(study: &StudyRecord) -> String {
    let table = &study.table;
    let row = |i: usize| {
        let id = table.ids[i];
        let ids = [id.layer as f64, id.neuron as f64];
        let values = Column::ALL.iter().map(|c| table.column(*c)[i]);
        ids.into_iter().chain(values).map(Short).collect()
    };
    let best = |i: usize| {
        let all = study.best_matches(i);
        all.map(|(_, neuron, rho, chance)| (neuron, Short(rho), Short(chance))).collect()
    };
    let cards = study.cards.iter().flat_map(|file| &file.cards);
    let universal = study.universal();
    let data = Data {
        universal: (0..universal.len()).filter(|&i| universal[i]).collect(),
        columns: Column::ALL.iter().map(|c| c.name()).collect(),
        neurons: (0..table.ids.len()).map(row).collect(),
        partners: &study.summary.partners,
        best: (0..table.ids.len()).map(best).collect(),
        cards: cards.map(|card| shown(study, card)).collect(),
        tokens_of_partners: study.cards.as_ref().map_or(0, |file| file.tokens_of_partners),
        partner_cards: study.cards.as_ref().map_or(&[], |file| &file.partners),
    };
    // All values can be written as JSON. Text may contain a tag that would end the script.
    let json = serde_json::to_string(&data).unwrap_or_default().replace('<', "\\u003c");
    printable::json(&json).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_missing_ones_null() {
        let text = |v: f64| serde_json::to_string(&Short(v)).expect("JSON");
        assert_eq!(
            [0.123_456, 12.0, f64::NAN, -1.5e-7, 0.700_498, 0.700_499_9].map(text),
            ["0.1235", "12", "null", "-1.5e-7", "0.700498", "0.7004999"]
        );
    }
}
