//! Weights as programs have saved them, files that were damaged or swapped, and values that
//! are not finite.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use universal_neurons::experiment::load_spec;
use universal_neurons::model::fold::preprocess;
use universal_neurons::model::{Config, Transformer};
use universal_neurons::plan::{Plan, PlannedModel};
use universal_neurons::progress::Progress;
use universal_neurons::spec::WeightOptions;
use universal_neurons::stats::similar::similar_weights;
use universal_neurons::stats::weights::weight_statistics;

use crate::golden::load;
use crate::support::{path, run, stderr};

/// Values of a tensor with its shape.
type Stored = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

const TINY: &str = "expected/golden/tiny";
const WEIGHTS: &str = "model.safetensors";

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("folder");
    for entry in std::fs::read_dir(from).expect("folder") {
        let file = entry.expect("entry").path();
        std::fs::copy(&file, to.join(file.file_name().expect("name"))).expect("copy");
    }
}

/// A folder with a copy of a golden model.
fn copied(golden: &str) -> TempDir {
    let folder = TempDir::new().expect("folder");
    copy(&path(golden), folder.path());
    folder
}

fn stored(folder: &Path) -> Stored {
    let bytes = std::fs::read(folder.join(WEIGHTS)).expect("read");
    let all = SafeTensors::deserialize(&bytes).expect("safetensors");
    let one = |(name, view): (&str, TensorView)| {
        let chunks = view.data().as_chunks::<4>().0.iter();
        let values = chunks.map(|b| f32::from_le_bytes(*b)).collect();
        (name.to_owned(), (view.shape().to_vec(), values))
    };
    all.iter().map(one).collect()
}

fn store(folder: &Path, tensors: &Stored, double: bool) {
    let bytes = |values: &[f32]| -> Vec<u8> {
        match double {
            true => values.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect(),
            false => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    };
    let dtype = if double { Dtype::F64 } else { Dtype::F32 };
    let all: Vec<_> = tensors.iter().map(|(n, (s, v))| (n, s.clone(), bytes(v))).collect();
    let views = all.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(dtype, shape.clone(), bytes).expect("view"))
    });
    std::fs::write(folder.join(WEIGHTS), serialize(views, None).expect("bytes")).expect("write");
}

fn refusal(folder: &Path) -> String {
    Transformer::load(folder).expect_err("refused").to_string()
}

#[test]
fn checkpoints_of_wrappers_and_of_f64_are_the_same_model() {
    let expected = load(TINY).weights;
    for prefix in
        ["", "transformer.", "module.", "_orig_mod.module.", "model.", "base_model.model."]
    {
        let folder = copied(TINY);
        let tensors = stored(folder.path());
        let named = tensors.iter().map(|(name, t)| (format!("{prefix}{name}"), t.clone()));
        store(folder.path(), &named.collect(), false);
        let model = Transformer::load(folder.path()).unwrap_or_else(|e| panic!("{prefix}: {e}"));
        assert_eq!(model.weights, expected, "{prefix}");
    }
    let folder = copied(TINY);
    store(folder.path(), &stored(folder.path()), true);
    assert_eq!(Transformer::load(folder.path()).expect("F64").weights, expected);
}

#[test]
fn a_tied_model_may_hold_only_its_head() {
    let expected = load(TINY).weights;
    let folder = copied(TINY);
    let mut tensors = stored(folder.path());
    let embed = tensors.remove("wte.weight").expect("embedding");
    store(folder.path(), &tensors, false);
    assert!(refusal(folder.path()).contains("`wte.weight` is missing"));
    tensors.insert("lm_head.weight".into(), embed.clone());
    store(folder.path(), &tensors, false);
    assert_eq!(Transformer::load(folder.path()).expect("head").weights, expected);
    // Both, but different: which one is meant is not guessed.
    let mut other = embed;
    other.1[0] += 1.0;
    tensors.insert("transformer.wte.weight".into(), other);
    store(folder.path(), &tensors, false);
    assert!(refusal(folder.path()).contains("differs from the embedding"));
}

#[test]
fn tensors_that_cannot_be_meant_are_named() {
    type Change = fn(&mut Stored);
    let cases: [(Change, &[&str]); 4] = [
        (
            |t| {
                let twin = t["ln_f.bias"].clone();
                t.insert("module.ln_f.bias".into(), twin);
            },
            &["`ln_f.bias`", "`module.ln_f.bias`"],
        ),
        (
            |t| {
                let adapter = (vec![1], vec![0.0]);
                t.insert("h.0.attn.c_attn.lora_A.weight".into(), adapter);
            },
            &["lora_A", "not part of this model"],
        ),
        (
            |t| {
                let bias = t.remove("h.1.mlp.c_fc.bias").expect("bias");
                t.insert("student.h.1.mlp.c_fc.bias".into(), bias);
            },
            &["`h.1.mlp.c_fc.bias` is missing"],
        ),
        (
            |t| {
                t.get_mut("wpe.weight").expect("positions").0.reverse();
            },
            &["`wpe.weight` has shape"],
        ),
    ];
    for (change, says) in cases {
        let folder = copied(TINY);
        let mut tensors = stored(folder.path());
        change(&mut tensors);
        store(folder.path(), &tensors, false);
        let error = refusal(folder.path());
        assert!(says.iter().all(|s| error.contains(s)), "{error}");
    }
}

