//! Experiment files.
#![no_main]

use universal_neurons::experiment::load_spec;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir_in("/dev/shm").expect("folder");
    let path = folder.path().join("x.yaml");
    std::fs::write(&path, bytes).expect("write");
    let _ = load_spec(&path);
});
