//! Tests the code that calls the CUDA driver against a stub of the driver.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use universal_neurons::backend::device::Device;
use universal_neurons::backend::device::array::{Array, HalfMatrix};
use universal_neurons::backend::device::cuda::Cuda;
use universal_neurons::backend::device::ops;

/// Set in the process that runs with the stub driver.
const INSIDE: &str = "UNIVERSAL_NEURONS_STUB_DRIVER";

#[test]
fn the_driver_is_called_as_it_should_be() {
    let folder = TempDir::new().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels/stub_driver.rs");
    let library = folder.path().join("libcuda.so");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition=2024", "--crate-type=cdylib", "--crate-name=cuda", "-o"]);
    match rustc.arg(&library).arg(source).status() {
        Ok(status) => assert!(status.success(), "the stub does not compile"),
        Err(error) => {
            eprintln!("skipped: rustc cannot be started: {error}");
            return;
        }
    }
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
