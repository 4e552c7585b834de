//! Where a session's models run and are compared, if not on the CPU.

use std::sync::Arc;

use super::device_sums::device_sums;
use super::self_check::place_checked;
use super::study_sums::{Matching, StudySums};
use crate::backend::device::array::HalfFormat;
use crate::backend::device::cuda::Cuda;
use crate::backend::device::ops::MAX_D_HEAD;
use crate::backend::device::{Device, HalfType};
use crate::error::{Error, Kind, Result};
use crate::model::forward::Gpu;
use crate::model::{Decoder, Transformer};
use crate::plan::Plan;
use crate::spec::{DeviceChoice, Precision};

use super::Control;

/// A device on which models run and are compared. Every [`Device`] is one.
pub trait Accelerator {
    /// Returns the name of the device and how it multiplies, on which the bits of sums depend.
    fn engine(&self, precision: Precision) -> String;

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
        let on = (self, format(precision), self.engine(precision));
        device_sums(plan, on, models, matching)
    }
}

/// Returns the format of factors on a device for a precision: for f32 pairs of f16, whose products
/// are nearly as accurate as those of f32.
fn format(precision: Precision) -> HalfFormat {
    match precision {
        Precision::F32 => HalfFormat { number: HalfType::F16, split: true },
        Precision::Bf16 => HalfFormat { number: HalfType::Bf16, split: false },
    }
}

/// Opens the GPU if the run is to use it, and shows which device was chosen.
///
/// # Errors
/// Returns an error if `device: cuda` is demanded and there is no GPU, or the run needs something
/// that only the CPU supports.
pub fn open_card(plan: &Plan, control: &Control) -> Result<Option<Cuda>> {
    let wanted = control.device.unwrap_or(DeviceChoice::Cpu);
    if wanted == DeviceChoice::Cpu {
        return Ok(None);
    }
    let card = match unsupported(plan) {
        Some(what) => Err(refused(&what)),
        None => Cuda::open(),
    };
    match card {
        Ok(card) => {
            control.progress.say(&format!("device: {}", card.name()));
            Ok(Some(card))
        }
        Err(error) if wanted == DeviceChoice::Auto => {
            control.progress.say(&format!("device: cpu ({})", error.problem));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn refused(what: &str) -> Error {
    let problem = format!("{what} is supported only on the CPU");
    let remedy = format!("use models with heads of at most {MAX_D_HEAD}, or `device: cpu`");
    Error::new(Kind::Device, "device cuda", problem, remedy)
}

/// Returns what the plan needs that is not supported on a device, if there is anything.
fn unsupported(plan: &Plan) -> Option<String> {
    let large = plan.models.iter().find(|m| m.config.d_head() > MAX_D_HEAD)?;
    Some(format!("{}, whose heads have {} dimensions,", large.name, large.config.d_head()))
}

/// Returns the accelerator of a session, if a card was opened.
pub fn accelerator(card: &Option<Cuda>) -> Option<&dyn Accelerator> {
    card.as_ref().map(|card| card as _)
}
