//! Inputs from the wild, each with what it must give. `tests/hostile/README.md` describes
//! the format of a case; `tests/hostile/found/` holds files that fuzzing found.

mod case;
mod runner;

use std::io::Read;
use std::path::Path;

use universal_neurons::corpus::documents;
use universal_neurons::experiment::load_spec;
use universal_neurons::model::weights::{tensors_of_archive, tensors_of_pickle};
use universal_neurons::spec::{Corpus, Exclusion, Tokenisation};

use crate::support::path;

/// One test per area, and a test that no area's file is left out.
macro_rules! areas {
    ($($area:ident)*) => {
        $(#[test]
        fn $area() {
            runner::check_area(stringify!($area));
        })*

        #[test]
        fn every_file_of_cases_has_its_test() {
            let known = [$(stringify!($area)),*];
            for entry in std::fs::read_dir(path("tests/hostile")).expect("folder") {
                let file = entry.expect("entry").path();
                if file.extension().is_some_and(|e| e == "yaml") {
                    let area = file.file_stem().expect("a name").to_string_lossy().into_owned();
                    assert!(known.contains(&area.as_str()), "add {area} to areas! in hostile.rs");
                }
            }
        }
    };
}

areas!(corpus evidence findings hub models recordings runs specs tokenizer);

fn corpus_of(path: &Path) -> Corpus {
    Corpus {
        path: path.to_path_buf(),
        sha256: None,
        fields: None,
        context: 8,
        tokenisation: Tokenisation::PerDoc,
        prepend_bos: true,
        exclude: vec![Exclusion::Bos],
        limit: None,
        sample: None,
        max_document_mib: None,
        max_unpacked_mib: None,
    }
}

/// Reads a file as its name says, and returns the error, which there must be.
fn refusal(file: &Path) -> String {
    let name = file.file_name().expect("name").to_string_lossy().into_owned();
    let bytes = std::fs::read(file).expect("read");
    if name.ends_with(".bin") {
        tensors_of_archive(&bytes).map(|_| ()).expect_err(&name)
    } else if name.ends_with(".pkl") {
        tensors_of_pickle(&bytes).map(|_| ()).expect_err(&name)
    } else if name.ends_with(".yaml") {
        load_spec(file).map(|_| ()).expect_err(&name).to_string()
    } else {
        documents::read(&corpus_of(file), &mut |_| Ok(0)).map(|_| ()).expect_err(&name).to_string()
    }
}

#[test]
fn what_was_found_by_fuzzing_is_refused() {
    let mut seen = 0;
    for entry in std::fs::read_dir(path("tests/hostile/found")).expect("folder") {
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
    let spaces = std::io::repeat(b' ').take(100 << 20);
    let packed = zstd::encode_all(spaces, 1).expect("packed");
    assert!(packed.len() < 1 << 20, "{} bytes", packed.len());
    std::fs::write(&file, packed).expect("write");
    assert!(refusal(&file).contains("MiB long"));
}
