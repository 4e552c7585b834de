//! Measures how close the program comes to what the machine can do: the rates of its products and
//! of its forward pass, as fractions of the rate of the innermost loop on all cores with all data
//! in the first-level cache.

pub mod device;
mod floors;
mod rate;

use std::fmt;
use std::time::Instant;

use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;

use crate::backend::device::cuda::Cuda;
use crate::backend::kernel::CpuKernel;
use crate::backend::matmul::{Product, matmul_all_cores};
use crate::backend::pack::MatrixView;
use crate::correlation::{
    CHUNK, ComparisonPlan, Correlator, Keep, Layout, NeuronComparison, TOKENS_AT_ONCE,
};
use crate::error::Result;
use crate::model::capture::{Activations, Capture};
use crate::model::weights::{Block, Linear, Norm, Weights};
use crate::model::{Config, Site, Transformer};
use crate::spec::{Baseline, BaselineKind, Precision};

pub use floors::Floors;
use rate::RUNS;
pub use rate::Rate;

/// The rates measured on this machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HostBench {
    /// Number of threads used.
    pub threads: usize,
    /// The rates.
    pub rates: Vec<Rate>,
}

/// Neurons per layer of GPT-2 small.
const NEURONS: usize = 3072;
/// Number of rows that go through a model together.
const ROWS: usize = 8;
/// Tokens per row.
const CONTEXT: usize = 512;
impl HostBench {
    /// Measures this CPU; takes about half a minute.
    pub fn measure() -> Self {
        let mut rates = Vec::new();
        for precision in [Precision::F32, Precision::Bf16] {
            let kernel = CpuKernel::best(precision);
            let peak = peak(kernel);
            let mut add = |what, gflops: f64| {
                rates.push(Rate { kernel: kernel.name, what, gflops, of_peak: gflops / peak });
            };
            add("peak", peak);
            add("sums", sums(kernel));
            if precision == Precision::F32 {
                add("linear", linear());
                add("forward", forward());
            }
        }
        Self { threads: rayon::current_num_threads(), rates }
    }

    /// Returns the rate of sums in bf16 as a multiple of that in f32, or `None` if one of them was
    /// not measured.
    pub fn bf16_over_f32(&self) -> Option<f64> {
        let sums = |bf16: bool| {
            let mut rates = self.rates.iter().filter(|rate| rate.what == "sums");
            rates.find(|rate| rate.kernel.contains("bf16") == bf16).map(|rate| rate.gflops)
        };
        Some(sums(true)? / sums(false)?)
    }

    /// Measures a GPU.
    ///
    /// # Errors
    ///
    /// Returns an error if the GPU fails.
    pub fn measure_card(card: &Cuda) -> Result<Vec<Rate>> {
        device::measure(card, device::SHAPE)
    }
}

/// Seconds of a realistic comparison: five GPT-2s of four layers as wide as GPT-2 small's (12,288
/// neurons each) with random weights, 4,096 tokens, one reference model, four partner models, and
/// one draw of a rotation baseline.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StudyTime {
    /// Precision of the products.
    pub precision: Precision,
    /// The baseline.
    pub baseline: BaselineKind,
    /// Forward passes of all models.
    pub forward_s: f64,
    /// Four pairs of models and their baselines.
    pub compare_s: f64,
}

impl StudyTime {
    /// Runs the comparison once.
    pub fn measure(precision: Precision, baseline: BaselineKind) -> Self {
        let model = random_gpt2(4, CONTEXT);
        let layout = Layout { n_layers: 4, d_mlp: NEURONS };
        let plan = ComparisonPlan {
            models: vec![layout; 5],
            activations: vec![model.config.activation.function(); 5],
            references: vec![0],
            baseline: Baseline { kind: baseline, draws: 1, ..Baseline::default() },
            precision,
            top: 1,
        };
        let begun = Instant::now();
        let mut models: Vec<Activations> = (0..5).map(|i| activations(&model, i)).collect();
        let forward_s = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let mut correlator = Correlator::new(plan, Keep::Tokens);
        let mut tokens: Vec<&mut [f32]> =
            models.iter_mut().map(|a| a.values.as_mut_slice()).collect();
        correlator.absorb(&mut tokens).expect("the CPU does not fail");
        let ended = correlator.end_pass(&|| Ok(()));
        assert_eq!(ended, Ok(false), "tokens are compared in one pass");
        Self { precision, baseline, forward_s, compare_s: begun.elapsed().as_secs_f64() }
    }
}

impl fmt::Display for StudyTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { precision, baseline, forward_s, compare_s } = self;
        writeln!(
            f,
            "  study of five models of 12,288 neurons, 4,096 tokens, {precision:?}, {baseline:?}: \
             {forward_s:.1} s forward, {compare_s:.1} s comparing"
        )
    }
}

/// Returns the activations of 4,096 tokens; each `i` gives different text.
fn activations(model: &Transformer, i: u32) -> Activations {
    let mut kept = Activations::new(model.config.n_layers * NEURONS);
    let row = |row: u32| -> Vec<u32> {
        (0..CONTEXT as u32).map(|t| (t * (7 + i) + 31 * row) % 64).collect()
    };
    let rows: Vec<Vec<u32>> = (0..ROWS as u32).map(row).collect();
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let keep = [true; ROWS * CONTEXT];
    model.forward(&rows, &mut Capture::new(&keep, vec![(Site::MlpPost, &mut kept)]));
    kept
}

impl fmt::Display for HostBench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} threads; fractions of the innermost loop's own rate", self.threads)?;
        for Rate { kernel, what, gflops, of_peak } in &self.rates {
            writeln!(f, "  {kernel:<12} {what:<8} {gflops:>7.0} GFLOP/s  {of_peak:.2}")?;
        }
        if self.bf16_over_f32().is_some_and(|ratio| ratio < 1.0) {
            writeln!(f, "  bf16 is slower than f32 here: keep `correlation.precision: f32`")?;
        }
        Ok(())
    }
}

