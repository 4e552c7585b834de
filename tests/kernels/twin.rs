//! The f64 oracles: the definitions in their plainest form.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Returns `C[i][j] = Σ_t x_i[t] y_j[t]` of row-major `[m, k]` and `[n, k]`, and `Σ |x y|`.
pub fn product(x: &[f32], y: &[f32], k: usize) -> (Vec<f64>, Vec<f64>) {
    let terms = |x: &[f32], y: &[f32]| -> (f64, f64) {
        let products = x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y));
        products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + p.abs()))
    };
    let rows = x.chunks_exact(k);
    rows.flat_map(|x| y.chunks_exact(k).map(move |y| terms(x, y))).unzip()
}

/// Returns Σx and 1 / spread of each row; NaN if the row is constant.
pub fn sums(x: &[f32], k: usize) -> Vec<(f64, f64)> {
    let one = |row: &[f32]| {
        let sum: f64 = row.iter().map(|&v| f64::from(v)).sum();
        let mean = sum / k as f64;
        let square: f64 = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum();
        (sum, if square > 1e-12 { 1.0 / square.sqrt() } else { f64::NAN })
    };
    x.chunks_exact(k).map(one).collect()
}

/// Returns Pearson's ρ of every row of x with every row of y.
pub fn pearson(x: &[f32], y: &[f32], k: usize) -> Vec<f64> {
    let centred = |values: &[f32]| -> Vec<f64> {
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / k as f64;
        values.iter().map(|&v| f64::from(v) - mean).collect()
    };
    let rho = |x: &[f32], y: &[f32]| {
        let (x, y) = (centred(x), centred(y));
        let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let spread = (sum(&x, &x) * sum(&y, &y)).sqrt();
        if spread > 1e-9 { sum(&x, &y) / spread } else { f64::NAN }
    };
    let rows = x.chunks_exact(k);
    rows.flat_map(|x| y.chunks_exact(k).map(move |y| rho(x, y))).collect()
}

/// Returns x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))).
pub fn gelu_tanh(x: f64) -> f64 {
    x / 2.0 * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

/// Returns x/2 (1 + erf(x / √2)).
pub fn gelu_erf(x: f64) -> f64 {
    x / 2.0 * (1.0 + erf(x * FRAC_1_SQRT_2))
}

/// Returns 2/√π ∫₀ˣ e^(−t²) dt, by Simpson's rule.
fn erf(x: f64) -> f64 {
    const STEPS: u32 = 4000;
    let end = x.clamp(-7.0, 7.0);
    let h = end / f64::from(STEPS);
    let at = |i: u32| (-(h * f64::from(i)).powi(2)).exp();
    let inner: f64 = (1..STEPS).map(|i| at(i) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
    2.0 / PI.sqrt() * h / 3.0 * (at(0) + inner + at(STEPS))
}

/// Returns (x − mean) / √(var + eps) · gain + bias.
pub fn layer_norm(row: &[f32], gain: &[f32], bias: &[f32], eps: f64) -> Vec<f64> {
    let n = row.len() as f64;
    let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let var = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    let scale = (var + eps).sqrt();
    let one = |((&x, &g), &b): ((&f32, &f32), &f32)| {
        (f64::from(x) - mean) / scale * f64::from(g) + f64::from(b)
    };
    row.iter().zip(gain).zip(bias).map(one).collect()
}

/// Returns the causal attention of one head; q, k and v are `[len][d_head]`.
pub fn attention(q: &[Vec<f64>], k: &[Vec<f64>], v: &[Vec<f64>], scale: f64) -> Vec<Vec<f64>> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let one = |t: usize| {
        let scores: Vec<f64> = (0..=t).map(|s| scale * dot(&q[t], &k[s])).collect();
        let top = scores.iter().copied().fold(f64::MIN, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mixed = |c: usize| weights.iter().zip(v).map(|(w, v)| w * v[c]).sum::<f64>() / total;
        (0..v[0].len()).map(mixed).collect()
    };
    (0..q.len()).map(one).collect()
}
