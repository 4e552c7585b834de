//! The correlator against its f64 oracle, and properties that hold for any data.

use proptest::prelude::*;

use super::oracle::{pearson, rotate, series};
use super::random::{Purpose, RandomStream};
use super::rotation::{random_rotation, rotation_stream};
use super::surrogate::SurrogateId;
use super::*;
use crate::error::{Error, Kind};
use crate::model::Activation;
use crate::spec::{Baseline, BaselineKind, Precision};

pub(super) const X: Layout = Layout { n_layers: 2, d_mlp: 5 };
pub(super) const Y: Layout = Layout { n_layers: 3, d_mlp: 4 };
/// Largest difference between f32 activations and products, and f64 throughout.
pub(super) const TOLERANCE: f64 = 2e-6;

/// Returns activations `[tokens, n_neurons]` with common causes, so that correlations differ from
/// 0.
pub(super) fn activations(layout: Layout, tokens: usize, id: u64) -> Vec<f32> {
    let normals = |id, n| {
        let mut values = vec![0.0; n];
        RandomStream { seed: 9, purpose: Purpose::Gaussian, id }.normals(&mut values);
        values
    };
    let n = layout.n_neurons();
    let (own, causes) = (normals(id, tokens * n), normals(0, tokens * 4));
    let value = |e: usize| {
        let (t, i) = (e / n, e % n);
        // A mean far from 0 must not cost precision.
        3.0 + own[e] + (i % 3) as f32 * causes[t * 4 + (i + id as usize) % 4]
    };
    (0..tokens * n).map(value).collect()
}

pub(super) fn plan(models: &[Layout], kind: BaselineKind) -> ComparisonPlan {
    ComparisonPlan {
        models: models.to_vec(),
        activations: vec![Activation::GeluNew.function(); models.len()],
        references: vec![0],
        baseline: Baseline { kind, draws: 2, seed: 77 },
        precision: Precision::F32,
        top: 1,
    }
}

/// Every way to keep the tokens.
pub(super) const KEEPS: [Keep; 3] =
    [Keep::Tokens, Keep::Sums { passes: 1 }, Keep::Sums { passes: 2 }];

/// Adds tokens pass by pass, as a run does.
pub(super) fn correlate_all(plan: &ComparisonPlan, keep: Keep, models: &[&[f32]]) -> Correlator {
    let mut correlator = Correlator::new(plan.clone(), keep);
    loop {
        let width = |model: usize| plan.models[model].n_neurons();
        let tokens = models[0].len() / width(0);
        for start in (0..tokens).step_by(TOKENS_AT_ONCE) {
            let end = (start + TOKENS_AT_ONCE).min(tokens);
            let part =
                |model: usize| models[model][start * width(model)..end * width(model)].to_vec();
            let mut parts: Vec<Vec<f32>> = (0..models.len()).map(part).collect();
            let mut parts: Vec<&mut [f32]> = parts.iter_mut().map(Vec::as_mut_slice).collect();
            correlator.absorb(&mut parts).expect("the CPU does not fail");
        }
        if !correlator.end_pass(&|| Ok(())).expect("nobody stops it") {
            return correlator;
        }
    }
}

/// Compares the first model with the second.
fn correlate(x: &[f32], y: &[f32], kind: BaselineKind) -> (PairResult, NeuronSums) {
    let correlator = correlate_all(&plan(&[X, Y], kind), KEEPS[1], &[x, y]);
    let own = correlator.neuron_sums(0).clone();
    (correlator.finish().remove(0).remove(0), own)
}

pub(super) fn all_series(values: &[f32], layout: Layout) -> Vec<Vec<f64>> {
    (0..layout.n_neurons()).map(|i| series(values, layout.n_neurons(), i)).collect()
}

/// Returns the largest correlation of each x with any y by the definition; NaN if there is none.
fn best_by_definition(x: &[Vec<f64>], y: &[Vec<f64>]) -> Vec<f64> {
    let best = |x: &Vec<f64>| y.iter().map(|y| pearson(x, y)).fold(f64::NAN, f64::max);
    x.iter().map(best).collect()
}

pub(super) fn assert_close(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() < TOLERANCE, "{i}: got {got}, expected {want}");
    }
}