#[test]
fn shards_of_torch_save_are_read() {
    let folder = copied("expected/golden/gpt2-bin");
    let shard = "pytorch_model-00001-of-00001.bin";
    let whole = folder.path().join("pytorch_model.bin");
    let expected = Transformer::load(folder.path()).expect("whole").weights;
    std::fs::rename(&whole, folder.path().join(shard)).expect("rename");
    let index = folder.path().join("pytorch_model.bin.index.json");
    let name = "transformer.ln_f.bias";
    let names = [name, "ln_f.bias"];
    let read = names.iter().find_map(|name| {
        let text = json!({ "weight_map": { *name: shard } }).to_string();
        std::fs::write(&index, text).expect("write");
        Transformer::load(folder.path()).ok()
    });
    assert_eq!(read.expect("read").weights, expected);
    // The same shard under two names holds every tensor twice.
    let second = "pytorch_model-00002-of-00002.bin";
    std::fs::copy(folder.path().join(shard), folder.path().join(second)).expect("copy");
    let twice = json!({ "weight_map": { name: shard, "x": second } }).to_string();
    std::fs::write(&index, twice).expect("write");
    assert!(refusal(folder.path()).contains("another shard holds too"));
}

/// An experiment of two tiny models.
fn experiment() -> TempDir {
    let root = TempDir::new().expect("folder");
    for name in ["a", "b"] {
        copy(&path(TINY), &root.path().join(name));
    }
    let context = Config::load(&path(TINY).join("config.json")).expect("config").n_ctx;
    let spec = format!(
        "version: 1\nname: tiny\nkind: universality\nquestion: Does it run?\nsource: none\n\
        models: {{ reference: a, same_weights: true, family: [{{ name: a, path: a }}, {{ name: b, path: b }}] }}\n\
        corpus: {{ path: corpus.jsonl, context: {context} }}\n"
    );
    std::fs::write(root.path().join("spec.yaml"), spec).expect("write");
    let text = "the quick brown fox, jumps over the lazy dog";
    let line = json!({ "id": "one", "domain": "x", "text": text }).to_string();
    std::fs::write(root.path().join("corpus.jsonl"), line).expect("write");
    root
}

#[test]
fn validate_finds_files_that_are_not_whole() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
    let weights = std::fs::read(path(TINY).join(WEIGHTS)).expect("read");
    let mut longer = weights.clone();
    longer.push(0);
    for file in [WEIGHTS, "config.json", "tokenizer.json"] {
        for (content, says) in [
            (&pointer[..], "Git LFS pointer"),
            (b"<!DOCTYPE html><html>", "web page"),
            (b"", "is empty"),
            (b"{\"", file),
        ] {
            let root = experiment();
            std::fs::write(root.path().join("b").join(file), content).expect("write");
            let done = run(root.path(), &["validate", "spec.yaml"]);
            let error = stderr(&done);
            assert_eq!(done.status.code(), Some(2), "{file}: {error}");
            assert!(error.contains(says) && error.contains(file), "{error}");
        }
    }
    for cut in [&weights[..weights.len() - 1], &weights[..weights.len() / 2], &longer] {
        let root = experiment();
        std::fs::write(root.path().join("b").join(WEIGHTS), cut).expect("write");
        let done = run(root.path(), &["validate", "spec.yaml"]);
        assert_eq!(done.status.code(), Some(2));
        assert!(stderr(&done).contains("whole safetensors file"), "{}", stderr(&done));
    }
}

#[test]
fn a_changed_bit_of_the_header_never_gives_another_model() {
    let folder = copied(TINY);
    let whole = std::fs::read(folder.path().join(WEIGHTS)).expect("read");
    let header = u64::from_le_bytes(whole[..8].try_into().expect("length")) as usize;
    let expected = load(TINY).weights;
    let mut refused = 0;
    for position in (0..8 + header).step_by(3) {
        let mut bytes = whole.clone();
        bytes[position] ^= 1 << (position % 8);
        std::fs::write(folder.path().join(WEIGHTS), &bytes).expect("write");
        match Transformer::load(folder.path()) {
            Err(error) => {
                assert!(error.to_string().contains(WEIGHTS), "{error}");
                refused += 1;
            }
            // White space and metadata say nothing.
            Ok(model) => assert!(model.weights == expected, "byte {position}"),
        }
    }
    assert!(refused > header / 6, "{refused} of {}", header / 3);
}

