//! A run on a device: forward passes, sums and comparisons run on the device, and the findings are
//! computed on the host.

use std::sync::Arc;
use std::time::Instant;

use super::passes::READING;
use super::session::BatchReader;
use super::sums::{Found, draw};
use super::{Control, Session};
use crate::backend::device::array::HalfFormat;
use crate::backend::device::cuda::Cuda;
use crate::backend::device::{Device, HalfType};
use crate::corpus::Batch;
use crate::correlation::DeviceCorrelator;
use crate::error::{Error, Kind, Result};
use crate::findings::Outcome;
use crate::model::forward::{
    BatchSums, Gpu, GpuTransformer, KeepNeurons, NeuronPilot, NeuronPilots,
};
use crate::model::{Decoder, Transformer};
use crate::plan::Plan;
use crate::record::Timing;
use crate::spec::{DeviceChoice, MomentKind, Precision};
use crate::stats::activation::{NOTE_THRESHOLD, PUBLISHED_EDGE};
use crate::stats::{ActivationSums, PILOT_TOKENS};

/// Number of tokens whose activations are held at a time if sums are kept.
const HELD: usize = 16_384;

/// Maximum share of the device's free memory that a run uses.
const SHARE: f64 = 0.9;

/// A card, on which models run and are compared.
pub trait Card {
    /// Copies a model to the card.
    ///
    /// # Errors
    /// Returns an error if the card has too little memory.
    fn place(
        &self,
        model: &Arc<Transformer>,
        precision: Precision,
    ) -> Result<Box<dyn Decoder + '_>>;

    /// Runs the study of a session.
    ///
    /// # Errors
    /// Returns an error as [`Session::study`] does.
    fn study(&self, session: &mut Session) -> Result<Outcome>;
}

impl<D: Device> Card for D {
    fn place(
        &self,
        model: &Arc<Transformer>,
        precision: Precision,
    ) -> Result<Box<dyn Decoder + '_>> {
        let gpu = Gpu { device: self, form: form(precision) };
        Ok(Box::new(GpuTransformer::of(gpu, Arc::clone(model))?))
    }

    fn study(&self, session: &mut Session) -> Result<Outcome> {
        session.study_on(self)
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
    let card = match unsupported(plan, control) {
        Some(what) => Err(refused(what)),
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

/// Refuses `what`, which only the CPU supports, if `device: cuda` is demanded.
///
/// # Errors
/// Returns an error if `device: cuda` is demanded.
pub fn refuse(control: &Control, what: &str) -> Result<()> {
    match control.device {
        Some(DeviceChoice::Cuda) => Err(refused(what)),
        _ => Ok(()),
    }
}

fn refused(what: &str) -> Error {
    let problem = format!("{what} is supported only on the CPU");
    Error::new(Kind::Device, "device cuda", problem, "remove it, or use `device: cpu`")
}

/// Returns what the plan needs that is not supported on a device, if there is anything.
fn unsupported(plan: &Plan, control: &Control) -> Option<&'static str> {
    let odd = |n: usize| !n.is_multiple_of(8);
    let shape = |m: &crate::plan::PlannedModel| {
        odd(m.config.d_model) || odd(m.config.d_mlp()) || m.config.d_head() > 128
    };
    [
        (plan.spec.correlation.screen.is_some(), "`correlation.screen`"),
        (!plan.comparison_plan().uses_rotation(), "this kind of `correlation.baseline`"),
        (plan.spec.statistics.moments == MomentKind::Binned, "`statistics.moments: binned`"),
        (control.checkpoints.is_some(), "keeping checkpoints"),
        (plan.models.iter().any(shape), "a model with sizes that are not multiples of 8"),
    ]
    .into_iter()
    .find_map(|(asked, what)| asked.then_some(what))
}

/// Returns the format of factors on the device for a precision: for f32 pairs of f16, whose
/// products are nearly as accurate as those of f32.
fn form(precision: Precision) -> HalfFormat {
    match precision {
        Precision::F32 => HalfFormat { number: HalfType::F16, split: true },
        Precision::Bf16 => HalfFormat { number: HalfType::Bf16, split: false },
    }
}

impl Session<'_> {
    fn study_on<D: Device>(&mut self, device: &D) -> Result<Outcome> {
        let begun = Instant::now();
        let (plan, models) = (self.plan, self.models()?);
        let mut family = Family::new(plan, device, &models)?;
        let load_s = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        family.take_pilots()?;
        let batches = plan.tokens.batches(plan.spec.batch.tokens, 0..plan.tokens.count().used);
        self.read_batches(READING, &batches, 0, &mut family)?;
        let tokens_s = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let outcome = family.finish(self.control)?;
        self.control.progress.finish();
        let finish_s = begun.elapsed().as_secs_f64();
        Ok(outcome.timed(Timing { load_s, tokens_s, finish_s }))
    }
}

