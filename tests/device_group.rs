//! Several devices that share the tokens of a study.

use tempfile::TempDir;
use universal_neurons::error::Kind;
use universal_neurons::findings::Outcome;
use universal_neurons::plan::Plan;
use universal_neurons::run::{Accelerator, Control, DeviceGroup, Session, Shard};
use universal_neurons::spec::{BaselineKind, Screen, Spec};

use crate::device::{assert_same, family, on_cpu, plan};
use crate::device_state::{Failing, bits, control, idle_machine, study};
use crate::ptx_vm::Machine;
use crate::support::run as program;

/// Bytes that hold the sums of the permuted study in one pass, but not all its tokens.
const PERMUTED: usize = 720_000;

fn plan_of_two(folder: &TempDir, change: impl FnOnce(&mut Spec)) -> Plan {
    family(folder.path());
    plan(folder.path(), |spec| {
        spec.models.family.truncate(2);
        change(spec);
    })
}

fn group(n: usize, machine: fn() -> Machine) -> DeviceGroup<Machine> {
    DeviceGroup((0..n).map(|_| machine()).collect())
}

/// Sums the shares one after the other on one machine, and merges them.
fn merged(folder: &TempDir, plan: &Plan, n: usize, machine: fn() -> Machine) -> Vec<Vec<u64>> {
    let share = |i: usize| {
        let machine = machine();
        let mut control = control(plan, &machine, folder.path().join(format!("{i}.checkpoint")));
        let mut session = Session::new(plan, &mut control).on(Some(&machine));
        session.sum_share(Shard::of(i, n)).unwrap_or_else(|e| panic!("{e}"))
    };
    let files: Vec<_> = (1..=n).map(share).collect();
    let (machine, mut control) = (machine(), Control::default());
    let found = Session::new(plan, &mut control).on(Some(&machine)).merge(&files);
    bits(&found.unwrap_or_else(|e| panic!("{e}")).reference)
}

fn assert_gives_merged_shares(
    folder: &TempDir,
    plan: &Plan,
    n: usize,
    machine: fn() -> Machine,
) -> Outcome {
    let devices = group(n, machine);
    let mut control = Control::default();
    let found = Session::new(plan, &mut control).on(Some(&devices)).study();
    let found = found.unwrap_or_else(|e| panic!("{e}"));
    assert!(found.device.starts_with(&format!("{n} × cuda")), "{}", found.device);
    assert!(bits(&found.reference) == merged(folder, plan, n, machine), "{n} devices");
    for (i, machine) in devices.0.iter().enumerate() {
        assert!(machine.launches("embed") > 4, "device {i} read no batch");
    }
    found
}

/// Several devices give the bits of as many shares, which are added in the same order.
#[test]
fn devices_give_the_bits_of_merged_shares() {
    let folder = TempDir::new().expect("folder");
    let plan = plan_of_two(&folder, |_| ());
    // Tokens are kept.
    let found = assert_gives_merged_shares(&folder, &plan, 3, Machine::new);
    assert_same(&found, &on_cpu(&plan), 2e-4);
    // Sums are kept. Random numbers depend on where in the corpus a token is.
    let permuted = plan_of_two(&folder, |spec| {
        spec.correlation.baseline.kind = BaselineKind::Permutation;
        spec.correlation.baseline.draws = 1;
    });
    assert_gives_merged_shares(&folder, &permuted, 2, || Machine::of_memory(PERMUTED));
}

#[test]
fn a_run_on_several_devices_resumes_with_the_same_bits() {
    let folder = TempDir::new().expect("folder");
    let plan = plan_of_two(&folder, |_| ());
    let machines = |left| {
        DeviceGroup(vec![
            Failing::after(Machine::new(), usize::MAX),
            Failing::after(Machine::new(), left),
        ])
    };
    let whole = machines(usize::MAX);
    let want = bits(&study(&plan, &whole, &mut Control::default()).expect("a whole run"));
    let launches = usize::MAX - whole.0[1].left();
    let failing = machines(launches - 5);
    let path = folder.path().join("x.checkpoint");
    let mut first = control(&plan, &failing, path.clone());
    let error = study(&plan, &failing, &mut first).expect_err("one card fails");
    assert!(error.problem.contains("its sums are in"), "{error}");
    let again = machines(usize::MAX);
    let mut second = Control { resume: true, ..control(&plan, &again, path) };
    let found = study(&plan, &again, &mut second).unwrap_or_else(|e| panic!("{e}"));
    assert!(bits(&found) == want);
    assert!(again.0[0].left() > whole.0[0].left(), "nothing was resumed");
}

#[test]
fn what_needs_one_device_is_refused_by_name() {
    let folder = TempDir::new().expect("folder");
    let refused = |plan: &Plan, device: &dyn Accelerator| {
        let error = study(plan, device, &mut Control::default()).map(|_| ()).expect_err("refused");
        assert_eq!(error.kind, Kind::Device);
        assert!(error.remedy.contains("cuda: 0"), "{error}");
        error.problem
    };
    let screened = plan_of_two(&folder, |spec| {
        spec.correlation.screen = Some(Screen { sample: 60, candidates: 8, standard_errors: 5.0 });
    });
    assert!(refused(&screened, &group(2, Machine::new)).contains("screening"));
    let plan = plan_of_two(&folder, |_| ());
    let passes = (400_000..740_000).step_by(20_000).find_map(|bytes| {
        let devices = DeviceGroup(vec![idle_machine(bytes), idle_machine(bytes)]);
        let found = study(&plan, &devices, &mut Control::default());
        found.err().map(|e| e.problem).filter(|problem| problem.contains("several passes"))
    });
    assert!(passes.is_some(), "no memory asks for several passes");
    let devices = group(2, Machine::new);
    let mut control: Control = control(&plan, &devices, folder.path().join("1.checkpoint"));
    let mut session = Session::new(&plan, &mut control).on(Some(&devices));
    let share = session.sum_share(Shard::of(1, 2)).expect_err("refused");
    assert!(share.problem.contains("on one card"), "{share}");
}

#[test]
fn cards_are_named_on_the_command_line() {
    let spec = crate::support::path("experiments/desk-universality.yaml");
    let (folder, spec) = (spec.parent().expect("folder"), spec.to_str().expect("UTF-8"));
    let refused = |device: &str| {
        let output = program(folder, &["run", spec, "--dry-run", "--device", device]);
        assert_eq!(output.status.code(), Some(2), "{device}");
        crate::support::stderr(&output)
    };
    assert!(refused("gpu").contains("expected auto, cpu, cuda"));
    assert!(refused("cuda:0,0").contains("card 0 is named twice"));
    assert_eq!(
        program(folder, &["run", spec, "--dry-run", "--device", "cuda:all"]).status.code(),
        Some(0)
    );
}
