//! The models that read a batch.

use rayon::prelude::*;

use super::member::FamilyMember;
use crate::corpus::Batch;
use crate::error::Result;
use crate::model::capture::{Activations, Capture};
use crate::model::{Decoder, Site};

/// Some models of a plan, ready to run.
pub enum Decoders<'a> {
    /// On the CPU.
    Cpu(&'a [FamilyMember]),
    /// On a device.
    Device(&'a [Box<dyn Decoder + 'a>]),
}

impl Decoders<'_> {
    /// Returns one of the models.
    pub fn get(&self, i: usize) -> &dyn Decoder {
        match self {
            Self::Cpu(models) => models[i].decoder(),
            Self::Device(models) => &*models[i],
        }
    }

    /// Runs each model over a batch. The activations of the tokens that enter the sums are appended to
    /// the targets of the model.
    ///
    /// # Errors
    /// Returns an error if a device fails.
    pub fn capture(
        &self,
        batch: &Batch,
        targets: Vec<Vec<(Site, &mut Activations)>>,
    ) -> Result<()> {
        let (rows, keep) = (batch.ids(), batch.kept());
        self.each(targets, |model, targets| {
            model.forward(&rows, &mut Capture::new(&keep, targets)).map(drop)
        })
    }

    /// Calls `run` with each model and its state, in the order of the models. A model without a state
    /// does not run. Models on the CPU run side by side: while one of them does what a single core
    /// can do, others use the rest.
    ///
    /// # Errors
    /// Returns an error of `run`.
    pub fn each<S: Send>(
        &self,
        states: Vec<S>,
        run: impl Fn(&dyn Decoder, S) -> Result<()> + Sync,
    ) -> Result<()> {
        match self {
            Self::Cpu(models) => {
                let each = models.par_iter().zip(states);
                each.try_for_each(|(model, state)| run(model.decoder(), state))
            }
            Self::Device(models) => {
                let mut each = models.iter().zip(states);
                each.try_for_each(|(model, state)| run(&**model, state))
            }
        }
    }
}
