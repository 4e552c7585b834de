//! A whole run on a device gives the table of the CPU, within rounding.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use tempfile::TempDir;
use universal_neurons::compare::Tolerance;
use universal_neurons::experiment::load_spec;
use universal_neurons::findings::Outcome;
use universal_neurons::plan::Plan;
use universal_neurons::run::{Accelerator, Control, Session, run};
use universal_neurons::spec::{BaselineKind, MomentKind, Precision, Screen, Spec};
use universal_neurons::table::Column;

use crate::kernels::{Random, card, machine};
use crate::ptx_vm::Machine;
use crate::support::{assert_close, path, run as program, stderr};

/// The sizes of random models.
#[derive(Clone, Copy)]
pub struct Shape {
    pub layers: usize,
    pub heads: usize,
    pub d_model: usize,
    pub d_mlp: usize,
    pub context: usize,
}

const TINY: Shape = Shape { layers: LAYERS, heads: 2, d_model: 32, d_mlp: 72, context: CONTEXT };
const LAYERS: usize = 2;
const VOCAB: usize = 2048;
pub const CONTEXT: usize = 48;

/// Returns the tensors of a tiny GPT-2. Models of one family share the numbers drawn from `shared`.
fn tensors(own: u64, shape: Shape) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let Shape { layers, d_model: d, d_mlp, context, .. } = shape;
    let (mut shared, mut noise) = (Random::new(1), Random::new(own));
    let mut tensor = |name: &str, shape: &[usize], scale: f32, base: f32| {
        let len = shape.iter().product();
        let mut value = || base + scale * (shared.value() + 0.3 * noise.value());
        (name.to_owned(), shape.to_vec(), (0..len).map(|_| value()).collect())
    };
    let mut all = vec![
        tensor("wte.weight", &[VOCAB, d], 1.0, 0.0),
        tensor("wpe.weight", &[context, d], 0.3, 0.0),
        tensor("ln_f.weight", &[d], 0.0, 1.0),
        tensor("ln_f.bias", &[d], 0.0, 0.0),
    ];
    for layer in 0..layers {
        for (name, shape, scale, base) in [
            ("ln_1.weight", &[d][..], 0.1, 1.0),
            ("ln_1.bias", &[d], 0.1, 0.0),
            ("attn.c_attn.weight", &[d, 3 * d], 0.3, 0.0),
            ("attn.c_attn.bias", &[3 * d], 0.1, 0.0),
            ("attn.c_proj.weight", &[d, d], 0.3, 0.0),
            ("attn.c_proj.bias", &[d], 0.1, 0.0),
            ("ln_2.weight", &[d], 0.1, 1.0),
            ("ln_2.bias", &[d], 0.1, 0.0),
            ("mlp.c_fc.weight", &[d, d_mlp], 0.4, 0.0),
            ("mlp.c_fc.bias", &[d_mlp], 0.5, 0.0),
            ("mlp.c_proj.weight", &[d_mlp, d], 0.3, 0.0),
            ("mlp.c_proj.bias", &[d], 0.1, 0.0),
        ] {
            all.push(tensor(&format!("h.{layer}.{name}"), shape, scale, base));
        }
    }
    all
}

fn write_model(folder: &Path, own: u64, shape: Shape) {
    std::fs::create_dir_all(folder).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(
        &std::fs::read_to_string(path("experiments/desk/a/config.json")).unwrap(),
    )
    .unwrap();
    for (key, value) in [
        ("n_embd", shape.d_model),
        ("n_head", shape.heads),
        ("n_inner", shape.d_mlp),
        ("n_layer", shape.layers),
        ("n_positions", shape.context),
    ] {
        config[key] = value.into();
    }
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    std::fs::copy(path("experiments/desk/a/tokenizer.json"), folder.join("tokenizer.json"))
        .unwrap();
    let tensors = tensors(own, shape);
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
}

/// Writes a family of three tiny models and a spec.
pub fn family(folder: &Path) {
    family_of(folder, TINY);
}

