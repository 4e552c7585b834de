//! Tests the code that calls the CUDA driver against a stub of the driver.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use universal_neurons::backend::device::Device;
use universal_neurons::backend::device::array::{Array, HalfMatrix};
use universal_neurons::backend::device::cuda::Cuda;
use universal_neurons::backend::device::ops;

use crate::support::path;

/// Set in the process that runs with the stub driver.
const INSIDE: &str = "UNIVERSAL_NEURONS_STUB_DRIVER";

/// Compiles the stub into a folder. Returns `None`, and prints why, if there is no compiler.
fn stub_driver() -> Option<TempDir> {
    let folder = TempDir::new().unwrap();
    let source = path("tests/kernels/stub_driver.rs");
    let library = folder.path().join("libcuda.so");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition=2024", "--crate-type=cdylib", "--crate-name=cuda", "-o"]);
    match rustc.arg(&library).arg(source).status() {
        Ok(status) => assert!(status.success(), "the stub does not compile"),
        Err(error) => {
            eprintln!("skipped: rustc cannot be started: {error}");
            return None;
        }
    }
    Some(folder)
}

#[test]
fn the_driver_is_called_as_it_should_be() {
    let Some(folder) = stub_driver() else { return };
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kernels::stub::inside", "--ignored", "--nocapture"])
        .env("LD_LIBRARY_PATH", folder.path())
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let complained = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("1 passed"), "{said}\n{complained}");
}

/// The stub knows no kernel but `embed`: what needs others fails, and every step is tried all the
/// same.
#[test]
fn the_proof_on_a_card_runs_to_its_end() {
    let Some(stub) = stub_driver() else { return };
    let folder = TempDir::new().unwrap();
    let binaries = folder.path().join("bin");
    std::fs::create_dir(&binaries).unwrap();
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, binaries.join(name)).unwrap();
    link(&std::env::current_exe().unwrap(), "tests");
    link(Path::new(env!("CARGO_BIN_EXE_universal-neurons")), "universal-neurons");
    crate::device::family(folder.path());
    let results = folder.path().join("results");
    let prove = |arguments: &[&str]| {
        Command::new(path("benches/gpu/prove"))
            .args(arguments)
            .env("LD_LIBRARY_PATH", stub.path())
            .env("PROVE_BINARIES", &binaries)
            .env("PROVE_TESTS", "kernels::elementwise::cuda::embeddings_are_looked_up")
            .env("PROVE_SPEC", folder.path().join("tiny.yaml"))
            .env("PROVE_SHAPE", "1 64 72")
            .env("PROVE_TOKENS", "500")
            .output()
            .unwrap()
    };
    let done = prove(&["--out", results.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(1), "{said}");
    let steps = std::fs::read_to_string(results.join("steps.tsv")).unwrap();
    let steps: Vec<Vec<&str>> = steps.lines().map(|line| line.split('\t').collect()).collect();
    let outcome = |step: &str| steps.iter().find(|s| s[0] == step).map(|s| s[1]);
    let log = |step: &str| std::fs::read_to_string(results.join(format!("{step}.log"))).unwrap();
    for step in ["tests", "models"] {
        assert_eq!(outcome(step), Some("succeeds"), "{step}: {}", log(step));
    }
    for (step, why) in [
        ("facts", "nvidia-smi"),
        ("study", "launching"),
        ("rates", "launching"),
        ("large", "launching"),
        ("resume", "launching"),
    ] {
        assert_eq!(outcome(step), Some("fails"), "{step}: {}", log(step));
        assert!(log(step).contains(why), "{step}: {}", log(step));
    }
    assert_eq!(steps.len(), 8);
    let left: Vec<_> = std::fs::read_dir(&results).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.iter().all(|file| file.is_file()), "models and runs are removed: {left:?}");
    assert_eq!(prove(&[]).status.code(), Some(2));
    assert_eq!(prove(&["--quick"]).status.code(), Some(2));
}

#[test]
#[ignore = "run by `the_driver_is_called_as_it_should_be`, in a process with the stub"]
fn inside() {
    if std::env::var_os(INSIDE).is_none() {
        eprintln!("skipped: there is no stub in this process");
        return;
    }
    let card = Cuda::open().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(card.name(), "stub card");
    assert_eq!(card.free().unwrap(), 1 << 20);
    let numbers: Vec<f32> = (0..10).map(|i| i as f32).collect();
    let mut array = Array::of(&card, &numbers).unwrap();
    assert_eq!(array.to_vec(&card).unwrap(), numbers);
    assert_eq!(array.read(&card, 3..5).unwrap(), [3.0, 4.0]);
    array.clear(&card).unwrap();
    assert_eq!(array.to_vec(&card).unwrap(), [0.0; 10]);
    let empty = Array::<_, f32>::of(&card, &[]).unwrap();
    assert!(empty.to_vec(&card).unwrap().is_empty());
    let tables = (&Array::of(&card, &numbers).unwrap(), &Array::of(&card, &[0.5_f32; 10]).unwrap());
    let at = (&Array::of(&card, &[4_u32, 0]).unwrap(), &Array::of(&card, &[1_u32, 2]).unwrap());
    let mut resid = Array::new(&card, 4).unwrap();
    ops::embed(&card, tables, at, 2, &mut resid).unwrap();
    assert_eq!(resid.to_vec(&card).unwrap(), [8.5, 9.5, 0.5, 1.5]);
    // A failure of the driver becomes an error with the driver's text and a remedy, not a panic.
    let error = Array::<_, f32>::new(&card, 1 << 29).unwrap_err();
    assert!(error.problem.contains("text of the stub"), "{error}");
    assert!(error.remedy.contains("batch.tokens"), "{error}");
    let eight = Array::of(&card, &[1.0_f32; 8]).unwrap();
    let mut out = HalfMatrix::new(&card, 1, 8, super::FORMS[0]).unwrap();
    let refused = ops::layer_norm(&card, (&eight, 1), (&eight, &eight, 0.0), &mut out);
    assert!(refused.unwrap_err().problem.contains("launching layer_norm_f16"));
}
