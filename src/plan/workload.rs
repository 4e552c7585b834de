//! What the memory and the cost of a run depend on: the sizes of the models, and numbers of tokens.
//! They are known before any model or text is in place.

use std::path::Path;

use super::Plan;
use super::resolve::positions;
use crate::correlation::{ComparisonPlan, Keep, Layout, TOKENS_AT_ONCE};
use crate::error::{Error, Kind, Result};
use crate::hub::model_families;
use crate::model::{Activation, ModelShape};
use crate::spec::{Spec, Tokenisation};

/// The number of tokens that is assumed of a text that is not here.
const UNKNOWN_TOKENS: usize = 1_000_000;
/// Bytes in a GiB.
const GIB: f64 = (1_u64 << 30) as f64;

/// The sizes of a run.
#[derive(Debug, Clone)]
pub struct Workload<'a> {
    /// The spec.
    pub spec: &'a Spec,
    /// Where it was loaded from.
    pub spec_path: &'a Path,
    /// The sizes of the models of the family.
    pub models: Vec<ModelShape>,
    /// Number of stored activations of all models, if they are sparse.
    pub sparse_entries: Option<usize>,
    /// Which models are compared, and how.
    pub comparison: ComparisonPlan,
    /// Number of tokens that enter statistics.
    pub used: usize,
    /// Number of tokens that every model reads.
    pub read: usize,
    /// Whether the numbers of tokens are known, rather than assumed.
    pub is_known: bool,
}

impl Plan {
    /// Returns which models are compared, and how.
    pub fn comparison_plan(&self) -> ComparisonPlan {
        let models = self.models.iter().map(|m| (m.layout(), m.config.activation));
        comparison(&self.spec, models, self.judged.clone())
    }

    /// Returns the sizes of the run.
    pub fn workload(&self) -> Workload<'_> {
        Workload {
            spec: &self.spec,
            spec_path: &self.spec_path,
            models: self.models.iter().map(|model| model.config.shape()).collect(),
            sparse_entries: self.sparse_entries(),
            comparison: self.comparison_plan(),
            used: self.tokens.count().used,
            read: self.tokens.rows.iter().map(|row| row.ids.len()).sum(),
            is_known: true,
        }
    }
}

impl<'a> Workload<'a> {
    /// Returns the sizes of a run from its spec only: those of the models by their names, and the
    /// number of tokens that the spec asks for, or a million if it uses the whole text.
    ///
    /// # Errors
    /// Returns an error if `expected/models.yaml` does not know a model.
    pub fn of_spec(spec: &'a Spec, spec_path: &'a Path) -> Result<Self> {
        let families = model_families()?;
        let shape_of = |name: &String| {
            let found = families.iter().find(|family| family.names().any(|known| known == name));
            found.map(|family| first_layers(spec, family.shape)).ok_or_else(|| {
                let problem =
                    format!("the size of model `{name}` is not known, and it is not here");
                let remedy =
                    "correct `models.family[].path`, or use a name of expected/models.yaml";
                Error::new(Kind::Spec, spec_path.display(), problem, remedy)
            })
        };
        let names = spec.models.family.iter().map(|model| &model.name);
        let models = names.map(shape_of).collect::<Result<Vec<_>>>()?;
        let used = spec.corpus.sample.unwrap_or(UNKNOWN_TOKENS);
        // No cost depends on the activation function.
        let compared = models.iter().map(|m| (layout(spec, m), Activation::GeluNew));
        let comparison = comparison(spec, compared, positions(spec)?);
        let (read, is_known) = (read_for(spec, used), spec.corpus.sample.is_some());
        let sparse_entries = None;
        Ok(Self { spec, spec_path, models, sparse_entries, comparison, used, read, is_known })
    }

    /// Returns the sizes of the reference model.
    pub fn reference(&self) -> &ModelShape {
        &self.models[self.comparison.references[0]]
    }

    /// Returns what the run keeps of the tokens: activations or sums, whichever is smaller, within
    /// the memory that the spec allows.
    ///
    /// # Errors
    /// Returns an error if neither fits into that memory.
    pub fn choose_keep(&self) -> Result<Keep> {
        let bytes = |keep: &Keep| self.bytes(*keep);
        let once = [Keep::Tokens, Keep::Sums { passes: 1 }];
        let smaller = match self.spec.correlation.screen {
            // A screening sample is small, so its activations are kept rather than their sums.
            _ if self.sparse_entries.is_some() => Keep::Tokens,
            Some(_) => Keep::Tokens,
            None => once.into_iter().min_by_key(bytes).unwrap_or(Keep::Tokens),
        };
        let Some(gib) = self.spec.batch.memory_gib else {
            return Ok(smaller);
        };
        let limit = (gib * GIB) as usize;
        let most = match smaller {
            _ if self.sparse_entries.is_some() => 0,
            Keep::Tokens if self.spec.correlation.screen.is_some() => 0,
            _ => self.comparison.max_passes(),
        };
        let repeated = (2..=most).map(|passes| Keep::Sums { passes });
        let fits = |keep: &Keep| bytes(keep) <= limit;
        std::iter::once(smaller).chain(repeated.clone()).find(fits).ok_or_else(|| {
            let least = std::iter::once(smaller).chain(repeated).map(|keep| bytes(&keep)).min();
            let least = least.unwrap_or(0) as f64 / GIB;
            Error::new(
                Kind::Spec,
                self.spec_path.display(),
                format_args!("`batch.memory_gib` is {gib}, the run needs {least:.2}"),
                "raise the limit, compare fewer models, or use the rotation baseline",
            )
        })
    }

