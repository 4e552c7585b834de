//! Files of syntax labels in CoNLL-U.
#![no_main]

use std::sync::LazyLock;

use universal_neurons::corpus::Sample;
use universal_neurons::families::{Syntax, WordLabels};

/// The text that the labels are of: words that touch, several bytes per character, a
/// multiword token, and a sample without words.
static SAMPLES: LazyLock<[Sample; 3]> = LazyLock::new(|| {
    [("a", "Im Haus don't go. \u{e9}t\u{e9} vámonos"), ("b", "a  b\n\nc"), ("c", "")]
        .map(|(id, text)| Sample { id: id.into(), domain: "x".into(), text: text.into() })
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir_in("/dev/shm").expect("folder");
    let path = folder.path().join("x.conllu");
    std::fs::write(&path, bytes).expect("write");
    let Ok(syntax) = Syntax::read(&path, &*SAMPLES) else { return };
    for (place, sample) in SAMPLES.iter().enumerate() {
        for start in 0..=sample.text.len() {
            for end in start..=sample.text.len() + 1 {
                let labels = syntax.of(place).at(&sample.text, start..end);
                let known = |labels: WordLabels| {
                    labels.iter().zip(&syntax.labels).all(|(label, names)| *label < names.len())
                };
                assert!(labels.is_none_or(known), "a label without a name");
            }
        }
    }
});
