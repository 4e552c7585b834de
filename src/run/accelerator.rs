//! Where a session's models run and are compared, if not on the CPU.

use std::sync::Arc;

use super::device_sums::{Place, device_sums};
use super::self_check::place_checked;
use super::study_sums::{Matching, StudySums};
use crate::backend::device::array::HalfFormat;
use crate::backend::device::{Device, HalfType};
use crate::error::Result;
use crate::model::forward::Gpu;
use crate::model::{Decoder, Transformer};
use crate::plan::Plan;
use crate::spec::Precision;

/// A device on which models run and are compared. Every [`Device`] is one.
pub trait Accelerator {
    /// Returns the name of the device and how it multiplies, on which the bits of sums depend.
    fn engine(&self, precision: Precision) -> String;

    /// Returns the number of devices that share the tokens of a study.
    fn devices(&self) -> usize {
        1
    }

    /// Copies a model to the device, and checks there that it computes what it does on the CPU.
    ///
    /// # Errors
    /// Returns an error if the device has too little memory, or gives another result.
    fn place(
        &self,
        model: &Arc<Transformer>,
        precision: Precision,
    ) -> Result<Box<dyn Decoder + '_>>;

    /// Copies the models of a plan to the device, checks them there, and creates the sums of its
    /// study, without tokens.
    ///
    /// # Errors
    /// Returns an error if the device has too little memory, or gives other results than the CPU.
    fn sums<'s>(
        &'s self,
        plan: &'s Plan,
        models: Vec<Arc<Transformer>>,
        matching: Matching,
    ) -> Result<Box<dyn StudySums + 's>>;
}

impl<D: Device> Accelerator for D {
    fn engine(&self, precision: Precision) -> String {
        let how = if format(precision).split { "pairs of f16" } else { "bf16" };
        format!("cuda ({}, {how})", self.name())
    }

    fn place(
        &self,
        model: &Arc<Transformer>,
        precision: Precision,
    ) -> Result<Box<dyn Decoder + '_>> {
        let gpu = Gpu { device: self, form: format(precision) };
        Ok(Box::new(place_checked(gpu, model, precision)?))
    }

    fn sums<'s>(
        &'s self,
        plan: &'s Plan,
        models: Vec<Arc<Transformer>>,
        matching: Matching,
    ) -> Result<Box<dyn StudySums + 's>> {
        let precision = plan.spec.correlation.precision;
        let engine = self.engine(precision);
        let on = Place { device: self, form: format(precision), engine };
        device_sums(plan, on, models, matching)
    }
}

/// Returns the format of factors on a device for a precision: for f32 pairs of f16, whose products
/// are nearly as accurate as those of f32.
pub(super) fn format(precision: Precision) -> HalfFormat {
    match precision {
        Precision::F32 => HalfFormat { number: HalfType::F16, split: true },
        Precision::Bf16 => HalfFormat { number: HalfType::Bf16, split: false },
    }
}
