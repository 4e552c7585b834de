//! A member of a family in memory: a model, a model that is read by other units than its neurons, or
//! activations that were recorded in place of a model.

use std::sync::Arc;

use crate::error::Result;
use crate::model::{Decoder, Recording, Transformer, UnitReader};
use crate::plan::PlannedModel;
use crate::progress::Progress;

/// A loaded member of a family.
#[derive(Clone)]
pub enum FamilyMember {
    /// A model with its weights.
    Model(Arc<Transformer>),
    /// A model whose other units, or rounded activations, are compared.
    Units(Arc<UnitReader>),
    /// Recorded activations, which are read from their files when they are needed.
    Recording(Arc<Recording>),
}

impl FamilyMember {
    /// Loads a planned member.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, or changed since it was digested.
    pub fn load(planned: &PlannedModel, progress: &Progress) -> Result<Self> {
        if let Some(recording) = planned.load_recording()? {
            return Ok(Self::Recording(recording));
        }
        let model = Arc::new(planned.load(progress)?);
        let (units, format) = (planned.units, planned.format);
        Ok(match units.are_activations() && format.is_exact() {
            true => Self::Model(model),
            false => Self::Units(Arc::new(UnitReader { model, units, format })),
        })
    }

    /// Returns what computes or reads the activations.
    pub fn decoder(&self) -> &dyn Decoder {
        match self {
            Self::Model(model) => &**model,
            Self::Units(reader) => &**reader,
            Self::Recording(recording) => &**recording,
        }
    }

    /// Returns the model.
    ///
    /// # Errors
    /// Returns an error if only activations were recorded.
    pub fn model(&self) -> Result<Arc<Transformer>> {
        match self {
            Self::Model(model) => Ok(Arc::clone(model)),
            Self::Units(reader) => Ok(Arc::clone(&reader.model)),
            Self::Recording(recording) => Err(recording.needs_a_model()),
        }
    }
}
