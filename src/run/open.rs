//! Opening the cards that a run asks for.

use super::Control;
use super::accelerator::Accelerator;
use super::device_group::DeviceGroup;
use crate::backend::device::Device;
use crate::backend::device::cuda::Cuda;
use crate::backend::device::ops::MAX_D_HEAD;
use crate::error::{Error, Kind, Result};
use crate::plan::Plan;
use crate::spec::{CardChoice, DeviceChoice};

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
    if !plan.has_exact_neurons() {
        let problem = "recorded or rounded activations, and units other than neurons, are compared on the CPU only";
        return Some(Error::new(Kind::Device, "device cuda", problem, "use `device: cpu`"));
    }
    let large = plan.models.iter().find(|m| m.config.d_head() > MAX_D_HEAD)?;
    let (name, d_head) = (&large.name, large.config.d_head());
    let problem =
        format!("{name}, whose heads have {d_head} dimensions, is supported only on the CPU");
    let remedy = format!("use models with heads of at most {MAX_D_HEAD}, or `device: cpu`");
    Some(Error::new(Kind::Device, "device cuda", problem, remedy))
}
