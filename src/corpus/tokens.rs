//! The rows of tokens that models read, and which of the tokens count.

use std::ops::Range;

use super::rows::Row;
use super::tokenizer::BpeTokenizer;
use crate::error::{Error, Kind, Result};
use crate::spec::{Corpus, Exclusion};

/// All rows of a corpus, and which positions take part in statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The rows, in the order of the samples.
    pub rows: Vec<Row>,
    /// Maximum length of a row, in tokens; 0 for recorded activations, whose rows are of any length.
    pub context: usize,
    /// Ids of the tokens that may be excluded: beginning-of-sequence, and newline if there is one.
    special: (u32, Option<u32>),
    /// The tokens that are excluded.
    excluded: Vec<Exclusion>,
}

/// Numbers of positions that are used and excluded, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TokenCount {
    /// Number of rows.
    pub rows: usize,
    /// Positions that enter every statistic.
    pub used: usize,
    /// Excluded beginning-of-sequence tokens.
    pub bos: usize,
    /// Excluded newline tokens.
    pub newline: usize,
    /// Positions that rows of full context would have beyond their text. They are never
    /// computed.
    pub padding: usize,
}

impl Tokens {
    /// Creates the tokens of a corpus, with the exclusions of its settings.
    ///
    /// # Errors
    /// Returns an error if all positions are excluded.
    pub fn new(
        rows: Vec<Row>,
        corpus: &Corpus,
        tokenizer: &BpeTokenizer,
        bos: u32,
    ) -> Result<Self> {
        let tokens = Self {
            rows,
            context: corpus.context,
            special: (bos, newline_id(tokenizer)),
            excluded: corpus.exclude.clone(),
        };
        match tokens.count().used {
            0 => Err(Error::new(
                Kind::Corpus,
                "the corpus",
                "every position is excluded, expected at least one that counts",
                "add text, or shorten `corpus.exclude`",
            )),
            _ => Ok(tokens),
        }
    }

    /// Creates the tokens of recorded activations, all of which take part in statistics. Ids are
    /// indices in the files, so no id is special.
    pub fn recorded(rows: Vec<Row>) -> Self {
        Self { rows, context: 0, special: (u32::MAX, None), excluded: Vec::new() }
    }

    /// Returns the class of excluded tokens that an id belongs to; `None` for a token that takes part
    /// in statistics.
    fn exclusion(&self, id: u32) -> Option<Exclusion> {
        let (bos, newline) = self.special;
        let of = |what, is: bool| (is && self.excluded.contains(&what)).then_some(what);
        of(Exclusion::Bos, id == bos).or(of(Exclusion::Newline, Some(id) == newline))
    }

    /// Returns whether a token takes part in statistics.
    pub fn counts(&self, id: u32) -> bool {
        self.exclusion(id).is_none()
    }

    /// Counts the used and the excluded positions.
    pub fn count(&self) -> TokenCount {
        let ids = || self.rows.iter().flat_map(|row| &row.ids);
        let excluded = |what| ids().filter(|&&id| self.exclusion(id) == Some(what)).count();
        let total = ids().count();
        let (bos, newline) = (excluded(Exclusion::Bos), excluded(Exclusion::Newline));
        TokenCount {
            rows: self.rows.len(),
            used: total - bos - newline,
            bos,
            newline,
            padding: (self.rows.len() * self.context).saturating_sub(total),
        }
    }

    /// Returns a sample of at least `used` used positions, or all if there are fewer. It consists
    /// of whole rows from all over the corpus, since neighbouring samples may be alike.
    #[must_use]
    pub fn sample(&self, used: usize) -> Self {
        let all = self.count().used.max(1);
        let (mut seen, mut taken) = (0, 0);
        let wanted = |row: &&Row| {
            // A row is taken whenever the sample is behind its share of the positions seen.
            let take = taken * all <= seen * used && taken < used;
            let positions = self.used_in(std::slice::from_ref(row));
            seen += positions;
            taken += if take { positions } else { 0 };
            take
        };
        self.with_rows(self.rows.iter().filter(wanted).cloned().collect())
    }

    /// Returns other rows of the same samples. The same tokens take part in statistics.
    #[must_use]
    pub fn with_rows(&self, rows: Vec<Row>) -> Self {
        let Self { context, special, ref excluded, rows: _ } = *self;
        Self { rows, context, special, excluded: excluded.clone() }
    }

    /// Returns the same rows, of which other tokens take part in statistics: all but the `excluded`.
    #[must_use]
    pub fn excluding(self, excluded: &[Exclusion]) -> Self {
        Self { excluded: excluded.to_vec(), ..self }
    }

    fn used_in(&self, rows: &[Row]) -> usize {
        rows.iter().flat_map(|row| &row.ids).filter(|&&id| self.counts(id)).count()
    }

