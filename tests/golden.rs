//! Agreement with numbers made by other programs (`expected/golden/*.py`).

use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use universal_neurons::compare::Tolerance;
use universal_neurons::correlation::oracle::pearson;
use universal_neurons::model::capture::{Activations, Capture};
use universal_neurons::model::fold::preprocess;
use universal_neurons::model::forward::Decoder;
use universal_neurons::model::{Site, Transformer};
use universal_neurons::spec::{MomentKind, SparsityKind, WeightOptions};
use universal_neurons::stats::percentile::{median, ranks};
use universal_neurons::stats::weights::weight_statistics;
use universal_neurons::stats::{ActivationSums, Moments};

use crate::support::{assert_close, expected, path};

/// f32 forward passes that add in another order: the bound the project promises.
const FORWARD: Tolerance = Tolerance::absolute(1e-4);
/// f64 statistics of f32 weights that were folded in another order of operations.
const WEIGHTS: Tolerance = Tolerance { absolute: 1e-6, relative: 1e-5 };
/// The same f64 arithmetic on the same values.
const EXACT: Tolerance = Tolerance { absolute: 1e-10, relative: 1e-9 };

#[derive(Deserialize)]
struct Forward {
    rows: Vec<Vec<u32>>,
    /// Per layer, all tokens' neurons.
    hook_pre: Vec<Vec<f64>>,
    hook_post: Vec<Vec<f64>>,
    logits: Vec<f64>,
}

pub fn load(relative: &str) -> Transformer {
    Transformer::load(&path(relative)).unwrap_or_else(|e| panic!("{e}"))
}

/// Pre- and post-activations of all tokens, and logits.
fn forward(model: &dyn Decoder, rows: &[Vec<u32>]) -> (Activations, Activations, Vec<f32>) {
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let keep = vec![true; rows.iter().map(|r| r.len()).sum()];
    let n_neurons = model.config().n_layers * model.config().d_mlp();
    let (mut pre, mut post) = (Activations::new(n_neurons), Activations::new(n_neurons));
    let targets = vec![(Site::MlpPre, &mut pre), (Site::MlpPost, &mut post)];
    let resid = model.forward(&rows, &mut Capture::new(&keep, targets));
    let logits = resid.and_then(|resid| model.logits(&resid));
    (pre, post, logits.unwrap_or_else(|e| panic!("{e}")))
}

/// Chosen neurons of one layer, token by token.
fn layer(a: &Activations, d_mlp: usize, layer: usize, neurons: &[usize]) -> Vec<f64> {
    let tokens = a.values.chunks_exact(a.n_neurons);
    tokens
        .flat_map(|t| neurons.iter().map(|n| f64::from(t[layer * d_mlp + n])).collect::<Vec<_>>())
        .collect()
}

fn widened(values: &[f32]) -> impl Iterator<Item = f64> + Clone {
    values.iter().map(|&v| f64::from(v))
}

pub fn check_forward(folder: &str, golden: &str) {
    check_decoder(&load(folder), golden);
}

/// Checks the activations and logits of a model, wherever it runs.
pub fn check_decoder(model: &dyn Decoder, golden: &str) {
    let want: Forward = expected(golden);
    let (pre, post, logits) = forward(model, &want.rows);
    let d_mlp = model.config().d_mlp();
    let all: Vec<usize> = (0..d_mlp).collect();
    for l in 0..model.config().n_layers {
        assert_close("hook_pre", layer(&pre, d_mlp, l, &all), &want.hook_pre[l], FORWARD);
        assert_close("hook_post", layer(&post, d_mlp, l, &all), &want.hook_post[l], FORWARD);
    }
    assert_close("logits", widened(&logits), &want.logits, FORWARD);
}

#[test]
fn a_tiny_gpt2_agrees_with_transformers() {
    check_forward("expected/golden/tiny", "golden/tiny.json");
}

#[test]
fn float16_prefixed_keys_and_plain_attention_scale_agree_with_transformers() {
    check_forward("expected/golden/tiny-prefixed", "golden/tiny-prefixed.json");
}

#[test]
fn desk_seed_a_agrees_with_transformers() {
    #[derive(Deserialize)]
    struct Desk {
        row: Vec<u32>,
        neurons: Vec<usize>,
        hook_pre: Vec<Vec<f64>>,
        hook_post: Vec<Vec<f64>>,
        logits: Vec<f64>,
    }
    let want: Desk = expected("golden/desk-a.json");
    let model = load("experiments/desk/a");
    let (pre, post, logits) = forward(&model, &[want.row]);
    let d_mlp = model.config.d_mlp();
    for l in 0..model.config.n_layers {
        assert_close("hook_pre", layer(&pre, d_mlp, l, &want.neurons), &want.hook_pre[l], FORWARD);
        assert_close(
            "hook_post",
            layer(&post, d_mlp, l, &want.neurons),
            &want.hook_post[l],
            FORWARD,
        );
    }
    let last = &logits[logits.len() - model.config.d_vocab..];
    assert_close("logits", widened(last), &want.logits, FORWARD);
}

#[derive(Deserialize)]
struct FoldedLayer {
    w_in: Vec<f64>,
    b_in: Vec<f64>,
    w_out: Vec<f64>,
    b_out: Vec<f64>,
}

#[derive(Deserialize)]
struct Folded {
    layers: Vec<FoldedLayer>,
    w_u: Vec<f64>,
    b_u: Vec<f64>,
    statistics: Vec<Vec<f64>>,
}

