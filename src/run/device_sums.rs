//! The sums of a study on a device: forward passes, sums and comparisons run there, and the
//! findings are computed on the host.

use std::sync::Arc;

use super::study_sums::{BatchReader, StudySums, TokenSums};
use super::sums::{Found, draw};
use crate::backend::device::Device;
use crate::backend::device::array::{Array, HalfFormat};
use crate::backend::device::ops::HISTOGRAM_BINS;
use crate::checkpoint::{Part, State, Visit};
use crate::corpus::Batch;
use crate::correlation::{DeviceCorrelator, PairResult, Watch};
use crate::error::{Error, Kind, Result};
use crate::findings::Outcome;
use crate::model::Transformer;
use crate::model::forward::{
    BatchSums, Gpu, GpuTransformer, KeepNeurons, NeuronPilot, NeuronPilots,
};
use crate::plan::Plan;
use crate::spec::MomentKind;
use crate::stats::activation::{EDGES, NOTE_THRESHOLD, PUBLISHED_EDGE};
use crate::stats::{ActivationSums, PILOT_TOKENS};

/// Number of tokens whose activations are held at a time if sums are kept.
const HELD: usize = 16_384;

const _: () =
    assert!(HISTOGRAM_BINS == EDGES + 1, "the bins of the kernel are those of the statistics");

/// Maximum share of the device's free memory that a run uses.
const SHARE: f64 = 0.9;

/// The models on a device, with their comparison and statistics.
pub struct DeviceSums<'a, D: Device> {
    plan: &'a Plan,
    device: &'a D,
    /// Name of the device, and how it multiplies.
    engine: String,
    models: Vec<Arc<Transformer>>,
    placed: Vec<GpuTransformer<'a, D>>,
    comparison: DeviceCorrelator<'a, D>,
    pilots: Vec<Vec<NeuronPilot>>,
    placed_pilots: Vec<NeuronPilots<D>>,
    statistics: Vec<(usize, ActivationSums)>,
    /// Counts of pre-activations by bin that are not in the statistics yet, for each judged model
    /// if moments are binned.
    bins: Vec<Option<Array<D, u32>>>,
    /// The results, `[reference][partner]`, once neurons are matched.
    pairs: Vec<Vec<PairResult>>,
}

