//! Every architecture and file format, as the reference libraries wrote them
//! (`expected/golden/architectures.py`).

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use universal_neurons::model::fold::preprocess;
use universal_neurons::model::{Config, Transformer};
use universal_neurons::spec::WeightOptions;

use crate::golden::{check_forward, load};
use crate::support::{path, run, stderr};

#[test]
fn pythia_with_parallel_residual_agrees_with_transformers() {
    check_forward("expected/golden/neox", "golden/neox.json");
}

#[test]
fn neox_in_shards_of_float16_one_after_the_other_agrees_with_transformers() {
    check_forward("expected/golden/neox-sharded", "golden/neox-sharded.json");
}

#[test]
fn the_stanford_flags_in_a_file_of_torch_save_agree_with_transformers() {
    check_forward("expected/golden/gpt2-bin", "golden/gpt2-bin.json");
}

#[test]
fn an_old_pythia_with_masks_and_views_agrees_with_transformers() {
    check_forward("expected/golden/neox-bin", "golden/neox-bin.json");
}

#[test]
fn a_flag_that_is_not_read_would_show() {
    // The same weights without division by the layer: another model.
    let mut model = load("expected/golden/gpt2-bin");
    let row: &[u32] = &[31, 3, 7, 1, 9];
    let with = model.logits(&model.forward(&[row], &mut ()));
    model.config.scale_attn_by_inverse_layer_idx = false;
    let without = model.logits(&model.forward(&[row], &mut ()));
    let moved = with.iter().zip(&without).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(moved > 1e-2, "{moved}");
}

#[test]
fn preprocessing_leaves_the_predictions_of_a_neox_as_they_are() {
    let model = load("expected/golden/neox");
    let folded = Transformer {
        weights: preprocess(&model.weights, &model.config, &WeightOptions::default()),
        config: model.config.clone(),
    };
    let row: &[u32] = &[31, 3, 7, 1, 9, 12, 30];
    let of = |model: &Transformer| model.logits(&model.forward(&[row], &mut ()));
    let d_vocab = model.config.d_vocab;
    for (was, is) in of(&model).chunks(d_vocab).zip(of(&folded).chunks(d_vocab)) {
        // Equal up to a constant of the position.
        let constant = was[0] - is[0];
        assert!(was.iter().zip(is).all(|(a, b)| (a - b - constant).abs() < 2e-4));
    }
}

/// A folder with a copy of a golden model's files.
fn copied(name: &str) -> TempDir {
    let folder = TempDir::new().expect("folder");
    for entry in std::fs::read_dir(path("expected/golden").join(name)).expect("folder") {
        let from = entry.expect("entry").path();
        std::fs::copy(&from, folder.path().join(from.file_name().expect("name"))).expect("copy");
    }
    folder
}

fn refused(folder: &Path) -> String {
    Transformer::load(folder).expect_err("refused").to_string()
}