#[test]
fn preprocessed_weights_agree_with_transformer_lens() {
    let model = load("expected/golden/tiny");
    let want: Folded = expected("golden/tiny-folded.json");
    let folded = preprocess(&model.weights, &model.config, &WeightOptions::default());
    for (block, want) in folded.blocks.iter().zip(&want.layers) {
        assert_close("W_in", widened(&block.mlp_in.weight), &want.w_in, FORWARD);
        assert_close("b_in", widened(&block.mlp_in.bias), &want.b_in, FORWARD);
        assert_close("W_out", widened(&block.mlp_out.weight), &want.w_out, FORWARD);
        assert_close("b_out", widened(&block.mlp_out.bias), &want.b_out, FORWARD);
    }
    let unembed = folded.unembed.as_ref().expect("an unembedding of its own");
    let (d, d_vocab) = (model.config.d_model, model.config.d_vocab);
    // Stored row by row of tokens here, [d_model, d_vocab] there.
    let w_u = (0..d * d_vocab).map(|e| unembed.weight[e % d_vocab * d + e / d_vocab].into());
    assert_close("W_U", w_u, &want.w_u, FORWARD);
    assert_close("b_U", widened(&unembed.bias), &want.b_u, FORWARD);
}

#[test]
fn weight_statistics_agree_with_scipy() {
    let model = load("expected/golden/tiny");
    let want: Folded = expected("golden/tiny-folded.json");
    let folded = preprocess(&model.weights, &model.config, &WeightOptions::default());
    let got = weight_statistics(&folded, &model.config);
    assert_eq!(got.len(), want.statistics.len());
    for (got, want) in got.iter().zip(&want.statistics) {
        let Moments { mean, var, skew, kurt } = got.vocab;
        let got =
            [got.w_in_norm, got.input_bias, got.w_out_norm, got.in_out_sim, mean, var, skew, kurt];
        assert_close("statistics", got, want, WEIGHTS);
    }
}

#[derive(Deserialize)]
struct Series {
    values: Vec<f64>,
    moments: Vec<f64>,
    binned: Vec<f64>,
    above_zero: f64,
    ranks: Vec<f64>,
    median: f64,
}

#[derive(Deserialize)]
struct Statistics {
    series: BTreeMap<String, Series>,
    pearson: Vec<Vec<f64>>,
}

#[test]
fn statistics_agree_with_scipy() {
    let golden: Statistics = expected("golden/statistics.json");
    for (name, want) in &golden.series {
        // The values were rounded to f32 when they were made.
        let values: Vec<f32> = want.values.iter().map(|&v| v as f32).collect();
        for (kind, moments) in
            [(MomentKind::Exact, &want.moments), (MomentKind::Binned, &want.binned)]
        {
            let mut sums = ActivationSums::new(1, kind);
            values.chunks(7).for_each(|part| sums.absorb(part, part));
            let got = sums.statistics(0, SparsityKind::AboveZero);
            let Moments { mean, var, skew, kurt } = got.moments;
            assert_close(&format!("{name} {kind:?}"), [mean, var, skew, kurt], moments, EXACT);
            assert_close("above zero", [got.sparsity], &[want.above_zero], EXACT);
        }
        assert_close("ranks", ranks(&want.values), &want.ranks, EXACT);
        assert_close("median", median(want.values.iter().copied()), &[want.median], EXACT);
    }
}

#[test]
fn correlations_agree_with_scipy() {
    let golden: Statistics = expected("golden/statistics.json");
    let names = ["normal", "skewed", "ties", "far", "wide"];
    let series: Vec<&[f64]> = names.iter().map(|n| golden.series[*n].values.as_slice()).collect();
    for (x, want) in series.iter().zip(&golden.pearson) {
        assert_close("pearson", series.iter().map(|y| pearson(x, y)), want, EXACT);
    }
}

/// Log-probabilities `[tokens, d_vocab]` in f64.
fn log_probabilities(logits: &[f32], d_vocab: usize) -> Vec<f64> {
    let of_token = |row: &[f32]| {
        let max = widened(row).fold(f64::NEG_INFINITY, f64::max);
        let total = widened(row).map(|l| (l - max).exp()).sum::<f64>().ln() + max;
        widened(row).map(|l| l - total).collect::<Vec<_>>()
    };
    logits.chunks_exact(d_vocab).flat_map(of_token).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn preprocessing_changes_neither_activations_nor_predictions(
        fold_ln: bool, center_writing: bool, center_unembed: bool,
        rows in prop::collection::vec(prop::collection::vec(0u32..32, 1..12), 1..4),
    ) {
        let raw = load("expected/golden/tiny");
        let options = WeightOptions { fold_ln, center_writing, center_unembed };
        let weights = preprocess(&raw.weights, &raw.config, &options);
        let folded = Transformer { weights, config: raw.config.clone() };
        let (pre, _, logits) = forward(&raw, &rows);
        let (pre_folded, _, logits_folded) = forward(&folded, &rows);
        let want: Vec<f64> = widened(&pre.values).collect();
        assert_close("hook_pre", widened(&pre_folded.values), &want, FORWARD);
        let want = log_probabilities(&logits, 32);
        assert_close("log-probabilities", log_probabilities(&logits_folded, 32), &want, FORWARD);
    }
}
