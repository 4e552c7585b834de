//! A plan is a resolved spec. Paths are resolved, files are digested, the corpus is tokenised, and
//! every mistake that can be found before the first forward pass is reported.

mod distinct;
mod identity;
mod memory;
mod model;
mod names;
mod notes;
mod recorded;
mod resolve;
mod transcript;
mod untrained;
mod variant;
mod vocabulary;
mod workload;

use std::path::PathBuf;

use crate::corpus::documents::DocumentCount;
use crate::corpus::{Sample, Tokens};
use crate::correlation::Keep;
use crate::spec::Spec;

pub use model::PlannedModel;
pub use names::UnitNames;
pub use notes::{NonFiniteWeights, ReadFiles};
pub use transcript::Transcript;
pub use workload::{Workload, weight_bytes};

/// A spec with everything it refers to found and checked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The spec as loaded.
    pub spec: Spec,
    /// Where it was loaded from.
    pub spec_path: PathBuf,
    /// SHA-256 of the spec, including its base.
    pub spec_digest: String,
    /// The family, in the order of the spec.
    pub models: Vec<PlannedModel>,
    /// Indices in the family of the judged models, the reference first.
    pub judged: Vec<usize>,
    /// SHA-256 of the corpus file; empty if there is none.
    pub corpus_digest: String,
    /// The samples used. Their texts are empty unless the kind of experiment needs them.
    pub samples: Vec<Sample>,
    /// Numbers of documents read and skipped.
    pub documents: DocumentCount,
    /// The tokens of the samples.
    pub tokens: Tokens,
    /// The text of recorded activations; `None` for models, and where it is not known.
    pub transcript: Option<Transcript>,
    /// What the run keeps of the tokens: activations or sums.
    pub keep: Keep,
    /// The files read so far that the settings name.
    pub files: ReadFiles,
}

impl Plan {
    /// Returns whether the members of the family are recorded activations instead of models.
    pub fn is_recorded(&self) -> bool {
        self.reference().recording().is_some()
    }

    /// Returns whether the activations of MLP neurons of models are compared as the models compute
    /// them, rather than recorded or rounded ones, or other units.
    pub fn has_exact_neurons(&self) -> bool {
        let models = &self.spec.models;
        !self.is_recorded() && models.units.are_activations() && models.activations.is_exact()
    }

    /// Returns whether the members are recorded activations that are stored without their zeros.
    pub fn is_sparse(&self) -> bool {
        self.sparse_entries().is_some()
    }

    /// Returns the number of stored activations of all members, if they are sparse.
    fn sparse_entries(&self) -> Option<usize> {
        self.models.iter().map(|model| model.recording()?.sparse_entries()).sum()
    }

    /// Returns the reference model.
    pub fn reference(&self) -> &PlannedModel {
        &self.models[self.judged[0]]
    }

    /// Returns the labels of the samples, in the order in which they first occur.
    pub fn labels(&self) -> Vec<String> {
        let mut labels: Vec<String> = Vec::new();
        for sample in &self.samples {
            if !labels.contains(&sample.domain) {
                labels.push(sample.domain.clone());
            }
        }
        labels
    }

    /// Returns the indices of a judged model's partners, in the order of the family.
    pub fn partners(&self, judged: usize) -> impl Iterator<Item = usize> + Clone {
        (0..self.models.len()).filter(move |&i| i != judged)
    }

    /// Returns the threshold of the excess, followed by those that are also reported.
    pub fn thresholds(&self) -> impl Iterator<Item = f64> {
        let correlation = &self.spec.correlation;
        std::iter::once(correlation.threshold).chain(correlation.also_report.iter().copied())
    }

    /// Returns the number of partners of each neuron among which resamples look for the best match;
    /// 0 if the spec asks for no intervals.
    pub fn candidates(&self) -> usize {
        self.spec.statistics.intervals.candidates()
    }
}
