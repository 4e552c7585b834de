//! Cuts samples into rows of token ids.

use std::ops::Range;

use super::Sample;
use super::tokenizer::{BpeTokenizer, EncodeFault};
use crate::error::{Error, Kind, Result};
use crate::spec::{Corpus, Tokenisation};

/// Estimated bytes that an allocation takes in addition to its values.
const ALLOCATION: usize = 16;
/// Number of documents that `tl_v1` joins at a time.
const JOINED_DOCUMENTS: usize = 1000;
/// Number of pieces that `tl_v1` cuts the joined documents into.
const PIECES: usize = 20;

/// One row of tokens, which a model reads in one pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Token ids, beginning-of-sequence first unless the spec leaves it out.
    pub ids: Vec<u32>,
    /// The parts of samples that the row consists of, by ascending position; at least one.
    pub parts: Vec<SamplePart>,
}

/// Consecutive tokens of one sample in a row, up to the next part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SamplePart {
    /// Position in the row of the first of these tokens.
    pub position: usize,
    /// Index of the sample.
    pub sample: usize,
    /// Index of the first of these tokens among all tokens of the sample; 0 for `tl_v1`, whose tokens
    /// are not those of single samples.
    pub token: usize,
}

impl Row {
    /// Creates a row from consecutive tokens of one sample, of which the first has index `token`.
    pub fn of_sample(bos: Option<u32>, ids: &[u32], sample: usize, token: usize) -> Self {
        let position = usize::from(bos.is_some());
        let parts = vec![SamplePart { position, sample, token }];
        Self { ids: bos.into_iter().chain(ids.iter().copied()).collect(), parts }
    }

    /// Returns the index of the sample that the row begins with.
    pub fn sample(&self) -> usize {
        self.parts[0].sample
    }

    /// Returns the part of a sample that a position belongs to, or `None` for the
    /// beginning-of-sequence token that the row begins with.
    pub fn part_at(&self, position: usize) -> Option<SamplePart> {
        self.parts.iter().rev().find(|part| part.position <= position).copied()
    }

    /// Returns the index of the sample of a position. The beginning-of-sequence token belongs to the
    /// sample that the row begins with.
    pub fn sample_at(&self, position: usize) -> usize {
        self.part_at(position).map_or(self.sample(), |part| part.sample)
    }

    /// Estimates the bytes of memory that the row takes beside its ids.
    fn bytes(&self) -> usize {
        size_of::<Self>() + 2 * ALLOCATION + self.parts.len() * size_of::<SamplePart>()
    }
}

/// Cuts samples into rows of at most `context` tokens.
pub struct Cutter<'a> {
    tokenizer: &'a BpeTokenizer,
    bos: u32,
    corpus: &'a Corpus,
    rows: Vec<Row>,
    /// Number of samples so far.
    samples: usize,
    /// Number of tokens of the last sample.
    last_length: usize,
    /// The row that is not full yet, for layouts with several samples in a row.
    open: Option<Row>,
    /// The samples that are not cut yet, for `tl_v1`.
    joined: JoinedTexts,
}

impl<'a> Cutter<'a> {
    /// Creates a cutter without samples.
    pub fn new(tokenizer: &'a BpeTokenizer, bos: u32, corpus: &'a Corpus) -> Self {
        Self {
            tokenizer,
            bos,
            corpus,
            rows: Vec::new(),
            samples: 0,
            last_length: 0,
            open: None,
            joined: JoinedTexts::default(),
        }
    }

    /// Adds a sample. Returns the number of bytes of memory that its rows take.
    ///
    /// # Errors
    /// Returns an error if the text cannot be tokenised.
    pub fn push(&mut self, sample: &Sample) -> Result<u64> {
        let before = self.rows.len();
        let length = match self.corpus.tokenisation {
            Tokenisation::TlV1 => {
                self.joined.push(self.samples, &sample.text, &self.separator());
                if self.joined.starts.len() == JOINED_DOCUMENTS {
                    self.cut_joined()?;
                }
                sample.text.len()
            }
            _ => self.cut(sample)?,
        };
        self.samples += 1;
        let rows: usize = self.rows[before..].iter().map(Row::bytes).sum();
        Ok((rows + length * size_of::<u32>()) as u64)
    }