/// The models on the device, with their comparison and statistics.
struct Family<'a, D: Device> {
    plan: &'a Plan,
    device: &'a D,
    models: &'a [Arc<Transformer>],
    on_device: Vec<GpuTransformer<'a, D>>,
    comparison: DeviceCorrelator<'a, D>,
    pilots: Vec<Vec<NeuronPilot>>,
    device_pilots: Vec<NeuronPilots<D>>,
    statistics: Vec<(usize, ActivationSums)>,
}

impl<'a, D: Device> Family<'a, D> {
    fn new(plan: &'a Plan, device: &'a D, models: &'a [Arc<Transformer>]) -> Result<Self> {
        let form = form(plan.spec.correlation.precision);
        let place =
            |model: &Arc<Transformer>| GpuTransformer::of(Gpu { device, form }, Arc::clone(model));
        let on_device = models.iter().map(place).collect::<Result<_>>()?;
        let held = choose_held(plan, form, device.free()?)?;
        let comparison = DeviceCorrelator::new(device, plan.comparison_plan(), form, held)?;
        let n_neurons = |model: usize| plan.models[model].layout().n_neurons();
        let statistics = |&model: &usize| {
            (model, ActivationSums::new(n_neurons(model), plan.spec.statistics.moments))
        };
        let pilots: Vec<Vec<NeuronPilot>> =
            (0..models.len()).map(|m| vec![NeuronPilot::NONE; n_neurons(m)]).collect();
        let device_pilots = models.iter().zip(&pilots);
        let device_pilots =
            device_pilots.map(|(model, pilots)| NeuronPilots::of(device, &model.config, pilots));
        Ok(Self {
            plan,
            device,
            models,
            on_device,
            comparison,
            device_pilots: device_pilots.collect::<Result<_>>()?,
            pilots,
            statistics: plan.judged.iter().map(statistics).collect(),
        })
    }

    /// Runs a model over a batch. Its activations are stored in the next columns of the comparison.
    fn forward(&mut self, model: usize, batch: &Batch) -> Result<BatchSums> {
        let first = self.comparison.next();
        let kept = (&mut self.comparison.kept[model], first);
        let config = &self.models[model].config;
        let pilots = &self.device_pilots[model];
        let limits = (PUBLISHED_EDGE as f32, NOTE_THRESHOLD);
        let keep = batch.kept();
        let mut tap = KeepNeurons::new(self.device, config, &keep, kept, pilots, limits)?;
        self.on_device[model].run(&batch.ids(), &mut tap)?;
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
            let (config, pilots) = (&self.models[model].config, &self.pilots[model]);
            self.device_pilots[model] = NeuronPilots::of(self.device, config, pilots)?;
            let scales = pilots.iter().map(|pilot| pilot.scale).collect();
            self.comparison.set_scales(model, scales);
        }
        Ok(())
    }

    fn count(&mut self, sums: &[BatchSums]) {
        let tokens = sums[0].tokens;
        let kept: Vec<[&[f64]; 2]> =
            sums.iter().map(|s| [s.sums[4].as_slice(), s.sums[5].as_slice()]).collect();
        self.comparison.count(tokens, &kept);
        for (model, statistics) in &mut self.statistics {
            let centres: Vec<f32> = self.pilots[*model].iter().map(|p| p.pre).collect();
            let of = |q: usize| sums[*model].sums[q].as_slice();
            let (powers, counts) = ([of(0), of(1), of(2), of(3)], [of(6), of(7), of(8)]);
            statistics.add(tokens as u64, &centres, powers, counts);
        }
    }

    fn finish(mut self, control: &Control) -> Result<Outcome> {
        control.progress.stage("matching neurons", self.plan.comparison_plan().steps() as u64);
        let pairs = self.comparison.compare(&|| control.step())?;
        let found = self.statistics.iter().zip(&pairs).map(|((model, activations), pairs)| Found {
            model: *model,
            pairs,
            activations,
            screening: None,
        });
        let family = 0..self.plan.models.len();
        let family: Vec<_> = family.map(|i| self.comparison.neuron_sums(i)).collect();
        let outcome = draw(self.plan, self.models, &family, found);
        let form = form(self.plan.spec.correlation.precision);
        let how = if form.split { "pairs of f16" } else { "bf16" };
        Ok(Outcome { device: format!("cuda ({}, {how})", self.device.name()), ..outcome })
    }
}

impl<D: Device> BatchReader for Family<'_, D> {
    fn read(&mut self, batch: &Batch) -> Result<()> {
        if !self.comparison.has_room(batch.used.len()) {
            self.comparison.flush()?;
        }
        let sums = (0..self.models.len()).map(|model| self.forward(model, batch));
        let sums = sums.collect::<Result<Vec<_>>>()?;
        self.count(&sums);
        Ok(())
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
