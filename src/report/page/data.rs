//! The data of a page that its script reads: the neuron table in columns, and the cards.
//!
//! A page with the 98,304 neurons of GPT-2 medium has to open in seconds, so numbers are stored with
//! the digits that are shown, and columns that nearly follow from others by their difference.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::columns::{Decimals, Head, Planes, digits_for};
use super::packed::Packed;
use crate::record::{BestMatch, Card, ExtraRow, PartnerCard, StudyRecord, TextTable};
use crate::table::Column;

/// Number of digits after the decimal point of a ρ or a chance level, which are also the largest and the
/// smallest ones of a neuron.
const RHO_DIGITS: i32 = 2;
/// Number of digits after the decimal point of their means, and of the excess.
const MEAN_DIGITS: i32 = 3;

/// The data of a study as a page has them.
#[derive(Debug, Serialize)]
pub struct PageData {
    /// Length of [`Contents`] as JSON (four bytes, the lowest first), this JSON, and the columns.
    table: Packed,
    /// [`Cards`] as JSON, which is parsed after the table has been drawn.
    cards: Packed,
}

/// The data of the page's figures, as CSV, which links of the page refer to by their index.
#[derive(Debug, Default)]
pub struct FigureData(Vec<String>);

impl FigureData {
    /// Adds a table, and returns its index.
    pub fn add(&mut self, table: &TextTable) -> usize {
        self.0.push(String::from_utf8_lossy(&table.to_csv()).into_owned());
        self.0.len() - 1
    }

    /// Packs all tables.
    pub fn packed(&self) -> Packed {
        Packed::of(&json(&self.0))
    }
}

impl PageData {
    /// Packs the data of a study.
    pub fn of(study: &StudyRecord) -> Self {
        Self { table: Packed::of(&table(study)), cards: Packed::of(&json(&Cards::of(study))) }
    }
}

/// Returns JSON. All values on the page can be written as JSON.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// What the columns are.
#[derive(Serialize)]
struct Contents<'a> {
    rows: usize,
    layer: Head,
    neuron: Head,
    partners: Vec<Partner<'a>>,
    columns: Vec<Named>,
    /// Rows of the universal neurons.
    universal: Vec<usize>,
    /// The names that the user gave, by row.
    names: BTreeMap<usize, &'a str>,
    cards: Vec<Words<'a>>,
}

/// The columns about one partner model.
#[derive(Serialize)]
struct Partner<'a> {
    model: &'a str,
    /// The best match.
    layer: Head,
    neuron: Head,
    rho: Head,
    chance: Head,
}

/// A column of the neuron table.
#[derive(Serialize)]
struct Named {
    name: &'static str,
    #[serde(flatten)]
    head: Head,
    /// Whether the last digit is not shown.
    spare: bool,
    guess: Option<Guess>,
}

/// What the numbers of a column are relative to.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Guess {
    MaxRho,
    MeanRho,
    MinRho,
    MaxChance,
    MeanChance,
    MinChance,
    /// Ten times the difference of the mean columns of ρ and chance.
    Difference,
    /// The sum of the squares of the norms of the input and the output weights.
    Squares,
}

impl Guess {
    fn of(column: Column) -> Option<Self> {
        match column {
            Column::MaxCorr => Some(Self::MaxRho),
            Column::MeanCorr => Some(Self::MeanRho),
            Column::MinCorr => Some(Self::MinRho),
            Column::MaxBaseline => Some(Self::MaxChance),
            Column::MeanBaseline => Some(Self::MeanChance),
            Column::MinBaseline => Some(Self::MinChance),
            Column::ExcessCorr => Some(Self::Difference),
            Column::L2Penalty => Some(Self::Squares),
            _ => None,
        }
    }
}

/// What a search and the filter by family look at in a card.
#[derive(Serialize)]
struct Words<'a> {
    neuron: &'a str,
    sentence: String,
    promoted: Vec<&'a str>,
    family: Option<&'a str>,
}

impl<'a> Words<'a> {
    fn of(card: &'a Card) -> Self {
        Self {
            neuron: &card.neuron,
            sentence: card.sentence(),
            promoted: card.promoted.iter().map(|(token, _)| token.as_str()).collect(),
            family: card.explanations.first().map(|best| best.family.as_str()),
        }
    }
}

