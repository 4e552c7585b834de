//! What is refused of recorded activations, and what is never said of them.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use tempfile::TempDir;

use super::{
    PERMUTED, TWO_DRAWS, floats, layer, made_up, members, refused_in, run_in, spec, write,
};
use crate::support::{path, run, stderr};

#[test]
fn members_that_do_not_fit_are_refused_by_name() {
    let folder = TempDir::new().expect("folder");
    let at = |name: &str| folder.path().join(name);
    let mask = |n: usize, first: u8| {
        let bytes = std::iter::once(first).chain(vec![1; n - 1]).collect();
        vec![("mask".to_owned(), Dtype::BOOL, vec![n], bytes)]
    };
    layer(&at("a.safetensors"), 40, mask(40, 1));
    layer(&at("same.safetensors"), 40, Vec::new());
    layer(&at("long.safetensors"), 41, Vec::new());
    layer(&at("masked.safetensors"), 40, mask(40, 0));
    let none = vec![("mask".to_owned(), Dtype::BOOL, vec![40], vec![0; 40])];
    layer(&at("none.safetensors"), 40, none);
    std::fs::write(at("text.txt"), "text").expect("write");
    let tiny = path("expected/golden/tiny");
    let with = |other: &Path, more: &str| {
        let a = PathBuf::from("a.safetensors");
        spec(&members(&[("a", &a), ("b", other)]), more)
    };
    let refused =
        |other: &str, more: &str| refused_in(folder.path(), &with(Path::new(other), more));
    for (message, says) in [
        (refused("long.safetensors", ""), "holds 41 tokens, and `a` holds 40"),
        (refused("masked.safetensors", ""), "`mask` differs from that of `a`"),
        (refused("a.safetensors", ""), "have the same activations"),
        (
            refused(tiny.to_str().expect("UTF-8"), ""),
            "`models.family[1].path`: leads to no recorded",
        ),
        (refused("absent.safetensors", ""), "absent.safetensors: cannot read"),
        (refused("text.txt", ""), "`models.family[1].path`"),
        (
            refused("same.safetensors", "corpus: { path: x.jsonl, context: 9 }\n"),
            "need no `corpus`",
        ),
        (
            refused("same.safetensors", "correlation: { baseline: { kind: gaussian } }\n"),
            "gaussian",
        ),
        (refused("same.safetensors", "statistics: { exclude: [bos] }\n"), "statistics.exclude"),
        (refused("same.safetensors", "cards: { tests: tests.yaml }\n"), "cards.tests"),
    ] {
        assert!(message.contains(says) && message.contains("help: "), "{says}: {message}");
    }
    let kind = with(Path::new("same.safetensors"), "").replace("universality", "prediction");
    assert!(refused_in(folder.path(), &kind).contains("needs the weights"));
    let b = members(&[("a", Path::new("none.safetensors")), ("b", Path::new("same.safetensors"))]);
    assert!(refused_in(folder.path(), &spec(&b, "")).contains("leaves no token"));
    let models = members(&[("a", &tiny), ("b", &path("expected/golden/tiny-prefixed"))]);
    let message = refused_in(folder.path(), &spec(&models, ""));
    assert!(message.contains("refused.yaml:1:1: missing field `corpus`"), "{message}");
    let sparse = path("expected/golden/sparse/a.safetensors");
    let message = refused_in(folder.path(), &with(&sparse, PERMUTED));
    assert!(message.contains("only those that are not zero"), "{message}");
    let other = path("expected/golden/sparse/b.safetensors");
    let both = members(&[("a", &sparse), ("b", &other)]);
    let message = refused_in(folder.path(), &spec(&both, ""));
    assert!(message.contains("`correlation.baseline.kind`") && message.contains("permutation"));
}

#[test]
fn recorded_activations_are_not_taken_for_the_weights_of_a_paper() {
    let folder = TempDir::new().expect("folder");
    layer(&folder.path().join("a.safetensors"), 40, Vec::new());
    layer(&folder.path().join("b.safetensors"), 40, Vec::new());
    let mut bytes = std::fs::read(folder.path().join("b.safetensors")).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(folder.path().join("b.safetensors"), bytes).expect("write");
    let both = members(&[("a", Path::new("a.safetensors")), ("b", Path::new("b.safetensors"))]);
    let made = run_in(folder.path(), "made", &spec(&both, TWO_DRAWS));
    let text = std::fs::read_to_string(made.join("provenance.json")).expect("provenance");
    let provenance: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let model = &provenance["models"][0];
    assert!(model["activations_sha256"].as_str().is_some_and(|digest| digest.len() == 64));
    assert!(model.get("weights_sha256").is_none() && provenance.get("corpus_sha256").is_none());
    assert!(provenance["spec"].get("corpus").is_none());
    let page = std::fs::read_to_string(made.join("report.html")).expect("a page");
    assert!(page.contains("activations of a, SHA-256") && !page.contains("NaN %"));
    let inspected = run(folder.path(), &["inspect", "L0.N0", "--run", "made"]);
    assert!(!inspected.status.success(), "there are no cards");
    assert!(stderr(&inspected).contains("help: "), "{}", stderr(&inspected));
}

#[test]
fn names_of_strangers_are_shown_as_plain_text() {
    let folder = TempDir::new().expect("folder");
    let hostile = "x\u{1b}[31m\u{7}\u{202e}y";
    let values = floats(&made_up(40, 4, 1), Dtype::F32);
    let tensors = ["layers.0", hostile]
        .map(|name| (name.to_owned(), Dtype::F32, vec![40, 4], values.clone()));
    write(&folder.path().join("a.safetensors"), &tensors);
    layer(&folder.path().join("b.safetensors"), 40, Vec::new());
    let both = members(&[("a", Path::new("a.safetensors")), ("b", Path::new("b.safetensors"))]);
    let message = refused_in(folder.path(), &spec(&both, ""));
    assert!(message.contains("is not the name of a layer"), "{message}");
    let unsafe_character = |c: char| c != '\n' && universal_neurons::printable::is_unsafe(c);
    assert!(!message.contains(unsafe_character), "{message:?}");
}
