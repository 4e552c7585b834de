//! Reads lines of JSON and plain text.

use std::io::{BufRead, Read};

use super::documents::{Documents, Sample};
use super::format::Packing;
use crate::error::Result;

/// The line that separates documents in plain text.
const SEPARATOR: &str = "<|endoftext|>";
/// The byte-order mark, which editors put at the start of a file. Concatenated files also
/// contain it at the start of later lines.
const BOM: char = '\u{feff}';

impl Documents<'_> {
    /// Reads lines of JSON, or plain text.
    pub(super) fn lines(
        &mut self,
        mut file: impl BufRead,
        json: bool,
        packing: Packing,
    ) -> Result<()> {
        let (mut document, mut line) = (String::new(), Vec::new());
        for number in 1.. {
            if !self.line(&mut file, number, packing, &mut line)? {
                break;
            }
            if self.full() {
                return Ok(());
            }
            let line = self.text(&line, number)?;
            if json {
                if !line.trim().is_empty() {
                    self.object(line, number)?;
                }
            } else if line == SEPARATOR {
                self.plain(&mut document, number)?;
            } else {
                document.push_str(line);
                document.push('\n');
                let longest = self.corpus.max_document();
                if document.len() > longest {
                    let problem = format!("the document is over {} MiB long", longest >> 20);
                    let remedy = format!(
                        "separate documents by lines of {SEPARATOR}, or raise `corpus.max_document_mib`"
                    );
                    return Err(self.error(&format!(":{number}"), problem, remedy));
                }
            }
        }
        if document.is_empty() { Ok(()) } else { self.plain(&mut document, 0) }
    }

    fn plain(&mut self, document: &mut String, number: usize) -> Result<()> {
        let id = format!("document-{}", self.seen() + 1);
        let text = std::mem::take(document);
        self.push(Sample { id, domain: "text".into(), text }, number)
    }

    fn object(&mut self, line: &str, number: usize) -> Result<()> {
        let found = self.wanted.parse(line).map_err(|problem| {
            let remedy = match self.corpus.fields {
                Some(_) => "each line is one JSON object; correct or remove the line",
                None => {
                    "each line is one object {\"id\", \"domain\", \"text\"}; `corpus.fields` names \
                     others"
                }
            };
            self.error(&format!(":{number}"), problem, remedy)
        })?;
        self.found(found, self.wanted.paths(), number)
    }

    /// Reads the next line into `line`, without the line ending. Returns false at the end.
    fn line(
        &self,
        file: &mut impl BufRead,
        number: usize,
        packing: Packing,
        line: &mut Vec<u8>,
    ) -> Result<bool> {
        line.clear();
        let longest = self.corpus.max_document();
        let read = file.by_ref().take(longest as u64 + 2).read_until(b'\n', line);
        let at = || format!(":{number}");
        let read = read.map_err(|e| self.unreadable(&at(), &e, packing))?;
        if read == 0 {
            return Ok(false);
        }
        for end in [b'\n', b'\r'] {
            if line.last() == Some(&end) {
                line.pop();
            }
        }
        if line.len() > longest {
            let problem = format!("the line is over {} MiB long", longest >> 20);
            let remedy = "split the text into several samples, or raise `corpus.max_document_mib`";
            return Err(self.error(&at(), problem, remedy));
        }
        Ok(true)
    }

    /// Returns a line as text, without a byte-order mark.
    fn text<'l>(&self, line: &'l [u8], number: usize) -> Result<&'l str> {
        let text = std::str::from_utf8(line).map_err(|e| {
            let problem = format!("invalid UTF-8 after byte {}", e.valid_up_to());
            self.error(&format!(":{number}"), problem, "save the corpus as UTF-8")
        })?;
        Ok(text.strip_prefix(BOM).unwrap_or(text))
    }
}
