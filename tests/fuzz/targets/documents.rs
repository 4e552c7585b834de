//! Corpora: JSON lines, compressed ones, Parquet, plain text.
#![no_main]

use universal_neurons::corpus::documents::read;
use universal_neurons::spec::{Corpus, Exclusion, Fields, Tokenisation};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir_in("/dev/shm").expect("folder");
    let names = ["x.jsonl", "x.jsonl.zst", "x.parquet", "x.txt"];
    let path = folder.path().join(names[usize::from(first % 4)]);
    std::fs::write(&path, rest).expect("write");
    let fields = Fields { text: "text".into(), label: Some("meta.x".into()), id: None };
    let corpus = Corpus {
        path,
        sha256: None,
        fields: (first & 4 == 0).then_some(fields),
        context: 8,
        tokenisation: Tokenisation::PerDoc,
        prepend_bos: true,
        exclude: vec![Exclusion::Bos],
        limit: Some(1000),
        sample: None,
        max_document_mib: None,
        max_unpacked_mib: None,
    };
    let _ = read(&corpus, &mut |_| Ok(0));
});
