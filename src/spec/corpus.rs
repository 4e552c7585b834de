//! The text that models read, and how it becomes rows of tokens.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number of recorded tokens in a row.
pub const RECORDED_ROW: usize = 128;

/// The text and how it becomes rows of tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Corpus {
    /// JSON lines of `{"text"}`, with `"id"` and `"domain"` or without (`.jsonl`, `.ndjson`), Parquet (`.parquet`), or
    /// plain text, documents separated by lines of `<|endoftext|>`; lines and text may be
    /// compressed (`.zst`, `.gz`). Relative to the spec.
    pub path: PathBuf,
    /// SHA-256 that the file must have, 64 hexadecimal digits; not checked when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The fields of a line or row that contain text, label and id. Other fields are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Fields>,
    /// Longest row in tokens, beginning-of-sequence included; at most the models' own context.
    #[schemars(range(min = 2, max = 1_048_576))]
    pub context: usize,
    /// How samples become rows.
    #[serde(default)]
    pub tokenisation: Tokenisation,
    /// Whether every row begins with the beginning-of-sequence token.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub prepend_bos: bool,
    /// Tokens that are excluded from all statistics (paper A.2). There is no padding: rows are as
    /// long as their text.
    #[serde(default = "default_exclusions")]
    pub exclude: Vec<Exclusion>,
    /// Number of samples to read, from the first on; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub limit: Option<usize>,
    /// Number of positions to use: a sample of whole rows from all over the corpus; all when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub sample: Option<usize>,
    /// Longest document in MiB, 16 when absent. A longer one is refused: it is more often a
    /// damaged file than a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub max_document_mib: Option<usize>,
    /// Most MiB, 256 when absent, that one Zstandard window or one page of Parquet may take,
    /// and that all documents of a file and their tokens may take, where that is over 64 times
    /// the size of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_536))]
    pub max_unpacked_mib: Option<usize>,
}

/// The corpus of recorded activations: none.
impl Default for Corpus {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            sha256: None,
            fields: None,
            context: RECORDED_ROW,
            tokenisation: Tokenisation::default(),
            prepend_bos: false,
            exclude: Vec::new(),
            limit: None,
            sample: None,
            max_document_mib: None,
            max_unpacked_mib: None,
        }
    }
}

impl Corpus {
    /// Returns whether the spec has no corpus, because its models are recorded activations.
    pub fn is_absent(&self) -> bool {
        self.path.as_os_str().is_empty()
    }

    /// Returns the maximum length of a document, in bytes.
    pub fn max_document(&self) -> usize {
        self.max_document_mib.unwrap_or(16) << 20
    }

    /// Returns the maximum number of bytes that compressed data may unpack to at once.
    pub fn max_unpacked(&self) -> usize {
        self.max_unpacked_mib.unwrap_or(256) << 20
    }
}

/// Names of fields of JSON lines or columns of Parquet. A dot leads into an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fields {
    /// The text.
    pub text: String,
    /// The label of the sub-corpus, such as `meta.pile_set_name`; one label for all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The unique id; the number of the line or row when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl Default for Fields {
    fn default() -> Self {
        Self { text: "text".into(), label: None, id: None }
    }
}

/// How samples become rows of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tokenisation {
    /// Each sample starts a row with the beginning-of-sequence token; a sample
    /// longer than the context continues in further rows, each with its own.
    #[default]
    PerDoc,
    /// Samples follow each other, the beginning-of-sequence token between them, in rows of
    /// full context, each of which begins with that token too; the last row may be shorter.
    Packed,
    /// As `packed`, with nothing between samples and an incomplete last row left out: what
    /// older tools make where padding and beginning-of-sequence share an id and are removed
    /// together.
    Concatenated,
    /// As `concatenated`, of a thousand documents at a time, whose text is cut into twenty pieces of
    /// as many characters before it is tokenised: what `tokenize_and_concatenate` of TransformerLens
    /// 1.x makes in one process. Words are split where two pieces meet.
    TlV1,
}

/// A class of tokens that is excluded from all statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exclusion {
    /// The beginning-of-sequence token.
    Bos,
    /// The token that is exactly one line feed.
    Newline,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

fn default_exclusions() -> Vec<Exclusion> {
    vec![Exclusion::Bos, Exclusion::Newline]
}