#[test]
fn weights_that_change_between_digest_and_load_are_noticed() {
    let folder = copied(TINY);
    let planned = PlannedModel::find("a", folder.path()).expect("planned");
    planned.load(&Progress::Quiet).expect("unchanged");
    let target = folder.path().join(WEIGHTS);
    let whole = std::fs::read(&target).expect("read");
    // Another file under the same name, of the same length.
    std::fs::write(folder.path().join("other"), &whole).expect("write");
    std::fs::rename(folder.path().join("other"), &target).expect("rename");
    let error = planned.load(&Progress::Quiet).expect_err("swapped").to_string();
    assert!(error.contains("changed"), "{error}");
}

#[test]
fn whatever_is_read_is_part_of_the_identity() {
    let identity = |root: &Path| {
        let loaded = load_spec(&root.join("spec.yaml")).expect("spec");
        Plan::make(loaded).unwrap_or_else(|e| panic!("{e}")).identity()
    };
    let root = experiment();
    let before = identity(root.path());
    assert_eq!(before, identity(root.path()));
    let edit = |file: &str, field: &str, value: Value| {
        let path = root.path().join(file);
        let text = std::fs::read_to_string(&path).expect("read");
        let mut json: Value = serde_json::from_str(&text).expect("JSON");
        json[field] = value;
        std::fs::write(&path, json.to_string()).expect("write");
        let after = identity(root.path());
        std::fs::write(&path, text).expect("write");
        after
    };
    for model in ["a", "b"] {
        let config = format!("{model}/config.json");
        // The same values, written as the edited ones are.
        let unedited = edit(&config, "attn_pdrop", json!(0.0));
        for (field, value) in [
            ("layer_norm_epsilon", json!(1e-6)),
            ("activation_function", json!("gelu")),
            ("n_head", json!(1)),
            ("scale_attn_by_inverse_layer_idx", json!(false)),
            ("attn_pdrop", json!(0.5)),
        ] {
            assert_ne!(edit(&config, field, value), unedited, "{config} {field}");
        }
        let tokenizer = root.path().join(model).join("tokenizer.json");
        let text = std::fs::read_to_string(&tokenizer).expect("read");
        std::fs::write(&tokenizer, format!("{text}\n")).expect("write");
        assert_ne!(identity(root.path()), before, "{model}/tokenizer.json");
        std::fs::write(&tokenizer, text).expect("write");
        let folder = root.path().join(model);
        let tensors = stored(&folder);
        let mut other = tensors.clone();
        other.values_mut().next().expect("tensor").1[0] += 1.0;
        store(&folder, &other, false);
        assert_ne!(identity(root.path()), before, "{model}");
        copy(&path(TINY), &folder);
    }
    assert_eq!(identity(root.path()), before);
}

#[test]
fn a_folder_of_the_cache_is_taken_for_its_snapshot() {
    let root = TempDir::new().expect("folder");
    let repository = root.path().join("models--tiny--tiny");
    copy(&path(TINY), &repository.join("snapshots/0123"));
    assert_eq!(Transformer::load(&repository).expect("one").weights, load(TINY).weights);
    copy(&path(TINY), &repository.join("snapshots/4567"));
    assert!(refusal(&repository).contains("0123, 4567"));
}

#[test]
fn a_bos_that_is_an_ordinary_token_is_refused() {
    let root = experiment();
    for name in ["a", "b"] {
        let file = root.path().join(name).join("config.json");
        let text = std::fs::read_to_string(&file).expect("read");
        let mut config: Value = serde_json::from_str(&text).expect("JSON");
        config["bos_token_id"] = json!(0);
        std::fs::write(&file, config.to_string()).expect("write");
    }
    let done = run(root.path(), &["validate", "spec.yaml"]);
    let error = stderr(&done);
    assert_eq!(done.status.code(), Some(2), "{error}");
    assert!(error.contains("bos_token_id") && error.contains("config.json"), "{error}");
}

/// The tiny model with one value replaced, and its statistics.
fn statistics(tensor: &str, at: usize, value: f32) -> (Transformer, Vec<[f64; 8]>) {
    let folder = copied(TINY);
    let mut tensors = stored(folder.path());
    let (_, values) = tensors.get_mut(tensor).unwrap_or_else(|| panic!("{tensor}"));
    values[at] = value;
    if let Some(head) = (tensor == "wte.weight").then(|| tensors.remove("lm_head.weight")) {
        drop(head);
    }
    store(folder.path(), &tensors, false);
    let model = Transformer::load(folder.path()).unwrap_or_else(|e| panic!("{e}"));
    let folded = preprocess(&model.weights, &model.config, &WeightOptions::default());
    let rows = weight_statistics(&folded, &model.config).into_iter().map(|s| {
        let v = s.vocab;
        [s.w_in_norm, s.input_bias, s.w_out_norm, s.in_out_sim, v.mean, v.var, v.skew, v.kurt]
    });
    (model, rows.collect())
}

