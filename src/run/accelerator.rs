//! Where a session's models run and are compared, if not on the CPU.

use std::sync::Arc;

use super::device_group::DeviceGroup;
use super::device_sums::{Place, device_sums};
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
use crate::spec::{CardChoice, DeviceChoice, Precision};

use super::Control;

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

/// Opens the cards that the run is to use, and shows which device was chosen. Returns `None` for the
/// CPU.
///
/// # Errors
/// Returns an error if cards are demanded and missing, or the run needs something that only the CPU
/// or only one card supports.
pub fn open_card(plan: &Plan, control: &Control) -> Result<Option<Box<dyn Accelerator>>> {
    let (cards, demanded) = match control.device.clone().unwrap_or(DeviceChoice::Cpu) {
        DeviceChoice::Cpu => return Ok(None),
        DeviceChoice::Auto => (CardChoice::first(), false),
        DeviceChoice::Cuda(cards) => (cards, true),
    };
    match unsupported(plan).map_or_else(|| open(plan, cards), Err) {
        Ok((names, card)) => {
            control.progress.say(&format!("device: {names}"));
            Ok(Some(card))
        }
        Err(error) if !demanded => {
            control.progress.say(&format!("device: cpu ({})", error.problem));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Opens cards. Returns their names, too.
fn open(plan: &Plan, cards: CardChoice) -> Result<(String, Box<dyn Accelerator>)> {
    let numbers = match cards {
        CardChoice::All => (0..Cuda::count()?).collect(),
        CardChoice::Numbered(numbers) => numbers,
    };
    let mut cards = numbers.into_iter().map(Cuda::open_card).collect::<Result<Vec<_>>>()?;
    let names = cards.iter().map(Device::name).collect::<Vec<_>>().join(", ");
    if cards.len() == 1 {
        return Ok((names, Box::new(cards.remove(0))));
    }
    if plan.spec.correlation.screen.is_some() {
        let problem = "`correlation.screen` is supported only on one card";
        let remedy = "name one with `device: { cuda: 0 }`";
        return Err(Error::new(Kind::Device, "device cuda", problem, remedy));
    }
    Ok((names, Box::new(DeviceGroup(cards))))
}

/// Returns the error of a plan that no device supports.
fn unsupported(plan: &Plan) -> Option<Error> {
    let large = plan.models.iter().find(|m| m.config.d_head() > MAX_D_HEAD)?;
    let (name, d_head) = (&large.name, large.config.d_head());
    let problem =
        format!("{name}, whose heads have {d_head} dimensions, is supported only on the CPU");
    let remedy = format!("use models with heads of at most {MAX_D_HEAD}, or `device: cpu`");
    Some(Error::new(Kind::Device, "device cuda", problem, remedy))
}
