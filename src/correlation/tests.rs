//! The correlator against the f64 twins, and against what must hold for any data.

use proptest::prelude::*;

use super::oracle::{pearson, rotate, series};
use super::random::{Purpose, Stream};
use super::rotation::{rotation, stream};
use super::*;
use crate::spec::{Baseline, BaselineKind};

const X: Layout = Layout { n_layers: 2, d_mlp: 5 };
const Y: Layout = Layout { n_layers: 3, d_mlp: 4 };
/// f32 values and products against f64 throughout.
const TOLERANCE: f64 = 2e-6;

/// Activations `[tokens, n_neurons]` with shared causes, so that correlations differ from 0.
fn activations(layout: Layout, tokens: usize, id: u64) -> Vec<f32> {
    let normals = |id, n| {
        let mut values = vec![0.0; n];
        Stream { seed: 9, purpose: Purpose::Gaussian, id }.normals(&mut values);
        values
    };
    let n = layout.n_neurons();
    let (own, causes) = (normals(id, tokens * n), normals(0, tokens * 4));
    let value = |e: usize| {
        let (t, i) = (e / n, e % n);
        // A mean far from 0 must cost no digits.
        3.0 + own[e] + (i % 3) as f32 * causes[t * 4 + (i + id as usize) % 4]
    };
    (0..tokens * n).map(value).collect()
}

fn baseline(kind: BaselineKind) -> Baseline {
    Baseline { kind, draws: 2, seed: 77 }
}

/// Feeds chunks as the run does and finishes.
fn correlate(x: &[f32], y: &[f32], baseline: &Baseline) -> (Pair, NeuronSums) {
    let partner = Partner { index: 1, layout: Y };
    let mut correlator = Correlator::new(X, &[partner], baseline);
    let (nx, ny) = (X.n_neurons(), Y.n_neurons());
    for (x, y) in x.chunks(CHUNK * nx).zip(y.chunks(CHUNK * ny)) {
        let (mut x, mut y) = (x.to_vec(), y.to_vec());
        correlator.absorb(&mut x, &mut [&mut y]);
    }
    let own = correlator.reference().clone();
    (correlator.finish().remove(0), own)
}

fn all_series(values: &[f32], layout: Layout) -> Vec<Vec<f64>> {
    (0..layout.n_neurons()).map(|i| series(values, layout.n_neurons(), i)).collect()
}

/// Largest correlation of each x with any y, by the definition; NaN is no correlation.
fn best_by_definition(x: &[Vec<f64>], y: &[Vec<f64>]) -> Vec<f64> {
    let best = |x: &Vec<f64>| y.iter().map(|y| pearson(x, y)).fold(f64::NAN, f64::max);
    x.iter().map(best).collect()
}

fn assert_close(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() < TOLERANCE, "{i}: got {got}, expected {want}");
    }
}

fn rhos(pair: &Pair) -> Vec<f64> {
    pair.best.iter().map(|b| b.map_or(f64::NAN, |b| b.rho)).collect()
}

#[test]
fn best_matches_and_rotated_chance_are_those_of_the_definition() {
    let tokens = 2 * CHUNK + 300;
    let (x, y) = (activations(X, tokens, 1), activations(Y, tokens, 2));
    let baseline = baseline(BaselineKind::Rotation);
    let (pair, _) = correlate(&x, &y, &baseline);
    let (x, y) = (all_series(&x, X), all_series(&y, Y));
    assert_close(&rhos(&pair), &best_by_definition(&x, &y));
    for (draw, got) in pair.baseline.iter().enumerate() {
        let rotated: Vec<Vec<f64>> = y
            .chunks(Y.d_mlp)
            .enumerate()
            .flat_map(|(layer, v)| rotate(&rotation(stream(77, draw, 1, layer), Y.d_mlp), v))
            .collect();
        assert_close(got, &best_by_definition(&x, &rotated));
    }
}