impl<'a, D: Device> DeviceSums<'a, D> {
    /// Copies the models to the device and creates sums without tokens.
    ///
    /// # Errors
    /// Returns an error if the device has too little memory.
    pub fn new(
        plan: &'a Plan,
        (device, form, engine): (&'a D, HalfFormat, String),
        models: Vec<Arc<Transformer>>,
    ) -> Result<Self> {
        let place = |model| GpuTransformer::of(Gpu { device, form }, Arc::clone(model));
        let placed = models.iter().map(place).collect::<Result<_>>()?;
        let held = choose_held(plan, form, device.free()?)?;
        let comparison = DeviceCorrelator::new(device, plan.comparison_plan(), form, held)?;
        let n_neurons = |model: usize| plan.models[model].layout().n_neurons();
        let statistics = |&model: &usize| {
            (model, ActivationSums::new(n_neurons(model), plan.spec.statistics.moments))
        };
        let pilots = (0..models.len()).map(|m| vec![NeuronPilot::NONE; n_neurons(m)]).collect();
        let binned = plan.spec.statistics.moments == MomentKind::Binned;
        let bins = |model: usize| {
            let wanted = binned && plan.judged.contains(&model);
            wanted.then(|| Array::zeros(device, n_neurons(model) * HISTOGRAM_BINS)).transpose()
        };
        let mut sums = Self {
            plan,
            device,
            engine,
            placed,
            comparison,
            placed_pilots: Vec::new(),
            pilots,
            statistics: plan.judged.iter().map(statistics).collect(),
            bins: (0..models.len()).map(bins).collect::<Result<_>>()?,
            models,
            pairs: Vec::new(),
        };
        sums.place_pilots()?;
        Ok(sums)
    }

    /// Copies the pilots to the device.
    fn place_pilots(&mut self) -> Result<()> {
        let pilots = self.models.iter().zip(&self.pilots);
        let place = pilots.map(|(model, p)| NeuronPilots::of(self.device, &model.config, p));
        self.placed_pilots = place.collect::<Result<_>>()?;
        for (model, pilots) in self.pilots.iter().enumerate() {
            let scales = pilots.iter().map(|pilot| pilot.scale).collect();
            self.comparison.set_scales(model, scales);
        }
        Ok(())
    }

    /// Runs a model over a batch. Its activations are stored in the next columns of the comparison.
    fn forward(&mut self, model: usize, batch: &Batch) -> Result<BatchSums> {
        let first = self.comparison.next();
        let kept = (&mut self.comparison.kept[model], first);
        let config = &self.models[model].config;
        let pilots = &self.placed_pilots[model];
        let limits = (PUBLISHED_EDGE as f32, NOTE_THRESHOLD);
        let keep = batch.kept();
        let tap = KeepNeurons::new(self.device, config, &keep, kept, pilots, limits)?;
        let mut tap = tap.counting(self.bins[model].as_mut());
        self.placed[model].run(&batch.ids(), &mut tap)?;
        Ok(tap.finish())
    }

    /// Sets the pilots of all neurons from the first tokens: their means are subtracted from
    /// stored activations, which are then divided by about one standard deviation.
    fn take_pilots(&mut self) -> Result<()> {
        let batches = self.plan.tokens.batches(self.plan.spec.batch.tokens, 0..PILOT_TOKENS);
        for model in 0..self.models.len() {
            let mut all: Option<BatchSums> = None;
            for batch in &batches {
                let sums = self.forward(model, batch)?;
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

    fn count(&mut self, sums: &[BatchSums]) {
        let tokens = sums[0].tokens;
        let kept: Vec<[&[f64]; 2]> =
            sums.iter().map(|s| [s.sums[4].as_slice(), s.sums[5].as_slice()]).collect();
        self.comparison.count(tokens, &kept);
        for (model, statistics) in &mut self.statistics {
            let of = |q: usize| sums[*model].sums[q].as_slice();
            let (powers, counts) = ([of(0), of(1), of(2), of(3)], [of(6), of(7), of(8)]);
            statistics.add(tokens as u64, powers, counts);
        }
    }
}

impl<D: Device> BatchReader for DeviceSums<'_, D> {
    fn read(&mut self, batch: &Batch) -> Result<()> {
        if !self.comparison.has_room(batch.used.len()) {
            self.comparison.flush()?;
        }
        let sums = (0..self.models.len()).map(|model| self.forward(model, batch));
        let sums = sums.collect::<Result<Vec<_>>>()?;
        self.count(&sums);
        Ok(())
    }

    fn state(&mut self) -> Option<&mut dyn State> {
        Some(self)
    }
}

impl<D: Device> TokenSums for DeviceSums<'_, D> {
    fn absorb_rest(&mut self) -> Result<()> {
        self.collect_bins()?;
        self.comparison.flush()
    }

    fn end_pass(&mut self, watch: Watch) -> Result<bool> {
        self.pairs = self.comparison.compare(watch)?;
        Ok(false)
    }
}

impl<D: Device> StudySums for DeviceSums<'_, D> {
    fn begin(&mut self, _: &Plan, _: bool) -> Result<()> {
        self.take_pilots()?;
        // Batches count these tokens later.
        self.bins.iter_mut().flatten().try_for_each(|bins| bins.clear(self.device))?;
        for (model, statistics) in &mut self.statistics {
            let centres: Vec<f32> = self.pilots[*model].iter().map(|p| p.pre).collect();
            statistics.start_around(&centres);
        }
        Ok(())
    }

    fn start_at(&mut self, _: u64) {}

    fn check(&self, held: u64, _: u64) -> Result<(), String> {
        self.comparison.check(held)?;
        match self.statistics.iter().all(|(_, statistics)| statistics.is_of(held)) {
            true => Ok(()),
            false => Err(format!("its statistics are not of {held} tokens")),
        }
    }

    fn finish(self: Box<Self>, plan: &Plan) -> Outcome {
        let found = self.statistics.iter().zip(&self.pairs);
        let found = found.map(|((model, activations), pairs)| Found {
            model: *model,
            pairs,
            activations,
            screening: None,
        });
        let family = 0..plan.models.len();
        let family: Vec<_> = family.map(|i| self.comparison.neuron_sums(i)).collect();
        let outcome = draw(plan, &self.models, &family, found);
        Outcome { device: self.engine.clone(), ..outcome }
    }
}

impl<D: Device> State for DeviceSums<'_, D> {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        self.collect_bins().map_err(std::io::Error::other)?;
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
        self.comparison.parts(visit)
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

/// Returns how many tokens the device holds at a time, and whether these are all tokens. All are
/// held if their activations take less memory than sums would, or if there is no room for sums.
///
/// # Errors
/// Returns an error if the device has too little memory.
fn choose_held(plan: &Plan, form: HalfFormat, free: usize) -> Result<(usize, bool)> {
    let study = plan.comparison_plan();
    let used = plan.tokens.count().used;
    let neurons: usize = study.models.iter().map(|m| m.n_neurons()).sum();
    let d = study.models.iter().map(|m| m.d_mlp).max().unwrap_or(0);
    let batch = plan.spec.batch.tokens.max(plan.tokens.context);
    let limit = plan.spec.batch.memory_gib.map_or(usize::MAX, |gib| (gib * 2f64.powi(30)) as usize);
    let room = ((free as f64 * SHARE) as usize).min(limit);
    // Activations of a batch; sums, an operand, rotations and partners of two layers.
    let besides = batch * d * 24 + d * d * (16 + 4 * study.baseline.draws);
    let per_token = 2 * form.planes() * neurons;
    let (all, sums) = (per_token * used.next_multiple_of(8), study.device_sums_bytes());
    let all_fit = all + besides <= room;
    if all_fit && all <= sums + per_token * HELD {
        return Ok((used, true));
    }
    // As many tokens at a time as fit into memory in addition to the sums.
    let some = (room.saturating_sub(besides + sums) / per_token / 8 * 8).min(HELD.max(batch));
    if some >= batch {
        return Ok((some, false));
    }
    if all_fit {
        return Ok((used, true));
    }
    let least = all.min(sums + per_token * batch) + besides;
    let gib = |bytes: usize| bytes as f64 / 2f64.powi(30);
    let (least, room) = (gib(least), gib(room));
    let problem =
        format!("the run needs {least:.2} GiB in addition to the weights, {room:.2} are available");
    let remedy = "compare fewer models, use `precision: bf16`, or `device: cpu`";
    Err(Error::new(Kind::Device, "memory of the device", problem, remedy))
}
