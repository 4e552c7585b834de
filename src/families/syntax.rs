//! Syntax labels of the text, from a file in CoNLL-U that the user supplies.

use std::collections::HashMap;
use std::path::Path;

use super::FamilySettings;
use crate::corpus::Sample;
use crate::error::{Error, Kind, Result};
use crate::plan::Plan;

/// Labels of every sample, byte by byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syntax {
    /// Names of labels: `upos NOUN`, `deprel nsubj`.
    pub names: [Vec<String>; 2],
    /// Per sample and byte of its text, the labels of the word there, by their places
    /// in `names`.
    of: Vec<Vec<Option<[usize; 2]>>>,
}

impl Syntax {
    /// The labels that a spec names, if it names any.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of(spec: &FamilySettings, plan: &Plan) -> Result<Option<Self>> {
        spec.syntax.as_ref().map(|path| Self::read(path, &plan.samples)).transpose()
    }

    /// Reads a file of `# newdoc id = SAMPLE` and lines of words, in the order of the
    /// text. Samples that it does not name have no labels.
    ///
    /// # Errors
    /// Naming the line: a sample that there is none of, a line of fewer than eight
    /// fields, a word that does not come next in the text.
    pub fn read(path: &Path, samples: &[Sample]) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::io(Kind::Corpus, path, "read the syntax labels", &e))?;
        let places: HashMap<&str, usize> =
            samples.iter().enumerate().map(|(i, s)| (s.id.as_str(), i)).collect();
        let of = samples.iter().map(|s| vec![None; s.text.len()]).collect();
        let mut syntax = Self { names: [Vec::new(), Vec::new()], of };
        // The sample at hand, and the byte of its text after the last word.
        let mut at: Option<(usize, usize)> = None;
        for (number, line) in text.lines().enumerate() {
            let wrong = |problem: String| {
                let subject = format!("{}:{}", path.display(), number + 1);
                Error::new(Kind::Corpus, subject, problem, "label the very text of the corpus")
            };
            if let Some(id) = line.strip_prefix("# newdoc id = ") {
                let place = places.get(id.trim());
                let place = place.ok_or_else(|| wrong(format!("no sample `{}`", id.trim())))?;
                at = Some((*place, 0));
            } else if line.starts_with(|c: char| c.is_ascii_digit()) {
                let (sample, next) =
                    at.as_mut().ok_or_else(|| wrong("a word before any `# newdoc id =`".into()))?;
                syntax.word(line, &samples[*sample].text, (*sample, next)).map_err(wrong)?;
            }
        }
        Ok(syntax)
    }

    fn word(
        &mut self,
        line: &str,
        text: &str,
        (sample, next): (usize, &mut usize),
    ) -> Result<(), String> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [id, form, _, upos, _, _, _, deprel, ..] = fields[..] else {
            return Err(format!("{} fields, expected eight or more", fields.len()));
        };
        // Parts of a contraction, and words that are not written, have no place of their own.
        if id.contains(['-', '.']) {
            return Ok(());
        }
        let found =
            text[*next..].find(form).ok_or_else(|| format!("`{form}` does not come next"))?;
        let start = *next + found;
        let labels = [self.label(0, "upos", upos), self.label(1, "deprel", deprel)];
        *next = start + form.len();
        self.of[sample][start..*next].fill(Some(labels));
        Ok(())
    }

    fn label(&mut self, kind: usize, what: &str, value: &str) -> usize {
        let name = format!("{what} {value}");
        let names = &mut self.names[kind];
        names.iter().position(|n| *n == name).unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        })
    }

    /// Labels of the word in which some bytes of a sample begin, spaces left out.
    pub fn at(
        &self,
        sample: usize,
        text: &str,
        bytes: std::ops::Range<usize>,
    ) -> Option<[usize; 2]> {
        let spaces = text.as_bytes().get(bytes.clone())?;
        let skip = spaces.iter().take_while(|b| b.is_ascii_whitespace()).count();
        *self.of[sample].get(bytes.start + skip.min(bytes.len().saturating_sub(1)))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(conllu: &str) -> Result<Syntax> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("x.conllu");
        std::fs::write(&path, conllu).expect("write");
        let sample =
            |id: &str, text: &str| Sample { id: id.into(), domain: "d".into(), text: text.into() };
        Syntax::read(&path, &[sample("one", "A cat. A dog."), sample("two", "It is.")])
    }

    fn word(id: &str, form: &str, upos: &str, deprel: &str) -> String {
        format!("{id}\t{form}\t_\t{upos}\t_\t_\t0\t{deprel}\t_\t_\n")
    }

    #[test]
    fn words_are_found_in_their_order() {
        let text = format!(
            "# newdoc id = one\n{}{}{}\n{}{}",
            word("1", "A", "DET", "det"),
            word("2", "cat", "NOUN", "root"),
            word("3", ".", "PUNCT", "punct"),
            word("1", "A", "DET", "det"),
            word("2", "dog", "NOUN", "nsubj"),
        );
        let syntax = read(&text).expect("valid");
        let name = |labels: Option<[usize; 2]>| {
            labels.map(|[u, d]| (syntax.names[0][u].as_str(), syntax.names[1][d].as_str()))
        };
        let one = "A cat. A dog.";
        assert_eq!(name(syntax.at(0, one, 1..5)), Some(("upos NOUN", "deprel root")));
        assert_eq!(name(syntax.at(0, one, 8..12)), Some(("upos NOUN", "deprel nsubj")));
        assert_eq!(name(syntax.at(1, "It is.", 0..2)), None, "a sample without labels");
        assert_eq!(syntax.at(0, one, 100..101), None);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = |text: &str| read(text).expect_err("does not fit");
        assert!(error("# newdoc id = three\n").problem.contains("no sample `three`"));
        assert!(error(&word("1", "A", "DET", "det")).problem.contains("before any"));
        assert!(error("# newdoc id = one\n1\tA\n").problem.contains("2 fields"));
        let other = error(&format!("# newdoc id = one\n{}", word("1", "cow", "NOUN", "root")));
        assert!(other.subject.ends_with(":2") && other.problem.contains("`cow`"), "{other}");
    }
}