#[test]
fn permuted_chance_is_that_of_the_definition() {
    let tokens = CHUNK + 200;
    let (x, y) = (activations(X, tokens, 1), activations(Y, tokens, 2));
    let (pair, _) = correlate(&x, &y, &baseline(BaselineKind::Permutation));
    let (x, y) = (all_series(&x, X), all_series(&y, Y));
    let order = |draw: u64| -> Vec<usize> {
        let of_chunk = |(chunk, len): (u64, usize)| {
            let id = draw << 48 | 1 << 40 | chunk;
            let order = Stream { seed: 77, purpose: Purpose::Permutation, id }.permutation(len);
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
fn chance_of_noise_is_small_over_many_tokens() {
    let tokens = 8 * CHUNK;
    let (x, y) = (activations(X, tokens, 1), activations(Y, tokens, 2));
    let (pair, _) = correlate(&x, &y, &baseline(BaselineKind::Gaussian));
    // The largest of 12 correlations of independent series, each of standard
    // deviation 1/√n: beyond five of them is no chance.
    let bound = 5.0 / (tokens as f64).sqrt();
    assert!(pair.baseline.iter().flatten().all(|b| (-bound..bound).contains(b)));
}

#[test]
fn a_model_matches_itself_neuron_by_neuron() {
    let tokens = CHUNK;
    let values = activations(Y, tokens, 3);
    let partner = Partner { index: 1, layout: Y };
    let mut correlator = Correlator::new(Y, &[partner], &baseline(BaselineKind::Rotation));
    correlator.absorb(&mut values.clone(), &mut [&mut values.clone()]);
    for (i, best) in correlator.finish()[0].best.iter().enumerate() {
        let best = best.expect("a live neuron");
        assert!(best.neuron == i && (best.rho - 1.0).abs() < TOLERANCE, "{i}: {best:?}");
    }
}

#[test]
fn the_best_pair_is_the_same_from_either_side() {
    let tokens = CHUNK + 77;
    let (x, y) = (activations(X, tokens, 1), activations(Y, tokens, 2));
    let best_pair = |from: Layout, a: &[f32], to: Layout, b: &[f32]| {
        let partner = Partner { index: 1, layout: to };
        let mut correlator = Correlator::new(from, &[partner], &baseline(BaselineKind::Rotation));
        let (na, nb) = (from.n_neurons(), to.n_neurons());
        for (a, b) in a.chunks(CHUNK * na).zip(b.chunks(CHUNK * nb)) {
            correlator.absorb(&mut a.to_vec(), &mut [&mut b.to_vec()]);
        }
        let best = correlator.finish().remove(0).best;
        let pairs = best.iter().enumerate().filter_map(|(i, b)| b.map(|b| (i, b.neuron, b.rho)));
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
    // One dead and one diverged partner neuron, in layers that others live in.
    set(&mut y, ny, 0, -0.3);
    y[5] = f32::NAN;
    let (pair, own) = correlate(&x, &y, &baseline(BaselineKind::Rotation));
    let none: Vec<usize> = (0..nx).filter(|&i| pair.best[i].is_none()).collect();
    assert_eq!(none, [4, 7, 8]);
    assert_eq!((own.non_finite(4), own.non_finite(7), own.non_finite(8)), (false, true, true));
    assert!(own.inverse_spread(4).is_none());
    for i in (0..nx).filter(|i| !none.contains(i)) {
        assert!(pair.best[i].is_some_and(|b| b.rho.is_finite() && b.neuron != 0 && b.neuron != 5));
        assert!(pair.baseline.iter().all(|draw| draw[i].is_finite()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn shift_and_positive_scale_leave_correlations_alone(shift in -20.0f32..20.0, scale in 0.05f32..30.0) {
        let tokens = 200;
        let (x, y) = (activations(X, tokens, 1), activations(Y, tokens, 2));
        let moved: Vec<f32> = x.iter().map(|v| shift + scale * v).collect();
        let baseline = baseline(BaselineKind::Rotation);
        let (plain, moved) = (correlate(&x, &y, &baseline).0, correlate(&moved, &y, &baseline).0);
        for (a, b) in rhos(&plain).iter().zip(rhos(&moved)) {
            // The shift costs digits of the f32 values themselves.
            prop_assert!((a - b).abs() < 2e-4, "{} {}", a, b);
        }
    }
}
