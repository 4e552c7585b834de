//! The results do not depend on how the work is divided: in passes, in shares, or resumed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tempfile::TempDir;
use universal_neurons::checkpoint::Checkpoints;
use universal_neurons::compare::Tolerance;
use universal_neurons::correlation::{CHUNK, Keep};
use universal_neurons::experiment::load_spec;
use universal_neurons::findings::{Findings, Outcome};
use universal_neurons::model::Activation;
use universal_neurons::plan::Plan;
use universal_neurons::run::{Control, Session, Shard, run};
use universal_neurons::spec::{BaselineKind, Precision, Screen, Spec};
use universal_neurons::table::Column;

use crate::device::{self, CONTEXT, Shape, family_of};
use crate::support::{assert_close, path};

/// Layers and widths that are no multiple of a tile's sides.
const SHAPE: Shape = Shape { layers: 3, heads: 2, d_model: 32, d_mlp: 136, context: CONTEXT };

/// Plans a run of three small models over more tokens than are added in f32.
fn plan(change: impl FnOnce(&mut Spec)) -> Plan {
    static FAMILY: LazyLock<TempDir> = LazyLock::new(|| {
        let folder = TempDir::new().expect("folder");
        family_of(folder.path(), SHAPE);
        folder
    });
    device::plan(FAMILY.path(), |spec| {
        spec.corpus.limit = Some(60);
        change(spec);
    })
}

/// Plans a short run of two bundled models.
fn bundled(change: impl FnOnce(&mut Spec)) -> Plan {
    let mut loaded = load_spec(&path("experiments/desk-universality.yaml")).expect("valid");
    let spec = &mut loaded.spec;
    spec.corpus.limit = Some(12);
    spec.models.family.truncate(2);
    change(spec);
    Plan::make(loaded).unwrap_or_else(|e| panic!("{e}"))
}

