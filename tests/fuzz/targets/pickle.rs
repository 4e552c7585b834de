//! Archives that `torch.save` might have written.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = universal_neurons::model::weights::tensors_of_archive(bytes);
    // Tests only the pickle, because the checks of an archive would reject most inputs first.
    let _ = universal_neurons::model::weights::tensors_of_pickle(bytes);
});
