//! The spec: the content of an experiment file, as closed types.
//!
//! Nothing is resolved here: paths are kept as written, only the spec itself is opened, and no
//! default depends on the machine. In a spec without `corpus`, the folders of the family are listed to
//! tell recorded activations from models. [`crate::plan`] resolves a spec. Every setting that can change
//! a number is here or in the provenance of the run.

mod check;
mod device;
mod finding;
pub mod load;
mod models;
mod position;
mod ranges;
pub mod recorded;
pub mod rules;
pub mod schema;
mod suggest;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_yaml::Value;

use crate::error::{Error, Kind, Result};

pub use crate::backend::Precision;
pub use device::{CardChoice, DeviceChoice};
pub use finding::{Finding, finding};
pub use models::{ActivationFormat, Model, Models, Units};
pub use rules::{KindRules, Section};

/// Version of the spec format that this program writes and reads. It is increased whenever the
/// meaning of a field changes in a way that can change a number.
pub const VERSION: u32 = 1;

/// Number of recorded tokens in a row.
pub const RECORDED_ROW: usize = 128;

/// One experiment.
///
/// # Examples
///
/// Loads an experiment file, with the defaults of all settings that it leaves out.
///
/// ```
/// use universal_neurons::Spec;
/// use universal_neurons::experiment::load_spec;
///
/// let spec: Spec = load_spec("experiments/desk-universality.yaml".as_ref())?.spec;
/// assert_eq!((spec.kind.as_str(), spec.models.reference.as_str()), ("universality", "a"));
/// assert_eq!(spec.correlation.threshold, 0.5);
/// # Ok::<(), universal_neurons::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Version of the spec format; this program reads version 1.
    pub version: u32,
    /// Name of the experiment and of its folder under `runs/`: lower-case letters, digits and hyphens.
    pub name: String,
    /// What kind of experiment this is.
    pub kind: String,
    /// One sentence: which question the experiment asks.
    pub question: String,
    /// Where the method is described, e.g. `arXiv 2401.12181 §4.1, Fig. 2`.
    pub source: String,
    /// The models compared.
    pub models: Models,
    /// The text that the models read. Absent if the members of the family are recorded activations,
    /// which need no text.
    #[serde(default, skip_serializing_if = "Corpus::is_absent")]
    pub corpus: Corpus,
    /// How neurons are compared.
    #[serde(default)]
    pub correlation: Correlation,
    /// Which neurons the report shows closely, and how.
    #[serde(default)]
    pub cards: Cards,
    /// How statistics of single neurons are computed.
    #[serde(default)]
    pub statistics: Statistics,
    /// Preprocessing of the weights before weight statistics.
    #[serde(default)]
    pub weights: WeightOptions,
    /// The device that multiplies matrices. Changes numbers only within rounding.
    #[serde(default)]
    pub device: DeviceChoice,
    /// How the work is divided into batches. Changes speed and memory, and numbers only within
    /// rounding.
    #[serde(default)]
    pub batch: BatchOptions,
    /// The settings of the experiment's kind, under its name, with all defaults filled in;
    /// empty for a kind without settings.
    #[serde(flatten, skip_deserializing)]
    #[schemars(skip)]
    pub settings: BTreeMap<String, Value>,
}

impl Spec {
    /// Returns the settings of the experiment's kind as its own type.
    ///
    /// # Errors
    /// Returns an error if the spec was not loaded with the rules of this kind.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T> {
        let settings = self.settings.get(&self.kind).cloned().unwrap_or_default();
        serde_yaml::from_value(settings).map_err(|e| {
            let subject = format!("the settings of `kind: {}`", self.kind);
            Error::new(Kind::Spec, subject, e, "load the spec with `experiment::load_spec`")
        })
    }
}

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

/// How neurons are compared (paper eq. 2 and 3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Correlation {
    /// The chance level that matches are compared with.
    pub baseline: Baseline,
    /// A neuron is universal where its excess correlation is above this, strictly.
    #[schemars(range(min = -1.0, max = 1.0), extend("x-remedy" = "the paper's threshold is 0.5"))]
    pub threshold: f64,
    /// Further thresholds to report the share at.
    #[schemars(inner(range(min = -1.0, max = 1.0)), extend("x-remedy" = "the paper's threshold is 0.5"))]
    pub also_report: Vec<f64>,
    /// Precision of the multiplied activations; sums are always f32 and f64.
    pub precision: Precision,
    /// Best partners kept for each neuron and partner model; those of more than one
    /// are written to `partners.csv`.
    #[schemars(range(min = 1, max = 1000))]
    pub top_partners: usize,
    /// Compare most neurons over all tokens only with a few candidates, which are found in a
    /// sample; every pair is compared when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub screen: Option<Screen>,
}

/// How candidates are found in a sample, and when they are trusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Screen {
    /// Tokens of the sample: rows from all over the corpus.
    #[schemars(range(min = 100))]
    pub sample: usize,
    /// Best partners of the sample that are candidates, per neuron and partner model.
    #[schemars(range(min = 1, max = 1000))]
    pub candidates: usize,
    /// How many standard errors a correlation of the sample may be off; a neuron
    /// whose best match or side of a threshold could then differ is compared exactly.
    #[serde(default = "default_standard_errors")]
    #[schemars(range(min = 0.0), extend("x-remedy" = "4 is a cautious choice"))]
    pub standard_errors: f64,
}

