//! Configs as Transformers 2.0 to 5.24 writes them and as models were published with
//! (`expected/golden/configs/make_configs.py`), and what is not read of a config.

use std::path::PathBuf;

use serde_json::{Value, json};
use universal_neurons::model::{Activation, Architecture, Config, Rotary};

use crate::support::path;

/// Fixtures in a folder, by name.
fn fixtures(folder: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(path(folder)).expect("folder");
    let files = entries.map(|e| e.expect("entry").path());
    let json = |p: &PathBuf| p.extension().is_some_and(|e| e == "json");
    let mut found: Vec<_> = files
        .filter(json)
        .map(|p| {
            let name = p.file_stem().expect("name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(p).expect("read"))
        })
        .collect();
    found.sort();
    found
}

fn parsed(name: &str, text: &str) -> Config {
    Config::parse(text).unwrap_or_else(|e| panic!("{name}: {e:?}"))
}

/// Layers, heads, width, neurons per layer, vocabulary and context of a model.
fn shape(config: &Config) -> [usize; 6] {
    [config.n_layers, config.n_heads, config.d_model, config.d_mlp(), config.d_vocab, config.n_ctx]
}

/// The shape that a fixture was made with, by the last part of its name.
fn expected_shape(model: &str) -> [usize; 6] {
    match model {
        "gpt2" => [2, 2, 8, 32, 50_257, 16],
        "neox" => [2, 2, 16, 64, 50_432, 16],
        "medium" => [24, 16, 1024, 4096, 50_257, 1024],
        "stanford" => [12, 12, 768, 3072, 50_257, 1024],
        "pythia" => [6, 8, 512, 2048, 50_304, 2048],
        other => panic!("{other}"),
    }
}

/// Checks everything that a config says of a model.
fn check(name: &str, model: &str, config: &Config) {
    let neox = matches!(model, "neox" | "pythia");
    // A head of 8 (or 64) dimensions, a quarter of which are rotated.
    let dims = if model == "neox" { 2 } else { 16 };
    let rotary = neox.then_some(Rotary { dims, base: 10_000.0 });
    assert_eq!(config.rotary, rotary, "{name}");
    assert_eq!(config.parallel_residual, neox, "{name}");
    let (architecture, activation, bos) = if neox {
        (Architecture::Neox, Activation::Gelu, 0)
    } else {
        (Architecture::Gpt2, Activation::GeluNew, 50_256)
    };
    assert_eq!(
        (config.architecture, config.activation, config.bos_token_id),
        (architecture, activation, bos),
        "{name}"
    );
    assert_eq!(config.layer_norm_eps, 1e-5, "{name}");
    assert_eq!(config.scale_attn_by_inverse_layer_idx, model == "stanford", "{name}");
}

#[test]
fn configs_of_all_versions_are_read() {
    let all = fixtures("expected/golden/configs");
    assert!(all.len() > 100, "{} files", all.len());
    for (name, text) in all {
        let model = name.split('-').nth(1).expect("version and model");
        let config = parsed(&name, &text);
        assert_eq!(shape(&config), expected_shape(model), "{name}");
        check(&name, model, &config);
    }
}

#[test]
fn published_configs_are_read() {
    let layers = [
        ("distilgpt2", 6),
        ("gpt2", 12),
        ("large", 36),
        ("medium", 24),
        ("pythia", 6),
        ("stanford", 12),
        ("xl", 48),
    ];
    let all = fixtures("expected/golden/configs/published");
    assert_eq!(all.len(), layers.len());
    for ((name, text), (expected, layers)) in all.iter().zip(layers) {
        assert_eq!(name, expected);
        let config = parsed(name, text);
        assert_eq!(config.n_layers, layers, "{name}");
        check(name, name, &config);
    }
}

/// A config with some fields replaced.
fn with(fixture: &str, fields: &[(&str, Value)]) -> Result<Config, String> {
    let text = std::fs::read_to_string(path("expected/golden/configs").join(fixture));
    let mut config: Value = serde_json::from_str(&text.expect("read")).expect("JSON");
    for (name, value) in fields {
        config[*name] = value.clone();
    }
    Config::parse(&config.to_string()).map_err(|(problem, _)| problem)
}

#[test]
fn contradicting_fields_are_refused_by_both_names() {
    let rope = |theta: f64| json!({"rope_type": "default", "rope_theta": theta});
    for (fixture, fields, named) in [
        ("4.57.1-neox.json", vec![("rope_theta", json!(500))], ["rotary_emb_base", "rope_theta"]),
        (
            "4.57.1-neox.json",
            vec![("partial_rotary_factor", json!(0.5))],
            ["rotary_pct", "partial_rotary_factor"],
        ),
        (
            "4.57.1-neox.json",
            vec![("rope_parameters", rope(500.0))],
            ["rotary_emb_base", "rope_parameters.rope_theta"],
        ),
        (
            "5.24.0-neox.json",
            vec![("rotary_emb_base", json!(1e6))],
            ["rotary_emb_base", "rope_parameters.rope_theta"],
        ),
        ("4.57.1-gpt2.json", vec![("hidden_size", json!(16))], ["n_embd", "hidden_size"]),
        ("4.57.1-gpt2.json", vec![("num_hidden_layers", json!(3))], ["n_layer", "num_hidden"]),
    ] {
        let problem = with(fixture, &fields).expect_err(named[1]);
        assert!(named.iter().all(|name| problem.contains(name)), "{problem}");
    }
    // Said twice the same way, they are read.
    with("4.57.1-gpt2.json", &[("hidden_size", json!(8))]).expect("agrees");
    with("4.57.1-neox.json", &[("rope_parameters", rope(10_000.0))]).expect("agrees");
    let twice = r#"{"model_type": "gpt2", "n_head": 2, "n_head": 4}"#;
    let (problem, _) = Config::parse(twice).expect_err("twice");
    assert!(problem.contains("`n_head` is there twice"), "{problem}");
}

#[test]
fn options_that_are_not_computed_are_refused_by_name() {
    let gpt2 = [
        ("activation_function", json!("relu")),
        ("activation_function", json!("gelu_fast")),
        ("scale_attn_weights", json!(false)),
        ("add_cross_attention", json!(true)),
        ("tie_word_embeddings", json!(false)),
        ("is_encoder_decoder", json!(true)),
        ("pruned_heads", json!({"0": [1]})),
        ("quantization_config", json!({"bits": 4})),
        ("use_bfloat16", json!(true)),
        ("rope_scaling", json!({"type": "linear"})),
        ("auto_map", json!({"AutoModel": "custom.Model"})),
        ("scale_attn_by_layer_idx", json!(true)),
        ("model_type", json!("gptj")),
        ("model_type", json!(null)),
        ("n_layer", json!(null)),
        ("n_head", json!(3)),
        ("vocab_size", json!(-1)),
        ("layer_norm_epsilon", json!("1e-5")),
    ];
    let neox = [
        ("hidden_act", json!("gelu_fast")),
        ("attention_bias", json!(false)),
        ("tie_word_embeddings", json!(true)),
        ("rope_scaling", json!({"type": "linear", "factor": 2.0})),
        ("rope_scaling", json!({"factor": 2.0})),
        ("rope_scaling", json!("linear")),
        ("rope_parameters", json!({"rope_type": "yarn", "rope_theta": 1e4})),
        ("rope_parameters", json!({"rope_type": "default", "mscale": 1.0})),
        ("sliding_window", json!(4)),
        ("pruned_heads", json!([0])),
    ];
    let all = gpt2.iter().map(|(field, value)| ("4.57.1-gpt2.json", field, value));
    for (fixture, field, value) in
        all.chain(neox.iter().map(|(field, value)| ("4.57.1-neox.json", field, value)))
    {
        let problem = with(fixture, &[(field, value.clone())]).expect_err(field);
        let shape = ["n_head", "layer_norm_epsilon", "vocab_size", "n_layer"].contains(field);
        assert!(problem.contains(field) || shape, "{field}: {problem}");
    }
}

#[test]
fn other_old_models_are_not_taken_for_gpt2() {
    // Neither had `model_type` before Transformers 2.4.
    for extra in [r#""afn": "gelu""#, r#""dff": 8192"#, r#""architectures": ["CTRLModel"]"#] {
        let text = std::fs::read_to_string(path("expected/golden/configs/2.3.0-gpt2.json"));
        let text = text.expect("read").replacen('{', &format!("{{{extra},"), 1);
        assert!(Config::parse(&text).is_err(), "{extra}");
    }
}

#[test]
fn every_field_that_numbers_depend_on_is_read() {
    let gpt2 = [
        ("n_layer", json!(3)),
        ("n_head", json!(4)),
        ("n_embd", json!(16)),
        ("n_inner", json!(8)),
        ("vocab_size", json!(50_300)),
        ("n_positions", json!(8)),
        ("layer_norm_epsilon", json!(1e-6)),
        ("activation_function", json!("gelu")),
        ("scale_attn_by_inverse_layer_idx", json!(true)),
        ("bos_token_id", json!(1)),
    ];
    let neox = [
        ("num_hidden_layers", json!(3)),
        ("num_attention_heads", json!(1)),
        ("hidden_size", json!(32)),
        ("intermediate_size", json!(8)),
        ("vocab_size", json!(50_300)),
        ("max_position_embeddings", json!(8)),
        ("layer_norm_eps", json!(1e-6)),
        ("hidden_act", json!("gelu_new")),
        ("use_parallel_residual", json!(false)),
        ("bos_token_id", json!(1)),
        ("rotary_pct", json!(0.5)),
        ("rotary_emb_base", json!(500)),
    ];
    for (fixture, fields) in [("4.57.1-gpt2.json", &gpt2[..]), ("4.38.2-neox.json", &neox[..])] {
        let before = with(fixture, &[]).expect("valid");
        for (field, value) in fields {
            let after = with(fixture, &[(field, value.clone())]).expect(field);
            assert_ne!(before, after, "{field}");
        }
    }
}
