//! Recognises the format of a corpus file by its name and its first bytes.
//!
//! The bytes decide how a file is compressed, the name decides how its documents are laid out.
//! A file whose name and bytes contradict each other is refused, so that a compressed or
//! columnar file is never read as text.

use std::path::Path;

use serde_json::Value;

/// The problem with a file, and the remedy.
pub type Refusal = (String, String);

/// The compression of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// None.
    Plain,
    /// Zstandard.
    Zstd,
    /// Gzip.
    Gzip,
}

/// The layout of documents in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentLayout {
    /// One JSON object per line.
    JsonLines,
    /// Plain text, documents separated by lines.
    Text,
    /// Rows of Parquet.
    Parquet,
    /// Unknown by the name of a compressed file; its unpacked bytes decide.
    Unsaid,
}

/// Extensions of formats that are not supported, what each is, and the remedy.
const REFUSED: [(&[&str], &str, &str); 5] = [
    (&["bz2", "tbz", "tbz2"], "bzip2", REPACK),
    (&["xz", "lzma", "lz4", "br", "sz", "lz", "z"], "compressed in a way that is not read", REPACK),
    (&["zip", "tar", "tgz", "tzst", "7z", "rar"], "an archive", UNPACK),
    (&["csv", "tsv", "xls", "xlsx", "ods"], "a table", TABLE),
    (
        &["arrow", "feather", "orc", "avro", "npy", "npz", "pkl", "pdf", "doc", "docx"],
        "binary",
        TABLE,
    ),
];
const REPACK: &str = "unpack it, or compress it again with `zstd` or `gzip`";
const UNPACK: &str = "extract the file of documents and name that one";
const TABLE: &str = "write its documents as JSON lines (`DataFrame.to_json(path, orient=\"records\", \
                     lines=True)`, `Dataset.to_json(path)`) or as Parquet";

/// Magic bytes of formats that are not supported: offset, bytes, what it is, and the remedy.
const MAGIC: [(usize, &[u8], &str, &str); 16] = [
    (0, b"BZh", "a bzip2 file", REPACK),
    (0, b"\xfd7zXZ\0", "an xz file", REPACK),
    (0, b"\x04\x22\x4d\x18", "an LZ4 file", REPACK),
    (0, b"\xff\x06\0\0sNaPpY", "a Snappy file", REPACK),
    (0, b"PK\x03\x04", "a zip archive", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"ARROW1", "an Arrow file", TABLE),
    (0, b"\xff\xff\xff\xff", "an Arrow stream", TABLE),
    (0, b"ORC", "an ORC file", TABLE),
    (0, b"Obj\x01", "an Avro file", TABLE),
    (0, b"%PDF-", "a PDF", TABLE),
    (0, b"\x93NUMPY", "a NumPy array", TABLE),
    (0, b"\x89HDF", "an HDF5 file", TABLE),
    (0, b"SQLite format 3\0", "an SQLite database", TABLE),
];

/// Byte-order marks of other encodings than UTF-8. UTF-32 comes first because one of its marks
/// begins with one of UTF-16.
const OTHER_TEXT: [(&[u8], &str); 4] = [
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
];

/// Returns the compression and the layout that a file's name announces.
///
/// # Errors
/// Returns a refusal if the extension is that of a format that is not supported.
pub fn announced(path: &Path) -> Result<(Packing, DocumentLayout), Refusal> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let (stem, packing) = match name.rsplit_once('.') {
        Some((stem, "zst" | "zstd")) => (stem, Packing::Zstd),
        Some((stem, "gz" | "gzip")) => (stem, Packing::Gzip),
        _ => (name.as_str(), Packing::Plain),
    };
    let extension = stem.rsplit_once('.').map_or("", |(_, extension)| extension);
    let refused = REFUSED.iter().find(|(extensions, ..)| extensions.contains(&extension));
    if let Some((_, what, remedy)) = refused {
        return Err((
            format!("`.{extension}` is {what}, expected text, JSON lines or Parquet"),
            (*remedy).into(),
        ));
    }
    let layout = match extension {
        "jsonl" | "ndjson" | "json" => DocumentLayout::JsonLines,
        "parquet" | "pq" => DocumentLayout::Parquet,
        "" if packing != Packing::Plain => DocumentLayout::Unsaid,
        _ => DocumentLayout::Text,
    };
    Ok((packing, layout))
}

/// Returns the compression of a file by its first bytes and the compression that its name
/// announces.
///
/// # Errors
/// Returns a refusal if the name announces a compression that the bytes do not have.
pub fn packing(head: &[u8], announced: Packing) -> Result<Packing, Refusal> {
    let skippable =
        |head: &[u8]| head.len() >= 4 && head[0] & 0xf0 == 0x50 && head[1..4] == *b"\x2a\x4d\x18";
    let found = if head.starts_with(b"\x28\xb5\x2f\xfd") || skippable(head) {
        Packing::Zstd
    } else if head.starts_with(b"\x1f\x8b") {
        Packing::Gzip
    } else {
        Packing::Plain
    };
    match (announced, found) {
        (Packing::Zstd, Packing::Plain) => Err(not_packed("Zstandard")),
        (Packing::Gzip, Packing::Plain) => Err(not_packed("gzip")),
        _ => Ok(found),
    }
}

