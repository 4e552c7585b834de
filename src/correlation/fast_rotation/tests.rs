//! The fast rotation against its definition, and its chance levels against those of other
//! rotations.

use super::*;
use crate::correlation::rotation::{random_rotation, rotation_stream};
use crate::spec::BaselineKind;

const WIDTHS: [usize; 9] = [1, 2, 3, 5, 16, 24, 96, 129, 256];

fn normals(id: u64, n: usize) -> Vec<f32> {
    let mut values = vec![0.0; n];
    RandomStream { seed: 3, purpose: Purpose::Noise, id }.normals(&mut values);
    values
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Applies the definition of one round to a vector, in f64: order, signs, and the Hadamard
/// matrix `(-1)^(number of common bits of i and j)`.
fn round_by_definition(round: &Round, v: &[f64]) -> Vec<f64> {
    let d = v.len();
    let mut v: Vec<f64> = match round.order.as_slice() {
        [] => v.to_vec(),
        order => order.iter().map(|&i| v[i]).collect(),
    };
    for (signs, front) in round.signs.iter().zip([true, false]) {
        let p = signs.len();
        let first = if front { 0 } else { d - p };
        let signed: Vec<f64> =
            v[first..first + p].iter().zip(signs).map(|(v, s)| v * f64::from(*s)).collect();
        for i in 0..p {
            let sign = |j: usize| if (i & j).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
            v[first + i] = signed.iter().enumerate().map(|(j, s)| sign(j) * s).sum();
        }
    }
    v
}

#[test]
fn the_matrix_is_that_of_its_definition_and_orthogonal() {
    for d in WIDTHS {
        let rotation = FastRotation::new(rotation_stream(1, 0, 1, 0), d);
        let dense = wide(&rotation.dense());
        for k in 0..d {
            let unit: Vec<f64> = (0..d).map(|i| f64::from(u8::from(i == k))).collect();
            let column =
                rotation.rounds.iter().fold(unit, |v, round| round_by_definition(round, &v));
            for j in 0..d {
                assert!((dense[j * d + k] - column[j]).abs() < 1e-6, "{d}: {j} {k}");
            }
        }
        for (i, j) in (0..d).flat_map(|i| (0..=i).map(move |j| (i, j))) {
            let product: f64 = (0..d).map(|k| dense[i * d + k] * dense[j * d + k]).sum();
            let expected = f64::from(u8::from(i == j));
            assert!((product - expected).abs() < 1e-5, "{d}: rows {i}, {j}: {product}");
        }
    }
}

#[test]
fn squares_and_largest_products_are_those_of_the_matrix() {
    for d in WIDTHS {
        let rotation = FastRotation::new(rotation_stream(1, 2, 3, 4), d);
        let r = wide(&rotation.dense());
        let v = wide(&normals(1, d * 7));
        let at = |j: usize, k: usize| (0..7).map(|t| v[j * 7 + t] * v[k * 7 + t]).sum::<f64>();
        let c: Vec<f32> = (0..d * d).map(|e| at(e / d, e % d) as f32).collect();
        let square = |row: &[f64]| -> f64 {
            let of = |e: usize| row[e / d] * f64::from(c[e]) * row[e % d];
            (0..d * d).map(of).sum()
        };
        let squares = rotation.squares(&c);
        for (got, row) in squares.iter().zip(r.chunks_exact(d)) {
            let want = square(row);
            assert!((got - want).abs() < 1e-4 * want.max(1.0), "{d}: {got}, expected {want}");
        }
        let rows = normals(2, 37 * d);
        let inverse: Vec<f64> =
            (0..d).map(|j| if j % 5 == 3 { f64::NAN } else { 1.0 + j as f64 }).collect();
        let mut best = vec![f64::NEG_INFINITY; 37];
        best[36] = 1e9;
        rotation.raise(&rows, &inverse, &mut best);
        for (i, (got, row)) in best.iter().zip(wide(&rows).chunks_exact(d)).enumerate() {
            let product = |j: usize| -> f64 { (0..d).map(|k| r[j * d + k] * row[k]).sum() };
            let start = if i == 36 { 1e9 } else { f64::NEG_INFINITY };
            let want = (0..d).map(|j| product(j) * inverse[j]).fold(start, f64::max);
            assert!((got - want).abs() < 1e-5 * want.abs().max(1.0), "{d}: {got} {want}");
        }
    }
}

#[test]
fn draws_layers_and_partners_have_matrices_of_their_own() {
    let of = |stream| FastRotation::new(stream, 24).dense();
    let all = [(1, 0, 0, 0), (2, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1)];
    let all =
        all.map(|(seed, draw, partner, layer)| of(rotation_stream(seed, draw, partner, layer)));
    assert_eq!(all[0], of(rotation_stream(1, 0, 0, 0)));
    for (i, a) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|b| a != b), "{i}");
    }
}

