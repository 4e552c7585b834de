//! Recorded activations: safetensors, dense and sparse, NumPy and Parquet.
#![no_main]

use universal_neurons::model::{Decoder, HookPoint, Recording};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir_in("/dev/shm").expect("folder");
    let name = ["x.safetensors", "x.npy", "x.parquet"][usize::from(first % 3)];
    std::fs::write(folder.path().join(name), rest).expect("write");
    let Ok(recording) = Recording::open(&folder.path().join(name)) else { return };
    let _ = (recording.mask(), recording.documents(), recording.token_ids());
    let tokens: Vec<u32> = (0..recording.tokens().min(64) as u32).collect();
    if recording.sparse_entries().is_some() {
        let _ = recording.entries(0, &tokens);
    }
    if recording.config().d_mlp() < 4096 {
        let _ = recording.forward(&[&tokens], &mut |_: HookPoint, _: &mut [f32], _: usize| ());
    }
});
