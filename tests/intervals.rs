//! Intervals of a study: the same bits however a run is carried out, and none where there can be
//! none.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use universal_neurons::checkpoint::Checkpoints;
use universal_neurons::corpus::Row;
use universal_neurons::correlation::Keep;
use universal_neurons::error::Kind as ErrorKind;
use universal_neurons::experiment::load_spec;
use universal_neurons::findings::Outcome;
use universal_neurons::plan::Plan;
use universal_neurons::record::{ExtraRow, Summary};
use universal_neurons::run::{Accelerator, Control, Session};
use universal_neurons::spec::{Screen, Spec};
use universal_neurons::table::Column;

use crate::device;
use crate::kernels::Random;
use crate::ptx_vm::Machine;
use crate::support::{Bench, run, stderr, varied_corpus};

/// A bench with fifty documents.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("corpus.jsonl", varied_corpus(50));
    bench
}

fn plan(bench: &Bench, change: impl FnOnce(&mut Spec)) -> Plan {
    let mut loaded = load_spec(&bench.path().join("spec.yaml")).unwrap_or_else(|e| panic!("{e}"));
    loaded.spec.correlation.threshold = 0.1;
    loaded.spec.statistics.intervals.resamples = 200;
    change(&mut loaded.spec);
    Plan::make(loaded).unwrap_or_else(|e| panic!("{e}"))
}

fn outcome(plan: &Plan, device: Option<&dyn Accelerator>) -> Outcome {
    let mut control = Control::default();
    let mut session = Session::new(plan, &mut control).on(device);
    let mut outcome = session.study().unwrap_or_else(|e| panic!("{e}"));
    session.add_intervals(&mut outcome).unwrap_or_else(|e| panic!("{e}"));
    outcome
}

/// All intervals of a plan's reference model, as text.
fn intervals(plan: &Plan) -> String {
    shown(outcome(plan, None))
}

/// All intervals of an outcome's reference model, as text. Numbers have as many digits as tell them
/// apart.
fn shown(outcome: Outcome) -> String {
    let found = outcome.reference;
    let of_neurons: Vec<_> = found.extra.iter().map(|row| row.excess).collect();
    assert!(of_neurons.iter().flatten().count() > 0, "no neuron has an interval");
    let Summary { shares, by_layer, signatures, resampling, .. } = found.summary;
    assert!(shares.iter().all(|share| share.interval.is_some()), "{shares:?}");
    format!("{of_neurons:?}\n{shares:?}\n{by_layer:?}\n{signatures:?}\n{resampling:?}")
}

#[test]
fn the_way_of_a_run_changes_no_bit_of_its_intervals() {
    let bench = bench();
    let want = intervals(&plan(&bench, |_| ()));
    for tokens in [12, 30] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads");
        let got = pool.install(|| intervals(&plan(&bench, |spec| spec.batch.tokens = tokens)));
        assert!(got == want, "{tokens} tokens\n{got}\n{want}");
    }
    let passes = Plan { keep: Keep::Sums { passes: 2 }, ..plan(&bench, |_| ()) };
    let once = Plan { keep: Keep::Sums { passes: 1 }, ..plan(&bench, |_| ()) };
    assert!(intervals(&passes) == intervals(&once), "two passes");
    let other = intervals(&plan(&bench, |spec| spec.statistics.intervals.seed = 2));
    assert!(other != want, "another seed gives the same intervals");
}

/// Runs a study with intervals. The run is stopped before a pass reads its first batch.
fn stopped(plan: &Plan, control: &mut Control, before: Pass) {
    let stop = |control: &Control| control.stop.store(true, Ordering::Relaxed);
    if before == Pass::Tokens {
        stop(control);
    }
    let mut session = Session::new(plan, control);
    let found = session.study();
    if before == Pass::Intervals {
        stop(session.control);
    }
    let error = found.and_then(|mut outcome| session.add_intervals(&mut outcome));
    let error = error.expect_err("it was stopped");
    assert_eq!(error.kind, ErrorKind::Interrupted, "{error}");
    session.control.stop.store(false, Ordering::Relaxed);
}

#[derive(Clone, Copy, PartialEq)]
enum Pass {
    Tokens,
    Intervals,
}

