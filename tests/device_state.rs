//! Checkpoints and shares of runs on a device.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use universal_neurons::Result;
use universal_neurons::backend::device::{Device, DeviceKernel, KernelArg};
use universal_neurons::checkpoint::Checkpoints;
use universal_neurons::error::{Error, Kind};
use universal_neurons::findings::Findings;
use universal_neurons::plan::Plan;
use universal_neurons::run::{Accelerator, Control, Session, Shard, identity};
use universal_neurons::spec::Tokenisation;
use universal_neurons::table::Column;

use crate::device::{Shape, assert_same, family, family_of, on, on_cpu, plan};
use crate::ptx_vm::Machine;

/// A machine that falls off the bus after some launches, counts embeddings, and may lie.
pub struct Failing {
    machine: Machine,
    left: AtomicUsize,
    embedded: AtomicUsize,
    /// Bytes in use at each embedding.
    used: Mutex<Vec<usize>>,
    /// Whether the sign of every number that is read is wrong.
    lies: bool,
    /// Number of embeddings after which kernels compute nothing. Memory is allocated by the host.
    computes: usize,
}

impl Failing {
    /// A machine that fails after some launches.
    pub fn after(machine: Machine, launches: usize) -> Self {
        Self {
            machine,
            left: launches.into(),
            embedded: 0.into(),
            used: Mutex::default(),
            lies: false,
            computes: usize::MAX,
        }
    }
}

impl Failing {
    /// Returns the number of launches that are left.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }
}

impl Device for Failing {
    type Memory = <Machine as Device>::Memory;

    fn name(&self) -> String {
        self.machine.name()
    }

    fn free(&self) -> Result<usize> {
        self.machine.free()
    }

    fn allocate(&self, bytes: usize) -> Result<Self::Memory> {
        self.machine.allocate(bytes)
    }

    fn write(&self, memory: &mut Self::Memory, at: usize, bytes: &[u8]) -> Result<()> {
        self.machine.write(memory, at, bytes)
    }

    fn read(&self, memory: &Self::Memory, at: usize, bytes: &mut [u8]) -> Result<()> {
        self.machine.read(memory, at, bytes)?;
        if self.lies {
            bytes.iter_mut().skip(3).step_by(4).for_each(|byte| *byte ^= 0x80);
        }
        Ok(())
    }

    fn clear(&self, memory: &mut Self::Memory) -> Result<()> {
        self.machine.clear(memory)
    }

    fn launch(
        &self,
        kernel: DeviceKernel,
        grid: [usize; 3],
        args: &mut [KernelArg<'_, Self::Memory>],
    ) -> Result<()> {
        if kernel == DeviceKernel::Embed {
            self.embedded.fetch_add(1, Ordering::Relaxed);
            self.used.lock().expect("no panic").push(self.machine.allocated());
        }
        let less = |left: usize| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).map_err(|_| {
            Error::new(Kind::Device, "the card", "has fallen off the bus", "seat it again")
        })?;
        if self.embedded.load(Ordering::Relaxed) <= self.computes {
            return self.machine.launch(kernel, grid, args);
        }
        for arg in args {
            if let KernelArg::Out(buffer, _) = arg {
                buffer.settle();
            }
        }
        Ok(())
    }
}

pub fn control(plan: &Plan, device: &dyn Accelerator, path: PathBuf) -> Control {
    let identity = identity(plan, Some(device));
    let checkpoints = Checkpoints::new(path, Duration::ZERO, identity);
    Control { checkpoints: Some(checkpoints), ..Control::default() }
}

pub fn study(plan: &Plan, device: &dyn Accelerator, control: &mut Control) -> Result<Findings> {
    Session::new(plan, control).on(Some(device)).study().map(|outcome| outcome.reference)
}

pub fn bits(findings: &Findings) -> Vec<Vec<u64>> {
    let column = |c: &Column| findings.table.column(*c).iter().map(|v| v.to_bits()).collect();
    Column::ALL.iter().map(column).collect()
}