fn rhos(pair: &PairResult) -> Vec<f64> {
    (0..pair.neurons()).map(|i| pair.best(i).map_or(f64::NAN, |b| b.rho)).collect()
}

#[test]
fn best_matches_and_rotation_baseline_match_the_definition() {
    let tokens = 2 * CHUNK + 300;
    let (x, y) = (activations(X, tokens, 1), activations(Y, tokens, 2));
    for kind in [BaselineKind::Rotation, BaselineKind::Orthogonal, BaselineKind::FastRotation] {
        let (pair, _) = correlate(&x, &y, kind);
        let (x, y) = (all_series(&x, X), all_series(&y, Y));
        assert_close(&rhos(&pair), &best_by_definition(&x, &y));
        for (draw, got) in pair.baseline.iter().enumerate() {
            let r = |layer| random_rotation(kind, rotation_stream(77, draw, 1, layer), Y.d_mlp);
            let layers = y.chunks(Y.d_mlp).enumerate();
            let rotated: Vec<_> = layers.flat_map(|(layer, v)| rotate(&r(layer), v)).collect();
            assert_close(got, &best_by_definition(&x, &rotated));
        }
    }
}

#[test]
fn activations_and_sums_give_the_same_bits() {
    let tokens = TOKENS_AT_ONCE + CHUNK + 300;
    let layouts = [X, Y, X];
    let models: Vec<Vec<f32>> =
        (1..).zip(layouts).map(|(id, layout)| activations(layout, tokens, id)).collect();
    let models: Vec<&[f32]> = models.iter().map(Vec::as_slice).collect();
    for kind in [BaselineKind::Rotation, BaselineKind::Permutation, BaselineKind::Gaussian] {
        let plan = ComparisonPlan { references: vec![1, 0, 2], top: 3, ..plan(&layouts, kind) };
        let found = KEEPS.map(|keep| correlate_all(&plan, keep, &models).finish());
        for (i, all) in found[0].iter().flatten().enumerate() {
            for (keep, other) in KEEPS.iter().zip(&found).skip(1) {
                let other = other.iter().flatten().nth(i).expect("as many pairs");
                assert_eq!(all.histogram, other.histogram, "{kind:?} {keep:?}");
                assert_eq!(all.baseline, other.baseline, "{kind:?} {keep:?}");
                for neuron in 0..all.neurons() {
                    assert!(all.top(neuron).eq(other.top(neuron)), "{kind:?} {keep:?} {neuron}");
                }
            }
        }
    }
}

#[test]
fn a_pair_is_the_same_whichever_other_reference_is_compared() {
    let tokens = CHUNK + 300;
    let (x, y) = (activations(X, tokens, 1), activations(Y, tokens, 2));
    for kind in [BaselineKind::Rotation, BaselineKind::Gaussian] {
        let both = ComparisonPlan { references: vec![0, 1], ..plan(&[X, Y], kind) };
        let found = correlate_all(&both, KEEPS[1], &[&x, &y]).finish();
        let alone = |reference| {
            let plan = ComparisonPlan { references: vec![reference], ..plan(&[X, Y], kind) };
            correlate_all(&plan, KEEPS[1], &[&x, &y]).finish().remove(0).remove(0)
        };
        // Layers are compared only if every model is a partner.
        let neurons = |pair: &PairResult| PairResult {
            covariances: Vec::new(),
            cka: Vec::new(),
            ..pair.clone()
        };
        let both = (neurons(&found[0][0]), neurons(&found[1][0]));
        assert_eq!(both, (alone(0), alone(1)), "{kind:?}");
    }
}

#[test]
fn histogram_and_moments_cover_all_correlations() {
    let tokens = CHUNK;
    let (x, y) = (activations(X, tokens, 1), activations(Y, tokens, 2));
    let plan = ComparisonPlan { top: 4, ..plan(&[X, Y], BaselineKind::Rotation) };
    let pair = correlate_all(&plan, KEEPS[0], &[&x, &y]).finish().remove(0).remove(0);
    let (x, y) = (all_series(&x, X), all_series(&y, Y));
    let of = |x: &Vec<f64>| y.iter().map(|y| pearson(x, y)).collect::<Vec<f64>>();
    let rows: Vec<Vec<f64>> = x.iter().map(of).collect();
    let all: Vec<f64> = rows.concat();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    assert!((pair.moments.moments().mean - mean).abs() < TOLERANCE);
    assert_eq!(pair.histogram.iter().sum::<f64>(), all.len() as f64);
    for (i, row) in rows.iter().enumerate() {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        let top: Vec<usize> = pair.top(i).map(|best| best.neuron).collect();
        assert_eq!(top, order[..4], "{i}");
    }
}