/// The same with models of another shape.
pub fn family_of(folder: &Path, shape: Shape) {
    let mut spec = String::from(
        "version: 1\nname: tiny\nkind: universality\nquestion: Does a device say the same?\n\
         source: none\nmodels:\n  reference: a\n  family:\n",
    );
    for (i, name) in ["a", "b", "c"].into_iter().enumerate() {
        write_model(&folder.join(name), 10 + i as u64, shape);
        writeln!(spec, "    - {{ name: {name}, path: {name} }}").unwrap();
    }
    write!(spec, "corpus: {{ path: corpus.jsonl, context: {CONTEXT}, limit: 5 }}\n\
                  correlation:\n  threshold: 0.2\n  baseline: {{ kind: rotation, draws: 2, seed: 5 }}\n\
                  batch: {{ tokens: 100 }}\n").unwrap();
    std::fs::write(folder.join("tiny.yaml"), spec).unwrap();
    std::fs::copy(path("experiments/desk/corpus.jsonl"), folder.join("corpus.jsonl")).unwrap();
}

pub fn plan(folder: &Path, change: impl FnOnce(&mut Spec)) -> Plan {
    let mut loaded = load_spec(&folder.join("tiny.yaml")).unwrap_or_else(|e| panic!("{e}"));
    change(&mut loaded.spec);
    Plan::make(loaded).unwrap_or_else(|e| panic!("{e}"))
}

pub fn on_cpu(plan: &Plan) -> Outcome {
    run(plan, &mut Control::default()).unwrap_or_else(|e| panic!("{e}"))
}

pub fn on(device: &dyn Accelerator, plan: &Plan) -> Outcome {
    Session::new(plan, &mut Control::default())
        .on(Some(device))
        .study()
        .unwrap_or_else(|e| panic!("{e}"))
}

pub fn assert_same(got: &Outcome, want: &Outcome, off: f64) {
    let tolerance = Tolerance { absolute: off, relative: off };
    for (got, want) in [&got.reference]
        .into_iter()
        .chain(&got.also)
        .zip([&want.reference].into_iter().chain(&want.also))
    {
        for &column in Column::ALL {
            let (got, want) = (got.table.column(column), want.table.column(column));
            assert_close(column.name(), got.iter().copied(), want, tolerance);
        }
        for (got, want) in got.partners.iter().zip(&want.partners) {
            assert_eq!(got.pairs, want.pairs);
            assert!((got.rho.mean - want.rho.mean).abs() < off);
            assert!((got.rho.var - want.rho.var).abs() < off);
        }
    }
}

#[test]
fn a_device_agrees_with_the_cpu() {
    let folder = TempDir::new().unwrap();
    family(folder.path());
    let plan = plan(folder.path(), |spec| {
        spec.models.also_reference = vec!["c".into()];
        spec.correlation.top_partners = 3;
    });
    let want = on_cpu(&plan);
    let got = on(machine(), &plan);
    assert!(got.device.starts_with("cuda (a virtual machine"), "{}", got.device);
    assert_same(&got, &want, 2e-4);
    let summary = &got.reference.summary;
    assert_eq!(summary.shares, want.reference.summary.shares);
    for (got, want) in got.reference.partners.iter().zip(&want.reference.partners) {
        assert_eq!(got.top.iter().map(Vec::len).min(), Some(3));
        let best = |p: &universal_neurons::record::PartnerCorrelations| -> Vec<_> {
            p.top.iter().map(|top| top[0].0).collect()
        };
        assert_eq!(best(got), best(want), "the same best partners");
    }
    if let Some(card) = card() {
        assert_same(&on(&card, &plan), &want, 2e-4);
    }
}

#[test]
fn sums_are_kept_where_tokens_do_not_fit() {
    let folder = TempDir::new().unwrap();
    family(folder.path());
    let plan = plan(folder.path(), |spec| spec.models.family.truncate(2));
    let want = on_cpu(&plan);
    let tight = tight();
    // Two planes of two bytes for each of 2 × 144 neurons.
    let tokens = plan.tokens.count().used * 4 * 2 * LAYERS * TINY.d_mlp;
    assert!(tokens > tight.memory, "{tokens} bytes of tokens fit");
    assert_same(&on(&tight, &plan), &want, 2e-4);
    let none = Machine::of_memory(100_000);
    let error =
        Session::new(&plan, &mut Control::default()).on(Some(&none)).study().expect_err("no room");
    assert!(error.problem.contains("GiB"), "{error}");
}