/// Runs a plan to its end. Returns the bits of its results, and the number of launches.
fn whole(plan: &Plan, machine: Machine) -> (Vec<Vec<u64>>, usize) {
    let counting = Failing::after(machine, usize::MAX);
    let found = study(plan, &counting, &mut Control::default()).expect("a whole run");
    (bits(&found), usize::MAX - counting.left())
}

/// Stops a run at several launches and resumes it: the results have the same bits.
fn assert_resumes(folder: &Path, plan: &Plan, machine: impl Fn() -> Machine) {
    let (want, all) = whole(plan, machine());
    let mut cut = 0;
    for tenths in [6, 9] {
        let left = all * tenths / 10;
        let failing = Failing::after(machine(), left);
        let path = folder.join(format!("{left}.checkpoint"));
        let mut first = control(plan, &failing, path.clone());
        let error = study(plan, &failing, &mut first).expect_err("the card fails");
        assert!(error.problem.contains("fallen off the bus"), "{error}");
        if !path.exists() {
            continue;
        }
        cut += 1;
        let mut second = Control { resume: true, ..control(plan, &failing, path) };
        let found = study(plan, &machine(), &mut second).unwrap_or_else(|e| panic!("{left}: {e}"));
        assert!(bits(&found) == want, "resumed after {left} launches");
    }
    assert!(cut >= 1, "the card never failed after a checkpoint");
}

#[test]
fn a_run_on_a_card_that_fails_resumes_with_the_same_bits() {
    let folder = TempDir::new().expect("folder");
    family(folder.path());
    let plan = plan(folder.path(), |spec| spec.models.family.truncate(2));
    // Tokens are kept, and all are matched at the end.
    assert_resumes(folder.path(), &plan, Machine::new);
    // Sums are kept, and some tokens that are not summed yet.
    let tight = TempDir::new().expect("folder");
    assert_resumes(tight.path(), &plan, || Machine::of_memory(740_000));
}

#[test]
fn a_device_that_computes_wrongly_is_refused_before_the_first_token() {
    let folder = TempDir::new().expect("folder");
    family(folder.path());
    let plan = plan(folder.path(), |spec| spec.models.family.truncate(2));
    let lying = Failing { lies: true, ..Failing::after(Machine::new(), usize::MAX) };
    let error = study(&plan, &lying, &mut Control::default()).map(|_| ()).expect_err("refused");
    assert!(error.problem.contains("gives a wrong result"), "{error}");
    assert!(error.problem.contains("the CPU"), "both values are named: {error}");
    assert_eq!(lying.embedded.load(Ordering::Relaxed), 1, "no token of the corpus was read");
    let mut control = Control::default();
    let mut session = Session::new(&plan, &mut control).on(Some(&lying));
    let read = session.read("reading", |_, _| panic!("no token is read"));
    assert!(read.expect_err("refused").problem.contains("gives a wrong result"));
}

#[test]
fn device_memory_stays_the_same_over_a_thousand_batches() {
    let folder = TempDir::new().expect("folder");
    family_of(folder.path(), Shape { layers: 1, heads: 1, d_model: 8, d_mlp: 8, context: 2 });
    let plan = plan(folder.path(), |spec| {
        spec.models.family.truncate(2);
        (spec.corpus.context, spec.corpus.limit) = (2, None);
        spec.corpus.tokenisation = Tokenisation::Concatenated;
        spec.corpus.sample = Some(2_000);
        spec.batch.tokens = 2;
    });
    let batches = plan.tokens.batches(2, 0..plan.tokens.count().used).len();
    assert!(batches >= 1_000, "{batches} batches");
    let counting = Failing { computes: 100, ..Failing::after(Machine::new(), usize::MAX) };
    on(&counting, &plan);
    let used = counting.used.lock().expect("no panic");
    // One model after the other in each batch.
    let of_batches: Vec<&[usize]> = used[used.len() - 2 * batches..].chunks(2).collect();
    assert!(of_batches[0][0] > 0 && of_batches.iter().all(|used| used == &of_batches[0]));
}

/// Returns a machine whose kernels compute nothing once it has been checked with two models. It shows
/// what the host allocates, and whether it refuses a run, in little time.
pub fn idle_machine(bytes: usize) -> Failing {
    Failing { computes: 2, ..Failing::after(Machine::of_memory(bytes), usize::MAX) }
}

