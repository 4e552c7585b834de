//! Syntax labels of the text, from a file in CoNLL-U that the user supplies.

mod conllu;
mod labels;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use super::FamilySettings;
use crate::corpus::Sample;
use crate::error::{Error, Kind, Result};
use crate::input::InputFile;
use crate::plan::Plan;
use conllu::{ConlluLine, Node, Word};
pub use labels::{LabelKind, LabelSet, WordLabels};

/// Maximum length of a file of labels, in bytes.
const MAX_FILE: u64 = 1 << 30;

/// Labels of the words of every sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syntax {
    /// The labels of each kind, in the order of [`LabelKind::ALL`].
    pub labels: [LabelSet; LabelKind::ALL.len()],
    of: Vec<Words>,
}

/// Labels of the words of one sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// Words in the order of the text: their byte ranges, and the indices of their labels in
    /// [`Syntax::labels`].
    words: Vec<(Range<usize>, WordLabels)>,
}

impl Words {
    /// Returns the labels of the word in which a byte range of a sample begins. White space at
    /// the beginning of the range is skipped.
    pub fn at(&self, text: &str, bytes: Range<usize>) -> Option<WordLabels> {
        let spaces = text.as_bytes().get(bytes.clone())?;
        let skip = spaces.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let byte = bytes.start + skip.min(bytes.len().saturating_sub(1));
        let next = self.words.partition_point(|(word, _)| word.end <= byte);
        let (word, labels) = self.words.get(next)?;
        word.contains(&byte).then_some(*labels)
    }
}

impl Syntax {
    /// Reads the labels that a spec names, if it names any.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, and as [`Self::parse`] does.
    pub fn of_spec(spec: &FamilySettings, plan: &Plan) -> Result<Option<Self>> {
        let Some(path) = &spec.syntax else { return Ok(None) };
        let text = plan.files.text(Kind::Corpus, path, MAX_FILE)?;
        Self::parse(path, &text, &plan.samples).map(Some)
    }

    /// Reads a file as [`Self::parse`] does, without a plan.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, and as [`Self::parse`] does.
    pub fn read(path: &Path, samples: &[Sample]) -> Result<Self> {
        let text = InputFile::open(Kind::Corpus, path)?.text(MAX_FILE)?;
        Self::parse(path, &text, samples)
    }

    /// Reads the text of a file of documents. Each begins with `# newdoc id = SAMPLE`, and its
    /// words are those of the sample in order, separated only by white space. Samples that the
    /// file does not name have no labels.
    ///
    /// The text contains multiword tokens (`1-2 Im`), not their words (`1 In`, `2 dem`). If the
    /// words make up the token (`don't`: `do`, `n't`), each word labels its own part of it;
    /// otherwise the token has the labels of its first word. Empty nodes (`8.1`) are skipped.
    ///
    /// # Errors
    /// Returns an error naming the line, what was expected and what was found, if the file is
    /// not CoNLL-U, names a sample that the corpus lacks, or has other words than the sample.
    pub fn parse(path: &Path, text: &str, samples: &[Sample]) -> Result<Self> {
        let mut reader = LabelReader::new(samples);
        let mut last = 0;
        for (i, line) in text.lines().enumerate() {
            last = i + 1;
            reader.line(line, last).map_err(|problem| wrong(path, last, problem))?;
        }
        reader.end_document().map_err(|problem| wrong(path, last, problem))?;
        match reader.documents.is_empty() {
            true => Err(wrong(path, last, "no `# newdoc id = SAMPLE` in the whole file".into())),
            false => Ok(reader.syntax),
        }
    }

    /// Returns the labels of a sample.
    pub fn of(&self, sample: usize) -> &Words {
        &self.of[sample]
    }

    /// Returns the labels of a word that does not end its sentence.
    fn labels_of(&mut self, word: &Word) -> Result<WordLabels, String> {
        let [upos, deprel, feats, marks] = &mut self.labels;
        Ok([
            upos.index(word.upos)?,
            deprel.index(word.deprel)?,
            feats.index(labels::features(word.feats))?,
            marks.index(&labels::entity(word.misc))?,
        ])
    }

    /// Marks the last word of a sample so far as the end of a sentence.
    fn end_sentence(&mut self, sample: usize) -> Result<(), String> {
        let Some((_, word)) = self.of[sample].words.last_mut() else { return Ok(()) };
        let marks = LabelKind::Marks as usize;
        word[marks] = self.labels[marks].ending_sentence(word[marks])?;
        Ok(())
    }
}

fn wrong(path: &Path, line: usize, problem: String) -> Error {
    let subject = format!("{}:{line}", path.display());
    let remedy = "provide CoNLL-U with exactly the text of the corpus, and `# newdoc id =` before each sample";
    Error::new(Kind::Corpus, subject, problem, remedy)
}

/// Finds the words of a file in the samples.
struct LabelReader<'a> {
    samples: &'a [Sample],
    /// Indices of samples by id.
    places: HashMap<&'a str, usize>,
    syntax: Syntax,
    /// The line on which each sample's document begins.
    documents: HashMap<usize, usize>,
    /// The sample of the current document, and the byte of its text after the last word.
    at: Option<(usize, usize)>,
    /// Number of the last word read in the current sentence.
    number: usize,
    /// The multiword token whose words are being read.
    multiword: Option<Multiword>,
}

