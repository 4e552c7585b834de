//! The sums of a study on a device: forward passes, sums and comparisons run there, and the
//! findings are computed on the host.

use std::sync::Arc;

use super::device_memory::DeviceMemory;
use super::outcome::{outcome, weights_of};
use super::self_check::place_checked;
use super::study_sums::{BatchReader, Matching, StudySums, TokenSums};
use crate::backend::device::Device;
use crate::backend::device::array::{Array, HalfFormat};
use crate::backend::device::ops::HISTOGRAM_BINS;
use crate::checkpoint::{Part, State, Visit};
use crate::corpus::Batch;
use crate::correlation::{
    ComparisonPlan, Correlator, DeviceEngine, HalfTokens, Keep, NeuronComparison, PairResult,
    ScreenedCorrelator, Watch,
};
use crate::error::Result;
use crate::findings::Outcome;
use crate::model::Transformer;
use crate::model::forward::{
    BatchSums, Gpu, GpuTransformer, KeepNeurons, NeuronPilot, NeuronPilots,
};
use crate::plan::Plan;
use crate::spec::MomentKind;
use crate::stats::activation::{EDGES, NOTE_THRESHOLD, PUBLISHED_EDGE};
use crate::stats::{ActivationSums, PILOT_TOKENS};

const _: () =
    assert!(HISTOGRAM_BINS == EDGES + 1, "the bins of the kernel are those of the statistics");

/// Where a study is computed.
pub struct Place<'a, D> {
    /// The device.
    pub device: &'a D,
    /// The format of the factors of products.
    pub form: HalfFormat,
    /// Name of the device, and how it multiplies.
    pub engine: String,
}

/// The sums of a study that compares all neurons.
pub type AllSums<'a, D> = DeviceSums<'a, D, Correlator<DeviceEngine<'a, D>>>;

/// Models on the host, and their copies on a device.
type PlacedModels<'a, D> = (Vec<Arc<Transformer>>, Vec<GpuTransformer<'a, D>>);

/// Creates sums on a device, without tokens.
///
/// # Errors
/// Returns an error if the device has too little memory, or does not compute what the CPU does.
pub fn device_sums<'a, D: Device>(
    plan: &'a Plan,
    on: Place<'a, D>,
    models: Vec<Arc<Transformer>>,
    matching: Matching,
) -> Result<Box<dyn StudySums + 'a>> {
    let placed = place_models(plan, &on, &models)?;
    let memory = DeviceMemory::choose(plan, on.form, on.device.free()?, &matching)?;
    Ok(match matching {
        Matching::All { plan: comparison, .. } => {
            Box::new(all_sums(plan, on, (models, placed), comparison, memory)?)
        }
        Matching::Candidates { plan: comparison, margin, sample, .. } => {
            let (device, arithmetic) = (on.device, engine(plan, &on));
            let comparison =
                ScreenedCorrelator::on(arithmetic, comparison, margin, sample, memory.exact)?;
            let family = DeviceFamily::of(plan, on, (models, placed), memory)?;
            Box::new(DeviceSums::new(plan, device, family, comparison)?)
        }
    })
}

/// Copies models to a device, and checks them there.
///
/// # Errors
/// Returns an error if the device has too little memory, or does not compute what the CPU does.
pub fn place_models<'a, D: Device>(
    plan: &Plan,
    on: &Place<'a, D>,
    models: &[Arc<Transformer>],
) -> Result<Vec<GpuTransformer<'a, D>>> {
    let (device, form, precision) = (on.device, on.form, plan.spec.correlation.precision);
    models.iter().map(|model| place_checked(Gpu { device, form }, model, precision)).collect()
}

/// Creates the sums of a study that compares all neurons, without tokens.
///
/// # Errors
/// Returns an error if the device has too little memory.
pub fn all_sums<'a, D: Device>(
    plan: &'a Plan,
    on: Place<'a, D>,
    models: PlacedModels<'a, D>,
    comparison: ComparisonPlan,
    memory: DeviceMemory,
) -> Result<AllSums<'a, D>> {
    let (device, arithmetic) = (on.device, engine(plan, &on));
    let family = DeviceFamily::of(plan, on, models, memory)?;
    let comparison = Correlator::on(arithmetic, comparison, memory.keep)?;
    DeviceSums::new(plan, device, family, comparison)
}