/// A machine that has no room for all tokens of the tiny models.
fn tight() -> Machine {
    Machine::of_memory(740_000)
}

/// The columns that the baseline does not enter.
fn assert_same_matches(got: &Outcome, want: &Outcome) {
    let tolerance = Tolerance { absolute: 2e-4, relative: 2e-4 };
    for column in [Column::MaxCorr, Column::MeanCorr, Column::MinCorr, Column::Mean, Column::Skew] {
        let (got, want) = (got.reference.table.column(column), want.reference.table.column(column));
        assert_close(column.name(), got.iter().copied(), want, tolerance);
    }
}

#[test]
fn surrogates_are_those_of_the_cpu() {
    let folder = TempDir::new().unwrap();
    family(folder.path());
    for kind in [BaselineKind::Permutation, BaselineKind::Gaussian] {
        let plan = plan(folder.path(), |spec| {
            spec.models.family.truncate(2);
            spec.correlation.baseline.kind = kind;
        });
        let want = on_cpu(&plan);
        assert_same(&on(machine(), &plan), &want, 2e-4);
        // Where sums are kept, the tokens that are held at a time are permuted, so that the draws
        // are others.
        let summed = on(&Machine::of_memory(900_000), &plan);
        match kind {
            BaselineKind::Gaussian => assert_same(&summed, &want, 2e-4),
            _ => assert_same_matches(&summed, &want),
        }
        let level = |of: &Outcome| {
            let all = of.reference.table.column(Column::MeanBaseline).to_vec();
            all.iter().sum::<f64>() / all.len() as f64
        };
        let (summed, want) = (level(&summed), level(&want));
        assert!((summed - want).abs() < 0.01, "{kind:?}: {summed}, on the CPU {want}");
    }
}

#[test]
fn a_screened_run_finds_what_the_cpu_finds() {
    let folder = TempDir::new().unwrap();
    family(folder.path());
    let plan = plan(folder.path(), |spec| {
        spec.models.family.truncate(2);
        spec.correlation.screen = Some(Screen { sample: 120, candidates: 8, standard_errors: 1.0 });
    });
    let want = on_cpu(&plan);
    let counts = |of: &Outcome| of.reference.summary.screening.expect("a screened run");
    assert!(counts(&want).exact > 0, "{:?}", counts(&want));
    for machine in [Machine::new(), Machine::of_memory(1_200_000)] {
        let got = on(&machine, &plan);
        assert_same_matches(&got, &want);
        assert_eq!(counts(&got), counts(&want));
    }
}

#[test]
fn sizes_need_not_be_multiples_of_eight() {
    let folder = TempDir::new().unwrap();
    family_of(folder.path(), Shape { d_model: 30, d_mlp: 67, ..TINY });
    let plan = plan(folder.path(), |spec| spec.models.family.truncate(2));
    let want = on_cpu(&plan);
    assert_same(&on(machine(), &plan), &want, 2e-4);
    assert_same(&on(&tight(), &plan), &want, 2e-4);
}

#[test]
fn bf16_is_near_and_orthogonal_rotations_run() {
    let folder = TempDir::new().unwrap();
    family(folder.path());
    let plan = plan(folder.path(), |spec| {
        spec.models.family.truncate(2);
        spec.correlation.precision = Precision::Bf16;
        spec.correlation.baseline.kind = BaselineKind::Orthogonal;
    });
    let (got, want) = (on(machine(), &plan).reference, on_cpu(&plan).reference);
    // The forward pass is in bf16 on the device, but not on the CPU.
    for column in [Column::MaxCorr, Column::MeanBaseline, Column::Mean] {
        let tolerance = Tolerance { absolute: 0.05, relative: 0.05 };
        let (got, want) = (got.table.column(column), want.table.column(column));
        assert_close(column.name(), got.iter().copied(), want, tolerance);
    }
}

