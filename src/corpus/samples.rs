//! Labelled samples in JSON lines.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Kind, Result};

/// Longest line that is read, in bytes. A line beyond this is a damaged file,
/// not a sample.
const MAX_LINE: usize = 1 << 20;

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

/// Reads the first `limit` samples of a file of JSON lines `{"id", "domain", "text"}`.
///
/// # Errors
/// Naming file and line: invalid UTF-8, a line over 1 MiB, malformed JSON, an
/// empty text, an id used twice, or no sample at all.
pub fn read(path: &Path, limit: Option<usize>) -> Result<Vec<Sample>> {
    let bytes =
        std::fs::read(path).map_err(|e| Error::io(Kind::Corpus, path, "read the corpus", &e))?;
    let lines = bytes.split(|&b| b == b'\n').enumerate();
    let samples = lines
        .map(|(i, line)| (i + 1, line.strip_suffix(b"\r").unwrap_or(line)))
        .filter(|(_, line)| !line.is_empty())
        .take(limit.unwrap_or(usize::MAX))
        .map(|(number, line)| {
            parse(line).map(|sample| (number, sample)).map_err(|(problem, remedy)| {
                Error::new(
                    Kind::Corpus,
                    format_args!("{}:{number}", path.display()),
                    problem,
                    remedy,
                )
            })
        })
        .collect::<Result<Vec<_>>>()?;
    if samples.is_empty() {
        let remedy = "give a file with one JSON object {\"id\", \"domain\", \"text\"} per line";
        return Err(Error::new(Kind::Corpus, path.display(), "holds no sample", remedy));
    }
    refuse_repeated_ids(path, &samples)?;
    Ok(samples.into_iter().map(|(_, sample)| sample).collect())
}

fn parse(line: &[u8]) -> Result<Sample, (String, &'static str)> {
    if line.len() > MAX_LINE {
        let problem = format!("the line is {} bytes long, expected at most {MAX_LINE}", line.len());
        return Err((problem, "split the text into several samples"));
    }
    let text = std::str::from_utf8(line).map_err(|e| {
        (format!("invalid UTF-8 after byte {}", e.valid_up_to()), "save the corpus as UTF-8")
    })?;
    let sample: Sample = serde_json::from_str(text).map_err(|e| {
        (e.to_string(), "each line is one object {\"id\", \"domain\", \"text\"} of three strings")
    })?;
    if sample.text.trim().is_empty() {
        return Err((format!("sample `{}` has no text", sample.id), "remove the line"));
    }
    Ok(sample)
}

fn refuse_repeated_ids(path: &Path, samples: &[(usize, Sample)]) -> Result<()> {
    let mut seen = HashMap::new();
    for (number, sample) in samples {
        if let Some(first) = seen.insert(sample.id.as_str(), number) {
            return Err(Error::new(
                Kind::Corpus,
                format_args!("{}:{number}", path.display()),
                format_args!("id `{}` was used before, on line {first}", sample.id),
                "give every sample an id of its own",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read_bytes(bytes: &[u8], limit: Option<usize>) -> Result<Vec<Sample>> {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        file.write_all(bytes).expect("write");
        read(file.path(), limit)
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
            (b"{\"id\":\"a\",\"domain\":\"d\",\"text\":\" \"}", ":1", "no text"),
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