fn engine<'a, D: Device>(plan: &Plan, on: &Place<'a, D>) -> DeviceEngine<'a, D> {
    let scales = plan.models.iter().map(|model| vec![1.0; model.layout().n_neurons()]);
    DeviceEngine::new(on.device, on.form, scales.collect())
}

/// The models of a family on a device, and their activations that are held.
struct DeviceFamily<'a, D: Device> {
    /// Name of the device, and how it multiplies.
    engine: String,
    models: Vec<Arc<Transformer>>,
    placed: Vec<GpuTransformer<'a, D>>,
    held: Vec<HalfTokens<'a, D>>,
    memory: DeviceMemory,
}

impl<'a, D: Device> DeviceFamily<'a, D> {
    fn of(
        plan: &Plan,
        on: Place<'a, D>,
        (models, placed): PlacedModels<'a, D>,
        memory: DeviceMemory,
    ) -> Result<Self> {
        let held = plan.models.iter().map(|model| {
            HalfTokens::new(on.device, model.layout().n_neurons(), memory.tokens, on.form)
        });
        Ok(Self { held: held.collect::<Result<_>>()?, engine: on.engine, models, placed, memory })
    }
}

/// The models on a device, with their comparison and statistics.
pub struct DeviceSums<'a, D: Device, C> {
    plan: &'a Plan,
    device: &'a D,
    family: DeviceFamily<'a, D>,
    comparison: C,
    pilots: Vec<Vec<NeuronPilot>>,
    placed_pilots: Vec<NeuronPilots<D>>,
    statistics: Vec<(usize, ActivationSums)>,
    /// Counts of pre-activations by bin that are not in the statistics yet, for each judged model
    /// if moments are binned.
    bins: Vec<Option<Array<D, u32>>>,
}