    /// Cuts a sample into rows. Returns the number of its tokens.
    fn cut(&mut self, sample: &Sample) -> Result<usize> {
        let fault = |fault| of_sample(&format!("sample `{}`", sample.id), fault);
        let ids = self.tokenizer.encode(&sample.text).map_err(fault)?;
        let sample = self.samples;
        let tokens = ids.iter().enumerate().map(|(token, &id)| (id, sample, token));
        match self.corpus.tokenisation {
            Tokenisation::PerDoc => {
                let (bos, length) = (self.leading(), self.text_length());
                for (i, part) in ids.chunks(length).enumerate() {
                    self.rows.push(Row::of_sample(bos, part, self.samples, i * length));
                }
            }
            Tokenisation::Packed => {
                if self.samples > 0 {
                    self.separate();
                }
                self.fill(tokens);
            }
            Tokenisation::Concatenated | Tokenisation::TlV1 => self.fill(tokens),
        }
        self.last_length = ids.len();
        Ok(ids.len())
    }

    /// Returns the token that every row begins with, if there is one.
    fn leading(&self) -> Option<u32> {
        self.corpus.prepend_bos.then_some(self.bos)
    }

    /// Returns the number of tokens of text in a full row.
    fn text_length(&self) -> usize {
        self.corpus.context - usize::from(self.corpus.prepend_bos)
    }

    /// Returns the text of the token between documents.
    fn separator(&self) -> String {
        self.tokenizer.name_of(self.bos).unwrap_or_default()
    }

    /// Appends the token between samples. It belongs to the sample before it.
    fn separate(&mut self) {
        let before = self.samples - 1;
        self.fill(std::iter::once((self.bos, before, self.last_length)));
    }

    /// Appends tokens, each with its sample and its index there, to the open row, and opens further
    /// rows as needed.
    fn fill(&mut self, tokens: impl Iterator<Item = (u32, usize, usize)>) {
        let (leading, context) = (self.leading(), self.corpus.context);
        for (id, sample, token) in tokens {
            let empty = || Row { ids: leading.into_iter().collect(), parts: Vec::new() };
            let row = self.open.get_or_insert_with(empty);
            if row.parts.last().is_none_or(|last| last.sample != sample) {
                row.parts.push(SamplePart { position: row.ids.len(), sample, token });
            }
            row.ids.push(id);
            if row.ids.len() == context {
                self.rows.extend(self.open.take());
            }
        }
    }

    /// Cuts the joined samples as `tl_v1` does, and drops what does not fill a row.
    fn cut_joined(&mut self) -> Result<()> {
        let joined = std::mem::take(&mut self.joined);
        for piece in joined.pieces() {
            let text = &joined.text[piece.clone()];
            let subject = || format!("the samples from number {} on", joined.first + 1);
            let fault = |fault| of_sample(&subject(), fault);
            let tokens = self.tokenizer.encode_with_spans(text).map_err(fault)?;
            let bos = self.bos;
            let of_text = tokens.into_iter().filter(|(id, _)| *id != bos);
            // Tokens of pieces are not those of samples, so they have no index there.
            let placed = |(id, span): (u32, Range<usize>)| {
                (id, joined.sample_at(piece.start + span.start), 0)
            };
            self.fill(of_text.map(placed));
        }
        self.open = None;
        Ok(())
    }

    /// Returns the rows.
    ///
    /// # Errors
    /// Returns an error if the last samples cannot be tokenised.
    pub fn finish(mut self) -> Result<Vec<Row>> {
        if !self.joined.starts.is_empty() {
            self.cut_joined()?;
        }
        if self.corpus.tokenisation == Tokenisation::Packed {
            self.rows.extend(self.open.take());
        }
        Ok(self.rows)
    }
}

/// Turns the fault of a text into an error about `subject`.
fn of_sample(subject: &str, fault: EncodeFault) -> Error {
    Error::new(Kind::Corpus, subject, fault.problem, fault.remedy)
}

/// Documents joined into one text, the end-of-text token between them.
#[derive(Default)]
struct JoinedTexts {
    text: String,
    /// Index of the sample of the first document.
    first: usize,
    /// Where each document starts, in bytes.
    starts: Vec<usize>,
}

impl JoinedTexts {
    fn push(&mut self, sample: usize, text: &str, separator: &str) {
        match self.starts.is_empty() {
            true => self.first = sample,
            false => self.text.push_str(separator),
        }
        self.starts.push(self.text.len());
        self.text.push_str(text);
    }

