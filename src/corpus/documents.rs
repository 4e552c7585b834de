//! Documents from files of several kinds, read one after the other so that a corpus of any
//! size takes the memory of its longest document.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::parquet::{self, Rows};
use crate::error::{Error, Kind, Result};
use crate::spec::{Corpus, Fields};

/// Longest document that is read, in bytes. A line beyond this is a damaged file, not a
/// document.
const MAX_LINE: usize = 16 << 20;
/// What separates documents in plain text, on a line of its own.
const SEPARATOR: &str = "<|endoftext|>";

/// One labelled text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Unique name.
    pub id: String,
    /// Sub-corpus that the text belongs to.
    pub domain: String,
    /// The text itself.
    pub text: String,
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, Deserialize)]
pub struct Count {
    /// Documents with text.
    pub documents: usize,
    /// Documents without any, which were skipped.
    pub empty: usize,
}

/// Reads the documents of a corpus, as many as its limit allows, and shows each to `visit`.
///
/// - `.jsonl`, `.jsonl.zst`: JSON lines; `{"id", "domain", "text"}`, or the fields that the
///   spec names
/// - `.parquet`: rows; columns `text`, or the fields that the spec names
/// - anything else is plain text, documents separated by lines of `<|endoftext|>`
///
/// # Errors
/// Naming file and place: invalid UTF-8, a document over 16 MiB, malformed content, a text
/// or an id that is missing, an id used twice, or no document at all; and those of `visit`.
pub fn read(corpus: &Corpus, visit: &mut dyn FnMut(Sample) -> Result<()>) -> Result<Count> {
    let mut seen = Seen { corpus, visit, ids: HashMap::new(), count: Count::default() };
    let name = corpus.path.to_string_lossy();
    let json = name.ends_with(".jsonl") || name.ends_with(".json");
    if name.ends_with(".parquet") {
        seen.parquet()?;
    } else if name.ends_with(".zst") {
        let file = open(&corpus.path)?;
        let decoder = ruzstd::decoding::StreamingDecoder::new(BufReader::new(file));
        let decoder = decoder.map_err(|e| seen.error("", e, "is it zstd? compress it again"))?;
        seen.lines(BufReader::new(decoder), !name.ends_with(".txt.zst"))?;
    } else {
        seen.lines(BufReader::new(open(&corpus.path)?), json)?;
    }
    if seen.count.documents == 0 {
        let remedy = "give a file with one JSON object {\"id\", \"domain\", \"text\"} per line";
        return Err(seen.error("", "holds no sample", remedy));
    }
    Ok(seen.count)
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|e| Error::io(Kind::Corpus, path, "read the corpus", &e))
}

/// Documents as they come.
struct Seen<'a> {
    corpus: &'a Corpus,
    visit: &'a mut dyn FnMut(Sample) -> Result<()>,
    /// Where each id was used.
    ids: HashMap<String, usize>,
    count: Count,
}