impl<'a, D: Device, C: NeuronComparison<Engine = DeviceEngine<'a, D>>> DeviceSums<'a, D, C> {
    /// Creates sums without tokens.
    ///
    /// # Errors
    /// Returns an error if the device has too little memory.
    fn new(
        plan: &'a Plan,
        device: &'a D,
        family: DeviceFamily<'a, D>,
        comparison: C,
    ) -> Result<Self> {
        let n_neurons = |model: usize| plan.models[model].layout().n_neurons();
        let statistics = |&model: &usize| {
            (model, ActivationSums::new(n_neurons(model), plan.spec.statistics.moments))
        };
        let models = 0..family.models.len();
        let pilots = models.clone().map(|m| vec![NeuronPilot::NONE; n_neurons(m)]).collect();
        let binned = plan.spec.statistics.moments == MomentKind::Binned;
        let bins = |model: usize| {
            let wanted = binned && plan.judged.contains(&model);
            wanted.then(|| Array::zeros(device, n_neurons(model) * HISTOGRAM_BINS)).transpose()
        };
        let mut sums = Self {
            plan,
            device,
            comparison,
            placed_pilots: Vec::new(),
            pilots,
            statistics: plan.judged.iter().map(statistics).collect(),
            bins: models.map(bins).collect::<Result<_>>()?,
            family,
        };
        sums.place_pilots()?;
        Ok(sums)
    }

    /// Returns whether the same values are subtracted from activations as in another device's sums.
    pub fn has_pilots_of(&self, other: &Self) -> bool {
        self.pilots == other.pilots
    }

    /// Copies the pilots to the device.
    fn place_pilots(&mut self) -> Result<()> {
        let pilots = self.family.models.iter().zip(&self.pilots);
        let place = pilots.map(|(model, p)| NeuronPilots::of(self.device, &model.config, p));
        self.placed_pilots = place.collect::<Result<_>>()?;
        for (model, pilots) in self.pilots.iter().enumerate() {
            let scales = pilots.iter().map(|pilot| pilot.scale).collect();
            self.comparison.engine().set_scales(model, scales);
        }
        Ok(())
    }

    /// Runs a model over a batch. Its activations are stored behind those that are held.
    fn forward(&mut self, model: usize, batch: &Batch, binned: bool) -> Result<BatchSums> {
        let DeviceFamily { models, placed, held, .. } = &mut self.family;
        let first = held[model].tokens;
        let kept = (&mut held[model].values, first);
        let pilots = &self.placed_pilots[model];
        let limits = (PUBLISHED_EDGE as f32, NOTE_THRESHOLD);
        let keep = batch.kept();
        let config = &models[model].config;
        let tap = KeepNeurons::new(self.device, config, &keep, kept, pilots, limits)?;
        let mut tap = tap.counting(self.bins[model].as_mut().filter(|_| binned));
        placed[model].run(&batch.ids(), &mut tap)?;
        Ok(tap.finish())
    }

    /// Sets the pilots of all neurons from the first tokens: their means are subtracted from
    /// stored activations, which are then divided by about one standard deviation.
    fn take_pilots(&mut self) -> Result<()> {
        let batches = self.plan.tokens.batches(self.plan.spec.batch.tokens, 0..PILOT_TOKENS);
        for model in 0..self.family.models.len() {
            let mut all: Option<BatchSums> = None;
            for batch in &batches {
                let sums = self.forward(model, batch, false)?;
                match &mut all {
                    None => all = Some(sums),
                    Some(all) => all.add(&sums),
                }
            }
            let Some(all) = all else { continue };
            self.pilots[model] = (0..self.pilots[model].len()).map(|i| pilot(&all, i)).collect();
        }
        self.place_pilots()
    }

    /// Moves the counts by bin to the statistics.
    fn collect_bins(&mut self) -> Result<()> {
        for (model, statistics) in &mut self.statistics {
            if let Some(bins) = &mut self.bins[*model] {
                statistics.add_bins(&bins.to_vec(self.device)?);
                bins.clear(self.device)?;
            }
        }
        Ok(())
    }

    fn read_one(&mut self, batch: &Batch) -> Result<()> {
        if !self.family.held[0].has_room(batch.used.len()) {
            self.absorb()?;
        }
        let first = !self.comparison.is_repeated_pass();
        let models = 0..self.family.models.len();
        let sums = models.map(|model| self.forward(model, batch, first));
        let sums = sums.collect::<Result<Vec<_>>>()?;
        self.count(&sums);
        Ok(())
    }

    /// Adds the sums of a batch, whose activations were stored, in every model.
    fn count(&mut self, sums: &[BatchSums]) {
        for (held, sums) in self.family.held.iter_mut().zip(sums) {
            held.count(sums.tokens, &sums.sums[4], &sums.sums[5]);
        }
        if self.comparison.is_repeated_pass() {
            return;
        }
        for (model, statistics) in &mut self.statistics {
            let of = |q: usize| sums[*model].sums[q].as_slice();
            let (powers, counts) = ([of(0), of(1), of(2), of(3)], [of(6), of(7), of(8)]);
            statistics.add(sums[0].tokens as u64, powers, counts);
        }
    }

    /// Adds the activations that are held to the comparison, and removes them.
    fn absorb(&mut self) -> Result<()> {
        if self.family.held[0].tokens == 0 {
            return Ok(());
        }
        self.comparison.absorb(&mut self.family.held.iter_mut().collect::<Vec<_>>())?;
        self.family.held.iter_mut().for_each(HalfTokens::clear);
        Ok(())
    }

    fn keeps_tokens(&self) -> bool {
        self.family.memory.keep == Keep::Tokens
    }
}

impl<'a, D, C> BatchReader for DeviceSums<'a, D, C>
where
    D: Device,
    C: NeuronComparison<Engine = DeviceEngine<'a, D>>,
{
    fn read(&mut self, batches: &[Batch]) -> Result<()> {
        batches.iter().try_for_each(|batch| self.read_one(batch))
    }

    fn state(&mut self) -> Option<&mut dyn State> {
        if self.comparison.can_be_saved() { Some(self) } else { None }
    }
}