    /// Returns the index of the sample that a byte belongs to. The token between documents belongs to
    /// the one before it.
    fn sample_at(&self, byte: usize) -> usize {
        self.first + self.starts.partition_point(|&start| start <= byte).saturating_sub(1)
    }

    /// Returns the bytes of twenty pieces of as many characters each; the last ones may be shorter or
    /// missing.
    fn pieces(&self) -> Vec<Range<usize>> {
        let characters = self.text.chars().count();
        let length = characters.saturating_sub(1) / PIECES + 1;
        let cuts = self.text.char_indices().map(|(byte, _)| byte).step_by(length);
        let mut starts: Vec<usize> = cuts.collect();
        starts.push(self.text.len());
        starts.windows(2).map(|ends| ends[0]..ends[1]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::tokenizer::{TokenizerFor, load};
    use proptest::prelude::*;

    /// Id of the beginning-of-sequence token; letters are ids from 2 on.
    const BOS: u32 = 31;

    fn tokenizer() -> BpeTokenizer {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/expected/golden/tiny");
        load(folder.as_ref(), TokenizerFor { model: "tiny", d_vocab: Some(32) }).expect("tokenizer")
    }

    fn cut(texts: &[&str], settings: &str) -> Vec<Row> {
        let text = format!("{{path: x, {settings}}}");
        let corpus: Corpus = serde_yaml::from_str(&text).expect("a corpus");
        let tokenizer = tokenizer();
        let mut cutter = Cutter::new(&tokenizer, BOS, &corpus);
        for (i, text) in texts.iter().enumerate() {
            let (id, domain) = (i.to_string(), "x".into());
            cutter.push(&Sample { id, domain, text: (*text).into() }).expect("tokens");
        }
        cutter.finish().expect("rows")
    }

    fn row(ids: &[u32], parts: &[[usize; 3]]) -> Row {
        let part = |&[position, sample, token]: &[usize; 3]| SamplePart { position, sample, token };
        Row { ids: ids.to_vec(), parts: parts.iter().map(part).collect() }
    }

    #[test]
    fn styles_cut_as_they_say() {
        let cut = |settings: &str| cut(&["abcd", "ef"], &format!("context: 4, {settings}"));
        assert_eq!(
            cut("tokenisation: per_doc"),
            [
                row(&[31, 2, 3, 4], &[[1, 0, 0]]),
                row(&[31, 5], &[[1, 0, 3]]),
                row(&[31, 6, 7], &[[1, 1, 0]])
            ]
        );
        assert_eq!(
            cut("tokenisation: packed"),
            [
                row(&[31, 2, 3, 4], &[[1, 0, 0]]),
                row(&[31, 5, 31, 6], &[[1, 0, 3], [3, 1, 0]]),
                row(&[31, 7], &[[1, 1, 1]])
            ]
        );
        assert_eq!(
            cut("tokenisation: concatenated"),
            [row(&[31, 2, 3, 4], &[[1, 0, 0]]), row(&[31, 5, 6, 7], &[[1, 0, 3], [2, 1, 0]])]
        );
        assert_eq!(
            cut("tokenisation: per_doc, prepend_bos: false"),
            [row(&[2, 3, 4, 5], &[[0, 0, 0]]), row(&[6, 7], &[[0, 1, 0]])]
        );
        assert_eq!(
            cut("tokenisation: packed, prepend_bos: false"),
            [row(&[2, 3, 4, 5], &[[0, 0, 0]]), row(&[31, 6, 7], &[[0, 0, 4], [1, 1, 0]])]
        );
    }

    /// The rows that TransformerLens cuts the same documents into (`expected/golden/tl_rows.py`).
    #[test]
    fn tl_v1_cuts_as_transformer_lens_does() {
        #[derive(serde::Deserialize)]
        struct Golden {
            documents: usize,
            context: usize,
            with_bos: GoldenRows,
            without_bos: GoldenRows,
        }
        #[derive(serde::Deserialize)]
        struct GoldenRows {
            rows: usize,
            first: Vec<Vec<u32>>,
            last: Vec<Vec<u32>>,
            sum: u64,
        }
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
        let read = |file: &str| std::fs::read_to_string(format!("{root}{file}")).expect("a file");
        let golden: Golden =
            serde_json::from_str(&read("expected/golden/tl_rows.json")).expect("JSON");
        let model = TokenizerFor { model: "a", d_vocab: Some(2048) };
        let tokenizer =
            load(format!("{root}experiments/desk/a").as_ref(), model).expect("tokenizer");
        for (bos, want) in [(true, golden.with_bos), (false, golden.without_bos)] {
            let settings = format!(
                "{{path: x, tokenisation: tl_v1, context: {}, prepend_bos: {bos}}}",
                golden.context
            );
            let corpus: Corpus = serde_yaml::from_str(&settings).expect("a corpus");
            let mut cutter = Cutter::new(&tokenizer, 2047, &corpus);
            for line in read("experiments/desk/corpus.jsonl").lines().take(golden.documents) {
                let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
                let text = line["text"].as_str().expect("a text").to_owned();
                cutter.push(&Sample { id: "x".into(), domain: "x".into(), text }).expect("tokens");
            }
            let rows = cutter.finish().expect("rows");
            let ids: Vec<Vec<u32>> = rows.iter().map(|row| row.ids.clone()).collect();
            assert_eq!(ids.len(), want.rows);
            assert_eq!(ids[..2], want.first);
            assert_eq!(ids[ids.len() - 2..], want.last);
            let of_row = |row: &Vec<u32>| {
                let places = row.iter().zip(1..);
                places.map(|(&id, place): (&u32, u64)| (u64::from(id) + 1) * place).sum::<u64>()
            };
            assert_eq!(ids.iter().map(of_row).sum::<u64>(), want.sum);
            // Samples begin in order, and nearly all of them in some row.
            let samples: Vec<usize> =
                rows.iter().flat_map(|row| row.parts.iter().map(|part| part.sample)).collect();
            assert!(samples.is_sorted() && samples.contains(&0));
            assert!(samples[samples.len() - 1] >= golden.documents - 2);
        }
    }

    #[test]
    fn joined_texts_are_cut_into_pieces_of_characters() {
        let mut joined = JoinedTexts::default();
        joined.push(7, &"é".repeat(30), "|");
        joined.push(8, "ab", "|");
        let pieces = joined.pieces();
        // 33 characters in pieces of two.
        assert_eq!(pieces.len(), 17);
        assert_eq!((pieces[0].clone(), pieces[16].clone()), (0..4, 62..63));
        assert_eq!([0, 59, 60, 61, 62].map(|byte| joined.sample_at(byte)), [7, 7, 7, 8, 8]);
    }

    #[test]
    fn a_position_knows_its_sample() {
        let row = row(&[31, 5, 6, 7], &[[1, 3, 8], [2, 4, 0]]);
        assert_eq!(row.part_at(0), None, "the beginning of the sequence");
        assert_eq!((0..4).map(|p| row.sample_at(p)).collect::<Vec<_>>(), [3, 3, 4, 4]);
        assert_eq!(row.part_at(3), Some(SamplePart { position: 2, sample: 4, token: 0 }));
    }

    proptest! {
        /// Every token of text is the token that its part names, in every layout and in order.
        #[test]
        fn parts_name_the_tokens_of_samples(
            texts in prop::collection::vec("[a-h]{1,12}", 1..12),
            context in 2usize..9,
            style in prop::sample::select(vec!["per_doc", "packed", "concatenated"]),
            bos in any::<bool>(),
        ) {
            let tokenizer = tokenizer();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let rows = cut(
                &texts,
                &format!("context: {context}, tokenisation: {style}, prepend_bos: {bos}"),
            );
            let of_text: Vec<Vec<u32>> =
                texts.iter().map(|text| tokenizer.encode(text).expect("tokens")).collect();
            let mut seen = Vec::new();
            for row in &rows {
                prop_assert!(row.ids.len() <= context && !row.parts.is_empty());
                prop_assert_eq!(row.part_at(0).is_none(), bos);
                for (position, &id) in row.ids.iter().enumerate().filter(|(_, id)| **id != BOS) {
                    let part = row.part_at(position).expect("a token of text");
                    let token = part.token + position - part.position;
                    prop_assert_eq!(of_text[part.sample][token], id);
                    seen.push((part.sample, token));
                }
            }
            let all: Vec<_> = of_text.iter().enumerate()
                .flat_map(|(sample, ids)| (0..ids.len()).map(move |token| (sample, token)))
                .collect();
            let whole = context - usize::from(bos);
            let kept = if style == "concatenated" { all.len() / whole * whole } else { all.len() };
            prop_assert_eq!(seen, &all[..kept]);
        }
    }
}