fn default_standard_errors() -> f64 {
    4.0
}

impl Default for Correlation {
    fn default() -> Self {
        Self {
            baseline: Baseline::default(),
            threshold: 0.5,
            also_report: vec![0.3, 0.4],
            precision: Precision::default(),
            top_partners: 1,
            screen: None,
        }
    }
}

/// The chance level that correlations are compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Baseline {
    /// The kind of chance level.
    pub kind: BaselineKind,
    /// Number of independent draws. Their mean enters the table, their spread the extra table.
    #[schemars(range(min = 1, max = 1000))]
    pub draws: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Baseline {
    fn default() -> Self {
        Self { kind: BaselineKind::Rotation, draws: 3, seed: 2024 }
    }
}

/// Kinds of chance level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BaselineKind {
    /// Each layer's neurons replaced by random unit-norm combinations of them (the paper's).
    Rotation,
    /// As `rotation`, with combinations that are orthogonal to each other.
    Orthogonal,
    /// As `orthogonal`, from signs and Hadamard transforms: many times faster.
    FastRotation,
    /// The partner's tokens put in random order.
    Permutation,
    /// The partner's activations replaced by GELU of standard normal noise.
    Gaussian,
}

impl fmt::Display for BaselineKind {
    /// Writes the name that specs use.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// How statistics of single neurons are computed (`mean`, `var`, `skew`, `kurt`, `sparsity`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Statistics {
    /// Exact moments, or moments of the published 257-bin histogram.
    pub moments: MomentKind,
    /// What the column `sparsity` counts.
    pub sparsity: SparsityKind,
    /// Tokens that are excluded from these statistics, if they are others than those that
    /// `corpus.exclude` excludes from correlations: `[]` for none, as in the published tables. The
    /// judged models then read the tokens once more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<Exclusion>>,
    /// How the intervals of the universal share and of the signatures are computed.
    pub intervals: IntervalOptions,
}

/// How 95 % intervals are computed: by resampling blocks of documents, and neurons within layers. It
/// takes another pass over the tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IntervalOptions {
    /// Number of blocks that the documents are dealt into; 0 for no intervals.
    #[schemars(range(min = 0, max = 1000), extend("x-remedy" = "20 blocks are usual; 0 turns intervals off"))]
    pub blocks: usize,
    /// Number of resamples.
    #[schemars(range(min = 100, max = 100_000), extend("x-remedy" = "1000 resamples are usual"))]
    pub resamples: usize,
    /// Seed of the draws.
    pub seed: u64,
}

/// Number of partners of each neuron whose correlations are resampled. A neuron's best match in a
/// resample is nearly always one of its best few over all tokens.
const CANDIDATES: usize = 5;

impl IntervalOptions {
    /// Returns the number of partners of each neuron among which resamples look for the best match;
    /// 0 without intervals.
    pub fn candidates(&self) -> usize {
        if self.blocks > 0 { CANDIDATES } else { 0 }
    }
}

impl Default for IntervalOptions {
    fn default() -> Self {
        Self { blocks: 20, resamples: 1000, seed: 1 }
    }
}

/// How moments of pre-activations are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MomentKind {
    /// From every value, in one pass.
    #[default]
    Exact,
    /// From a histogram with edges linspace(-10, 15, 256) and two open bins, each
    /// bin standing for its centre: how the published tables were made.
    Binned,
}

/// What the column `sparsity` counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SparsityKind {
    /// Share of tokens with pre-activation above zero: the paper's activation frequency.
    #[default]
    AboveZero,
    /// The published column, which counts the bin (-0.098, 0] too.
    PublishedBin,
}

/// Preprocessing of the weights before weight and vocabulary statistics (paper A.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WeightOptions {
    /// Fold each LayerNorm's gain and bias into the linear layer that reads it.
    pub fold_ln: bool,
    /// Mean-centre the weights that write to the residual stream, over d_model.
    pub center_writing: bool,
    /// Mean-centre the unembedding, over the vocabulary.
    pub center_unembed: bool,
}

impl Default for WeightOptions {
    fn default() -> Self {
        Self { fold_ln: true, center_writing: true, center_unembed: true }
    }
}

/// Which neurons the report shows closely. Changes no number of the tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cards {
    /// Most universal neurons shown, those of largest excess first; the best of each
    /// layer are shown beside them.
    #[schemars(range(max = 10_000))]
    pub neurons: usize,
    /// Places where a neuron is active, for each.
    #[schemars(range(min = 1, max = 100))]
    pub contexts: usize,
    /// Positions read for the cards: whole rows from all over the corpus.
    #[schemars(range(min = 1))]
    pub tokens: usize,
    /// Token tests, as of `kind: families`, that may explain a neuron; relative to the
    /// spec. No explanations when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tests: Option<PathBuf>,
}

impl Default for Cards {
    fn default() -> Self {
        Self { neurons: 200, contexts: 8, tokens: 50_000, tests: None }
    }
}

/// How the work is divided into batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchOptions {
    /// Maximum number of tokens that a model reads together. A batch has whole rows, at least one.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub tokens: usize,
    /// Maximum memory of the run, in GiB. A run that needs more is refused before it starts. No
    /// limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-remedy" = "leave it out for no limit"))]
    pub memory_gib: Option<f64>,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self { tokens: 2048, memory_gib: None }
    }
}
