//! A session carries out a plan. It holds the loaded models, the control of the run, and the loop
//! over batches.

use std::sync::Arc;

use super::Control;
use super::accelerator::Accelerator;
use super::decoders::Decoders;
use super::member::FamilyMember;
use super::study_sums::Matching;
use super::study_sums::{BatchReader, StudySums};
use super::sums::host_sums;
use crate::backend::kernel::cpu;
use crate::corpus::{Batch, Tokens};
use crate::error::Result;
use crate::findings::Universal;
use crate::model::{Decoder, Transformer};
use crate::plan::{Plan, PlannedModel};
use crate::record::{BestMatch, ExtraRow};

/// The execution of a plan: its models, each loaded once, and the loop over its tokens.
///
/// # Examples
///
/// Runs a study of two of the bundled models on the first documents of their text.
///
/// ```
/// use universal_neurons::Session;
/// use universal_neurons::experiment::load_spec;
/// use universal_neurons::plan::Plan;
/// use universal_neurons::run::Control;
///
/// let mut loaded = load_spec("experiments/desk-universality.yaml".as_ref())?;
/// loaded.spec.models.family.truncate(2);
/// loaded.spec.corpus.limit = Some(4);
/// let plan = Plan::make(loaded)?;
///
/// let mut control = Control::default();
/// let mut session = Session::new(&plan, &mut control);
/// let found = session.study()?.reference;
/// assert_eq!(found.summary.reference, "a");
///
/// // The same session studies a variant of the plan without loading the models again.
/// let fewer = plan.with_tokens(plan.tokens.sample(200))?;
/// let again = session.study_of(&fewer, "200 tokens")?;
/// assert!(again.summary.tokens.used < found.summary.tokens.used);
/// # Ok::<(), universal_neurons::Error>(())
/// ```
pub struct Session<'a> {
    /// The plan to carry out.
    pub plan: &'a Plan,
    /// Progress, cancellation and checkpoints of the run.
    pub control: &'a mut Control,
    /// The device that the models run on; `None` for the CPU.
    pub(super) accelerator: Option<&'a dyn Accelerator>,
    /// The models of the plan; `None` for those not loaded yet.
    models: Vec<Option<FamilyMember>>,
    /// The universal neurons, if they are known already.
    pub(super) universal: Option<Universal>,
    /// Whether a study of this very plan found them, rather than a run with other text or settings.
    pub(super) same_study: bool,
    /// The best matches of the reference model's neurons, if they are known: those of the study that
    /// found the universal neurons.
    pub matches: Vec<ModelMatches>,
}

/// The best matches of all neurons of the reference model in one partner model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelMatches {
    /// Index of the partner model in the family.
    pub model: usize,
    /// The best match of each neuron, counted over all layers.
    pub best: Vec<Option<BestMatch>>,
}

impl ModelMatches {
    /// Takes the best matches from rows of `neurons-extra.csv`, which has the models of these indices
    /// in this order.
    pub fn of(models: impl IntoIterator<Item = usize>, rows: &[ExtraRow]) -> Vec<Self> {
        let one = |(place, model)| Self {
            model,
            best: rows.iter().map(|row| row.matches[place]).collect(),
        };
        models.into_iter().enumerate().map(one).collect()
    }
}

impl<'a> Session<'a> {
    /// Creates a session for a plan. Models are loaded when they are first needed.
    pub fn new(plan: &'a Plan, control: &'a mut Control) -> Self {
        let models = vec![None; plan.models.len()];
        let (universal, matches) = (None, Vec::new());
        Self { plan, control, accelerator: None, models, universal, same_study: false, matches }
    }

    /// Sets the device that the models run on; `None` for the CPU.
    #[must_use]
    pub fn on(self, accelerator: Option<&'a dyn Accelerator>) -> Self {
        Self { accelerator, ..self }
    }

    /// Returns the name of the device, and how it multiplies.
    pub fn device(&self) -> String {
        let precision = self.plan.spec.correlation.precision;
        self.accelerator.map_or_else(|| cpu(precision), |device| device.engine(precision))
    }

