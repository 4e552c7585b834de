//! A folder with one file of safetensors, or an index of several.
#![no_main]

use universal_neurons::model::weights::Source;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir_in("/dev/shm").expect("folder");
    let name = match first % 2 {
        0 => "model.safetensors",
        _ => "model.safetensors.index.json",
    };
    std::fs::write(folder.path().join(name), rest).expect("write");
    if let Ok(source) = Source::open(folder.path()) {
        for (_, tensor) in source.tensors() {
            let _ = source.bytes(tensor);
        }
    }
});
