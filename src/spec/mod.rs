//! The spec: the content of an experiment file, as closed types.
//!
//! Nothing is resolved here: paths are kept as written, only the spec itself is opened, and no
//! default depends on the machine. In a spec without `corpus`, the folders of the family are listed to
//! tell recorded activations from models. [`crate::plan`] resolves a spec. Every setting that can change
//! a number is here or in the provenance of the run.

mod check;
mod corpus;
mod correlation;
mod device;
mod finding;
pub mod load;
mod models;
mod position;
mod ranges;
pub mod recorded;
pub mod rules;
pub mod schema;
mod statistics;
mod suggest;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_yaml::Value;

use crate::error::{Error, Kind, Result};

pub use crate::backend::Precision;
pub use corpus::{Corpus, Exclusion, Fields, RECORDED_ROW, Tokenisation};
pub use correlation::{Baseline, BaselineKind, Correlation, Screen};
pub use device::{CardChoice, DeviceChoice};
pub use finding::{Finding, finding};
pub use models::{ActivationFormat, Model, Models, Units};
pub use rules::{KindRules, Section};
pub use statistics::{IntervalOptions, MomentKind, SparsityKind, Statistics};

/// Version of the spec format that this program writes and reads. It is increased whenever the
/// meaning of a field changes in a way that can change a number.
pub const VERSION: u32 = 1;

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
    /// Returns what is compared, in the plural: neurons, or other units of models or of recorded
    /// activations.
    pub fn noun(&self) -> &'static str {
        if self.corpus.is_absent() { "units" } else { self.models.units.noun() }
    }

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