fn not_packed(what: &str) -> Refusal {
    let problem = format!("the name says {what}, the first bytes do not");
    (problem, "copy or download the file again, or correct its name".into())
}

/// Returns the layout of unpacked bytes that begin with `head`. `whole` says that there are no
/// other bytes.
///
/// # Errors
/// Returns a refusal if the bytes are those of a format that is not supported, or contradict the
/// layout that the name announces.
pub fn layout(
    head: &[u8],
    whole: bool,
    announced: DocumentLayout,
) -> Result<DocumentLayout, Refusal> {
    if head.starts_with(b"PAR1") {
        return Ok(DocumentLayout::Parquet);
    }
    if head.starts_with(b"PARE") {
        return Err(("is an encrypted Parquet file".into(), "write it without encryption".into()));
    }
    if announced == DocumentLayout::Parquet {
        let remedy = "copy or download the file again, or correct its name";
        return Err(("the name says Parquet, the first bytes do not".into(), remedy.into()));
    }
    refuse_binary(head)?;
    let text = text_of(head);
    if let Some(what) = whole_json(&text) {
        let remedy = "write one object per line and call the file `.jsonl`: `jq -c '.[]' x.json > \
                      x.jsonl` for an array, `jq -c . x.json > x.jsonl` for objects";
        return Err((format!("is {what}, expected JSON lines"), remedy.into()));
    }
    match (announced, is_json_lines(&text, whole)) {
        (DocumentLayout::Text, true) => {
            let problem = "holds JSON lines, but its name says plain text";
            Err((problem.into(), "call the file `.jsonl` (`.jsonl.zst`, `.jsonl.gz`)".into()))
        }
        (DocumentLayout::Unsaid, true) => Ok(DocumentLayout::JsonLines),
        (DocumentLayout::Unsaid, false) => {
            let problem = "neither its name nor its first lines say what it holds";
            Err((problem.into(), "call the file `.jsonl.zst` or `.txt.zst` (or `.gz`)".into()))
        }
        (layout, _) => Ok(layout),
    }
}

fn refuse_binary(head: &[u8]) -> Result<(), Refusal> {
    if packing(head, Packing::Plain) != Ok(Packing::Plain) {
        let problem = "is compressed twice";
        return Err((problem.into(), "unpack it once".into()));
    }
    let at = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|head| head.starts_with(magic));
    if let Some((_, _, what, remedy)) = MAGIC.iter().find(|(place, magic, ..)| at(*place, magic)) {
        return Err((format!("is {what}, expected text, JSON lines or Parquet"), (*remedy).into()));
    }
    let other = OTHER_TEXT.iter().find(|(mark, _)| head.starts_with(mark));
    if let Some((_, what)) = other {
        let remedy = format!("save it as UTF-8: `iconv -f {what} -t UTF-8`");
        return Err((format!("is {what} text, expected UTF-8"), remedy));
    }
    if head.contains(&0) {
        let problem =
            "holds zero bytes in its first lines: it is binary, or text that is not UTF-8";
        return Err((
            problem.into(),
            "save the corpus as UTF-8 text, JSON lines or Parquet".into(),
        ));
    }
    Ok(())
}

/// Returns the first bytes as text, without a byte-order mark and leading white space.
fn text_of(head: &[u8]) -> String {
    let text = String::from_utf8_lossy(head);
    text.trim_start_matches(|c: char| c == '\u{feff}' || c.is_whitespace()).to_owned()
}

/// Returns what a text is if it is JSON but does not have one object per line.
fn whole_json(text: &str) -> Option<&'static str> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next()?;
    match first.strip_prefix('[').map(str::trim_start) {
        Some(rest) if rest.starts_with('{') => return Some("one JSON array"),
        Some("") if lines.next().is_some_and(|line| line.starts_with('{')) => {
            return Some("one JSON array");
        }
        _ => {}
    }
    let opens = first == "{" && text[1..].trim_start().starts_with('"');
    opens.then_some("JSON over several lines")
}

/// Returns whether the first two lines that are not blank (or the only one) are JSON objects.
fn is_json_lines(text: &str, whole: bool) -> bool {
    let mut lines = text.split_inclusive('\n').filter(|line| !line.trim().is_empty()).take(2);
    let is_object = |line: &str| {
        let ends = whole || line.ends_with('\n');
        if ends { is_json_object(line) } else { begins_json_object(line) }
    };
    lines.next().is_some_and(is_object) && lines.all(is_object)
}

fn is_json_object(line: &str) -> bool {
    // Programs write `NaN`, which is not valid JSON, so the beginning of the line is enough.
    serde_json::from_str::<Value>(line).map_or_else(
        |_| begins_json_object(line) && line.trim_end().ends_with('}'),
        |v| v.is_object(),
    )
}

/// Returns whether a line begins like an object with a key. Used for a line that is longer than
/// the bytes read so far.
fn begins_json_object(line: &str) -> bool {
    let key =
        line.trim_start().strip_prefix('{').and_then(|line| line.trim_start().strip_prefix('"'));
    let rest = key.and_then(|key| key.split_once('"'));
    rest.is_some_and(|(_, rest)| rest.trim_start().starts_with(':'))
}
