//! Archives that `torch.save` might have written.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = universal_neurons::model::weights::tensors_of_archive(bytes);
    // The pickle alone, which an archive would hide behind its checks.
    let _ = universal_neurons::model::weights::tensors_of_pickle(bytes);
});
