//! Reads documents from files of several formats, one at a time: a corpus of any size takes the
//! memory of its longest document.

use std::collections::HashMap;
use std::io::BufRead;

use serde::Deserialize;

use super::compressed::{Unpacked, explained, unpack};
use super::format::{DocumentLayout, Packing, Refusal, announced, layout, packing};
use super::json::{FieldValue, FieldValues, Wanted};
use super::parquet::ParquetTable;
use crate::error::{Error, Kind, Result};
use crate::input::{InputFile, stand_in};
use crate::spec::Corpus;

/// Estimated memory of a document beside its text (id, label, rows), in bytes.
const HELD: u64 = 256;
/// Bytes of memory that documents may take for each byte of their file, where that is more than
/// `corpus.max_unpacked_mib`. Compressed text with its tokens takes about 10.
const EXPANSION: u64 = 64;

/// Receives a document. Returns how many bytes of memory the caller keeps for it.
pub type VisitSample<'a> = &'a mut dyn FnMut(Sample) -> Result<u64>;

/// One labelled text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Unique id.
    pub id: String,
    /// Label of the sub-corpus.
    pub domain: String,
    /// The text.
    pub text: String,
}

/// Numbers of documents that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, Deserialize)]
pub struct DocumentCount {
    /// Documents with text.
    pub documents: usize,
    /// Documents without text, which were skipped.
    pub empty: usize,
}

/// Reads the documents of a corpus, up to its limit, and calls `visit` with each.
///
/// - `.jsonl`, `.ndjson`, `.json`: JSON lines; `{"text"}`, with `"id"` and `"domain"` or without,
///   or the fields that the spec names
/// - `.parquet`: rows; columns `text`, or the fields that the spec names
/// - other names: plain text, documents separated by lines of `<|endoftext|>`
///
/// Lines and text may be compressed with Zstandard or gzip. Documents whose text is empty,
/// null or missing are counted and skipped.
///
/// # Errors
/// Returns an error naming file and line if the file has another format, is damaged or cut off;
/// if a document is too long or malformed, lacks its id or label, or repeats an id; or if there
/// is no document. Returns the errors of `visit`.
pub fn read(corpus: &Corpus, visit: VisitSample) -> Result<DocumentCount> {
    let mut input = InputFile::open(Kind::Corpus, &corpus.path)?;
    read_input(&mut input, corpus, visit)
}

/// Reads the documents of an open file, as [`read`] does.
///
/// # Errors
/// Returns an error as [`read`] does, or if the file changes while it is read.
pub fn read_input(
    input: &mut InputFile,
    corpus: &Corpus,
    visit: VisitSample,
) -> Result<DocumentCount> {
    let allowed = (corpus.max_unpacked() as u64).max(input.len().saturating_mul(EXPANSION));
    let mut documents = Documents {
        corpus,
        wanted: Wanted::new(corpus.fields.as_ref()),
        visit,
        ids: HashMap::new(),
        count: DocumentCount::default(),
        held: 0,
        allowed,
    };
    documents.read(input)?;
    input.unchanged()?;
    match documents.count {
        DocumentCount { documents: 0, empty } => Err(documents.none(empty)),
        count => Ok(count),
    }
}

/// A reader of documents.
pub(super) struct Documents<'a> {
    pub(super) corpus: &'a Corpus,
    pub(super) wanted: Wanted<'a>,
    visit: VisitSample<'a>,
    /// Line or row of each id.
    ids: HashMap<String, usize>,
    count: DocumentCount,
    /// Estimated bytes of the documents and their tokens so far, and the most that is allowed.
    held: u64,
    allowed: u64,
}