/// Covariances of a partner's layer, `[D, D]`, and of some neurons of the reference with it.
struct Covariances {
    layer: Vec<f32>,
    cross: Vec<f32>,
}

/// Width of the layers whose chance levels are compared, for both shapes of a round.
const COMPARED: [usize; 2] = [128, 96];
const DRAWS: usize = 300;
const NEURONS: usize = 12;

/// Layers that are hard on a rotation made of few random numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Layer {
    /// All neurons vary alike and share causes.
    Even,
    /// One neuron has nearly all the variance.
    Spike,
    /// Every other neuron never varies.
    HalfDead,
    /// Every neuron occurs twice.
    Doubled,
    /// The first neurons vary most.
    Falling,
}

impl Layer {
    const ALL: [Self; 5] = [Self::Even, Self::Spike, Self::HalfDead, Self::Doubled, Self::Falling];

    /// Returns the covariances of rectified mixtures of common causes.
    fn covariances(self, d: usize) -> Covariances {
        let (tokens, causes) = (4 * d, 8);
        let cause = normals(10, tokens * causes);
        let (weights, noise) = (normals(11, d * causes), normals(12, tokens * d));
        let y = |t: usize, k: usize| -> f32 {
            let k = if self == Self::Doubled { k / 2 } else { k };
            let mixed: f32 =
                (0..causes).map(|c| cause[t * causes + c] * weights[k * causes + c]).sum();
            let scale = match self {
                Self::Spike if k == d / 3 => 1000.0,
                Self::HalfDead if k % 2 == 1 => 0.0,
                Self::Falling => (-20.0 * k as f32 / d as f32).exp(),
                _ => 1.0,
            };
            scale * (mixed + noise[t * d + k]).max(0.0)
        };
        let x = |t: usize, i: usize| cause[t * causes + i % causes] + noise[t * d + i];
        let centred = |n: usize, value: &dyn Fn(usize, usize) -> f32| -> Vec<Vec<f64>> {
            let series = |i: usize| -> Vec<f64> {
                let series: Vec<f64> = (0..tokens).map(|t| f64::from(value(t, i))).collect();
                let mean = series.iter().sum::<f64>() / tokens as f64;
                series.into_iter().map(|v| v - mean).collect()
            };
            (0..n).map(series).collect()
        };
        let (y, x) = (centred(d, &y), centred(NEURONS, &x));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let layer = (0..d * d).map(|e| dot(&y[e / d], &y[e % d]) as f32).collect();
        let cross = (0..NEURONS * d).map(|e| {
            let (x, y) = (&x[e / d], &y[e % d]);
            (dot(x, y) / dot(x, x).sqrt()) as f32
        });
        Covariances { layer, cross: cross.collect() }
    }
}

impl Covariances {
    /// Returns the chance levels of the neurons with rotations of a fast kind.
    fn chance(&self, rotation: &FastRotation) -> Vec<f64> {
        let inverse: Vec<f64> =
            rotation.squares(&self.layer).iter().map(|s| s.sqrt().recip()).collect();
        let mut best = vec![f64::NEG_INFINITY; NEURONS];
        rotation.raise(&self.cross, &inverse, &mut best);
        best
    }

    /// Returns the chance levels with the rows of a matrix, by the definition.
    fn chance_of_rows(&self, r: &[f32]) -> Vec<f64> {
        let d = self.layer.len().isqrt();
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let inverse = |row: &[f32]| {
            let product: Vec<f32> =
                self.layer.chunks_exact(d).map(|c| dot(c, row) as f32).collect();
            dot(&product, row).sqrt().recip()
        };
        let inverse: Vec<f64> = r.chunks_exact(d).map(inverse).collect();
        let best = |s: &[f32]| {
            let rho = r.chunks_exact(d).zip(&inverse).map(|(row, inverse)| dot(row, s) * inverse);
            rho.fold(f64::NEG_INFINITY, f64::max)
        };
        self.cross.chunks_exact(d).map(best).collect()
    }