/// A run that is resumed after it was stopped, before its tokens were read or between their pass and
/// that of the intervals, has the bits of a run that was not stopped.
#[test]
fn a_resumed_run_has_the_same_intervals() {
    let bench = bench();
    for passes in [1, 2] {
        let plan = Plan { keep: Keep::Sums { passes }, ..plan(&bench, |_| ()) };
        let whole = outcome(&plan, None);
        for before in [Pass::Tokens, Pass::Intervals] {
            let folder = tempfile::TempDir::new().expect("folder");
            let checkpoint = folder.path().join("x.checkpoint");
            let every = Duration::from_secs(3600);
            let checkpoints = Checkpoints::new(checkpoint.clone(), every, plan.identity());
            let mut control = Control { checkpoints: Some(checkpoints), ..Control::default() };
            stopped(&plan, &mut control, before);
            assert!(checkpoint.exists(), "{passes} passes leave a checkpoint");
            control.resume = true;
            let mut session = Session::new(&plan, &mut control);
            let mut resumed = session.study().unwrap_or_else(|e| panic!("{e}"));
            session.add_intervals(&mut resumed).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(resumed.reference.table, whole.reference.table);
            let (got, want) = (shown(resumed), shown(whole.clone()));
            assert!(got == want, "{passes} passes\n{got}\n{want}");
        }
    }
}

#[test]
fn every_judged_model_has_intervals() {
    let bench = bench();
    let plan = plan(&bench, |spec| spec.models.also_reference = vec!["b".into()]);
    let found = outcome(&plan, None);
    assert_eq!(found.also.len(), 1);
    assert!(found.also[0].summary.shares[0].interval.is_some(), "{:?}", found.also[0].summary);
    assert_ne!(found.also[0].summary.by_layer, found.reference.summary.by_layer);
}

/// Candidates from a screened run are those of a whole run here, so their intervals are equal.
#[test]
fn a_screened_run_has_the_same_intervals() {
    let bench = bench();
    let screen = Screen { sample: 150, candidates: 64, standard_errors: 4.0 };
    let screened = plan(&bench, |spec| spec.correlation.screen = Some(screen));
    let whole = outcome(&plan(&bench, |_| ()), None).reference;
    let found = outcome(&screened, None).reference;
    let ends = |rows: &[ExtraRow]| -> Vec<Option<[f64; 2]>> {
        rows.iter().map(|row| row.excess.map(|e| [e.low, e.high])).collect()
    };
    for (got, want) in ends(&found.extra).iter().zip(&ends(&whole.extra)) {
        let (Some(got), Some(want)) = (got, want) else {
            panic!("{got:?} {want:?}");
        };
        // Chance levels of the two runs are added up in another order.
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-5), "{got:?} {want:?}");
    }
}

#[test]
fn a_device_gives_the_intervals_of_the_cpu() {
    let folder = tempfile::TempDir::new().expect("folder");
    device::family(folder.path());
    let plan = device::plan(folder.path(), |_| ());
    let (cpu, card) =
        (outcome(&plan, None).reference, outcome(&plan, Some(&Machine::new())).reference);
    for (got, want) in card.extra.iter().zip(&cpu.extra) {
        let (got, want) = (got.excess.expect("an interval"), want.excess.expect("an interval"));
        // A device computes activations and chance levels in another order, which rounds differently.
        assert!(
            (got.low - want.low).abs() < 4e-4 && (got.high - want.high).abs() < 4e-4,
            "{got:?} {want:?}"
        );
    }
}

fn summary(bench: &Bench, folder: &str) -> Value {
    let text = std::fs::read_to_string(bench.path().join(folder).join("summary.json"));
    serde_json::from_str(&text.expect("a summary")).expect("JSON")
}

