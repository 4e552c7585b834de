//! The groupings of tokens, the sums over them, and the tests on their groups.

use std::path::Path;

use super::FamilySettings;
use super::syntax::{LabelKind, Syntax, WordLabels, Words};
use super::token_tests::TokenTest;
use super::{GroupSums, GroupedTests, TokenGroup, read_token_tests, unigram_tests};
use crate::corpus::tokenizer::BpeTokenizer;
use crate::corpus::{Batch, Row, Sample};
use crate::error::{Error, Kind, Result};
use crate::plan::{Plan, Transcript};

/// The groupings. Syntax occurs once for each kind of label.
const KINDS: [TokenGroup; 8] = [
    TokenGroup::Token,
    TokenGroup::PreviousToken,
    TokenGroup::Position,
    TokenGroup::Label,
    TokenGroup::Syntax,
    TokenGroup::Syntax,
    TokenGroup::Syntax,
    TokenGroup::Syntax,
];

/// The group of each token in every grouping; `None` for a token without a group.
pub type TokenGroups = [Vec<Option<usize>>; KINDS.len()];

/// Assigns tokens to groups.
pub struct TokenGrouping {
    /// The text of recorded activations, whose rows hold indices in the files.
    transcript: Option<Transcript>,
    /// Number of groups of each grouping.
    sizes: [usize; KINDS.len()],
    /// Label index of every sample.
    of_sample: Vec<usize>,
    /// Labels of the word of every token, row by row; empty without syntax labels.
    syntax: Vec<Vec<Option<WordLabels>>>,
}

impl TokenGrouping {
    /// Creates the groupings of a plan's text.
    ///
    /// # Errors
    ///
    /// Returns an error if the tokenizer cannot be read.
    pub fn new(plan: &Plan, syntax: Option<&Syntax>) -> Result<Self> {
        let labels = plan.labels();
        let label = |domain: &String| labels.iter().position(|l| l == domain).unwrap_or(0);
        let d_vocab = plan.d_vocab();
        let labels_of = |kind: usize| syntax.map_or(0, |s| s.labels[kind].len());
        Ok(Self {
            transcript: plan.transcript.clone(),
            sizes: [
                d_vocab,
                d_vocab,
                plan.tokens.context,
                labels.len(),
                labels_of(0),
                labels_of(1),
                labels_of(2),
                labels_of(3),
            ],
            of_sample: plan.samples.iter().map(|s| label(&s.domain)).collect(),
            syntax: syntax.map_or(Ok(Vec::new()), |s| syntax_of(plan, s))?,
        })
    }

    /// Returns the number of groups of all groupings together.
    pub fn groups(&self) -> usize {
        self.sizes.iter().sum()
    }

    /// Returns the groups of the kept tokens of a batch.
    pub fn of(&self, batch: &Batch, keep: &[bool]) -> TokenGroups {
        let mut groups = TokenGroups::default();
        let rows = batch.rows.iter().enumerate();
        let places = rows.flat_map(|(r, row)| (0..row.ids.len()).map(move |p| (r, row, p)));
        for ((r, row, p), _) in places.zip(keep).filter(|(_, keep)| **keep) {
            let syntax = self.syntax.get(batch.first_row + r).and_then(|row| row[p]);
            let [token, before] = self.token_and_previous(row, p);
            let found = [
                token,
                before,
                Some(p),
                Some(self.of_sample[row.sample_at(p)]),
                syntax.map(|s| s[0]),
                syntax.map(|s| s[1]),
                syntax.map(|s| s[2]),
                syntax.map(|s| s[3]),
            ];
            groups.iter_mut().zip(found).for_each(|(groups, group)| groups.push(group));
        }
        groups
    }

    /// Returns the ids in the vocabulary of a token and of the one before it, which is `None` for the
    /// first token of a text.
    fn token_and_previous(&self, row: &Row, position: usize) -> [Option<usize>; 2] {
        // The token that marks the beginning of the sequence is not part of the text.
        let before = position.checked_sub(1).filter(|&before| row.part_at(before).is_some());
        let Some(text) = &self.transcript else {
            return [Some(position), before].map(|p| Some(row.ids[p?] as usize));
        };
        // The token before may be in an earlier row of the document, or be one that the mask leaves out.
        let index = row.ids[position] as usize;
        let is_first = position + row.parts[0].token == 0;
        let before = (!is_first).then(|| index - 1);
        [Some(index), before].map(|index| Some(text.ids[index?] as usize))
    }
}

