use proptest::prelude::*;

use super::super::oracle::{pearson, series};
use super::super::plan::Keep;
use super::super::random::{Purpose, RandomStream};
use super::super::{Correlator, Layout, NeuronComparison};
use super::*;
use crate::spec::{Baseline, BaselineKind, Precision};

fn plan(layouts: &[Layout], top: usize, draws: usize) -> ComparisonPlan {
    ComparisonPlan {
        models: layouts.to_vec(),
        activations: vec![std::convert::identity; layouts.len()],
        references: vec![0],
        baseline: Baseline { kind: BaselineKind::Permutation, draws, seed: 77 },
        precision: Precision::F32,
        top,
    }
}

/// Stores activations `[tokens, neurons]` without their zeros.
fn sparse(values: &[f32], neurons: usize) -> SparseModel {
    let mut tokens = SparseTokens::new(neurons);
    for row in values.chunks(neurons) {
        let entries = (0..).zip(row.iter().copied());
        tokens.push(entries.filter(|(_, value)| *value != 0.0));
    }
    SparseModel::new(tokens)
}

fn compare(plan: &ComparisonPlan, models: Vec<SparseModel>) -> PairResult {
    let steps = std::cell::Cell::new(0);
    let watch = || {
        steps.set(steps.get() + 1);
        Ok(())
    };
    let found = compare_sparse(plan, &models, &watch);
    assert_eq!(steps.get(), sparse_steps(plan));
    found.expect("nobody stops it").remove(0).remove(0)
}

/// Activations of some tokens, most of which are zero; negative ones occur too. Some neurons are
/// active at every token and hardly vary.
fn activations(neurons: usize, tokens: usize) -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![6 => Just(0.0_f32), 1 => -1.0_f32..0.0, 3 => 0.0_f32..4.0];
    let offset = prop_oneof![4 => Just(0.0_f32), 1 => -2000.0_f32..2000.0];
    let values = prop::collection::vec(value, neurons * tokens);
    (values, prop::collection::vec(offset, neurons)).prop_map(|(mut values, offsets)| {
        for row in values.chunks_mut(offsets.len()) {
            row.iter_mut().zip(&offsets).for_each(|(value, offset)| *value += offset);
        }
        values
    })
}

const X: Layout = Layout { n_layers: 2, d_mlp: 3 };
const Y: Layout = Layout { n_layers: 1, d_mlp: 7 };

/// Returns the correlations of a neuron with all neurons of the partner, from their definition. The
/// partner's tokens are taken in the given order.
fn correlations(x: &[f64], y: &[f32], order: &[usize]) -> Vec<f64> {
    let n = Y.n_neurons();
    let of = |j| {
        let own = series(y, n, j);
        pearson(x, &order.iter().map(|&t| own[t]).collect::<Vec<_>>())
    };
    (0..n).map(of).collect()
}

/// Returns the largest values that are not NaN, largest first.
fn largest(values: &[f64], k: usize) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted.truncate(k);
    sorted
}

proptest! {
    #[test]
    fn every_correlation_is_that_of_its_definition(
        (x, y) in (1_usize..40).prop_flat_map(|tokens| {
            (activations(X.n_neurons(), tokens), activations(Y.n_neurons(), tokens))
        }),
    ) {
        check(&x, &y)?;
    }
}