    /// Returns the bytes that weights, activations, and the data kept of the tokens need.
    pub fn bytes(&self, keep: Keep) -> usize {
        if let Some(entries) = self.sparse_entries {
            // By token and by neuron, with sums and orders of every neuron.
            let neurons: usize = self.models.iter().map(ModelShape::n_neurons).sum();
            return 2 * 8 * entries + 64 * neurons;
        }
        let screen = self.spec.correlation.screen.as_ref();
        let tokens = screen.map_or(self.used, |s| s.sample.min(self.used));
        let kept = self.comparison.kept_bytes(keep, tokens);
        self.bytes_without_sums() + kept + self.comparison.comparison_bytes()
    }

    /// Returns the operations of the products of sparse activations, as if the entries of each model
    /// lay evenly in its tokens; `None` for others.
    pub fn sparse_operations(&self) -> Option<f64> {
        let entries = self.sparse_entries? as f64 / self.models.len() as f64;
        let pairs = self.comparison.references.len() * (self.models.len() - 1);
        let products = pairs * (1 + self.comparison.baseline.draws);
        Some(2.0 * products as f64 * entries * entries / self.used.max(1) as f64)
    }

    /// Returns the bytes of weights and activations. All models run a batch side by side.
    pub fn bytes_without_sums(&self) -> usize {
        let judged = self.comparison.references.iter().map(|&i| &self.models[i]);
        let pre: usize = judged.map(ModelShape::n_neurons).sum();
        let post: usize = self.models.iter().map(ModelShape::n_neurons).sum();
        let tokens = TOKENS_AT_ONCE + self.spec.batch.tokens.max(self.spec.corpus.context);
        let activations = 4 * tokens * (pre + post);
        let weights: usize = self.models.iter().map(weight_bytes).sum();
        let of_pass = |m: &ModelShape| m.d_mlp.max(3 * m.d_model) + m.d_mlp + 3 * m.d_model;
        let batch = self.spec.batch.tokens.max(self.spec.corpus.context);
        let passes = 4 * batch * self.models.iter().map(of_pass).sum::<usize>();
        weights + activations + passes
    }
}

/// Returns the sizes of a model without the layers that the spec leaves out.
fn first_layers(spec: &Spec, shape: ModelShape) -> ModelShape {
    let wanted = spec.models.layers.as_ref().map_or(shape.n_layers, Vec::len);
    ModelShape { n_layers: wanted.min(shape.n_layers), ..shape }
}

/// Returns the numbers of layers and of compared units of a model.
fn layout(spec: &Spec, shape: &ModelShape) -> Layout {
    Layout { n_layers: shape.n_layers, d_mlp: spec.models.units.per_layer(shape) }
}

/// Returns the bytes of the weights of a model.
pub fn weight_bytes(m: &ModelShape) -> usize {
    4 * (m.block_weights() + (m.d_vocab + m.n_ctx) * m.d_model)
}

/// Returns which models are compared, and how, given the layout and the activation function of each.
pub(super) fn comparison(
    spec: &Spec,
    models: impl Iterator<Item = (Layout, Activation)>,
    judged: Vec<usize>,
) -> ComparisonPlan {
    let correlation = &spec.correlation;
    let (models, activations) = models.map(|(layout, f)| (layout, f.function())).unzip();
    ComparisonPlan {
        models,
        activations,
        references: judged,
        baseline: correlation.baseline.clone(),
        precision: correlation.precision,
        top: correlation.top_partners.max(spec.statistics.intervals.candidates()),
    }
}

/// Returns how many tokens are read so that `used` enter statistics: every row of full context
/// begins with a token that does not count. Newlines within rows are not known here.
fn read_for(spec: &Spec, used: usize) -> usize {
    let context = spec.corpus.context;
    match spec.corpus.tokenisation {
        Tokenisation::PerDoc => used,
        _ if !spec.corpus.prepend_bos => used,
        _ => used.div_ceil(context - 1) * context,
    }
}
