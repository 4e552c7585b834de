//! Inputs that once broke something (found by `tests/fuzz`), and some that would if they were
//! trusted. Each is refused, in words.

use std::io::Read;
use std::path::Path;

use universal_neurons::corpus::documents;
use universal_neurons::model::weights::{tensors_of_archive, tensors_of_pickle};
use universal_neurons::spec::{Corpus, Exclusion, Spec, Tokenisation};

use crate::support::path;

fn corpus(path: &Path) -> Corpus {
    Corpus {
        path: path.to_path_buf(),
        fields: None,
        context: 8,
        tokenisation: Tokenisation::PerDoc,
        exclude: vec![Exclusion::Bos],
        limit: None,
        sample: None,
    }
}

/// Reads a file as what its name says; what it is refused with.
fn refusal(file: &Path) -> String {
    let name = file.file_name().expect("name").to_string_lossy().into_owned();
    let bytes = std::fs::read(file).expect("read");
    if name.ends_with(".bin") {
        tensors_of_archive(&bytes).map(|_| ()).expect_err(&name)
    } else if name.ends_with(".pkl") {
        tensors_of_pickle(&bytes).map(|_| ()).expect_err(&name)
    } else if name.ends_with(".yaml") {
        Spec::load(file).map(|_| ()).expect_err(&name).to_string()
    } else {
        documents::read(&corpus(file), &mut |_| Ok(())).map(|_| ()).expect_err(&name).to_string()
    }
}

#[test]
fn what_was_found_by_fuzzing_is_refused() {
    let mut seen = 0;
    for entry in std::fs::read_dir(path("tests/hostile")).expect("folder") {
        let file = entry.expect("entry").path();
        assert!(!refusal(&file).is_empty(), "{}", file.display());
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn a_small_file_that_unpacks_to_a_large_one_is_refused_early() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("x.jsonl.zst");
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let mut packed = Vec::new();
    ruzstd::encoding::compress(std::io::repeat(b' ').take(100 << 20), &mut packed, level);
    assert!(packed.len() < 1 << 20, "{} bytes", packed.len());
    std::fs::write(&file, packed).expect("write");
    assert!(refusal(&file).contains("bytes long"));
}