#[test]
fn binned_moments_are_those_of_the_cpu() {
    let folder = TempDir::new().unwrap();
    family(folder.path());
    let plan = plan(folder.path(), |spec| {
        spec.models.family.truncate(2);
        spec.statistics.moments = MomentKind::Binned;
    });
    let (got, want) = (on(machine(), &plan).reference, on_cpu(&plan).reference);
    // One value near an edge may fall in the next bin: a width of 0.098 over all tokens.
    let one = 25.0 / 255.0 / plan.tokens.count().used as f64;
    for (column, off) in [(Column::Mean, 3.0 * one), (Column::Var, 0.02), (Column::MeanCorr, 2e-4)]
    {
        let tolerance = Tolerance { absolute: off, relative: 2e-4 };
        let (got, want) = (got.table.column(column), want.table.column(column));
        assert_close(column.name(), got.iter().copied(), want, tolerance);
    }
}

#[test]
fn a_run_on_a_device_can_be_stopped() {
    let folder = TempDir::new().unwrap();
    family(folder.path());
    let plan = plan(folder.path(), |spec| spec.models.family.truncate(2));
    let mut control = Control::default();
    control.stop.store(true, Ordering::Relaxed);
    let error = Session::new(&plan, &mut control).on(Some(machine())).study().expect_err("stopped");
    assert!(error.problem.contains("interrupted"), "{error}");
}

#[test]
fn without_a_card_the_program_says_so() {
    if card().is_some() {
        eprintln!("skipped: there is a card");
        return;
    }
    let folder = TempDir::new().unwrap();
    family(folder.path());
    let demanded = program(folder.path(), &["run", "tiny.yaml", "--device", "cuda"]);
    assert_eq!(demanded.status.code(), Some(2), "{}", stderr(&demanded));
    assert!(stderr(&demanded).contains("libcuda was not found"), "{}", stderr(&demanded));
    assert!(!folder.path().join("runs/tiny").exists(), "nothing half-written");
    let left = program(folder.path(), &["run", "tiny.yaml"]);
    assert!(left.status.success(), "{}", stderr(&left));
    let said = stderr(&left);
    assert_eq!(said.matches("device: cpu (there is no NVIDIA driver").count(), 1, "{said}");
}

/// Writes what `benches/gpu/prove` reads: five random models at a shape, a text and a spec.
#[test]
#[ignore = "run by benches/gpu/prove"]
fn write_a_large_family() {
    let Some(folder) = std::env::var_os("PROVE_FAMILY").map(PathBuf::from) else {
        eprintln!("skipped: PROVE_FAMILY names no folder");
        return;
    };
    let number = |name: &str| -> usize {
        let value = std::env::var(name).unwrap_or_else(|_| panic!("`{name}` is not set"));
        value.parse().unwrap_or_else(|e| panic!("`{name}`: {e}"))
    };
    let (layers, d_model, d_mlp) = (number("layers"), number("d_model"), number("d_mlp"));
    let shape = Shape { layers, heads: d_model.div_ceil(64), d_model, d_mlp, context: 512 };
    let mut spec = String::from(
        "version: 1\nname: large\nkind: universality\nquestion: How fast?\nsource: none\n\
         models:\n  reference: m0\n  family:\n",
    );
    for i in 0..5 {
        write_model(&folder.join(format!("m{i}")), 10 + i, shape);
        writeln!(spec, "    - {{ name: m{i}, path: m{i} }}").unwrap();
    }
    let tokens = number("tokens");
    write!(
        spec,
        "corpus: {{ path: corpus.jsonl, context: 512, sample: {tokens} }}\n\
                  correlation: {{ baseline: {{ kind: rotation, draws: 1 }} }}\n"
    )
    .unwrap();
    std::fs::write(folder.join("large.yaml"), spec).unwrap();
    let text = std::fs::read_to_string(path("experiments/desk/corpus.jsonl")).unwrap();
    // The text of the bundled models has 40,818 tokens.
    let copies = (0..tokens.div_ceil(40_000))
        .map(|copy| text.replace("{\"id\": \"", &format!("{{\"id\": \"{copy}-")));
    std::fs::write(folder.join("corpus.jsonl"), copies.collect::<String>()).unwrap();
}
