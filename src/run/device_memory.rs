//! How a study uses the memory of a device.

use std::io;

use super::study_sums::Matching;
use crate::backend::device::array::HalfFormat;
use crate::checkpoint::{Part, Visit};
use crate::correlation::{ComparisonPlan, Keep};
use crate::error::{Error, Kind, Result};
use crate::plan::Plan;

/// Number of tokens whose activations are held at a time if sums are kept.
const HELD: usize = 16_384;

/// Maximum share of the device's free memory that a run uses.
const SHARE: f64 = 0.9;

/// Share of the memory beside the models that a screened run uses for exact comparisons.
const EXACT: f64 = 0.25;

/// How a study uses the memory of a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeviceMemory {
    /// Number of tokens whose activations are held at a time.
    pub tokens: usize,
    /// What is kept of the tokens.
    pub keep: Keep,
    /// Bytes for the sums of neurons that a screened run compares exactly.
    pub exact: usize,
}

/// The bytes that parts of a study need on a device.
struct Needs<'a> {
    plan: &'a ComparisonPlan,
    /// Tokens of a batch.
    batch: usize,
    /// Bytes of the activations of one token in all models, copies included.
    per_token: usize,
    /// Bytes of candidates.
    candidates: usize,
}

impl Needs<'_> {
    fn new<'a>(plan: &Plan, form: HalfFormat, matching: &'a Matching) -> Needs<'a> {
        let (study, screened) = match matching {
            Matching::All { plan, .. } => (plan, false),
            Matching::Candidates { plan, .. } => (plan, true),
        };
        let n = |model: usize| study.models[model].n_neurons();
        let all: usize = (0..study.models.len()).map(n).sum();
        let largest = (0..study.models.len()).map(n).max().unwrap_or(0);
        // A surrogate of one model at a time; a screened run copies all activations.
        let copies = match (screened, study.uses_rotation()) {
            (true, _) => all,
            (false, true) => 0,
            (false, false) => largest,
        };
        let pairs = |&x: &usize| n(x) * study.partners(x).count() * study.top;
        Needs {
            plan: study,
            batch: plan.spec.batch.tokens.max(plan.tokens.context),
            per_token: 2 * form.planes() * (all + copies),
            candidates: if screened {
                study.references.iter().map(pairs).sum::<usize>() * 16
            } else {
                0
            },
        }
    }

    /// Activations of a batch; sums, an operand, rotations and partners of two layers.
    fn besides(&self) -> usize {
        let d = self.plan.models.iter().map(|m| m.d_mlp).max().unwrap_or(0);
        self.candidates + self.batch * d * 24 + d * d * (16 + 4 * self.plan.baseline.draws)
    }
}

impl DeviceMemory {
    /// Returns how a study uses `free` bytes. The activations of all tokens are kept if they take
    /// less memory than sums would, or if there is no room for sums. Sums are added up in several
    /// passes over the tokens if those of all layers do not fit.
    ///
    /// # Errors
    /// Returns an error if the device has too little memory.
    pub fn choose(plan: &Plan, form: HalfFormat, free: usize, matching: &Matching) -> Result<Self> {
        let limit =
            plan.spec.batch.memory_gib.map_or(usize::MAX, |gib| (gib * 2f64.powi(30)) as usize);
        let room = ((free as f64 * SHARE) as usize).min(limit);
        let needs = Needs::new(plan, form, matching);
        match matching {
            Matching::All { tokens, .. } => needs.for_all(*tokens, room),
            Matching::Candidates { .. } => needs.for_candidates(room),
        }
    }

    /// Visits what the bits of sums depend on. Refuses a state that was made with other memory:
    /// sums are added to whenever the activations that are held fill their room.
    ///
    /// # Errors
    /// Returns an error if the state was made with other memory.
    pub fn check(&self, visit: Visit) -> io::Result<()> {
        let own = match self.keep {
            Keep::Tokens => [0.0, 0.0],
            Keep::Sums { passes } => [self.tokens as f64, passes as f64],
        };
        let mut made = own;
        made.iter_mut().try_for_each(|value| visit(Part::Shift(value)))?;
        let said = |[tokens, passes]: [f64; 2]| match tokens > 0.0 {
            false => "all tokens".to_owned(),
            true => format!("{tokens} tokens at a time and sums in {passes} passes"),
        };
        if made.map(f64::to_bits) == own.map(f64::to_bits) {
            return Ok(());
        }
        let why = format!(
            "it was made where the device had room for {}, now it has room for {}",
            said(made),
            said(own)
        );
        Err(io::Error::other(why))
    }
}

impl Needs<'_> {
    fn for_all(&self, used: usize, room: usize) -> Result<DeviceMemory> {
        let besides = self.besides();
        let sums = |passes: usize| self.plan.device_sums_bytes(passes);
        let all = self.per_token * used.max(self.batch).next_multiple_of(8);
        let tokens = used.max(self.batch);
        let kept = DeviceMemory { tokens, keep: Keep::Tokens, exact: 0 };
        let all_fit = all + besides <= room;
        if all_fit && all <= sums(1) + self.per_token * HELD {
            return Ok(kept);
        }
        // As many tokens at a time as fit into memory in addition to the sums.
        let summed = |passes: usize| {
            let rest = room.saturating_sub(besides + sums(passes));
            let tokens = (rest / self.per_token / 8 * 8).min(HELD.max(self.batch));
            let keep = Keep::Sums { passes };
            (tokens >= self.batch).then_some(DeviceMemory { tokens, keep, exact: 0 })
        };
        let most = self.plan.max_passes();
        let found = summed(1).or(all_fit.then_some(kept));
        found.or_else(|| (2..=most).find_map(summed)).ok_or_else(|| {
            too_little(all.min(sums(most) + self.per_token * self.batch) + besides, room)
        })
    }

    fn for_candidates(&self, room: usize) -> Result<DeviceMemory> {
        let besides = self.besides();
        let exact = (room.saturating_sub(besides) as f64 * EXACT) as usize;
        let rest = room.saturating_sub(besides + exact);
        let tokens = (rest / self.per_token / 8 * 8).min(HELD.max(self.batch));
        let keep = Keep::Sums { passes: 1 };
        match tokens >= self.batch {
            true => Ok(DeviceMemory { tokens, keep, exact }),
            false => Err(too_little(2 * self.per_token * self.batch + besides, room)),
        }
    }
}

fn too_little(least: usize, room: usize) -> Error {
    let gib = |bytes: usize| bytes as f64 / 2f64.powi(30);
    let (least, room) = (gib(least), gib(room));
    let problem =
        format!("the run needs {least:.2} GiB in addition to the weights, {room:.2} are available");
    let remedy = "compare fewer models, use `precision: bf16`, or `device: cpu`";
    Error::new(Kind::Device, "memory of the device", problem, remedy)
}