#[test]
fn values_that_are_not_finite_leave_no_number() {
    let d_mlp = load(TINY).config.d_mlp();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        // The unembedding: no neuron's effect on the vocabulary is known.
        let (_, rows) = statistics("wte.weight", 5, value);
        assert!(rows.iter().all(|row| row[4..].iter().all(|v| !v.is_finite())), "wte {value}");
        assert!(rows.iter().all(|row| row[..4].iter().all(|v| v.is_finite())), "wte {value}");
        // One input weight: the neuron's own input, and nothing of another.
        let (_, rows) = statistics("h.0.mlp.c_fc.weight", 3, value);
        assert!([0, 3].iter().all(|&c| !rows[3][c].is_finite()), "c_fc {value}: {:?}", rows[3]);
        let others = rows.iter().enumerate().filter(|(i, _)| *i != 3);
        assert!(others.flat_map(|(_, row)| row).all(|v| v.is_finite()), "c_fc {value}");
        let (_, rows) = statistics("h.0.mlp.c_fc.bias", 2, value);
        assert!(!rows[2][1].is_finite(), "bias {value}");
        // One output weight: all but the input.
        let (model, rows) = statistics("h.1.mlp.c_proj.weight", 0, value);
        let row = rows[d_mlp];
        assert!(row[2..].iter().all(|v| !v.is_finite()), "c_proj {value}: {row:?}");
        let near = similar_weights(&model.weights, &model.config);
        assert!(near[d_mlp].distance.is_nan(), "{:?}", near[d_mlp]);
        assert!(near.iter().enumerate().all(|(i, n)| i == d_mlp || n.neuron != d_mlp));
    }
}

#[test]
fn tensors_that_are_not_finite_are_named_when_they_are_loaded() {
    let root = experiment();
    let folder = root.path().join("a");
    let mut tensors = stored(&folder);
    let (shape, values) = tensors.get_mut("wte.weight").expect("embedding");
    let at = 2 * shape[1] + 1;
    values[at] = f32::NAN;
    tensors.remove("lm_head.weight");
    store(&folder, &tensors, false);
    let done = run(root.path(), &["run", "spec.yaml"]);
    let said = stderr(&done);
    assert!(said.contains("`wte.weight` holds 1 value") && said.contains("[2, 1]"), "{said}");
    assert!(said.contains("model `a`"), "{said}");
}

/// The largest cosines, and the nearest neuron, computed literally in f64.
#[test]
fn the_most_similar_weights_are_their_definition() {
    let model = load("expected/golden/tiny");
    let (d, d_mlp) = (model.config.d_model, model.config.d_mlp());
    let wide = |row: Vec<f32>| row.into_iter().map(f64::from).collect::<Vec<_>>();
    let of = |i: usize| {
        let (block, neuron) = (&model.weights.blocks[i / d_mlp], i % d_mlp);
        let w_in = (0..d).map(|row| block.mlp_in.weight[row * d_mlp + neuron]).collect();
        [wide(w_in), wide(block.mlp_out.weight[neuron * d..][..d].to_vec())]
    };
    let all: Vec<[Vec<f64>; 2]> = (0..model.config.n_layers * d_mlp).map(of).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let cosine = |a: &[f64], b: &[f64]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    for (i, found) in similar_weights(&model.weights, &model.config).iter().enumerate() {
        let others = || (0..all.len()).filter(move |&j| j != i);
        let largest = |own: usize, other: usize| {
            let of = |j: usize| cosine(&all[i][own], &all[j][other]);
            others().map(of).fold(f64::NEG_INFINITY, f64::max)
        };
        let want = [largest(0, 0), largest(0, 1), largest(1, 0), largest(1, 1)];
        // Products of unit rows of f32.
        let close = |got: f64, want: f64| (got - want).abs() < 1e-5;
        assert!(
            found.cosines.iter().zip(want).all(|(g, w)| close(*g, w)),
            "{i}: {found:?} {want:?}"
        );
        let both =
            |j: usize| [0, 1].map(|k| cosine(&all[i][k], &all[j][k])).iter().sum::<f64>() / 2.0;
        assert!(close(1.0 - found.distance, both(found.neuron)), "{i}");
        assert!(others().all(|j| both(j) < both(found.neuron) + 1e-5), "{i}: another is nearer");
    }
}