#[test]
fn an_error_of_the_watch_stops_the_comparison() {
    let values = activations(X, CHUNK, 1);
    let mut correlator = Correlator::new(plan(&[X, X], BaselineKind::Rotation), KEEPS[0]);
    let absorbed = correlator.absorb(&mut [&mut values.clone(), &mut values.clone()]);
    assert_eq!(absorbed, Ok(()));
    let stop = || Error::new(Kind::Interrupted, "the run", "interrupted", "start again");
    assert_eq!(correlator.end_pass(&|| Err(stop())), Err(stop()));
}

#[test]
fn permutation_baseline_matches_the_definition() {
    let tokens = CHUNK + 200;
    let (x, y) = (activations(X, tokens, 1), activations(Y, tokens, 2));
    let (pair, _) = correlate(&x, &y, BaselineKind::Permutation);
    let (x, y) = (all_series(&x, X), all_series(&y, Y));
    let order = |draw: u64| -> Vec<usize> {
        let of_chunk = |(chunk, len): (u64, usize)| {
            let id = draw << 48 | 1 << 40 | chunk;
            let order =
                RandomStream { seed: 77, purpose: Purpose::Permutation, id }.permutation(len);
            order.into_iter().map(move |t| chunk as usize * CHUNK + t)
        };
        [(0, CHUNK), (1, 200)].into_iter().flat_map(of_chunk).collect()
    };
    for (draw, got) in pair.baseline.iter().enumerate() {
        let order = order(draw as u64);
        let permuted: Vec<Vec<f64>> =
            y.iter().map(|y| order.iter().map(|&t| y[t]).collect()).collect();
        assert_close(got, &best_by_definition(&x, &permuted));
    }
}

#[test]
fn gaussian_baseline_is_small_over_many_tokens() {
    let tokens = 8 * CHUNK;
    let (x, y) = (activations(X, tokens, 1), activations(Y, tokens, 2));
    let (pair, _) = correlate(&x, &y, BaselineKind::Gaussian);
    // Each of the 12 correlations of independent series has a standard deviation of 1/√n.
    let bound = 5.0 / (tokens as f64).sqrt();
    assert!(pair.baseline.iter().flatten().all(|b| (-bound..bound).contains(b)));
}

#[test]
fn the_gaussian_surrogate_applies_the_activation_function_of_its_model() {
    let functions = [Activation::GeluNew, Activation::Gelu].map(Activation::function);
    let plan =
        ComparisonPlan { activations: functions.to_vec(), ..plan(&[X, Y], BaselineKind::Gaussian) };
    for (model, layout) in [X, Y].into_iter().enumerate() {
        let mut noise = vec![0.0; 50 * layout.n_neurons()];
        let id = 1 << 48 | (model as u64) << 40;
        RandomStream { seed: 77, purpose: Purpose::Gaussian, id }.normals(&mut noise);
        let want: Vec<f32> = noise.iter().map(|&v| functions[model](v)).collect();
        let other: Vec<f32> = noise.iter().map(|&v| functions[1 - model](v)).collect();
        let got = SurrogateId { model, draw: 1 }.surrogate(&plan, &noise, 0);
        assert_eq!(got, want);
        assert_ne!(got, other, "the two forms of GELU differ in some digit");
    }
}

#[test]
fn a_model_matches_itself_neuron_by_neuron() {
    let tokens = CHUNK;
    let values = activations(Y, tokens, 3);
    let plan = plan(&[Y, Y], BaselineKind::Rotation);
    let pair = correlate_all(&plan, KEEPS[1], &[&values, &values]).finish().remove(0).remove(0);
    for i in 0..pair.neurons() {
        let best = pair.best(i);
        let best = best.expect("a live neuron");
        assert!(best.neuron == i && (best.rho - 1.0).abs() < TOLERANCE, "{i}: {best:?}");
    }
}