/// Returns the best rate of several runs, in GFLOP/s.
fn best(operations: usize, mut run: impl FnMut()) -> f64 {
    let mut once = || {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    let least = (0..RUNS).map(|_| once()).fold(f64::INFINITY, f64::min);
    operations as f64 / least / 1e9
}

/// Measures only the innermost loop on every core, over panels that stay in its cache.
fn peak(kernel: CpuKernel) -> f64 {
    const CALLS: usize = 20_000;
    let threads = rayon::current_num_threads();
    let (words, per_word) = (kernel.inner, kernel.values_per_word());
    let operations = 2 * threads * CALLS * words * per_word * kernel.tile_len();
    best(operations, || {
        (0..threads).into_par_iter().for_each(|_| {
            let (a, b) = (vec![0; words * kernel.mr], vec![0; words * kernel.nr]);
            let mut tile = vec![0.0; kernel.tile_len()];
            (0..CALLS).for_each(|_| kernel.tile(words, &a, &b, &mut tile, &[]));
            assert!(tile.iter().all(|&v| v == 0.0), "products of zeros");
        });
    })
}

/// Measures sums of products of two layers of GPT-2 small over several chunks of tokens.
fn sums(kernel: CpuKernel) -> f64 {
    let (x, y) = (noise(TOKENS_AT_ONCE * NEURONS, 1), noise(TOKENS_AT_ONCE * NEURONS, 2));
    let view = |values| MatrixView::new(values, TOKENS_AT_ONCE, NEURONS);
    let mut sums = vec![0.0; NEURONS * NEURONS];
    let product = Product { kernel, chain: CHUNK };
    best(2 * TOKENS_AT_ONCE * NEURONS * NEURONS, || product.add(view(&x), view(&y), &mut sums))
}

/// Measures the first product of an MLP of GPT-2 small.
fn linear() -> f64 {
    let d_model = NEURONS / 4;
    let (x, w) = (noise(TOKENS_AT_ONCE * d_model, 1), noise(d_model * NEURONS, 2));
    let (x, w) =
        (MatrixView::new(&x, TOKENS_AT_ONCE, d_model), MatrixView::new(&w, d_model, NEURONS));
    let mut out = vec![0.0; TOKENS_AT_ONCE * NEURONS];
    best(2 * TOKENS_AT_ONCE * d_model * NEURONS, || matmul_all_cores(x, w, &mut out))
}

/// Measures two blocks of GPT-2 small with random weights on 8 rows of 512 tokens. Only the causal
/// half of attention's products is counted.
fn forward() -> f64 {
    let model = random_gpt2(2, CONTEXT);
    let ids: Vec<u32> = (0..CONTEXT as u32).map(|i| i % 64).collect();
    let attention = model.config.n_layers * 2 * model.config.d_model * CONTEXT;
    let operations = ROWS * CONTEXT * (2 * model.config.shape().block_weights() + attention);
    best(operations, || {
        model.forward(&[ids.as_slice(); ROWS], &mut ());
    })
}

/// Returns a GPT-2 as wide as GPT-2 small, with random weights and a small vocabulary.
pub fn random_gpt2(n_layers: usize, n_ctx: usize) -> Transformer {
    const D_VOCAB: usize = 64;
    let d = NEURONS / 4;
    let config = json!({
        "model_type": "gpt2", "n_layer": n_layers, "n_head": 12, "n_embd": d,
        "vocab_size": D_VOCAB, "n_positions": n_ctx, "bos_token_id": 0,
    });
    let config = Config::parse(&config.to_string()).unwrap_or_else(|e| panic!("config: {e:?}"));
    let linear = |d_in: usize, d_out: usize| Linear {
        weight: noise(d_in * d_out, 3).iter().map(|v| 0.02 * v).collect(),
        bias: vec![0.0; d_out],
    };
    let norm = || Norm { gain: vec![1.0; d], bias: vec![0.0; d] };
    let block = |_| Block {
        ln_1: norm(),
        qkv: linear(d, 3 * d),
        attn_out: linear(d, d),
        ln_2: norm(),
        mlp_in: linear(d, NEURONS),
        mlp_out: linear(NEURONS, d),
    };
    let weights = Weights {
        embed: noise(D_VOCAB * d, 1),
        pos_embed: noise(n_ctx * d, 2),
        blocks: (0..n_layers).map(block).collect(),
        ln_final: norm(),
        unembed: None,
    };
    Transformer { config, weights }
}

/// Returns values in −1…1 without zeros or other values that might multiply faster.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mixed = |i: usize| (i as u32 ^ seed << 27).wrapping_mul(2_654_435_761);
    (0..len).into_par_iter().map(|i| mixed(i) as f32 / 2_147_483_648.0 - 1.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some processors take twice as long for a product in bf16 as in f32.
    #[test]
    fn a_precision_that_gains_nothing_is_named() {
        let rate = |kernel, gflops| Rate { kernel, what: "sums", gflops, of_peak: 0.9 };
        let of = |rates| HostBench { threads: 2, rates };
        let slower = of(vec![rate("avx512", 210.0), rate("avx512-bf16", 130.0)]);
        assert!(slower.to_string().contains("keep `correlation.precision: f32`"), "{slower}");
        let faster = of(vec![rate("avx512", 206.0), rate("avx512-bf16", 377.0)]);
        assert!(!faster.to_string().contains("correlation.precision"), "{faster}");
        assert_eq!(of(vec![rate("avx512", 206.0)]).bf16_over_f32(), None);
    }
}
