//! Several devices that share the tokens of a study.

use std::ops::Range;
use std::sync::Arc;
use std::thread;

use super::accelerator::{Accelerator, format};
use super::batches::{batches_in_shares, share_of};
use super::device_memory::DeviceMemory;
use super::device_sums::{AllSums, Place, all_sums, place_models};
use super::study_sums::{BatchReader, Matching, StudySums, TokenSums};
use crate::backend::device::Device;
use crate::checkpoint::{State, Visit, add_state};
use crate::corpus::Batch;
use crate::correlation::{Keep, PairResult, Watch};
use crate::error::{Error, Kind, Result};
use crate::findings::Outcome;
use crate::model::{Decoder, Transformer};
use crate::plan::Plan;
use crate::spec::Precision;
use crate::stats::ActivationSums;

/// Several devices. Each sums a share of the tokens in all models; the first then adds the sums of
/// the others, in their order, and matches neurons. What is not a study runs on the first.
#[derive(Debug)]
pub struct DeviceGroup<D>(pub Vec<D>);

impl<D: Device> Accelerator for DeviceGroup<D> {
    fn engine(&self, precision: Precision) -> String {
        format!("{} × {}", self.0.len(), self.0[0].engine(precision))
    }

    fn devices(&self) -> usize {
        self.0.len()
    }

    fn place(
        &self,
        model: &Arc<Transformer>,
        precision: Precision,
    ) -> Result<Box<dyn Decoder + '_>> {
        self.0[0].place(model, precision)
    }

    fn sums<'s>(
        &'s self,
        plan: &'s Plan,
        models: Vec<Arc<Transformer>>,
        matching: Matching,
    ) -> Result<Box<dyn StudySums + 's>> {
        let Matching::All { plan: comparison, .. } = &matching else {
            return Err(refused("screening runs on one card"));
        };
        let precision = plan.spec.correlation.precision;
        let (form, engine) = (format(precision), self.engine(precision));
        let place = |device| Place { device, form, engine: engine.clone() };
        let on: Vec<Place<D>> = self.0.iter().map(place).collect();
        let placed = on.iter().map(|on| place_models(plan, on, &models));
        let placed = placed.collect::<Result<Vec<_>>>()?;
        // All devices use memory alike: the order in which sums are added depends on it.
        let free = self.0.iter().map(Device::free).collect::<Result<Vec<_>>>()?;
        let free = free.into_iter().min().unwrap_or(0);
        let memory = DeviceMemory::choose(plan, form, free, &matching)?;
        if !matches!(memory.keep, Keep::Tokens | Keep::Sums { passes: 1 }) {
            return Err(refused("a run in several passes over the tokens runs on one card"));
        }
        let used = plan.tokens.count().used;
        let n = self.0.len();
        let shares: Vec<Range<usize>> = (0..n).map(|i| share_of(i, n, used)).collect();
        let mut sums = Vec::new();
        for ((on, placed), share) in on.into_iter().zip(placed).zip(&shares) {
            let mut of = all_sums(plan, on, (models.clone(), placed), comparison.clone(), memory)?;
            of.start_at(share.start as u64);
            sums.push(of);
        }
        Ok(Box::new(DeviceGroupSums { plan, shares, sums }))
    }
}

fn refused(problem: &str) -> Error {
    Error::new(Kind::Device, "device cuda", problem, "name one with `device: { cuda: 0 }`")
}

/// The sums of a study, in shares on several devices.
struct DeviceGroupSums<'a, D: Device> {
    plan: &'a Plan,
    /// The tokens of each device.
    shares: Vec<Range<usize>>,
    sums: Vec<AllSums<'a, D>>,
}

impl<'a, D: Device> DeviceGroupSums<'a, D> {
    /// Calls a function for the sums of every device at the same time.
    fn on_each(
        &mut self,
        act: impl Fn(&Range<usize>, &mut AllSums<'a, D>) -> Result<()> + Sync,
    ) -> Result<()> {
        let act = &act;
        thread::scope(|scope| {
            let sums = self.shares.iter().zip(&mut self.sums);
            let threads = sums.map(|(share, sums)| scope.spawn(move || act(share, sums)));
            let threads: Vec<_> = threads.collect();
            let join = |thread: thread::ScopedJoinHandle<Result<()>>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).fold(Ok(()), Result::and)
        })
    }
}

impl<D: Device> BatchReader for DeviceGroupSums<'_, D> {
    fn read(&mut self, batches: &[Batch]) -> Result<()> {
        self.on_each(|share, sums| {
            let mut own = batches.chunks(1).filter(|batch| share.contains(&batch[0].used.start));
            own.try_for_each(|batch| sums.read(batch))
        })
    }

    fn at_once(&self) -> usize {
        self.sums.len()
    }

    fn state(&mut self) -> Option<&mut dyn State> {
        Some(self)
    }
}

impl<D: Device> TokenSums for DeviceGroupSums<'_, D> {
    fn absorb_rest(&mut self) -> Result<()> {
        self.on_each(|_, sums| sums.absorb_rest())
    }

    fn end_pass(&mut self, watch: Watch) -> Result<bool> {
        let [first, others @ ..] = &mut self.sums[..] else { return Ok(false) };
        for other in others {
            add_state(first, other).map_err(|e| {
                let problem = format!("the sums of the cards cannot be added: {e}");
                Error::new(Kind::Device, "device cuda", problem, "use cards of one kind")
            })?;
        }
        first.end_pass(watch)
    }
}

impl<D: Device> StudySums for DeviceGroupSums<'_, D> {
    fn begin(&mut self, plan: &Plan, share: bool) -> Result<()> {
        self.on_each(|_, sums| sums.begin(plan, share))?;
        match self.sums.iter().all(|sums| sums.has_pilots_of(&self.sums[0])) {
            true => Ok(()),
            false => Err(refused("the cards compute different means of the first tokens")),
        }
    }

    fn start_at(&mut self, _: u64) {
        unreachable!("a share runs on one device");
    }

    fn check(&self, held: u64, _: u64) -> Result<(), String> {
        let mut of_each = vec![0; self.sums.len()];
        let mut left = held;
        for batch in batches_in_shares(self.plan, self.sums.len()) {
            let tokens = batch.used.len() as u64;
            if left < tokens {
                break;
            }
            left -= tokens;
            let share = self.shares.iter().position(|share| share.contains(&batch.used.start));
            of_each[share.ok_or("a batch is in no share")?] += tokens;
        }
        let mut shares = self.sums.iter().zip(&self.shares).zip(of_each);
        shares.try_for_each(|((sums, share), held)| sums.check(held, share.len() as u64))
    }

    fn matches(mut self: Box<Self>) -> Vec<Vec<PairResult>> {
        Box::new(self.sums.swap_remove(0)).matches()
    }

    fn finish(
        mut self: Box<Self>,
        plan: &Plan,
        statistics: Option<Vec<ActivationSums>>,
    ) -> Outcome {
        Box::new(self.sums.swap_remove(0)).finish(plan, statistics)
    }
}

impl<D: Device> State for DeviceGroupSums<'_, D> {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        self.sums.iter_mut().try_for_each(|sums| sums.parts(visit))
    }
}