    /// Returns the rows that contain some of the `used` positions, in batches of at most `tokens`
    /// tokens. Each batch has at least one row.
    pub fn batches(&self, tokens: usize, used: Range<usize>) -> Vec<Batch<'_>> {
        let mut batches = Vec::new();
        let (mut start, mut size, mut first) = (0, 0, 0);
        for (i, row) in self.rows.iter().enumerate() {
            if size + row.ids.len() > tokens && i > start {
                first = self.push_batch(&mut batches, start..i, first, &used);
                (start, size) = (i, 0);
            }
            size += row.ids.len();
        }
        self.push_batch(&mut batches, start..self.rows.len(), first, &used);
        batches
    }

    /// Adds a batch if any of its used positions is wanted. Returns the number of the first used
    /// position after the batch.
    fn push_batch<'a>(
        &'a self,
        batches: &mut Vec<Batch<'a>>,
        range: Range<usize>,
        first: usize,
        wanted: &Range<usize>,
    ) -> usize {
        let first_row = range.start;
        let rows = &self.rows[range];
        let end = first + self.used_in(rows);
        let used = first.max(wanted.start)..end.min(wanted.end);
        if !used.is_empty() {
            batches.push(Batch { tokens: self, rows, first_row, first, used });
        }
        end
    }
}

/// Rows that the models read together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<'a> {
    tokens: &'a Tokens,
    /// The rows.
    pub rows: &'a [Row],
    /// Index of the first row in the corpus.
    pub first_row: usize,
    /// Number of the first used position of the rows, counted over the corpus.
    first: usize,
    /// Numbers of the used positions that enter the sums.
    pub used: Range<usize>,
}

impl Batch<'_> {
    /// Returns the token ids of each row.
    pub fn ids(&self) -> Vec<&[u32]> {
        self.rows.iter().map(|row| row.ids.as_slice()).collect()
    }

    /// Returns for each position, row after row, whether it enters the sums.
    pub fn kept(&self) -> Vec<bool> {
        let mut used = self.first;
        let keep = |&id: &u32| {
            let counts = self.tokens.counts(id);
            let kept = counts && self.used.contains(&used);
            used += usize::from(counts);
            kept
        };
        self.rows.iter().flat_map(|row| &row.ids).map(keep).collect()
    }
}

/// Returns the token that is exactly one line feed, if the vocabulary has one.
fn newline_id(tokenizer: &BpeTokenizer) -> Option<u32> {
    match tokenizer.encode("\n").ok()?[..] {
        [id] => Some(id),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(lengths: &[usize]) -> Tokens {
        let row = |(sample, &len): (usize, &usize)| Row::of_sample(None, &vec![5; len], sample, 0);
        Tokens {
            rows: lengths.iter().enumerate().map(row).collect(),
            context: 8,
            special: (9, None),
            excluded: vec![Exclusion::Bos],
        }
    }

    #[test]
    fn batches_hold_whole_rows_in_order() {
        let tokens = tokens(&[3, 3, 8, 1, 1]);
        let sizes = |limit| {
            let batches = tokens.batches(limit, 0..usize::MAX);
            batches.iter().map(|b| b.rows.len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(6), [2, 1, 2]);
        assert_eq!(sizes(1), [1, 1, 1, 1, 1], "a batch holds at least one row");
        assert_eq!(sizes(100), [5]);
    }

    #[test]
    fn parts_of_the_positions_make_the_whole() {
        let mut tokens = tokens(&[3, 8, 1, 5, 4]);
        tokens.rows[1].ids[2] = 9;
        let all = tokens.count().used;
        for cut in 0..=all {
            let kept = |range: Range<usize>| {
                let batches = tokens.batches(6, range);
                batches.iter().map(|b| b.kept().iter().filter(|k| **k).count()).collect::<Vec<_>>()
            };
            let (before, after) = (kept(0..cut), kept(cut..all));
            assert_eq!(
                (before.iter().sum::<usize>(), after.iter().sum::<usize>()),
                (cut, all - cut)
            );
        }
    }

    #[test]
    fn a_sample_comes_from_all_over_the_corpus() {
        let tokens = tokens(&[4; 100]);
        for used in [1, 40, 200, 400, 1000] {
            let sample = tokens.sample(used);
            let taken = sample.count().used;
            assert!(taken >= used.min(400) && taken < used + 4, "{used}: {taken}");
            let places: Vec<usize> = sample.rows.iter().map(Row::sample).collect();
            let middle = places.iter().sum::<usize>() / places.len();
            assert!(used < 40 || (35..65).contains(&middle), "{used}: {places:?}");
        }
    }

    #[test]
    fn recorded_tokens_all_take_part_and_have_no_padding() {
        let rows = tokens(&[3, 200]).rows;
        let recorded = Tokens::recorded(rows);
        let count = TokenCount { rows: 2, used: 203, ..TokenCount::default() };
        assert_eq!(recorded.count(), count);
        assert!(recorded.counts(0) && recorded.counts(9));
    }

    #[test]
    fn every_position_is_counted_once() {
        let mut tokens = tokens(&[3, 8]);
        tokens.rows[0].ids = vec![9, 7, 5];
        tokens.special = (9, Some(7));
        tokens.excluded = vec![Exclusion::Newline, Exclusion::Bos];
        let count = tokens.count();
        assert_eq!((count.used, count.bos, count.newline, count.padding), (9, 1, 1, 5));
        assert_eq!(tokens.used_in(&tokens.rows), 9, "the two ways to count agree");
        assert!(!tokens.counts(9) && !tokens.counts(7) && tokens.counts(5));
        let all = tokens.excluding(&[]).count();
        assert_eq!((all.used, all.bos, all.newline), (11, 0, 0));
    }
}