#[test]
fn the_program_says_how_sure_it_is() {
    let bench = bench();
    let output = run(bench.path(), &["run", "spec.yaml", "--quiet"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("95 %: over 1000 resamples of the text in 20 blocks"), "{text}");
    let found = summary(&bench, "runs/bench");
    assert_eq!(found["resampling"]["blocks"], 20, "{found}");
    assert!(found["shares"][0]["interval"]["low"].is_number(), "{found}");
    let extra = std::fs::read_to_string(bench.path().join("runs/bench/neurons-extra.csv"));
    assert!(extra.expect("a table").starts_with("layer,neuron,excess_low,excess_high,"));
}

#[test]
fn a_spec_may_ask_for_no_intervals() {
    let bench = bench();
    bench.edit(
        "spec.yaml",
        "correlation:",
        "statistics: { intervals: { blocks: 0 } }\ncorrelation:",
    );
    let output = run(bench.path(), &["run", "spec.yaml", "--quiet"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("95 %"));
    let found = summary(&bench, "runs/bench");
    assert!(found.get("resampling").is_none() && found["shares"][0].get("interval").is_none());
}

#[test]
fn where_there_can_be_no_interval_a_run_says_why() {
    let bench = bench();
    for share in ["1/2", "2/2"] {
        let output = run(bench.path(), &["run", "spec.yaml", "--quiet", "--shard", share]);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let shares = ["1", "2"].map(|i| format!("runs/bench.shard-{i}-of-2"));
    let output = run(bench.path(), &["merge", "spec.yaml", &shares[0], &shares[1], "--quiet"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let found = summary(&bench, "runs/bench");
    let why = found["resampling"]["missing"].as_str().expect("a reason");
    assert!(why.contains("merged from shares"), "{why}");
    assert!(found["shares"][0].get("interval").is_none(), "{found}");
    let one = Bench::new();
    one.write("corpus.jsonl", varied_corpus(1));
    let alone = outcome(&plan(&one, |_| ()), None).reference.summary;
    let why = alone.resampling.and_then(|r| r.missing).expect("a reason");
    assert!(why.contains("one document"), "{why}");
}

/// Root mean square of standard deviations, without those that do not exist.
fn spread(deviations: impl Iterator<Item = f64>) -> f64 {
    let known: Vec<f64> = deviations.filter(|sd| sd.is_finite()).collect();
    assert!(known.len() > 100, "{} neurons", known.len());
    (known.iter().map(|sd| sd * sd).sum::<f64>() / known.len() as f64).sqrt()
}

/// Repeats whole studies, baselines included, over documents drawn with replacement. Returns the
/// standard deviation of each neuron's excess correlation.
fn of_repeated_studies(plan: &Plan, studies: usize) -> Vec<f64> {
    let documents: Vec<&[Row]> =
        plan.tokens.rows.chunk_by(|a, b| a.sample() == b.sample()).collect();
    let mut random = Random::new(7);
    let mut draw = || (random.value().abs() * 1e6) as usize % documents.len();
    let mut control = Control::default();
    let mut session = Session::new(plan, &mut control);
    let mut study = || {
        let rows = (0..documents.len()).flat_map(|_| documents[draw()]).cloned().collect();
        let drawn = plan.with_tokens(plan.tokens.with_rows(rows)).unwrap_or_else(|e| panic!("{e}"));
        let found = session.study_of(&drawn, "resampled").unwrap_or_else(|e| panic!("{e}"));
        found.table.column(Column::ExcessCorr).to_vec()
    };
    let excess: Vec<Vec<f64>> = (0..studies).map(|_| study()).collect();
    let of_neuron = |i: usize| {
        let mean = excess.iter().map(|e| e[i]).sum::<f64>() / studies as f64;
        let square: f64 = excess.iter().map(|e| (e[i] - mean).powi(2)).sum();
        (square / (studies - 1) as f64).sqrt()
    };
    (0..excess[0].len()).map(of_neuron).collect()
}

/// Fixed baselines and few candidates leave the width of intervals about that of repeated studies.
#[test]
fn intervals_are_as_wide_as_repeated_studies_vary() {
    let folder = tempfile::TempDir::new().expect("folder");
    device::family(folder.path());
    let plan = device::plan(folder.path(), |spec| spec.corpus.limit = Some(40));
    let whole = spread(of_repeated_studies(&plan, 20).into_iter());
    let found = outcome(&plan, None).reference;
    // A normal distribution has 95 % within 1.96 standard deviations of its mean.
    let sd = |row: &ExtraRow| row.excess.map_or(f64::NAN, |e| (e.high - e.low) / (2.0 * 1.96));
    let interval = spread(found.extra.iter().map(sd));
    println!("standard deviation of excess: {interval} from intervals, {whole} of whole studies");
    // Twenty studies, and twenty blocks, each give a standard deviation within 16 %, one standard
    // error, even if all neurons vary together. Three standard errors of the ratio are 68 %.
    assert!((0.5..2.0).contains(&(interval / whole)), "{interval}, {whole}");
}