fn whole(plan: &Plan) -> Outcome {
    run(plan, &mut Control::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn bits(findings: &Findings) -> Vec<Vec<u64>> {
    let column = |c: &Column| findings.table.column(*c).iter().map(|v| v.to_bits()).collect();
    Column::ALL.iter().map(column).collect()
}

fn assert_about_equal(got: &Findings, want: &Findings, tolerance: Tolerance) {
    for &column in Column::ALL {
        let (got, want) = (got.table.column(column), want.table.column(column));
        assert_close(column.name(), got.iter().copied(), want, tolerance);
    }
}

#[test]
fn tokens_or_sums_in_any_number_of_passes_give_the_same_bits() {
    let of = |keep: Keep| Plan { keep, ..plan(|_| ()) };
    let tokens = of(Keep::Tokens);
    assert!(tokens.tokens.count().used > CHUNK, "sums in f32 are added to others");
    let want = bits(&whole(&tokens).reference);
    let mut seen = Vec::new();
    for keep in [Keep::Sums { passes: 1 }, Keep::Sums { passes: 3 }] {
        let plan = of(keep);
        assert!(bits(&whole(&plan).reference) == want, "{keep:?}");
        seen.push(plan.bytes());
    }
    assert!(seen[1] < seen[0], "more passes take less memory: {seen:?}");
}

#[test]
fn a_plan_stays_within_its_memory_limit() {
    let whole_corpus = |gib| {
        let mut loaded = load_spec(&path("experiments/desk-universality.yaml")).expect("valid");
        loaded.spec.batch.memory_gib = gib;
        Plan::make(loaded)
    };
    let free = whole_corpus(None).expect("no limit");
    assert_eq!(free.keep, Keep::Sums { passes: 1 });
    let gib = |plan: &Plan| plan.bytes() as f64 / f64::from(1 << 30);
    let tight = whole_corpus(Some(gib(&free) - 0.05)).expect("it fits in passes");
    assert!(matches!(tight.keep, Keep::Sums { passes } if passes > 1), "{:?}", tight.keep);
    assert!(gib(&tight) <= gib(&free) - 0.05);
    let error = whole_corpus(Some(0.1)).expect_err("nothing fits");
    assert!(error.problem.contains("memory_gib"), "{error}");
}

#[test]
fn every_model_can_be_a_reference_in_one_run() {
    let all = plan(|spec| spec.models.also_reference = vec!["b".into(), "c".into()]);
    let outcome = whole(&all);
    let also: Vec<&str> = outcome.also.iter().map(|f| f.summary.reference.as_str()).collect();
    assert_eq!(also, ["b", "c"]);
    let alone = whole(&plan(|spec| spec.models.reference = "b".into())).reference;
    assert!(bits(&outcome.also[0]) == bits(&alone), "b is the same whoever else is judged");
    assert_eq!(outcome.also[0].summary.top, alone.summary.top);
}

#[test]
fn the_gaussian_baseline_uses_the_activation_function_of_each_model() {
    let mut plan = plan(|spec| spec.correlation.baseline.kind = BaselineKind::Gaussian);
    // A Pythia computes the exact GELU, here x Φ(x) with Φ(−2) = 0.0227501; GPT-2's form
    // by tanh gives −0.0454023.
    plan.models[1].config.activation = Activation::Gelu;
    let at = |model: usize| plan.comparison_plan().activations[model](-2.0);
    assert!((at(0) + 0.045_402_3).abs() < 1e-6, "{}", at(0));
    assert!((at(1) + 0.045_500_3).abs() < 1e-6, "{}", at(1));
}

#[test]
fn screening_finds_the_same_universal_neurons() {
    let study = |screen: Option<Screen>| {
        let plan = bundled(|spec| {
            spec.corpus.limit = Some(24);
            // Many neurons lie near the lower thresholds, which would leave few to be screened.
            spec.correlation.also_report.clear();
            spec.correlation.screen = screen;
        });
        whole(&plan).reference
    };
    let brute = study(None);
    let screened = study(Some(Screen { sample: 3500, candidates: 64, standard_errors: 5.0 }));
    let report = screened.summary.screening.expect("a report");
    assert!(report.exact < report.of / 2, "few neurons were screened: {report:?}");
    assert_eq!(screened.summary.shares, brute.summary.shares);
    let universal = |findings: &Findings| -> Vec<usize> {
        let excess = findings.table.column(Column::ExcessCorr).iter().enumerate();
        excess.filter(|(_, e)| **e > 0.5).map(|(i, _)| i).collect()
    };
    assert_eq!(universal(&screened), universal(&brute));
    // The best matches of all neurons are exact; chance levels may be those of the sample.
    let (got, want) =
        (screened.table.column(Column::MeanCorr), brute.table.column(Column::MeanCorr));
    let off = got.iter().zip(want).filter(|(got, want)| (*got - *want).abs() > 1e-6).count();
    assert!(off * 1000 <= got.len(), "{off} best matches differ");
}

/// Plans a screened run, some of whose neurons are compared exactly in a second pass.
fn screened() -> Plan {
    plan(|spec| {
        spec.batch.tokens = 100;
        spec.correlation.screen = Some(Screen { sample: 300, candidates: 4, standard_errors: 0.5 });
    })
}

/// Runs a plan and stops it once it has written a checkpoint. Returns whether it was stopped.
fn is_stopped_halfway(plan: &Plan, control: &mut Control, checkpoint: &Path) -> bool {
    let stop = Arc::clone(&control.stop);
    std::thread::scope(|scope| {
        let running = Arc::new(AtomicBool::new(true));
        let watched = Arc::clone(&running);
        scope.spawn(move || {
            while watched.load(Ordering::Relaxed) && !checkpoint.exists() {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
        });
        let stopped = run(plan, control).is_err();
        running.store(false, Ordering::Relaxed);
        stopped
    })
}

#[test]
fn a_screened_run_resumes_with_the_same_bits() {
    let plan = screened();
    let want = whole(&plan).reference;
    let counts = want.summary.screening.expect("a screened run");
    assert!(counts.exact > counts.screened_again && counts.screened_again > 0, "{counts:?}");
    let folder = TempDir::new().expect("folder");
    let path = folder.path().join("x.checkpoint");
    let often = || Checkpoints::new(path.clone(), Duration::ZERO, plan.identity());
    let control = || Control { checkpoints: Some(often()), ..Control::default() };
    // A machine that is busy elsewhere may let the run end first.
    let stopped = (0..20).any(|_| {
        let _ = std::fs::remove_file(&path);
        is_stopped_halfway(&plan, &mut control(), &path)
    });
    assert!(stopped && path.exists(), "the run was never stopped between two batches");
    for _ in 0..2 {
        // First from the middle of the tokens, then from the end of the first pass.
        let resumed = run(&plan, &mut Control { resume: true, ..control() });
        let resumed = resumed.unwrap_or_else(|e| panic!("{e}")).reference;
        assert!(bits(&resumed) == bits(&want));
        assert_eq!(resumed.summary.screening, want.summary.screening);
    }
}

#[test]
fn a_screened_run_has_no_shares() {
    let plan = screened();
    let folder = TempDir::new().expect("folder");
    let shard: Shard = "1/2".parse().expect("a share");
    let mut control = control(&plan, folder.path(), "x");
    let error = Session::new(&plan, &mut control).sum_share(shard).expect_err("refused");
    assert!(error.problem.contains("correlation.screen"), "{error}");
}

#[test]
fn bf16_moves_correlations_within_its_bound() {
    let exact = whole(&plan(|_| ())).reference;
    let bf16 = whole(&plan(|spec| spec.correlation.precision = Precision::Bf16)).reference;
    for column in [Column::MeanCorr, Column::MeanBaseline, Column::ExcessCorr] {
        let (got, want) = (bf16.table.column(column), exact.table.column(column));
        // Each factor has an error of at most 2⁻⁹, and pilots are close to the means.
        assert_close(column.name(), got.iter().copied(), want, Tolerance::absolute(0.005));
        assert_ne!(got, want, "another precision has other bits");
    }
}

/// Runs all shares of a plan into a folder.
pub fn shares(plan: &Plan, n: usize, folder: &Path) -> Vec<PathBuf> {
    let one = |i: usize| {
        let shard: Shard = format!("{i}/{n}").parse().expect("a share");
        let mut control = control(plan, folder, &format!("share-{i}"));
        Session::new(plan, &mut control).sum_share(shard).unwrap_or_else(|e| panic!("{e}"))
    };
    (1..=n).map(one).collect()
}

fn control(plan: &Plan, folder: &Path, name: &str) -> Control {
    let path = folder.join(format!("{name}.checkpoint"));
    let checkpoints = Checkpoints::new(path, Duration::from_secs(3600), plan.identity());
    Control { checkpoints: Some(checkpoints), ..Control::default() }
}

#[test]
fn merged_shares_are_the_whole_run() {
    let sums = |plan: Plan| Plan { keep: Keep::Sums { passes: 1 }, ..plan };
    let two = |spec: &mut Spec| spec.models.family.truncate(2);
    let permuted = |spec: &mut Spec| {
        two(spec);
        let baseline = &mut spec.correlation.baseline;
        (baseline.kind, baseline.draws) = (BaselineKind::Permutation, 1);
    };
    let tokens = |plan: Plan| Plan { keep: Keep::Tokens, ..plan };
    for plan in [tokens(plan(two)), sums(plan(two)), sums(plan(permuted))] {
        let want = whole(&plan).reference;
        let folder = TempDir::new().expect("folder");
        let mut files = shares(&plan, 3, folder.path());
        files.reverse();
        let got = Session::new(&plan, &mut Control::default()).merge(&files);
        let got = got.unwrap_or_else(|e| panic!("{e}")).reference;
        // Sums of sums are rounded in another order, in f64.
        assert_about_equal(&got, &want, Tolerance { absolute: 1e-9, relative: 1e-9 });
        assert_eq!(got.summary.shares, want.summary.shares);
    }
}

#[test]
fn an_interrupted_share_resumes_with_the_same_bits() {
    let plan = plan(|spec| spec.models.family.truncate(2));
    let folder = TempDir::new().expect("folder");
    let want = std::fs::read(&shares(&plan, 2, folder.path())[1]).expect("a share");
    let shard: Shard = "2/2".parse().expect("a share");
    let mut control = control(&plan, folder.path(), "stopped");
    control.stop.store(true, Ordering::Relaxed);
    Session::new(&plan, &mut control).sum_share(shard).expect_err("it was stopped");
    control.stop.store(false, Ordering::Relaxed);
    control.resume = true;
    let path = Session::new(&plan, &mut control).sum_share(shard).unwrap_or_else(|e| panic!("{e}"));
    assert!(std::fs::read(path).expect("a share") == want);
}

#[test]
fn incomplete_or_foreign_shares_are_refused() {
    let plan = plan(|spec| spec.corpus.limit = Some(8));
    let folder = TempDir::new().expect("folder");
    let files = shares(&plan, 2, folder.path());
    let refused = |plan: &Plan, files: &[PathBuf], why: &str| {
        let error = Session::new(plan, &mut Control::default()).merge(files).expect_err(why);
        assert!(error.problem.contains(why), "{error}");
    };
    refused(&plan, &files[..1], "with 1 files");
    refused(&plan, &[files[0].clone(), files[0].clone()], "with 2 files");
    refused(&plan, &[folder.path().join("none")], "cannot read the file");
    let other = self::plan(|spec| spec.corpus.limit = Some(9));
    refused(&other, &files, "another spec");
    let mut bytes = std::fs::read(&files[1]).expect("a share");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&files[1], bytes).expect("write");
    refused(&plan, &files, "not a whole checkpoint");
}