#[test]
fn damaged_checkpoints_are_refused_by_name() {
    let sharded = copied("neox-sharded");
    std::fs::remove_file(sharded.path().join("model-00002-of-00002.safetensors")).expect("there");
    assert!(refused(sharded.path()).contains("model-00002-of-00002.safetensors"));

    let index = "model.safetensors.index.json";
    for (text, why) in [
        (r#"{"weight_map": {"x": "../../etc/passwd"}}"#, "expected one beside it"),
        (r#"{"weight_map": {}}"#, "names no tensor"),
        (r#"{"weight_map": 3}"#, "invalid type"),
        (r#"{"weight_map": {"x": "model-00001-of-00002.safetensors"}}"#, "no shard holds"),
    ] {
        let folder = copied("neox-sharded");
        std::fs::write(folder.path().join(index), text).expect("write");
        let error = refused(folder.path());
        assert!(error.contains(why) && error.contains(index), "{error}");
    }

    let bin = copied("gpt2-bin");
    let whole = std::fs::read(bin.path().join("pytorch_model.bin")).expect("read");
    for length in [0, 10, whole.len() / 2, whole.len() - 30] {
        std::fs::write(bin.path().join("pytorch_model.bin"), &whole[..length]).expect("write");
        assert!(refused(bin.path()).contains("pytorch_model.bin"));
    }

    let empty = copied("gpt2-bin");
    std::fs::remove_file(empty.path().join("pytorch_model.bin")).expect("there");
    assert!(refused(empty.path()).contains("model.safetensors: is missing"));
}

#[test]
fn configs_are_read_and_never_assumed() {
    let text = std::fs::read_to_string(path("expected/golden/neox/config.json")).expect("read");
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        Config::parse(&text.replace(from, to))
    };
    let whole = Config::parse(&text).expect("valid");
    assert_eq!(whole.rotary.map(|r| (r.dims, r.base)), Some((2, 10_000.0)));
    let newer = with(
        "\"rotary_emb_base\": 10000,\n \"rotary_pct\": 0.25",
        r#""rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5}"#,
    );
    assert_eq!(newer.expect("valid").rotary.map(|r| (r.dims, r.base)), Some((4, 500.0)));
    for (from, to, why) in [
        (r#""hidden_act": "gelu""#, r#""hidden_act": "relu""#, "hidden_act"),
        (r#""gpt_neox""#, r#""llama""#, "model_type"),
        (r#""rotary_pct": 0.25"#, r#""rotary_pct": 0.1"#, "are rotated"),
        (r#""use_cache": true"#, r#""rope_scaling": {"type": "linear"}"#, "rope_scaling"),
        (r#""use_cache": true"#, r#""attention_bias": false"#, "attention_bias"),
        (r#""use_cache": true"#, r#""sliding_window": 4"#, "sliding_window"),
        (r#""tie_word_embeddings": false"#, r#""tie_word_embeddings": true"#, "tie_word"),
    ] {
        let (problem, _) = with(from, to).expect_err(why);
        assert!(problem.contains(why), "{problem}");
    }
}

/// A family of two NeoX, in two formats, and a spec.
fn family() -> TempDir {
    let root = TempDir::new().expect("folder");
    for (name, model) in [("a", "neox"), ("b", "neox-bin")] {
        let to: PathBuf = root.path().join(name);
        std::fs::create_dir(&to).expect("folder");
        for entry in std::fs::read_dir(path("expected/golden").join(model)).expect("folder") {
            let from = entry.expect("entry").path();
            std::fs::copy(&from, to.join(from.file_name().expect("name"))).expect("copy");
        }
    }
    let spec = "version: 1\nname: neox\nkind: universality\nquestion: Does it run?\nsource: none\n\
        models: { reference: a, family: [{ name: a, path: a }, { name: b, path: b }] }\n\
        corpus: { path: corpus.jsonl, context: 12 }\n";
    std::fs::write(root.path().join("spec.yaml"), spec).expect("write");
    let corpus = r#"{"id": "one", "domain": "x", "text": "the quick brown fox, jumps over"}"#;
    std::fs::write(root.path().join("corpus.jsonl"), corpus).expect("write");
    root
}

#[test]
fn a_family_of_pythias_is_studied() {
    let root = family();
    let done = run(root.path(), &["run", "spec.yaml", "--quiet"]);
    assert!(done.status.success(), "{}", stderr(&done));
    let shown =
        run(root.path(), &["inspect", "L1.N3", "--run", "runs/neox", "--spec", "spec.yaml"]);
    assert!(shown.status.success(), "{}", stderr(&shown));
    // Heads see rotary positions.
    let spec = std::fs::read_to_string(root.path().join("spec.yaml")).expect("read");
    let heads = spec.replace("kind: universality", "kind: attention");
    std::fs::write(root.path().join("heads.yaml"), heads).expect("write");
    let done = run(root.path(), &["run", "heads.yaml", "--quiet", "--out", "x"]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(root.path().join("x/heads.csv").exists());
}

#[test]
fn a_tokenizer_of_two_files_gives_the_same_ids() {
    let root = family();
    let validated = |root: &Path| {
        let done = run(root, &["validate", "spec.yaml"]);
        assert!(done.status.success(), "{}", stderr(&done));
        String::from_utf8(done.stdout).expect("UTF-8")
    };
    let before = validated(root.path());
    for name in ["a", "b"] {
        let folder = root.path().join(name);
        let whole = std::fs::read(folder.join("tokenizer.json")).expect("read");
        let whole: serde_json::Value = serde_json::from_slice(&whole).expect("JSON");
        std::fs::write(folder.join("vocab.json"), whole["model"]["vocab"].to_string())
            .expect("write");
        std::fs::write(folder.join("merges.txt"), "#version: 0.2\n").expect("write");
        std::fs::remove_file(folder.join("tokenizer.json")).expect("there");
    }
    assert_eq!(validated(root.path()), before);
    let done = run(root.path(), &["run", "spec.yaml", "--quiet"]);
    assert!(done.status.success(), "{}", stderr(&done));
}

#[test]
fn a_converted_model_computes_the_same() {
    let root = TempDir::new().expect("folder");
    for name in ["gpt2-bin", "neox-bin", "neox-sharded"] {
        let from = path("expected/golden").join(name);
        let to = root.path().join(name);
        let [from, shown] = [&from, &to].map(|p| p.display().to_string());
        let done = run(root.path(), &["convert", &from, &shown]);
        assert!(done.status.success(), "{}", stderr(&done));
        let converted = Transformer::load(&to).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(converted.weights, load(&format!("expected/golden/{name}")).weights);
        assert!(to.join("tokenizer.json").exists());
    }
    let refused = run(root.path(), &["convert", "nowhere", "x"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(!root.path().join("x").exists());
}
