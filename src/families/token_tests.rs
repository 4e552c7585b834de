//! Token tests: yes-or-no questions about a token's text, read from a file that users can extend.

use std::collections::BTreeMap;
use std::path::Path;

use regex::Regex;
use serde::Deserialize;

use crate::error::{Error, Kind, Result};
use crate::plan::Plan;

/// Maximum length of a file of tests, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// Maximum number of tests in a file.
const MOST: usize = 100_000;

/// A test, and the tokens of a vocabulary for which the answer is yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenTest {
    /// Name of the test.
    pub name: String,
    /// Family of the neurons that the test explains best.
    pub family: String,
    /// Ids of the tokens with answer yes, ascending.
    pub ids: Vec<usize>,
    /// Ids of the tokens on which a neuron of the family is secondarily active: the test explains
    /// a neuron only if its mean activation over them is above that over the tokens in neither
    /// list. `None` if the test has no such condition.
    pub then: Option<Vec<usize>>,
}

impl TokenTest {
    /// Creates a test without a condition on other tokens.
    pub fn new(name: String, family: &str, ids: Vec<usize>) -> Self {
        Self { name, family: family.into(), ids, then: None }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestFile {
    tests: Vec<TestEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestEntry {
    name: String,
    family: String,
    matches: String,
    then: Option<String>,
    #[serde(default)]
    each: Vec<String>,
}

impl TestEntry {
    /// Returns the entry itself, or one entry for each item of `each`.
    fn expand(self) -> Vec<Self> {
        if self.each.is_empty() {
            return vec![self];
        }
        let put = |text: &str, item: &str| text.replacen("{}", item, 1);
        let one = |item: &String| {
            let literal = regex::escape(item);
            Self {
                name: put(&self.name, item),
                family: self.family.clone(),
                matches: put(&self.matches, &literal),
                then: self.then.as_ref().map(|then| put(then, &literal)),
                each: Vec::new(),
            }
        };
        self.each.iter().map(one).collect()
    }

    /// Applies the test to every token of a vocabulary.
    fn apply(self, vocabulary: &[String]) -> Result<TokenTest, regex::Error> {
        let matching = |expression: &str| -> Result<Vec<usize>, regex::Error> {
            let regex = Regex::new(expression)?;
            Ok((0..vocabulary.len()).filter(|&id| regex.is_match(&vocabulary[id])).collect())
        };
        let ids = matching(&self.matches)?;
        let mut then = self.then.as_deref().map(matching).transpose()?;
        if let Some(then) = &mut then {
            then.retain(|id| ids.binary_search(id).is_err());
        }
        Ok(TokenTest { name: self.name, family: self.family, ids, then })
    }
}

/// Reads a file of tests for a plan and applies them to every token of a vocabulary.
///
/// # Errors
///
/// Returns an error if the file cannot be read or is malformed.
pub fn read_token_tests(path: &Path, plan: &Plan, vocabulary: &[String]) -> Result<Vec<TokenTest>> {
    parse_token_tests(path, &plan.files.text(Kind::Spec, path, MAX_FILE)?, vocabulary)
}

/// Reads the text of a file of tests and applies them to every token of a vocabulary.
///
/// # Errors
///
/// Returns an error naming the file if it is malformed, an expression is invalid, or a name is
/// used twice.
pub fn parse_token_tests(path: &Path, text: &str, vocabulary: &[String]) -> Result<Vec<TokenTest>> {
    let wrong = |problem: String| {
        let remedy = "see the head of experiments/families/token-tests.yaml";
        Error::new(Kind::Spec, path.display(), problem, remedy)
    };
    let file: TestFile = serde_yaml::from_str(text).map_err(|e| wrong(e.to_string()))?;
    let mut tests: BTreeMap<String, TokenTest> = BTreeMap::new();
    for entry in file.tests.into_iter().flat_map(TestEntry::expand) {
        let name = entry.name.clone();
        let test = entry.apply(vocabulary).map_err(|e| wrong(format!("`{name}`: {e}")))?;
        if tests.insert(name.clone(), test).is_some() {
            return Err(wrong(format!("two tests are called `{name}`")));
        }
    }
    if tests.is_empty() || tests.len() > MOST {
        return Err(wrong(format!("{} tests, expected 1 to {MOST}", tests.len())));
    }
    Ok(tests.into_values().collect())
}

/// Returns a unigram test for each word that occurs at least `frequent` times; `counts` holds the
/// number of occurrences of each token. Case and surrounding space are ignored.
pub fn unigram_tests(vocabulary: &[String], counts: &[f64], frequent: usize) -> Vec<TokenTest> {
    let mut words: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (id, token) in vocabulary.iter().enumerate() {
        let word = token.trim().to_lowercase();
        // A token that is part of a character is not a word.
        if !word.is_empty() && !word.contains(char::REPLACEMENT_CHARACTER) {
            words.entry(word).or_default().push(id);
        }
    }
    let often = |ids: &Vec<usize>| ids.iter().map(|&id| counts[id]).sum::<f64>() >= frequent as f64;
    let test = |(word, ids)| TokenTest::new(format!("word {word}"), "unigram", ids);
    words.into_iter().filter(|(_, ids)| often(ids)).map(test).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|w| (*w).to_owned()).collect()
    }

    fn parsed(text: &str, vocabulary: &[&str]) -> Result<Vec<TokenTest>> {
        parse_token_tests(Path::new("tests.yaml"), text, &words(vocabulary))
    }

    #[test]
    fn items_are_matched_literally() {
        let text = "tests:\n- {name: 'symbol {}', family: symbol, matches: '^ ?{}$', each: ['.', '*']}\n\
                    - {name: 'of {}', family: shape, matches: '^[a-z]{{}}$', each: ['2']}";
        let tests = parsed(text, &[".", " *", "a", "ab", "abc"]).expect("valid");
        let ids = |name: &str| &tests.iter().find(|t| t.name == name).expect("a test").ids;
        assert_eq!((ids("symbol ."), ids("symbol *")), (&vec![0], &vec![1]));
        assert_eq!(ids("of 2"), &vec![3]);
    }

    #[test]
    fn then_lists_the_other_tokens_that_it_matches() {
        let text = "tests:\n- {name: 'letter {}', family: alphabet, matches: '^ ?{}$', then: '^ ?{}', each: [a, b]}";
        let tests = parsed(text, &[" a", "ab", "b", " and", "c"]).expect("valid");
        assert_eq!((&tests[0].ids, &tests[0].then), (&vec![0], &Some(vec![1, 3])));
        assert_eq!((&tests[1].ids, &tests[1].then), (&vec![2], &Some(vec![])));
    }

    #[test]
    fn errors_name_the_test() {
        let entry = |name: &str, matches: &str| {
            format!("- {{name: {name}, family: f, matches: '{matches}'}}\n")
        };
        let error = |text: &str| parsed(text, &["a"]).expect_err("malformed").problem;
        assert!(error(&format!("tests:\n{}", entry("x", "("))).contains("`x`"));
        let twice = format!("tests:\n{}{}", entry("x", "a"), entry("x", "b"));
        assert!(error(&twice).contains("two tests are called `x`"));
        assert!(error("tests: []").contains("0 tests"));
    }

    #[test]
    fn words_are_matched_without_case_and_space() {
        let vocabulary = words(&["the", " the", " The", "a", " "]);
        let tests = unigram_tests(&vocabulary, &[1.0, 2.0, 3.0, 5.0, 100.0], 6);
        assert_eq!(tests.len(), 1);
        assert_eq!((tests[0].name.as_str(), &tests[0].ids), ("word the", &vec![0, 1, 2]));
    }
}
