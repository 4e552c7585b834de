//! The plan: a spec made real. Paths are resolved, files are digested, the
//! corpus is tokenised, and everything that can be found wrong before the
//! first forward pass has been.

mod identity;
mod memory;
mod model;
mod notes;
mod resolve;
mod variant;
mod vocabulary;

use std::path::PathBuf;

use crate::corpus::documents::DocumentCount;
use crate::corpus::{Sample, Tokens};
use crate::correlation::{ComparisonPlan, Keep};
use crate::spec::Spec;

pub use model::PlannedModel;
pub use notes::{NonFiniteWeights, ReadFiles};

/// A spec with everything it refers to found and checked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The spec as loaded.
    pub spec: Spec,
    /// Where it was loaded from.
    pub spec_path: PathBuf,
    /// SHA-256 of the spec, its base included.
    pub spec_digest: String,
    /// The family, in the order of the spec.
    pub models: Vec<PlannedModel>,
    /// Indices of the models judged in the family, the reference first.
    pub judged: Vec<usize>,
    /// SHA-256 of the corpus file.
    pub corpus_digest: String,
    /// The samples used; their texts where syntax labels are asked for alone.
    pub samples: Vec<Sample>,
    /// How many documents were read, and skipped.
    pub documents: DocumentCount,
    /// Their tokens.
    pub tokens: Tokens,
    /// What the run keeps of them.
    pub keep: Keep,
    /// The files that the settings name and that were read.
    pub files: ReadFiles,
}

impl Plan {
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

    /// Returns the threshold of the excess, and those reported beside it.
    pub fn thresholds(&self) -> impl Iterator<Item = f64> {
        let correlation = &self.spec.correlation;
        std::iter::once(correlation.threshold).chain(correlation.also_report.iter().copied())
    }

    /// Returns what is compared with what, and how.
    pub fn comparison_plan(&self) -> ComparisonPlan {
        let correlation = &self.spec.correlation;
        ComparisonPlan {
            models: self.models.iter().map(PlannedModel::layout).collect(),
            activations: self.models.iter().map(|m| m.config.activation.function()).collect(),
            references: self.judged.clone(),
            baseline: correlation.baseline.clone(),
            precision: correlation.precision,
            top: correlation.top_partners,
        }
    }
}