struct Multiword {
    /// Number of the token's last word.
    last: usize,
    form: String,
    /// Byte range of the token in the sample.
    bytes: Range<usize>,
    /// Form and labels of the token's words.
    words: Vec<(String, WordLabels)>,
}

impl<'a> LabelReader<'a> {
    fn new(samples: &'a [Sample]) -> Self {
        let of = vec![Words::default(); samples.len()];
        Self {
            samples,
            places: samples.iter().enumerate().map(|(i, s)| (s.id.as_str(), i)).collect(),
            syntax: Syntax { labels: Default::default(), of },
            documents: HashMap::new(),
            at: None,
            number: 0,
            multiword: None,
        }
    }

    fn line(&mut self, line: &str, number: usize) -> Result<(), String> {
        match conllu::parse(line)? {
            ConlluLine::Document(id) => {
                self.end_document()?;
                self.begin_document(id, number)
            }
            ConlluLine::Comment => Ok(()),
            ConlluLine::End => self.end_sentence(),
            ConlluLine::Node(node) => self.node(&node),
        }
    }

    fn begin_document(&mut self, id: Option<&str>, line: usize) -> Result<(), String> {
        let id = id.ok_or("`# newdoc` without an id, expected `# newdoc id = SAMPLE`")?;
        let place =
            *self.places.get(id).ok_or_else(|| format!("no sample `{}`", id.escape_debug()))?;
        if let Some(first) = self.documents.insert(place, line) {
            return Err(format!(
                "sample `{}` was labelled before, on line {first}",
                id.escape_debug()
            ));
        }
        self.at = Some((place, 0));
        Ok(())
    }

    fn end_sentence(&mut self) -> Result<(), String> {
        if let Some(token) = self.multiword.take() {
            return Err(format!(
                "the sentence ends before word {} of the multiword token `{}`",
                token.last,
                token.form.escape_debug()
            ));
        }
        let words = std::mem::take(&mut self.number);
        match self.at {
            Some((sample, _)) if words > 0 => self.syntax.end_sentence(sample),
            _ => Ok(()),
        }
    }

    /// Checks that the labels of a sample cover its text to the end.
    fn end_document(&mut self) -> Result<(), String> {
        self.end_sentence()?;
        let Some((sample, next)) = self.at.take() else { return Ok(()) };
        let Sample { id, text, .. } = &self.samples[sample];
        match text[next..].trim_start() {
            "" => Ok(()),
            rest => Err(format!(
                "the labels of sample `{}` end before its text does, expected `{}`",
                id.escape_debug(),
                conllu::beginning(rest)
            )),
        }
    }

    fn node(&mut self, node: &Node) -> Result<(), String> {
        let (sample, _) = self.at.ok_or("a word before any `# newdoc id =`")?;
        match *node {
            Node::Empty => Ok(()),
            Node::Multiword { first, last, form } => {
                self.expect_number(first)?;
                if self.multiword.is_some() || last < first {
                    return Err(format!("the multiword token `{first}-{last}` overlaps another"));
                }
                let bytes = self.place(form)?;
                let form = form.to_string();
                self.multiword = Some(Multiword { last, form, bytes, words: Vec::new() });
                Ok(())
            }
            Node::Word(word @ Word { number, form, .. }) => {
                self.expect_number(number)?;
                self.number = number;
                let labels = self.syntax.labels_of(&word)?;
                let Some(token) = &mut self.multiword else {
                    let bytes = self.place(form)?;
                    self.syntax.of[sample].words.push((bytes, labels));
                    return Ok(());
                };
                token.words.push((form.to_string(), labels));
                if number == token.last
                    && let Some(token) = self.multiword.take()
                {
                    self.syntax.of[sample].words.extend(token.parts());
                }
                Ok(())
            }
        }
    }

    /// Checks that no line of the sentence is missing. A sentence may begin without a blank
    /// line before it.
    fn expect_number(&mut self, number: usize) -> Result<(), String> {
        let expected = self.number + 1;
        if number == expected {
            return Ok(());
        }
        if number == 1 && self.multiword.is_none() {
            return self.end_sentence();
        }
        Err(format!("word {number}, expected word {expected}"))
    }

    /// Returns the byte range of the next word of the text, which must be `form`.
    fn place(&mut self, form: &str) -> Result<Range<usize>, String> {
        let (sample, next) = self.at.as_mut().ok_or("a word before any `# newdoc id =`")?;
        let Sample { id, text, .. } = &self.samples[*sample];
        let rest = text[*next..].trim_start();
        let length = conllu::length_in(rest, form).ok_or_else(|| {
            format!(
                "`{}` does not come next in sample `{}`: expected `{}`",
                conllu::beginning(form),
                id.escape_debug(),
                conllu::beginning(rest)
            )
        })?;
        let start = text.len() - rest.len();
        *next = start + length;
        Ok(start..*next)
    }
}

impl Multiword {
    /// Returns the byte range and labels of each part of the token.
    fn parts(self) -> Vec<(Range<usize>, WordLabels)> {
        let spelt: String = self.words.iter().map(|(form, _)| form.as_str()).collect();
        if spelt != self.form || self.bytes.len() != spelt.len() {
            return self
                .words
                .first()
                .map(|(_, labels)| (self.bytes, *labels))
                .into_iter()
                .collect();
        }
        let mut start = self.bytes.start;
        let part = |(form, labels): (String, WordLabels)| {
            let bytes = start..start + form.len();
            start = bytes.end;
            (bytes, labels)
        };
        self.words.into_iter().map(part).collect()
    }
}