    /// Sets which neurons are universal, so that no study has to find them.
    #[must_use]
    pub fn with_universal(self, universal: Option<Universal>) -> Self {
        Self { universal, same_study: false, ..self }
    }

    /// Sets whether a study of this very plan found the universal neurons, so that no experiment has to
    /// make that study again.
    #[must_use]
    pub fn of_same_study(self, same_study: bool) -> Self {
        Self { same_study, ..self }
    }

    /// Sets the best matches of the neurons, as an earlier study found them.
    #[must_use]
    pub fn with_matches(self, matches: Vec<ModelMatches>) -> Self {
        Self { matches, ..self }
    }

    /// Creates a session for a variant of the plan. It shares the models that both have.
    ///
    /// # Errors
    /// Returns an error if a shared model cannot be loaded.
    pub(super) fn share<'b>(
        &mut self,
        plan: &'b Plan,
        control: &'b mut Control,
    ) -> Result<Session<'b>>
    where
        'a: 'b,
    {
        let own = |model: &PlannedModel| {
            self.plan.models.iter().position(|own| own.has_weights_of(model))
        };
        let places: Vec<Option<usize>> = plan.models.iter().map(own).collect();
        self.load(places.iter().flatten().copied())?;
        let models = places.into_iter().map(|place| self.models[place?].clone()).collect();
        Ok(Session { models, ..Session::new(plan, control).on(self.accelerator) })
    }

    /// Returns all models of the family, in the order of the plan.
    ///
    /// # Errors
    /// Returns an error if a model cannot be loaded, or only its activations were recorded.
    pub fn models(&mut self) -> Result<Vec<Arc<Transformer>>> {
        self.members()?.iter().map(FamilyMember::model).collect()
    }

    /// Returns all members of the family, in the order of the plan.
    ///
    /// # Errors
    /// Returns an error if one cannot be loaded.
    pub(super) fn members(&mut self) -> Result<Vec<FamilyMember>> {
        self.load(0..self.models.len())?;
        Ok(self.models.iter().flatten().cloned().collect())
    }

    /// Returns the reference model.
    ///
    /// # Errors
    /// Returns an error if the model cannot be loaded, or only its activations were recorded.
    pub fn reference(&mut self) -> Result<Arc<Transformer>> {
        self.model(self.plan.judged[0])
    }

    /// Returns the model with an index in the family.
    ///
    /// # Errors
    /// Returns an error if the model cannot be loaded, or only its activations were recorded.
    pub fn model(&mut self, index: usize) -> Result<Arc<Transformer>> {
        self.load([index])?;
        let member = self.models[index].as_ref();
        member.unwrap_or_else(|| unreachable!("it was loaded")).model()
    }

    /// Creates the sums of the study, without tokens.
    ///
    /// # Errors
    /// Returns an error if a model cannot be loaded, or the device has too little memory.
    pub(super) fn empty_sums(&mut self) -> Result<Box<dyn StudySums + 'a>> {
        let plan = self.plan;
        let tokens = plan.tokens.count().used;
        self.sums_of(Matching::All { plan: plan.comparison_plan(), keep: plan.keep, tokens })
    }

    /// Creates sums without tokens for another way to match neurons.
    ///
    /// # Errors
    /// Returns an error if a model cannot be loaded, or the device has too little memory.
    pub(super) fn sums_of(&mut self, matching: Matching) -> Result<Box<dyn StudySums + 'a>> {
        let (plan, members) = (self.plan, self.members()?);
        let Some(device) = self.accelerator else {
            return Ok(host_sums(plan, members, matching));
        };
        let models = members.iter().map(FamilyMember::model).collect::<Result<_>>()?;
        device.sums(plan, models, matching)
    }

    /// Drops all models but the reference.
    pub fn drop_partners(&mut self) {
        let reference = self.plan.judged[0];
        let partners = self.models.iter_mut().enumerate().filter(|(i, _)| *i != reference);
        partners.for_each(|(_, model)| *model = None);
    }

    /// Loads the wanted models that are not loaded yet.
    fn load(&mut self, wanted: impl IntoIterator<Item = usize>) -> Result<()> {
        let missing: Vec<usize> =
            wanted.into_iter().filter(|&i| self.models[i].is_none()).collect();
        let progress = &self.control.progress;
        if !missing.is_empty() {
            progress.stage("loading models", missing.len() as u64);
        }
        for i in missing {
            progress.advance(1);
            self.models[i] = Some(FamilyMember::load(&self.plan.models[i], progress)?);
        }
        Ok(())
    }

    /// Passes every batch of the plan's tokens to `see`, together with the reference model.
    ///
    /// # Errors
    /// Returns the error of `see`, or an error if the model cannot be loaded, the device has too
    /// little memory, or the run was stopped.
    pub fn read(
        &mut self,
        stage: &str,
        see: impl FnMut(&dyn Decoder, &Batch) -> Result<()>,
    ) -> Result<()> {
        self.read_tokens(stage, &self.plan.tokens, see)
    }

    /// Passes every batch of some tokens to `see`, together with the reference model.
    ///
    /// # Errors
    /// Returns an error as [`Self::read`] does.
    pub fn read_tokens(
        &mut self,
        stage: &str,
        tokens: &Tokens,
        mut see: impl FnMut(&dyn Decoder, &Batch) -> Result<()>,
    ) -> Result<()> {
        let reference = self.plan.judged[0];
        self.read_models(stage, tokens, &[reference], |models, batch| see(models.get(0), batch))
    }

    /// Passes every batch of some tokens to `see`, together with some models, which are given by
    /// their indices in the family.
    ///
    /// # Errors
    /// Returns an error as [`Self::read`] does.
    pub fn read_models(
        &mut self,
        stage: &str,
        tokens: &Tokens,
        models: &[usize],
        mut see: impl FnMut(&Decoders, &Batch) -> Result<()>,
    ) -> Result<()> {
        self.load(models.iter().copied())?;
        let hosts: Vec<FamilyMember> =
            models.iter().filter_map(|&i| self.models[i].clone()).collect();
        let (device, precision) = (self.accelerator, self.plan.spec.correlation.precision);
        let placed: Vec<_>;
        let models = match device {
            None => Decoders::Cpu(&hosts),
            Some(device) => {
                let place = |host: &FamilyMember| device.place(&host.model()?, precision);
                placed = hosts.iter().map(place).collect::<Result<_>>()?;
                Decoders::Device(&placed)
            }
        };
        let batches = tokens.batches(self.plan.spec.batch.tokens, 0..tokens.count().used);
        self.read_batches(stage, &batches, 0, &mut |batch: &Batch| see(&models, batch))
    }

    /// Passes batches to a reader, except for the first `done`, which it has read already. Every
    /// pass over tokens uses this loop.
    ///
    /// # Errors
    /// Returns the reader's error, or one of kind interrupted if the run was stopped. The
    /// state at that point is saved if the run writes checkpoints.
    pub(super) fn read_batches(
        &mut self,
        stage: &str,
        batches: &[Batch],
        done: usize,
        reader: &mut (impl BatchReader + ?Sized),
    ) -> Result<()> {
        let control = &mut *self.control;
        let tokens = |batches: &[Batch]| batches.iter().map(|b| b.used.len() as u64).sum();
        control.progress.stage(stage, tokens(batches));
        control.progress.advance(tokens(&batches[..done]));
        let mut done = done;
        for batches in batches[done..].chunks(reader.at_once()) {
            if control.is_stopped() {
                return Err(control.end_early(reader.state(), done));
            }
            reader.read(batches).map_err(|error| control.keeps(error))?;
            done += batches.len();
            control.progress.advance(tokens(batches));
            control.keep_if_due(reader.state(), done);
        }
        Ok(())
    }
}

/// Returns the digest of everything that the bits of a plan's sums depend on. Sums that were made on
/// another device are not resumed and not merged.
pub fn identity(plan: &Plan, accelerator: Option<&dyn Accelerator>) -> String {
    let precision = plan.spec.correlation.precision;
    match accelerator {
        Some(device) => plan.identity_on(&device.engine(precision)),
        None => plan.identity(),
    }
}