/// Returns the labels of the word of every token, row by row; a token that marks the beginning of a
/// sequence has none.
fn syntax_of(plan: &Plan, syntax: &Syntax) -> Result<Vec<Vec<Option<WordLabels>>>> {
    let tokenizer = plan.tokenizer()?;
    // The samples follow one another, so labels are kept of one at a time.
    let (mut sample, mut labels) = (usize::MAX, Vec::new());
    let mut all = Vec::new();
    for row in &plan.tokens.rows {
        let mut of_row = Vec::with_capacity(row.ids.len());
        for position in 0..row.ids.len() {
            let Some(part) = row.part_at(position) else {
                of_row.push(None);
                continue;
            };
            if part.sample != sample {
                sample = part.sample;
                labels = labels_of(&tokenizer, &plan.samples[sample], syntax.of(sample))?;
            }
            of_row.push(labels.get(part.token + position - part.position).copied().flatten());
        }
        all.push(of_row);
    }
    Ok(all)
}

fn labels_of(
    tokenizer: &BpeTokenizer,
    sample: &Sample,
    words: &Words,
) -> Result<Vec<Option<WordLabels>>> {
    let spans = tokenizer.spans(&sample.text).map_err(|fault| {
        let subject = format!("sample `{}`", sample.id);
        Error::new(Kind::Corpus, subject, fault.problem, fault.remedy)
    })?;
    Ok(spans.into_iter().map(|bytes| words.at(&sample.text, bytes)).collect())
}

/// Sums of activations by group, for every grouping.
pub struct FamilySums([GroupSums; KINDS.len()]);

impl FamilySums {
    /// Creates zero sums.
    pub fn new(grouping: &TokenGrouping, n_neurons: usize) -> Self {
        Self(grouping.sizes.map(|size| GroupSums::new(size, n_neurons)))
    }

    /// Adds activations `[tokens, n_neurons]` and their groups.
    pub fn absorb(&mut self, groups: &TokenGroups, tokens: &[f32]) {
        let some = self.0.iter_mut().zip(groups).filter(|(sums, _)| sums.groups() > 0);
        some.for_each(|(sums, groups)| sums.absorb(groups, tokens));
    }

    /// Returns the sums by token.
    pub fn tokens(&self) -> &GroupSums {
        &self.0[0]
    }

    /// Returns the sums by position.
    pub fn positions(&self) -> &GroupSums {
        &self.0[2]
    }

    /// Returns the mutual information, in bits, between firing and position, for every neuron.
    pub fn position_bits(&self) -> Vec<f64> {
        self.0[2].information()
    }
}

/// Checks a file of token tests before a run starts.
///
/// # Errors
///
/// Returns an error if the file is malformed or the tokenizer cannot be read.
pub fn check(path: &Path, plan: &Plan) -> Result<()> {
    read_token_tests(path, plan, &plan.vocabulary()?).map(|_| ())
}

/// All tests, by grouping.
pub struct TestSuite([Vec<TokenTest>; KINDS.len()]);

impl TestSuite {
    /// Reads the tests of a file, applies each to the current and to the previous token, and adds
    /// the tests that follow from the text: frequent words, positions, labels and syntax.
    ///
    /// # Errors
    ///
    /// Returns an error if the file is malformed.
    pub fn read(
        spec: &FamilySettings,
        plan: &Plan,
        readings: &FamilySums,
        syntax: Option<&Syntax>,
    ) -> Result<Self> {
        let vocabulary = plan.vocabulary()?;
        let mut token = read_token_tests(&spec.path, plan, &vocabulary)?;
        let counts: Vec<f64> = (0..vocabulary.len()).map(|id| readings.0[0].tokens(id)).collect();
        token.extend(unigram_tests(&vocabulary, &counts, spec.frequent));
        let previous = token.iter().map(|test| {
            TokenTest::new(format!("previous: {}", test.name), "previous-token", test.ids.clone())
        });
        let context = readings.0[2].groups();
        let ends = std::iter::successors(Some(2), |end| Some(end * 2)).take_while(|&e| e < context);
        let position = ends.map(|end| {
            TokenTest::new(format!("position below {end}"), "position", (0..end).collect())
        });
        let labels: Vec<String> = plan.labels().iter().map(|l| format!("label {l}")).collect();
        let of_labels =
            |kind: LabelKind| syntax.map_or(Vec::new(), |s| s.labels[kind as usize].tests(kind));
        Ok(Self([
            token.clone(),
            previous.collect(),
            position.collect(),
            each(&labels, "context"),
            of_labels(LabelKind::Upos),
            of_labels(LabelKind::Deprel),
            of_labels(LabelKind::Feats),
            of_labels(LabelKind::Marks),
        ]))
    }

    /// Returns the tests of each grouping together with its sums.
    pub fn over<'a>(&'a self, readings: &'a FamilySums) -> Vec<GroupedTests<'a>> {
        let all = KINDS.into_iter().zip(&readings.0).zip(&self.0);
        all.map(|((group, sums), tests)| GroupedTests { group, sums, tests }).collect()
    }
}

/// Returns one test per name, for the group of that name.
fn each(names: &[String], family: &str) -> Vec<TokenTest> {
    let test = |(i, name): (usize, &String)| TokenTest::new(name.clone(), family, vec![i]);
    names.iter().enumerate().map(test).collect()
}