/// The numbers that columns are relative to, as integers.
struct Known {
    /// `[partner]`: ρ with the best match.
    rho: Vec<Decimals>,
    /// `[partner]`: its chance level.
    chance: Vec<Decimals>,
    mean_rho: Option<Decimals>,
    mean_chance: Option<Decimals>,
    /// The norms of the input and the output weights.
    norms: [Option<Decimals>; 2],
    /// Number of digits of the sum of their squares.
    squares_digits: i32,
}

impl Known {
    fn of(study: &StudyRecord) -> Self {
        let of_partners = |of: fn(&BestMatch) -> f64| {
            let partners = 0..study.summary.partners.len();
            let value =
                move |row: &ExtraRow, p: usize| row.matches[p].as_ref().map_or(f64::NAN, of);
            let values = |p| study.extra.iter().map(move |row| value(row, p));
            partners.map(|p| Decimals::of_correlations(values(p), RHO_DIGITS)).collect()
        };
        let mean = |column| Decimals::of(study.column(column), MEAN_DIGITS);
        Self {
            rho: of_partners(|best| best.rho),
            chance: of_partners(|best| best.baseline),
            mean_rho: mean(Column::MeanCorr),
            mean_chance: mean(Column::MeanBaseline),
            norms: [Column::WInNorm, Column::WOutNorm].map(|c| rounded(study, c)),
            squares_digits: digits_for(study.column(Column::L2Penalty)),
        }
    }

    /// Returns what a number of a row is expected to be.
    fn guess(&self, guess: Guess, row: usize) -> i64 {
        let (rho, chance) = (known_in(&self.rho, row), known_in(&self.chance, row));
        let mean = |column: &Option<Decimals>| column.as_ref().and_then(|c| c.values[row]);
        let guessed = match guess {
            Guess::MaxRho => rho.into_iter().max(),
            Guess::MinRho => rho.into_iter().min(),
            Guess::MeanRho => rounded_mean(&tens(&rho)),
            Guess::MaxChance => chance.into_iter().max(),
            Guess::MinChance => chance.into_iter().min(),
            Guess::MeanChance => rounded_mean(&tens(&chance)),
            Guess::Difference => {
                let means = mean(&self.mean_rho).zip(mean(&self.mean_chance));
                means.map(|(rho, chance)| 10 * (rho - chance))
            }
            Guess::Squares => self.squares(row),
        };
        guessed.unwrap_or(0)
    }

    /// Returns the sum of the squares of the norms, computed as the page does; `None` if it is too
    /// large.
    fn squares(&self, row: usize) -> Option<i64> {
        let norm = |column: &Option<Decimals>| column.as_ref()?.value(row);
        let (a, b) = (norm(&self.norms[0])?, norm(&self.norms[1])?);
        let scaled = ((a * a + b * b) * 10_f64.powi(self.squares_digits) + 0.5).floor();
        // Negative powers of ten are not exact.
        (self.squares_digits >= 0 && scaled < 1e15).then_some(scaled as i64)
    }
}

/// Rounds a column of the table that is not about correlations.
fn rounded(study: &StudyRecord, column: Column) -> Option<Decimals> {
    let values = study.column(column);
    Decimals::of(values, digits_for(values))
}

/// Returns the mean of integers, rounded as the page rounds it.
fn rounded_mean(values: &[i64]) -> Option<i64> {
    let mean = values.iter().sum::<i64>() as f64 / values.len() as f64;
    (!values.is_empty()).then(|| (mean + 0.5).floor() as i64)
}

/// Returns integers with one more digit after the decimal point.
fn tens(values: &[i64]) -> Vec<i64> {
    values.iter().map(|v| 10 * v).collect()
}

/// Returns the numbers of a row in some columns, without those that do not exist.
fn known_in(columns: &[Decimals], row: usize) -> Vec<i64> {
    columns.iter().filter_map(|c| c.values[row]).collect()
}

/// Returns what a number about a partner is relative to: the mean over earlier partners, or 0.
fn earlier(columns: &[Decimals], row: usize) -> i64 {
    rounded_mean(&known_in(columns, row)).unwrap_or(0)
}