impl Documents<'_> {
    fn read(&mut self, input: &mut InputFile) -> Result<()> {
        let refused = |(problem, remedy): Refusal| self.error("", problem, remedy);
        let (packed, laid_out) = announced(&self.corpus.path).map_err(refused)?;
        let mut file = input.reader()?;
        let head = file.fill_buf().map_err(|e| self.unreadable("", &e, Packing::Plain))?;
        let packing = packing(head, packed).map_err(refused)?;
        let unpacked = unpack(file, packing, self.corpus.max_unpacked());
        let Unpacked { head, whole, bytes } =
            unpacked.map_err(|e| self.unreadable("", &e, packing))?;
        if let Some((problem, remedy)) = stand_in(&head) {
            return Err(self.error("", problem, remedy));
        }
        match layout(&head, whole, laid_out).map_err(refused)? {
            DocumentLayout::Parquet if packing != Packing::Plain => {
                let remedy = "unpack it: Parquet compresses its pages itself";
                Err(self.error("", "is a compressed Parquet file", remedy))
            }
            DocumentLayout::Parquet => {
                drop(bytes);
                self.rows(input)
            }
            layout => self.lines(bytes, layout == DocumentLayout::JsonLines, packing),
        }
    }

    /// Returns an error at a place of the file, such as `:12`.
    pub(super) fn error(
        &self,
        at: &str,
        problem: impl std::fmt::Display,
        remedy: impl std::fmt::Display,
    ) -> Error {
        let path = self.corpus.path.display();
        Error::new(Kind::Corpus, format_args!("{path}{at}"), problem, remedy)
    }

    pub(super) fn unreadable(&self, at: &str, error: &std::io::Error, packing: Packing) -> Error {
        let (problem, remedy) = explained(error, packing);
        self.error(at, problem, remedy)
    }

    /// Returns the error of a corpus without documents.
    fn none(&self, empty: usize) -> Error {
        let [text, ..] = self.wanted.paths();
        let text = text.unwrap_or_default();
        let problem = match empty {
            0 => "holds no sample".to_owned(),
            n => format!("holds no sample: none of its {n} documents has text in `{text}`"),
        };
        let remedy = "give a file with one JSON object {\"text\": …} per line, or name the fields in \
                      `corpus.fields`";
        self.error("", problem, remedy)
    }

    /// Returns whether `corpus.limit` is reached.
    pub(super) fn full(&self) -> bool {
        self.corpus.limit.is_some_and(|limit| self.count.documents >= limit)
    }

    /// Returns the number of documents so far, empty ones included.
    pub(super) fn seen(&self) -> usize {
        self.count.documents + self.count.empty
    }

    fn rows(&mut self, input: &InputFile) -> Result<()> {
        let refused = |(problem, remedy): Refusal| self.error("", problem, remedy);
        let file = input.file().try_clone();
        let file = file.map_err(|e| self.unreadable("", &e, Packing::Plain))?;
        let table = ParquetTable::of(file, self.corpus.max_unpacked()).map_err(refused)?;
        let fields = self.corpus.fields.clone().unwrap_or_default();
        let paths = [Some(fields.text.as_str()), fields.id.as_deref(), fields.label.as_deref()];
        let rows = table.rows(&paths).map_err(refused)?;
        for (i, row) in rows.enumerate() {
            if self.full() {
                return Ok(());
            }
            let number = i + 1;
            let found = row.map_err(|problem| {
                let remedy = "copy or download the corpus again, or write it again with pandas or \
                              pyarrow";
                self.error(&format!(":{number}"), problem, remedy)
            })?;
            self.found(found, paths, number)?;
        }
        Ok(())
    }

    /// Adds the document with these fields, from line or row `number`.
    pub(super) fn found(
        &mut self,
        [text, id, label]: FieldValues,
        [text_at, id_at, label_at]: [Option<&str>; 3],
        number: usize,
    ) -> Result<()> {
        let at = format!(":{number}");
        let text = match text {
            None | Some(FieldValue::Null) => None,
            Some(FieldValue::Text(text)) => Some(text),
            Some(FieldValue::Scalar(_)) => {
                return Err(self.wrong(&at, text_at, "a number or a boolean"));
            }
            Some(FieldValue::Other(what)) => return Err(self.wrong(&at, text_at, what)),
        };
        // In the program's own layout, id and label are checked even without text.
        if text.is_none() && self.corpus.fields.is_some() {
            self.count.empty += 1;
            return Ok(());
        }
        let name = |found: Option<FieldValue>, path: Option<&str>, absent: &dyn Fn() -> String| {
            let Some(path) = path else { return Ok(absent()) };
            match found {
                // The program's own layout asks for nothing but the text.
                None if self.corpus.fields.is_none() => Ok(absent()),
                Some(FieldValue::Text(name) | FieldValue::Scalar(name)) => Ok(name),
                None => Err(self.wrong(&at, Some(path), "nothing")),
                Some(FieldValue::Null) => Err(self.wrong(&at, Some(path), "null")),
                Some(FieldValue::Other(what)) => Err(self.wrong(&at, Some(path), what)),
            }
        };
        let id = name(id, id_at, &|| format!("document-{number}"))?;
        let domain = name(label, label_at, &|| "text".into())?;
        self.push(Sample { id, domain, text: text.unwrap_or_default() }, number)
    }

    fn wrong(&self, at: &str, field: Option<&str>, what: &str) -> Error {
        let problem = format!("`{}` holds {what}, expected text", field.unwrap_or_default());
        let remedy = match self.corpus.fields {
            Some(_) => "correct the line, or name other fields in `corpus.fields`",
            None => {
                "each line is one object {\"text\", \"id\", \"domain\"}, the last two if wanted; \
                 `corpus.fields` names others"
            }
        };
        self.error(at, problem, remedy)
    }

    /// Adds a document from line or row `number`.
    pub(super) fn push(&mut self, sample: Sample, number: usize) -> Result<()> {
        let at = format!(":{number}");
        if sample.text.trim().is_empty() {
            self.count.empty += 1;
            return Ok(());
        }
        self.check_length(&sample, &at)?;
        if let Some(first) = self.ids.get(&sample.id) {
            let problem = format!("id `{}` was used before, on line {first}", sample.id);
            return Err(self.error(&at, problem, "give every sample an id of its own"));
        }
        // Generated ids are always unique.
        let given = self.corpus.fields.as_ref().is_none_or(|f| f.id.is_some());
        if given {
            self.ids.insert(sample.id.clone(), number);
        }
        self.count.documents += 1;
        let text = sample.text.len() as u64;
        let kept = (self.visit)(sample)?;
        self.hold(text + kept + HELD, &at)
    }

    /// Checks the length of a document.
    fn check_length(&self, sample: &Sample, at: &str) -> Result<()> {
        let longest = self.corpus.max_document();
        if sample.text.len() > longest {
            let problem = format!("the document is over {} MiB long", longest >> 20);
            let remedy =
                "split the text into several documents, or raise `corpus.max_document_mib`";
            return Err(self.error(at, problem, remedy));
        }
        Ok(())
    }

    /// Adds `bytes` to the memory of all documents, and checks it.
    fn hold(&mut self, bytes: u64, at: &str) -> Result<()> {
        self.held += bytes;
        if self.held <= self.allowed {
            return Ok(());
        }
        let problem = format!(
            "the file unpacks to over {} MiB of text and tokens, far more than its size",
            self.allowed >> 20
        );
        let remedy = "check where the file comes from; raise `corpus.max_unpacked_mib` if it is \
                      right, or read fewer documents with `corpus.limit`";
        Err(self.error(at, problem, remedy))
    }
}
