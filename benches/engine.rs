//! How fast the sums are, against this machine's own arithmetic.
//!
//! `cargo bench` measures; `benches/peer/products.py` measures PyTorch on the
//! same shapes, for the ratios in `benches/results/`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use universal_neurons::backend::kernel::CpuKernel;
use universal_neurons::backend::matmul::{Product, matmul_all_cores};
use universal_neurons::backend::pack::MatrixView;
use universal_neurons::correlation::{
    CHUNK, ComparisonPlan, Correlator, Keep, Layout, NeuronComparison, PairResult, TOKENS_AT_ONCE,
};
use universal_neurons::hostbench::random_gpt2;
use universal_neurons::model::Activation;
use universal_neurons::spec::{Baseline, Precision};

/// Tokens whose products are summed at once.
const TOKENS: usize = TOKENS_AT_ONCE;

/// Values in -1…1 that no multiply can take a short cut on.
fn noise(len: usize) -> Vec<f32> {
    let value = |i: usize| (i as u32).wrapping_mul(2_654_435_761) as f32 / 2_147_483_648.0 - 1.0;
    (0..len).map(value).collect()
}

/// Floating-point operations of a product, for rates in operations per second.
fn operations(rows: usize, inner: usize, cols: usize) -> Throughput {
    Throughput::Elements(2 * (rows * inner * cols) as u64)
}

fn products(c: &mut Criterion) {
    let mut group = c.benchmark_group("products");
    for n in [1024, 3072] {
        let (x, y) = (noise(TOKENS * n), noise(TOKENS * n));
        group.throughput(operations(n, TOKENS, n));
        let mut sums = vec![0.0; n * n];
        for precision in [Precision::F32, Precision::Bf16] {
            let product = Product { kernel: CpuKernel::best(precision), chain: CHUNK };
            let name = format!("f64 sums of xᵀy over 4,096 tokens, {}", product.kernel.name);
            group.bench_function(BenchmarkId::new(name, n), |b| {
                b.iter(|| {
                    product.add(
                        MatrixView::new(&x, TOKENS, n),
                        MatrixView::new(&y, TOKENS, n),
                        black_box(&mut sums),
                    )
                });
            });
        }
    }
    // The two large products of a GPT-2 small block, on 4,096 tokens.
    for (inner, cols) in [(768, 3072), (3072, 768)] {
        let (x, w) = (noise(4096 * inner), noise(inner * cols));
        let mut out = vec![0.0; 4096 * cols];
        group.throughput(operations(4096, inner, cols));
        let name = format!("4096 × {inner} × {cols}");
        group.bench_function(BenchmarkId::new("linear layer", name), |b| {
            b.iter(|| {
                matmul_all_cores(
                    MatrixView::new(&x, 4096, inner),
                    MatrixView::new(&w, inner, cols),
                    black_box(&mut out),
                )
            });
        });
    }
    group.finish();
}

/// Five models with a rotation baseline, from activations to chance levels: how
/// cost grows with layers (the square) and tokens (in proportion). 768 neurons a
/// layer; `bench-host --study` measures models of full width.
fn plan(c: &mut Criterion) {
    let mut group = c.benchmark_group("study of five models");
    group.sample_size(10);
    for n_layers in [1, 2, 4] {
        for tokens in [512, 4096, 16_384] {
            let layout = Layout { n_layers, d_mlp: 768 };
            let plan = ComparisonPlan {
                models: vec![layout; 5],
                activations: vec![Activation::GeluNew.function(); 5],
                references: vec![0],
                baseline: Baseline { draws: 1, ..Baseline::default() },
                precision: Precision::F32,
                top: 1,
            };
            let (sums, finish) = plan.operations(Keep::Sums { passes: 1 }, tokens);
            group.throughput(Throughput::Elements((sums + finish) as u64));
            group.bench_function(BenchmarkId::new(format!("{n_layers} layers"), tokens), |b| {
                b.iter(|| black_box(run(&plan, tokens)));
            });
        }
    }
    group.finish();
}

fn run(plan: &ComparisonPlan, tokens: usize) -> Vec<Vec<PairResult>> {
    let mut correlator = Correlator::new(plan.clone(), Keep::Sums { passes: 1 });
    let n = plan.models[0].n_neurons();
    let values = noise(tokens.min(TOKENS) * n + plan.models.len());
    for start in (0..tokens).step_by(TOKENS) {
        let count = TOKENS.min(tokens - start) * n;
        let models = 0..plan.models.len();
        let mut models: Vec<Vec<f32>> = models.map(|i| values[i..i + count].to_vec()).collect();
        let mut models: Vec<&mut [f32]> = models.iter_mut().map(Vec::as_mut_slice).collect();
        correlator.absorb(&mut models).expect("the CPU does not fail");
    }
    let _ = correlator.end_pass(&|| Ok(()));
    correlator.finish()
}

/// Two blocks of GPT-2 small with random weights, 8 rows of 512 tokens.
fn forward(c: &mut Criterion) {
    let model = random_gpt2(2, 512);
    let ids = vec![1; 512];
    let mut group = c.benchmark_group("forward pass");
    group.throughput(Throughput::Elements(
        (2 * 8 * 512 * model.config.shape().block_weights()) as u64,
    ));
    group.bench_function("two blocks, 8 rows of 512", |b| {
        b.iter(|| black_box(model.forward(&[ids.as_slice(); 8], &mut ())));
    });
    group.finish();
}

criterion_group!(benches, products, plan, forward);
criterion_main!(benches);