/// Returns the least memory that a study runs in, within 5 kB.
fn least_memory(plan: &Plan) -> usize {
    let runs = |bytes: usize| study(plan, &idle_machine(bytes), &mut Control::default()).is_ok();
    let (mut too_little, mut enough) = (400_000, 740_000);
    assert!(!runs(too_little) && runs(enough), "a study of the tiny models runs in one of them");
    while enough - too_little > 5_000 {
        let middle = usize::midpoint(too_little, enough);
        *(if runs(middle) { &mut enough } else { &mut too_little }) = middle;
    }
    enough
}

#[test]
fn sums_that_do_not_fit_are_added_up_in_passes() {
    let folder = TempDir::new().expect("folder");
    family(folder.path());
    let plan = plan(folder.path(), |spec| spec.models.family.truncate(2));
    let want = on_cpu(&plan);
    let embedded = |machine| {
        let counting = Failing::after(machine, usize::MAX);
        assert_same(&on(&counting, &plan), &want, 2e-4);
        counting.embedded.load(Ordering::Relaxed)
    };
    let least = least_memory(&plan);
    // One layer of the reference in each pass.
    let (once, twice) =
        (embedded(Machine::of_memory(740_000)), embedded(Machine::of_memory(least)));
    let used = 0..plan.tokens.count().used;
    let batches = plan.tokens.batches(plan.spec.batch.tokens, used).len();
    assert_eq!(twice - once, 2 * batches, "both models read all batches once more");
    assert_resumes(folder.path(), &plan, || Machine::of_memory(least));
}

#[test]
fn a_checkpoint_of_one_device_is_refused_on_another() {
    let folder = TempDir::new().expect("folder");
    family(folder.path());
    let plan = plan(folder.path(), |spec| spec.models.family.truncate(2));
    let left = whole(&plan, Machine::new()).1 * 9 / 10;
    let failing = Failing::after(Machine::new(), left);
    let path = folder.path().join("x.checkpoint");
    study(&plan, &failing, &mut control(&plan, &failing, path.clone())).expect_err("it fails");
    assert!(path.exists());
    // On the CPU.
    let checkpoints = Checkpoints::new(path.clone(), Duration::ZERO, identity(&plan, None));
    let mut cpu = Control { checkpoints: Some(checkpoints), resume: true, ..Control::default() };
    let error = Session::new(&plan, &mut cpu).study().map(|_| ()).expect_err("refused");
    assert!(error.problem.contains("another spec"), "{error}");
    // On a device with less memory, which would add in another order.
    let tight = Machine::of_memory(740_000);
    let mut less = Control { resume: true, ..control(&plan, &tight, path) };
    let error = study(&plan, &tight, &mut less).map(|_| ()).expect_err("refused");
    assert!(error.problem.contains("room for all tokens"), "{error}");
}

#[test]
fn shares_summed_on_a_device_are_merged_there() {
    let folder = TempDir::new().expect("folder");
    family(folder.path());
    let plan = plan(folder.path(), |spec| spec.models.family.truncate(2));
    for machine in [Machine::new, || Machine::of_memory(740_000)] {
        let share = |i: usize| {
            let path = folder.path().join(format!("{i}.share.checkpoint"));
            let machine = machine();
            let mut control = control(&plan, &machine, path);
            let mut session = Session::new(&plan, &mut control).on(Some(&machine));
            session.sum_share(Shard::of(i, 2)).unwrap_or_else(|e| panic!("{e}"))
        };
        let files = [share(2), share(1)];
        let machine = machine();
        let mut control = Control::default();
        let merged = Session::new(&plan, &mut control).on(Some(&machine)).merge(&files);
        let merged = merged.unwrap_or_else(|e| panic!("{e}"));
        assert_same(&merged, &on(&machine, &plan), 1e-5);
        assert_same(&merged, &on_cpu(&plan), 2e-4);
        let error = Session::new(&plan, &mut Control::default()).merge(&files).map(|_| ());
        assert!(error.expect_err("on the CPU").problem.contains("another spec"));
    }
}
