//! Files of a tokenizer, and the ids that a tokenizer gives.
#![no_main]

use universal_neurons::corpus::tokenizer::{TokenizerFor, load};

/// Texts with letters, signs, added tokens, several bytes per character and controls.
const TEXTS: [&str; 4] = [
    "Hello, world! 1234 don't\n\n  x",
    "a<|endoftext|>b <|endoftext|> c",
    "\u{e9}e\u{301}\u{fb01} \u{1f600}\u{200d}\u{202e}\u{1b}[31m\0",
    "",
];
const D_VOCAB: usize = 600;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir_in("/dev/shm").expect("folder");
    let write = |name: &str, content: &[u8]| {
        std::fs::write(folder.path().join(name), content).expect("write");
    };
    if first & 1 == 0 {
        write("tokenizer.json", rest);
    } else {
        // Three files, separated by zero bytes.
        let names = ["vocab.json", "merges.txt", "added_tokens.json"];
        rest.splitn(3, |b| *b == 0).zip(names).for_each(|(part, name)| write(name, part));
    }
    let model = TokenizerFor { model: "fuzzed", d_vocab: Some(D_VOCAB) };
    let Ok(tokenizer) = load(folder.path(), model) else { return };
    assert_eq!(tokenizer.texts().len(), D_VOCAB);
    assert_eq!(tokenizer.shown_texts().len(), D_VOCAB);
    for text in TEXTS {
        let Ok(ids) = tokenizer.encode(text) else { continue };
        assert!(ids.iter().all(|id| (*id as usize) < D_VOCAB));
        assert_eq!(tokenizer.encode(text).as_ref(), Ok(&ids), "ids differ from call to call");
        let spans = tokenizer.spans(text).expect("spans of a text that has ids");
        assert_eq!(spans.len(), ids.len());
        assert!(spans.iter().all(|s| s.start <= s.end && s.end <= text.len()));
    }
});