impl<'a, D, C> TokenSums for DeviceSums<'a, D, C>
where
    D: Device,
    C: NeuronComparison<Engine = DeviceEngine<'a, D>>,
{
    fn absorb_rest(&mut self) -> Result<()> {
        self.collect_bins()?;
        // Kept tokens stay where a checkpoint finds them until they are compared.
        if self.keeps_tokens() { Ok(()) } else { self.absorb() }
    }

    fn end_pass(&mut self, watch: Watch) -> Result<bool> {
        self.absorb()?;
        self.comparison.end_pass(watch)
    }
}

impl<'a, D, C> StudySums for DeviceSums<'a, D, C>
where
    D: Device,
    C: NeuronComparison<Engine = DeviceEngine<'a, D>>,
{
    fn begin(&mut self, _: &Plan, _: bool) -> Result<()> {
        self.take_pilots()?;
        for (model, statistics) in &mut self.statistics {
            let centres: Vec<f32> = self.pilots[*model].iter().map(|p| p.pre).collect();
            statistics.start_around(&centres);
        }
        Ok(())
    }

    fn start_at(&mut self, token: u64) {
        self.comparison.start_at(token);
    }

    fn check(&self, held: u64, all: u64) -> Result<(), String> {
        let waiting = self.family.held[0].tokens;
        if self.family.held.iter().any(|held| held.tokens != waiting) {
            return Err("its models have read other tokens".into());
        }
        let absorbed = held.checked_sub(waiting as u64).ok_or("it holds too many tokens")?;
        self.comparison.check(absorbed, all)?;
        let seen = if self.comparison.is_repeated_pass() { all } else { held };
        match self.statistics.iter().all(|(_, statistics)| statistics.is_of(seen)) {
            true => Ok(()),
            false => Err(format!("its statistics are not of {seen} tokens")),
        }
    }

    fn matches(self: Box<Self>) -> Vec<Vec<PairResult>> {
        self.comparison.finish()
    }

    fn finish(self: Box<Self>, plan: &Plan, separate: Option<Vec<ActivationSums>>) -> Outcome {
        let Self { family, comparison, statistics, .. } = *self;
        let own = || statistics.into_iter().map(|(_, statistics)| statistics).collect();
        let weights = |i: usize| weights_of(plan, &family.models[i]);
        let found = outcome(plan, &weights, comparison, &separate.unwrap_or_else(own));
        Outcome { device: family.engine, ..found }
    }
}

impl<'a, D, C> State for DeviceSums<'a, D, C>
where
    D: Device,
    C: NeuronComparison<Engine = DeviceEngine<'a, D>>,
{
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        self.collect_bins().map_err(std::io::Error::other)?;
        self.family.memory.check(visit)?;
        let before = self.pilots.clone();
        for pilots in &mut self.pilots {
            let mut values: Vec<f32> =
                pilots.iter().flat_map(|p| [p.pre, p.post, p.scale]).collect();
            let expected = values.len();
            visit(Part::Pilot(&mut values))?;
            if values.len() != expected {
                return Err(std::io::Error::other("it has the pilots of another model"));
            }
            let of = |v: &[f32]| NeuronPilot { pre: v[0], post: v[1], scale: v[2] };
            *pilots = values.chunks_exact(3).map(of).collect();
        }
        if self.pilots != before {
            self.place_pilots().map_err(std::io::Error::other)?;
        }
        self.statistics.iter_mut().try_for_each(|(_, statistics)| statistics.parts(visit))?;
        self.comparison.parts(visit)?;
        self.family.held.iter_mut().try_for_each(|held| held.parts(visit))
    }
}

/// Returns the pilot of a neuron: its means over the first tokens, and the power of two nearest to
/// 1 / standard deviation.
fn pilot(sums: &BatchSums, neuron: usize) -> NeuronPilot {
    let n = sums.tokens as f64;
    let mean = |q: usize| sums.sums[q][neuron] / n;
    let spread = (mean(5) - mean(4).powi(2)).max(0.0).sqrt();
    let finite = |x: f64| if x.is_finite() { x as f32 } else { 0.0 };
    let usual = spread.is_finite() && spread > 0.0;
    let scale = if usual { (-spread.log2().round()).clamp(-60.0, 60.0).exp2() } else { 1.0 };
    NeuronPilot { pre: finite(mean(0)), post: finite(mean(4)), scale: scale as f32 }
}