/// Returns the bytes of the neuron table.
fn table(study: &StudyRecord) -> Vec<u8> {
    let known = Known::of(study);
    let mut planes = Planes::default();
    let ids = &study.table.ids;
    let universal = study.universal();
    let contents = Contents {
        rows: ids.len(),
        layer: planes.add(&Decimals::integers(ids.iter().map(|id| Some(id.layer))), |_| 0),
        neuron: planes.add(&Decimals::integers(ids.iter().map(|id| Some(id.neuron))), |_| 0),
        partners: partners(study, &known, &mut planes),
        columns: Column::ALL.iter().map(|c| named(study, *c, &known, &mut planes)).collect(),
        universal: (0..ids.len()).filter(|&i| universal[i]).collect(),
        names: names(study),
        cards: study.cards.iter().flat_map(|file| &file.cards).map(Words::of).collect(),
    };
    let contents = json(&contents);
    // A page of 4 GiB cannot be opened anyway.
    let length = u32::try_from(contents.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes()[..], &contents, &planes.0].concat()
}

/// Returns the names that the user gave neurons, by row.
fn names(study: &StudyRecord) -> BTreeMap<usize, &str> {
    let rows = study.extra.iter().enumerate();
    rows.filter_map(|(i, row)| Some((i, row.name.as_deref()?))).collect()
}

/// Adds the columns about the partner models.
fn partners<'a>(study: &'a StudyRecord, known: &Known, planes: &mut Planes) -> Vec<Partner<'a>> {
    let mut one = |(p, model): (usize, &'a String)| {
        let best = || study.extra.iter().map(move |row| row.matches[p].map(|best| best.id));
        Partner {
            model,
            layer: planes.add(&Decimals::integers(best().map(|id| Some(id?.layer))), |_| 0),
            neuron: planes.add(&Decimals::integers(best().map(|id| Some(id?.neuron))), |_| 0),
            rho: planes.add(&known.rho[p], |row| earlier(&known.rho[..p], row)),
            chance: planes.add(&known.chance[p], |row| earlier(&known.chance[..p], row)),
        }
    };
    study.summary.partners.iter().enumerate().map(&mut one).collect()
}

/// Adds a column of the neuron table.
fn named(study: &StudyRecord, column: Column, known: &Known, planes: &mut Planes) -> Named {
    let values = study.column(column);
    let guess = Guess::of(column);
    let spare = column == Column::ExcessCorr;
    let rounded = match guess {
        _ if spare => Decimals::with_spare_digit(values, MEAN_DIGITS),
        None | Some(Guess::Squares) => rounded(study, column),
        Some(Guess::MeanRho | Guess::MeanChance) => Decimals::of(values, MEAN_DIGITS),
        Some(_) => Decimals::of(values, RHO_DIGITS),
    };
    let head = match &rounded {
        Some(rounded) => planes.add(rounded, |i| guess.map_or(0, |guess| known.guess(guess, i))),
        None => planes.add_exact(values),
    };
    Named { name: column.name(), head, spare, guess }
}

/// What is known of the neurons that were looked at closely.
#[derive(Serialize)]
struct Cards<'a> {
    cards: Vec<Shown<'a>>,
    tokens_of_partners: usize,
    partner_cards: &'a [PartnerCard],
}

impl<'a> Cards<'a> {
    fn of(study: &'a StudyRecord) -> Self {
        let file = study.cards.as_ref();
        Self {
            cards: file.iter().flat_map(|f| &f.cards).map(|card| shown(study, card)).collect(),
            tokens_of_partners: file.map_or(0, |f| f.tokens_of_partners),
            partner_cards: file.map_or(&[], |f| &f.partners),
        }
    }
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

fn shown<'a>(study: &StudyRecord, card: &'a Card) -> Shown<'a> {
    let row = card.neuron.parse().ok().and_then(|id| study.row(id));
    let interval = row.and_then(|row| study.extra[row].excess);
    let interval = interval.map(|i| [Short(i.low), Short(i.high)]);
    Shown { card, sentence: card.sentence(), interval }
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