#[test]
fn the_best_pair_is_the_same_from_either_side() {
    let tokens = CHUNK + 77;
    let (x, y) = (activations(X, tokens, 1), activations(Y, tokens, 2));
    let best_pair = |from: Layout, a: &[f32], to: Layout, b: &[f32]| {
        let plan = plan(&[from, to], BaselineKind::Rotation);
        let pair = correlate_all(&plan, KEEPS[1], &[a, b]).finish().remove(0).remove(0);
        let best = (0..pair.neurons()).map(|i| pair.best(i));
        let pairs = best.enumerate().filter_map(|(i, b)| b.map(|b| (i, b.neuron, b.rho)));
        pairs.max_by(|a, b| a.2.total_cmp(&b.2)).expect("a live pair")
    };
    let (i, j, rho) = best_pair(X, &x, Y, &y);
    let (j_back, i_back, rho_back) = best_pair(Y, &y, X, &x);
    assert_eq!((i, j), (i_back, j_back));
    assert!((rho - rho_back).abs() < TOLERANCE, "{rho} {rho_back}");
}

#[test]
fn neurons_that_never_vary_or_are_not_finite_have_no_correlation() {
    let tokens = CHUNK + 50;
    let (mut x, mut y) = (activations(X, tokens, 1), activations(Y, tokens, 2));
    let set = |values: &mut [f32], n: usize, i: usize, v: f32| {
        values.iter_mut().skip(i).step_by(n).for_each(|value| *value = v);
    };
    let (nx, ny) = (X.n_neurons(), Y.n_neurons());
    set(&mut x, nx, 4, 0.1);
    x[7] = f32::NAN;
    x[nx + 8] = f32::INFINITY;
    // One dead and one diverged partner neuron, in layers with live neurons.
    set(&mut y, ny, 0, -0.3);
    y[5] = f32::NAN;
    let (pair, own) = correlate(&x, &y, BaselineKind::Rotation);
    let none: Vec<usize> = (0..nx).filter(|&i| pair.best(i).is_none()).collect();
    assert_eq!(none, [4, 7, 8]);
    assert_eq!((own.non_finite(4), own.non_finite(7), own.non_finite(8)), (false, true, true));
    assert!(own.inverse_spread(4).is_none());
    for i in (0..nx).filter(|i| !none.contains(i)) {
        assert!(pair.best(i).is_some_and(|b| b.rho.is_finite() && b.neuron != 0 && b.neuron != 5));
        assert!(pair.baseline.iter().all(|draw| draw[i].is_finite()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn shift_and_positive_scale_do_not_change_correlations(shift in -20.0f32..20.0, scale in 0.05f32..30.0) {
        let tokens = 200;
        let (x, y) = (activations(X, tokens, 1), activations(Y, tokens, 2));
        let moved: Vec<f32> = x.iter().map(|v| shift + scale * v).collect();
        let correlate = |x| correlate(x, &y, BaselineKind::Rotation).0;
        let (plain, moved) = (correlate(&x), correlate(&moved));
        for (a, b) in rhos(&plain).iter().zip(rhos(&moved)) {
            // The shift costs precision in the f32 values themselves.
            prop_assert!((a - b).abs() < 2e-4, "{} {}", a, b);
        }
    }
}

/// Returns a series that is hard on rounding: heavy tails, mostly zeros, or nearly constant.
fn hard_series(kind: usize, tokens: usize, id: u64) -> Vec<f32> {
    let mut noise = vec![0.0; tokens];
    RandomStream { seed: 5, purpose: Purpose::Gaussian, id }.normals(&mut noise);
    let of = |v: f32| match kind {
        0 => v.powi(5),
        1 => (v - 2.5).max(0.0),
        2 => 7.0 + 1e-3 * v,
        _ => v,
    };
    noise.into_iter().map(of).collect()
}

#[test]
fn bf16_correlations_stay_within_the_documented_bound() {
    let tokens = 2 * CHUNK + 100;
    let layout = Layout { n_layers: 1, d_mlp: 8 };
    let model = |first: u64| -> Vec<f32> {
        // Common causes make some correlations large.
        let series: Vec<Vec<f32>> =
            (0..8).map(|i| hard_series(i % 4, tokens, first * (i as u64 / 4) + i as u64)).collect();
        (0..tokens * 8).map(|e| series[e % 8][e / 8]).collect()
    };
    let (x, y) = (model(0), model(40));
    let plan = ComparisonPlan {
        precision: Precision::Bf16,
        top: 8,
        ..plan(&[layout; 2], BaselineKind::Rotation)
    };
    let correlator = correlate_all(&plan, Keep::Tokens, &[&x, &y]);
    let kappa = |model: usize, values: &[f32]| -> Vec<f64> {
        let all = all_series(values, layout);
        let kappa = |(i, series): (usize, &Vec<f64>)| {
            let pilot = series[..CHUNK].iter().sum::<f64>() / CHUNK as f64;
            let about_pilot: f64 =
                series.iter().map(|v| (v - f64::from(pilot as f32)).powi(2)).sum();
            let spread = correlator.neuron_sums(model).inverse_spread(i).expect("it varies");
            about_pilot.sqrt() * spread
        };
        all.iter().enumerate().map(kappa).collect()
    };
    let (kappa_x, kappa_y) = (kappa(0, &x), kappa(1, &y));
    let pair = correlator.finish().remove(0).remove(0);
    let (x, y) = (all_series(&x, layout), all_series(&y, layout));
    let u = 2.0_f64.powi(-9);
    let mut largest = 0.0_f64;
    for (i, x) in x.iter().enumerate() {
        assert_eq!(pair.top(i).count(), 8);
        for best in pair.top(i) {
            let off = (best.rho - pearson(x, &y[best.neuron])).abs();
            let bound = (2.0 * u + u * u) * kappa_x[i] * kappa_y[best.neuron];
            assert!(off <= bound + TOLERANCE, "{i} {}: {off} is above {bound}", best.neuron);
            largest = largest.max(off);
        }
    }
    assert!(largest > 1e-7, "nothing was rounded: {largest}");
}

#[test]
fn ten_million_tokens_of_large_mean_lose_nothing() {
    const TOKENS: usize = 10_000_000;
    let layout = Layout { n_layers: 1, d_mlp: 2 };
    let plan = ComparisonPlan { references: vec![0], ..plan(&[layout; 2], BaselineKind::Rotation) };
    let mut correlator = Correlator::new(plan, Keep::Sums { passes: 1 });
    // The definition in f64, about a value near the mean, which does not change ρ.
    const MEAN: f64 = 50.0;
    let mut exact = [0.0_f64; 4];
    let mut own = [[[0.0_f64; 2]; 2]; 2];
    for start in (0..TOKENS).step_by(TOKENS_AT_ONCE) {
        let count = TOKENS_AT_ONCE.min(TOKENS - start);
        let mut noise = vec![0.0_f32; 3 * 2 * count];
        let id = (start / TOKENS_AT_ONCE) as u64;
        RandomStream { seed: 6, purpose: Purpose::Gaussian, id }.normals(&mut noise);
        let value = |model: usize, e: usize| {
            50.0 + noise[e] * 0.5 + noise[(1 + model) * 2 * count + e] * (1 + e % 2) as f32
        };
        let mut models = [0, 1].map(|m| (0..2 * count).map(|e| value(m, e)).collect::<Vec<f32>>());
        for t in 0..count {
            let at = |m: usize, i: usize| f64::from(models[m][2 * t + i]) - MEAN;
            for (m, own) in own.iter_mut().enumerate() {
                for (i, own) in own.iter_mut().enumerate() {
                    own[0] += at(m, i);
                    own[1] += at(m, i) * at(m, i);
                }
            }
            (0..4).for_each(|e| exact[e] += at(0, e / 2) * at(1, e % 2));
        }
        let [x, y] = &mut models;
        correlator.absorb(&mut [x, y]).expect("the CPU does not fail");
    }
    assert_eq!(correlator.end_pass(&|| Ok(())), Ok(false));
    let pair = correlator.finish().remove(0).remove(0);
    let n = TOKENS as f64;
    let spread = |m: usize, i: usize| (own[m][i][1] - own[m][i][0].powi(2) / n).sqrt();
    for i in 0..2 {
        let rho = |j: usize| {
            let cov = exact[2 * i + j] - own[0][i][0] * own[1][j][0] / n;
            cov / (spread(0, i) * spread(1, j))
        };
        let want = rho(0).max(rho(1));
        let got = pair.best(i).expect("a live neuron").rho;
        assert!((got - want).abs() < TOLERANCE, "{i}: {got}, expected {want}");
    }
}