/// Compares what is found for two models with the definition of a correlation.
fn check(x: &[f32], y: &[f32]) -> Result<(), TestCaseError> {
    const TOLERANCE: f64 = 1e-9;
    let plan = plan(&[X, Y], 3, 2);
    let tokens = y.len() / Y.n_neurons();
    let models = vec![sparse(x, X.n_neurons()), sparse(y, Y.n_neurons())];
    let found = compare(&plan, models);
    let in_order: Vec<usize> = (0..tokens).collect();
    let mut all = Vec::new();
    for i in 0..X.n_neurons() {
        let own = series(x, X.n_neurons(), i);
        let rho = correlations(&own, y, &in_order);
        let best: Vec<_> = found.top(i).collect();
        let expected = largest(&rho, 3);
        prop_assert_eq!(best.len(), expected.len());
        for (best, expected) in best.iter().zip(expected) {
            prop_assert!((best.rho - expected).abs() < TOLERANCE, "{} {}", best.rho, expected);
            prop_assert!((rho[best.neuron] - expected).abs() < TOLERANCE);
        }
        for draw in 0..2 {
            let order = SurrogateId { model: 1, draw }.order(&plan, 0, tokens);
            let expected = largest(&correlations(&own, y, &order), 1);
            let got = found.baseline[draw][i];
            match expected.first() {
                Some(expected) => prop_assert!((got - expected).abs() < TOLERANCE),
                None => prop_assert!(got.is_nan()),
            }
        }
        all.extend(rho.into_iter().filter(|rho| !rho.is_nan()));
    }
    prop_assert_eq!(found.histogram.iter().sum::<f64>(), all.len() as f64);
    let mut below = 0.0;
    for (bin, count) in found.histogram.iter().enumerate() {
        prop_assert!(*count >= 0.0);
        below += count;
        // A correlation within rounding of an edge may lie on either side.
        let edge = -1.0 + 2.0 * (bin + 1) as f64 / BINS as f64;
        let up_to = |edge: f64| all.iter().filter(|rho| **rho < edge).count() as f64;
        let last = bin + 1 == BINS;
        prop_assert!(last || (up_to(edge - TOLERANCE)..=up_to(edge + TOLERANCE)).contains(&below));
    }
    if !all.is_empty() {
        let got = found.moments.moments();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let var = all.iter().map(|rho| (rho - mean).powi(2)).sum::<f64>() / all.len() as f64;
        prop_assert!((got.mean - mean).abs() < TOLERANCE && (got.var - var).abs() < TOLERANCE);
    }
    Ok(())
}

#[test]
fn neurons_that_hardly_vary_lose_no_digits() {
    // One neuron of each model varies by less than a hundredth of its mean.
    let x = [0.0, 0.0, 1.3087322, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0818776, 0.0, 0.0, 0.0];
    let first = [0.0, 0.0, -0.62826425, 0.0, 0.0, 2.6874433, 0.0];
    let second = [0.0, 0.0, -0.6272527, 0.0, 0.0, 0.0, 0.0];
    check(&x, &[first, second].concat()).expect("the correlations of the definition");
}

/// Returns random activations that are zero unless a standard normal number exceeds a threshold.
fn random(tokens: usize, neurons: usize, threshold: f32, id: u64) -> Vec<f32> {
    let mut normals = vec![0.0; 2 * tokens * neurons];
    RandomStream { seed: 5, purpose: Purpose::Noise, id }.normals(&mut normals);
    let value = |pair: &[f32]| if pair[0] > threshold { pair[1].abs() } else { 0.0 };
    normals.chunks(2).map(value).collect()
}

#[test]
fn sparse_products_give_what_the_correlator_gives() {
    let layouts = [Layout { n_layers: 2, d_mlp: 24 }, Layout { n_layers: 1, d_mlp: 40 }];
    let plan = plan(&layouts, 2, 2);
    let tokens = 2500;
    let dense = [0, 1].map(|m| random(tokens, layouts[m].n_neurons(), 1.6, m as u64));
    let models = (0..2).map(|m| sparse(&dense[m], layouts[m].n_neurons())).collect();
    let found = compare(&plan, models);
    let mut correlator = Correlator::new(plan.clone(), Keep::Tokens);
    let mut parts = dense.clone();
    let mut parts: Vec<&mut [f32]> = parts.iter_mut().map(Vec::as_mut_slice).collect();
    correlator.absorb(&mut parts).expect("the CPU does not fail");
    correlator.end_pass(&|| Ok(())).expect("nobody stops it");
    let expected = correlator.finish().remove(0).remove(0);
    // The correlator multiplies in f32.
    for (got, want) in found.rho.iter().zip(&expected.rho) {
        assert!((got - want).abs() < 2e-6, "{got} {want}");
    }
    assert_eq!(found.partner, expected.partner);
    for (got, want) in found.baseline.concat().iter().zip(expected.baseline.concat()) {
        assert!((got - want).abs() < 2e-6, "{got} {want}");
    }
    let (got, want) = (found.moments.moments(), expected.moments.moments());
    assert!((got.mean - want.mean).abs() < 1e-7 && (got.kurt / want.kurt - 1.0).abs() < 1e-4);
}