    /// Returns all draws of the chance levels, one list for each neuron.
    fn draws(&self, one: impl Fn(&Self, usize) -> Vec<f64> + Sync) -> Vec<Vec<f64>> {
        let draws: Vec<Vec<f64>> = (0..DRAWS).into_par_iter().map(|draw| one(self, draw)).collect();
        (0..NEURONS).map(|i| draws.iter().map(|draw| draw[i]).collect()).collect()
    }
}

/// Returns the two-sample statistic of Kolmogorov and Smirnov.
fn largest_distance(a: &[f64], b: &[f64]) -> f64 {
    let share =
        |of: &[f64], at: f64| of.iter().filter(|v| **v <= at).count() as f64 / of.len() as f64;
    a.iter().chain(b).map(|&at| (share(a, at) - share(b, at)).abs()).fold(0.0, f64::max)
}

/// The distance that two samples of the same distribution exceed with probability `p`.
fn critical_distance(p: f64) -> f64 {
    (-(p / 2.0).ln() / 2.0).sqrt() * (2.0 / DRAWS as f64).sqrt()
}

/// Returns the largest distance over all neurons.
fn distance(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    a.iter().zip(b).map(|(a, b)| largest_distance(a, b)).fold(0.0, f64::max)
}

/// Returns the mean over neurons and draws, and the mean over neurons of the standard deviation over
/// draws.
fn moments_of(draws: &[Vec<f64>]) -> (f64, f64) {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let sd = |values: &[f64]| {
        let centre = mean(values);
        mean(&values.iter().map(|v| (v - centre).powi(2)).collect::<Vec<_>>()).sqrt()
    };
    let of = |f: &dyn Fn(&[f64]) -> f64| mean(&draws.iter().map(|d| f(d)).collect::<Vec<_>>());
    (of(&mean), of(&sd))
}

#[test]
fn chance_levels_are_distributed_like_those_of_orthogonal_matrices() {
    // One in a hundred over all layers, widths and neurons.
    let tests = (Layer::ALL.len() * COMPARED.len() * NEURONS) as f64;
    let bound = critical_distance(0.01 / tests);
    for (layer, d) in Layer::ALL.iter().flat_map(|layer| COMPARED.map(|d| (*layer, d))) {
        let covariances = layer.covariances(d);
        let orthogonal = covariances.draws(|c, draw| {
            let stream = rotation_stream(5, draw, 1, 0);
            c.chance_of_rows(&random_rotation(BaselineKind::Orthogonal, stream, d))
        });
        let fast = |rounds: usize| {
            covariances.draws(|c, draw| {
                let mut rotation = FastRotation::new(rotation_stream(6, draw, 1, 0), d);
                rotation.rounds.truncate(rounds);
                c.chance(&rotation)
            })
        };
        let rows = covariances.draws(|c, draw| {
            let stream = rotation_stream(7, draw, 1, 0);
            c.chance_of_rows(&random_rotation(BaselineKind::Rotation, stream, d))
        });
        let fast_draws = fast(ROUNDS);
        let found = distance(&orthogonal, &fast_draws);
        // The record in benches/results is made of these lines, which `--nocapture` shows.
        let [of_rows, of_fast] = [&rows, &fast_draws].map(|draws| moments_of(draws));
        println!(
            "| {layer:?} | {d} | {:.4} | {:.4} | {:.4} | {:.4} | {:.3} | {found:.3} | {bound:.3} |",
            of_rows.0,
            of_fast.0,
            of_rows.1,
            of_fast.1,
            distance(&rows, &fast_draws),
        );
        assert!(found < bound, "{layer:?}, {d}: distance {found}, bound {bound}");
        if layer == Layer::Spike {
            // The test is able to tell a rotation that mixes too little.
            let found = distance(&orthogonal, &fast(1));
            assert!(found > bound, "one round, {d}: distance {found}, bound {bound}");
        }
    }
}
