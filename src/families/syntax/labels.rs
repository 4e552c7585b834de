//! The labels of words, and the tests on them.

use std::collections::{BTreeMap, HashMap};

use super::super::token_tests::TokenTest;

/// Maximum number of different labels of one kind. A treebank with rich morphology has some thousand
/// combinations of features.
const MAX_LABELS: usize = 20_000;
/// Between the parts of a label, as in the column FEATS.
const BETWEEN: char = '|';
/// The part of a label that marks the last word of a sentence.
const SENTENCE_END: &str = "sentence end";

/// The kinds of labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelKind {
    /// Part of speech.
    Upos,
    /// Dependency relation.
    Deprel,
    /// All morphological features together, such as `Number=Sing|Person=3`.
    Feats,
    /// The entity that the word belongs to, and whether it ends its sentence.
    Marks,
}

impl LabelKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Upos, Self::Deprel, Self::Feats, Self::Marks];

    /// Returns what names of tests begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Upos => "upos ",
            Self::Deprel => "deprel ",
            Self::Feats => "feat ",
            Self::Marks => "",
        }
    }
}

/// The labels of a word: for each kind, the index of its label.
pub type WordLabels = [usize; LabelKind::ALL.len()];

/// The different labels of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSet {
    names: Vec<String>,
    places: HashMap<String, usize>,
}

impl LabelSet {
    /// Returns the number of labels.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Returns whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Returns the name of a label.
    pub(super) fn name(&self, label: usize) -> &str {
        &self.names[label]
    }

    /// Returns the index of a label, and adds the label if it is new.
    pub(super) fn index(&mut self, name: &str) -> Result<usize, String> {
        if let Some(&place) = self.places.get(name) {
            return Ok(place);
        }
        if self.names.len() == MAX_LABELS {
            return Err(format!("more than {MAX_LABELS} different labels of one kind"));
        }
        self.names.push(name.to_owned());
        self.places.insert(name.to_owned(), self.names.len() - 1);
        Ok(self.names.len() - 1)
    }

    /// Returns the index of the label of a word that also ends its sentence.
    pub(super) fn ending_sentence(&mut self, label: usize) -> Result<usize, String> {
        let name = match self.name(label) {
            "" => SENTENCE_END.to_owned(),
            marks => format!("{marks}{BETWEEN}{SENTENCE_END}"),
        };
        self.index(&name)
    }

    /// Returns one test for each part of the labels, such as `feat Number=Sing`: its groups are the
    /// labels that contain the part.
    pub fn tests(&self, kind: LabelKind) -> Vec<TokenTest> {
        let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (label, name) in self.names.iter().enumerate() {
            for part in name.split(BETWEEN).filter(|part| !part.is_empty()) {
                groups.entry(part).or_default().push(label);
            }
        }
        let test = |(part, labels): (&str, Vec<usize>)| {
            let family = if part.starts_with(ENTITY) { "entity" } else { "syntax" };
            TokenTest::new(format!("{}{part}", kind.prefix()), family, labels)
        };
        groups.into_iter().map(test).collect()
    }
}

/// What the names of entities begin with.
const ENTITY: &str = "entity ";

/// Returns the label of the columns FEATS: its features, or an empty label.
pub(super) fn features(column: &str) -> &str {
    if column == "_" { "" } else { column }
}

/// Returns the label of the entity that the column MISC names, as in `NER=B-PER`; an empty label if it
/// names none. The letter that tells where in the entity the word stands is left out.
pub(super) fn entity(column: &str) -> String {
    let is_key = |key: &str| key.eq_ignore_ascii_case("ner");
    let mut entries = column.split(BETWEEN).filter_map(|entry| entry.split_once('='));
    let value = entries.find(|(key, _)| is_key(key)).map(|(_, value)| value);
    match value.filter(|value| !matches!(*value, "O" | "_" | "")) {
        None => String::new(),
        Some(value) => {
            let place = ["B-", "I-", "E-", "S-", "L-", "U-"];
            let name = place.iter().find_map(|place| value.strip_prefix(place)).unwrap_or(value);
            format!("{ENTITY}{name}")
        }
    }
}