/// Draws of numbers from 0 to 1.
struct Uniform(std::vec::IntoIter<f32>);

impl Uniform {
    fn new(id: u64, n: usize) -> Self {
        let mut normals = vec![0.0; n];
        RandomStream { seed: 6, purpose: Purpose::Noise, id }.normals(&mut normals);
        Self(normals.into_iter())
    }

    fn normal(&mut self) -> f32 {
        self.0.next().expect("enough draws")
    }

    /// Returns a number below `n`, from the small digits of a normal.
    fn below(&mut self, n: usize) -> usize {
        ((f64::from(self.normal()) * 1e4).rem_euclid(1.0) * n as f64) as usize % n
    }
}

#[test]
fn planted_features_are_found_again_among_many() {
    // Every feature is active at 0.1 % of the tokens.
    let (features, tokens, planted, each) = (16_384, 40_000, 300, 40);
    let mut draw = Uniform::new(1, 4_000_000);
    let mut tables: [Vec<Vec<(u32, f32)>>; 2] = std::array::from_fn(|_| vec![Vec::new(); tokens]);
    let partner = RandomStream { seed: 7, purpose: Purpose::Permutation, id: 0 };
    let partner = partner.permutation(features);
    for (feature, &partner) in partner.iter().enumerate() {
        for _ in 0..each {
            let (own, other, value) = (draw.below(tokens), draw.below(tokens), draw.normal().abs());
            // A planted feature is active at the same tokens, but for a tenth of them.
            let (at, is_found) = match feature < planted {
                true => (own, draw.below(10) > 0),
                false => (other, true),
            };
            let noisy = value * (1.0 + 0.2 * draw.normal());
            tables[0][own].push((feature as u32, value));
            if is_found {
                tables[1][at].push((partner as u32, noisy));
            }
        }
    }
    let model = |mut rows: Vec<Vec<(u32, f32)>>| {
        let mut all = SparseTokens::new(features);
        for row in &mut rows {
            row.sort_by_key(|entry| entry.0);
            row.dedup_by_key(|entry| entry.0);
            all.push(row.iter().copied());
        }
        SparseModel::new(all)
    };
    let layout = Layout { n_layers: 1, d_mlp: features };
    let begun = std::time::Instant::now();
    let found = compare(&plan(&[layout; 2], 1, 1), tables.map(model).into());
    println!("{features} features, {tokens} tokens: {:?}", begun.elapsed());
    let excess = |i: usize| found.best(i).expect("it varies").rho - found.baseline[0][i];
    for (i, &partner) in partner[..planted].iter().enumerate() {
        assert_eq!(found.best(i).expect("it varies").neuron, partner);
        assert!(excess(i) > 0.5, "feature {i}: {}", excess(i));
    }
    let others = (planted..features).filter(|&i| excess(i) > 0.5).count();
    assert!(others * 1000 < features, "{others} others");
}

#[test]
fn a_feature_that_never_varies_has_no_correlation() {
    let neurons = 3;
    // The second is active everywhere with one value, the third never.
    let x: Vec<f32> = (0..50).flat_map(|t| [(t % 7) as f32, 0.1, 0.0]).collect();
    let layout = Layout { n_layers: 1, d_mlp: neurons };
    let found = compare(&plan(&[layout; 2], 1, 1), vec![sparse(&x, 3), sparse(&x, 3)]);
    assert!((found.best(0).expect("itself").rho - 1.0).abs() < 1e-12);
    assert!(found.best(1).is_none() && found.best(2).is_none());
    assert_eq!(found.histogram.iter().sum::<f64>(), 1.0);
    assert!(found.baseline[0][1].is_nan() && !found.baseline[0][0].is_nan());
}