impl Seen<'_> {
    /// An error at a place of the file, as in `:12`.
    fn error(
        &self,
        at: &str,
        problem: impl std::fmt::Display,
        remedy: impl std::fmt::Display,
    ) -> Error {
        let path = self.corpus.path.display();
        Error::new(Kind::Corpus, format_args!("{path}{at}"), problem, remedy)
    }

    /// Whether the limit is reached.
    fn full(&self) -> bool {
        self.corpus.limit.is_some_and(|limit| self.count.documents >= limit)
    }

    /// Lines of JSON, or plain text.
    fn lines(&mut self, mut file: impl BufRead, json: bool) -> Result<()> {
        let mut document = String::new();
        for number in 1.. {
            let Some(line) = self.line(&mut file, number)? else { break };
            if self.full() {
                return Ok(());
            }
            if json {
                if !line.is_empty() {
                    let sample = self.parse(&line, number)?;
                    self.push(sample, number)?;
                }
            } else if line == SEPARATOR {
                self.push_text(&mut document, number)?;
            } else {
                document.push_str(&line);
                document.push('\n');
                if document.len() > MAX_LINE {
                    let problem = format!("a document is over {MAX_LINE} bytes long");
                    let remedy = format!("separate documents by lines of {SEPARATOR}");
                    return Err(self.error(&format!(":{number}"), problem, remedy));
                }
            }
        }
        if document.is_empty() { Ok(()) } else { self.push_text(&mut document, 0) }
    }

    fn push_text(&mut self, document: &mut String, number: usize) -> Result<()> {
        let id = format!("document-{}", self.count.documents + self.count.empty + 1);
        let text = std::mem::take(document);
        self.push(Sample { id, domain: "text".into(), text }, number)
    }

    /// The next line without its end; None after the last.
    fn line(&self, file: &mut impl BufRead, number: usize) -> Result<Option<String>> {
        let mut bytes = Vec::new();
        let most = MAX_LINE as u64 + 2;
        let read = file.by_ref().take(most).read_until(b'\n', &mut bytes);
        let at = format!(":{number}");
        let read = read.map_err(|e| self.error(&at, e, "copy or download the corpus again"))?;
        if read == 0 {
            return Ok(None);
        }
        let whole = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let whole = whole.strip_suffix(b"\r").unwrap_or(whole);
        if whole.len() > MAX_LINE {
            let problem = format!("the line is over {MAX_LINE} bytes long");
            return Err(self.error(&at, problem, "split the text into several samples"));
        }
        let length = whole.len();
        bytes.truncate(length);
        String::from_utf8(bytes).map(Some).map_err(|e| {
            let problem = format!("invalid UTF-8 after byte {}", e.utf8_error().valid_up_to());
            self.error(&at, problem, "save the corpus as UTF-8")
        })
    }

    fn parse(&self, line: &str, number: usize) -> Result<Sample> {
        let at = format!(":{number}");
        let Some(fields) = &self.corpus.fields else {
            return serde_json::from_str(line).map_err(|e| {
                let remedy = "each line is one object {\"id\", \"domain\", \"text\"} of three strings; \
                              `corpus.fields` names others";
                self.error(&at, e, remedy)
            });
        };
        let value: Value = serde_json::from_str(line)
            .map_err(|e| self.error(&at, e, "each line is one JSON object"))?;
        let get = |key: &str| key.split('.').try_fold(&value, |value, part| value.get(part));
        self.sample(fields, number, &|key| get(key).and_then(Value::as_str).map(String::from))
    }

    /// A sample of named fields.
    fn sample(
        &self,
        fields: &Fields,
        number: usize,
        get: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Sample> {
        let need = |key: &str| {
            get(key).ok_or_else(|| {
                let problem = format!("has no text in `{key}`");
                self.error(&format!(":{number}"), problem, "name the fields in `corpus.fields`")
            })
        };
        let text = need(&fields.text)?;
        Ok(Sample {
            id: fields.id.as_ref().map_or_else(|| Ok(format!("document-{number}")), |k| need(k))?,
            domain: fields.label.as_ref().map_or_else(|| Ok("text".into()), |k| need(k))?,
            text,
        })
    }

    fn parquet(&mut self) -> Result<()> {
        let remedy = "write it again with Snappy compression or none";
        let fields = self.corpus.fields.clone().unwrap_or_default();
        let rows = Rows::of(open(&self.corpus.path)?).map_err(|e| self.error("", e, remedy))?;
        for (i, row) in rows.enumerate() {
            if self.full() {
                return Ok(());
            }
            let row = row.map_err(|e| self.error(&format!(":{}", i + 1), e, remedy))?;
            let sample = self.sample(&fields, i + 1, &|column| parquet::text(&row, column))?;
            self.push(sample, i + 1)?;
        }
        Ok(())
    }

    fn push(&mut self, sample: Sample, number: usize) -> Result<()> {
        if sample.text.trim().is_empty() {
            self.count.empty += 1;
            return Ok(());
        }
        if let Some(first) = self.ids.get(&sample.id) {
            let problem = format!("id `{}` was used before, on line {first}", sample.id);
            let remedy = "give every sample an id of its own";
            return Err(self.error(&format!(":{number}"), problem, remedy));
        }
        // Ids that are made here are never the same.
        let given = self.corpus.fields.as_ref().is_none_or(|f| f.id.is_some());
        if given {
            self.ids.insert(sample.id.clone(), number);
        }
        self.count.documents += 1;
        (self.visit)(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documents of a file of some name, and how many were empty.
    fn documents(
        name: &str,
        bytes: &[u8],
        change: impl FnOnce(&mut Corpus),
    ) -> Result<(Vec<Sample>, usize)> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("write");
        let text = format!("{{path: {}, context: 8}}", path.display());
        let mut corpus: Corpus = serde_yaml::from_str(&text).expect("a corpus");
        change(&mut corpus);
        let mut all = Vec::new();
        let count = read(&corpus, &mut |sample| {
            all.push(sample);
            Ok(())
        })?;
        assert_eq!(count.documents, all.len());
        Ok((all, count.empty))
    }

    fn read_bytes(bytes: &[u8], limit: Option<usize>) -> Result<Vec<Sample>> {
        documents("x.jsonl", bytes, |corpus| corpus.limit = limit).map(|(all, _)| all)
    }

    const PILE: &str = "{\"text\": \"one\", \"meta\": {\"pile_set_name\": \"ArXiv\"}}\n\
        {\"text\": \"\", \"meta\": {\"pile_set_name\": \"ArXiv\"}}\n\
        {\"text\": \"two\", \"meta\": {\"pile_set_name\": \"Github\"}}\n";

    fn pile(corpus: &mut Corpus) {
        corpus.fields = Some(Fields {
            text: "text".into(),
            label: Some("meta.pile_set_name".into()),
            id: None,
        });
    }

    #[test]
    fn the_piles_own_layout_is_read_plain_and_compressed() {
        let (all, empty) = documents("x.jsonl", PILE.as_bytes(), pile).expect("read");
        let told: Vec<[&str; 3]> = all.iter().map(|s| [&*s.id, &*s.domain, &*s.text]).collect();
        assert_eq!(told, [["document-1", "ArXiv", "one"], ["document-3", "Github", "two"]]);
        assert_eq!(empty, 1);
        let mut compressed = Vec::new();
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        ruzstd::encoding::compress(PILE.as_bytes(), &mut compressed, level);
        assert_eq!(documents("x.jsonl.zst", &compressed, pile).expect("read"), (all, 1));
        let cut = documents("x.jsonl.zst", &compressed[..compressed.len() / 2], pile);
        assert!(cut.is_err(), "a file that is cut short");
        let error = documents("x.jsonl.zst", b"no zstd at all", pile).expect_err("refused");
        assert!(error.subject.ends_with("x.jsonl.zst"), "{error}");
        let error = documents("x.jsonl", b"{\"body\": \"x\"}", pile).expect_err("refused");
        assert!(
            error.problem.contains("`text`") && error.remedy.contains("corpus.fields"),
            "{error}"
        );
    }

    #[test]
    fn plain_text_is_separated_by_a_line() {
        let text = b"first\nstill first\n<|endoftext|>\nsecond";
        let (all, _) = documents("x.txt", text, |_| ()).expect("read");
        let texts: Vec<&str> = all.iter().map(|s| s.text.as_str()).collect();
        assert_eq!(texts, ["first\nstill first\n", "second\n"]);
        let (all, _) = documents("x.txt", text, |c| c.limit = Some(1)).expect("read");
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn rows_of_parquet_are_documents() {
        use ::parquet::data_type::{ByteArray, ByteArrayType};
        use ::parquet::file::writer::SerializedFileWriter;
        use ::parquet::schema::parser::parse_message_type;
        let schema = "message m { required binary text (UTF8); required binary kind (UTF8); }";
        let schema = std::sync::Arc::new(parse_message_type(schema).expect("schema"));
        let mut bytes = Vec::new();
        let mut writer =
            SerializedFileWriter::new(&mut bytes, schema, Default::default()).expect("writer");
        let mut group = writer.next_row_group().expect("group");
        for column in [["one", "two"], ["a", "b"]] {
            let values = column.map(ByteArray::from);
            let mut writer = group.next_column().expect("column").expect("column");
            writer.typed::<ByteArrayType>().write_batch(&values, None, None).expect("written");
            writer.close().expect("closed");
        }
        group.close().expect("closed");
        writer.close().expect("closed");
        let fields = |label: Option<&str>| Fields {
            text: "text".into(),
            label: label.map(String::from),
            id: None,
        };
        let (all, _) = documents("x.parquet", &bytes, |c| c.fields = Some(fields(Some("kind"))))
            .expect("read");
        assert_eq!((all[1].text.as_str(), all[1].domain.as_str()), ("two", "b"));
        let (all, _) = documents("x.parquet", &bytes, |_| ()).expect("read");
        assert_eq!((all.len(), all[0].domain.as_str()), (2, "text"));
        assert!(documents("x.parquet", &bytes[..40], |_| ()).is_err());
        let error = documents("x.parquet", &bytes, |c| c.fields = Some(fields(Some("x"))))
            .expect_err("no column");
        assert!(error.problem.contains("`x`"), "{error}");
    }

    const GOOD: &str = r#"{"id":"a","domain":"code","text":"x = 1"}"#;

    #[test]
    fn blank_lines_and_carriage_returns_are_no_samples() {
        let two = format!("{GOOD}\r\n\n{}\n", GOOD.replace("\"a\"", "\"b\""));
        assert_eq!(read_bytes(two.as_bytes(), None).expect("samples").len(), 2);
        assert_eq!(read_bytes(two.as_bytes(), Some(1)).expect("samples").len(), 1);
    }

    #[test]
    fn damaged_files_are_refused_with_their_line() {
        let long = format!(r#"{{"id":"a","domain":"d","text":"{}"}}"#, "x".repeat(MAX_LINE));
        let cases: [(&[u8], &str, &str); 7] = [
            (b"", "", "no sample"),
            (b"\n\n", "", "no sample"),
            (b"{\"id\":\"a\",\"domain\":\"d\",\"text\":\"\xff\"}", ":1", "UTF-8"),
            (long.as_bytes(), ":1", "bytes long"),
            (b"{\"id\":\"a\"}", ":1", "domain"),
            (b"{\"id\":\"a\",\"domain\":\"d\",\"text\":\"t\",\"x\":1}", ":1", "unknown field"),
            (b"{\"id\":\"a\",\"domain\":\"d\",\"text\":\" \"}", "", "no sample"),
        ];
        for (bytes, line, problem) in cases {
            let error = read_bytes(bytes, None).expect_err(problem);
            assert!(error.subject.ends_with(line), "{}", error.subject);
            assert!(error.problem.contains(problem), "{}", error.problem);
        }
    }

    #[test]
    fn ids_are_unique() {
        let error = read_bytes(format!("{GOOD}\n{GOOD}").as_bytes(), None).expect_err("repeated");
        assert!(error.subject.ends_with(":2") && error.problem.contains("line 1"), "{error}");
    }
}
