//! The elementwise operations of a transformer: LayerNorm, GELU, softmax.

use super::Activation;
use crate::backend::parts::fold_in_parts;
use crate::backend::wide::widened;

impl Activation {
    /// Returns the function of one pre-activation that the MLP computes.
    pub fn function(self) -> fn(f32) -> f32 {
        match self {
            Self::GeluNew => gelu_new,
            Self::Gelu => gelu,
        }
    }
}

/// Returns e^x in f32 within 2 units in the last place. Written so that the compiler can vectorise
/// loops over it; the standard library's `exp` is a call per value.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding 1.5 · 2^23 rounds to the nearest integer n, which is in the last bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts; the first has few enough digits that n · LN2_HI is exact.
    const LN2_HI: f32 = 0.693_359_4;
    const LN2_LO: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * LN2_HI) - n * LN2_LO;
    // Taylor series; |r| ≤ ln 2 / 2, so the first omitted term is below 6e-9.
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = (p * r + 1.0) * r + 1.0;
    // 2^n, by its exponent. Nothing here can overflow; operations that check for it would keep the
    // loop from being vectorised where checks are compiled in, as in tests.
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    p * f32::from_bits(exponent << 23)
}

/// Returns GELU in its tanh form, `gelu_new`: `x/2 (1 + tanh u)` with `u = √(2/π) (x + 0.044715
/// x³)`. Computed as `x / (1 + e^(−2u))`, which is accurate for large negative x.
#[inline(always)]
pub fn gelu_new(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    let u = SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x);
    x / (1.0 + exp(-2.0 * u))
}

/// Returns the exact GELU, `x Φ(x)` with Φ the standard normal distribution function.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    const SQRT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
    let tail = 0.5 * erfc(x.abs() * SQRT_HALF);
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

/// Returns the complementary error function for x ≥ 0, with a relative error below 2e-7 + 1e-6 x²:
/// a polynomial in 1 / (1 + x/2) (Press et al., Numerical Recipes, §6.2), times e^(−x²).
#[inline(always)]
fn erfc(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.5 * x);
    let p = 0.170_872_77;
    let p = p * t - 0.822_152_2;
    let p = p * t + 1.488_515_9;
    let p = p * t - 1.135_204;
    let p = p * t + 0.278_868_07;
    let p = p * t - 0.186_288_06;
    let p = p * t + 0.096_784_18;
    let p = p * t + 0.374_091_96;
    let p = p * t + 1.000_023_7;
    let p = p * t - 1.265_512_2;
    t * exp(p - x * x)
}

/// Returns the largest value, computed in sixteen interleaved parts.
#[inline(always)]
pub fn largest(values: &[f32]) -> f32 {
    let mut parts = [f32::NEG_INFINITY; 16];
    fold_in_parts(values, &mut parts, |part, v| if v > part { v } else { part });
    parts.iter().fold(f32::NEG_INFINITY, |largest, &part| largest.max(part))
}

/// Returns the sum of a term of each value, computed in eight interleaved parts: a fixed order that
/// vectorises.
#[inline(always)]
fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut parts = [0.0; 8];
    fold_in_parts(values, &mut parts, |part, v| part + term(v));
    parts.iter().sum()
}

widened! {
    /// Applies LayerNorm to each row: `(x − mean) / √(var + eps) · gain + bias`, in two passes. `x`
    /// and `out` are `[tokens, d_model]`, `gain` and `bias` `[d_model]`.
    pub fn layer_norm(x: &[f32], gain: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
        let d = gain.len();
        for (row, out) in x.chunks_exact(d).zip(out.chunks_exact_mut(d)) {
            let mean = sum(row, |v| v) / d as f32;
            let var = sum(row, |v| (v - mean) * (v - mean)) / d as f32;
            let scale = 1.0 / (var + eps).sqrt();
            for (((o, v), g), b) in out.iter_mut().zip(row).zip(gain).zip(bias) {
                *o = (v - mean) * scale * g + b;
            }
        }
    }
}

widened! {
    /// Applies [`gelu_new`] to every value, in place.
    pub fn gelu_new_all(values: &mut [f32]) {
        values.iter_mut().for_each(|v| *v = gelu_new(*v));
    }
}

widened! {
    /// Applies [`gelu`] to every value, in place.
    pub fn gelu_all(values: &mut [f32]) {
        values.iter_mut().for_each(|v| *v = gelu(*v));
    }
}

widened! {
    /// Applies causal softmax to scores `[queries, len]` times `scale`, in place. Row i is the
    /// query at position `first + i`: it attends to columns `0..=first + i`, and the other columns
    /// become 0.
    pub fn causal_softmax(scores: &mut [f32], len: usize, first: usize, scale: f32) {
        for (i, row) in scores.chunks_exact_mut(len).enumerate() {
            softmax_row(row, first + i, scale);
        }
    }
}

#[inline(always)]
fn softmax_row(row: &mut [f32], position: usize, scale: f32) {
    let (seen, hidden) = row.split_at_mut(position + 1);
    seen.iter_mut().for_each(|s| *s *= scale);
    let max = largest(seen);
    seen.iter_mut().for_each(|s| *s = exp(*s - max));
    let total = 1.0 / sum(seen, |v| v);
    seen.iter_mut().for_each(|s| *s *= total);
    hidden.fill(0.0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exp_is_within_two_ulp(x in -86.0f32..87.0) {
            let want = f64::from(x).exp();
            prop_assert!((f64::from(exp(x)) - want).abs() <= 2.4e-7 * want);
        }

        // Φ by Simpson's rule, integrated from −13.
        #[test]
        fn exact_gelu_is_its_definition(x in -12.0f32..12.0) {
            let density = |v: f64| (-0.5 * v * v).exp() / (2.0 * std::f64::consts::PI).sqrt();
            const STEPS: usize = 4000;
            let (from, to) = (-13.0, f64::from(x));
            let h = (to - from) / STEPS as f64;
            let weight = |i: usize| if i == 0 || i == STEPS { 1.0 } else if i % 2 == 1 { 4.0 } else { 2.0 };
            let area: f64 = (0..=STEPS).map(|i| weight(i) * density(from + i as f64 * h)).sum();
            let want = f64::from(x) * area * h / 3.0;
            prop_assert!((f64::from(gelu(x)) - want).abs() <= 4e-7 * (1.0 + f64::from(x).abs()));
        }

        #[test]
        fn gelu_is_its_definition(x in -12.0f32..12.0) {
            let v = f64::from(x);
            let u = (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v.powi(3));
            let want = 0.5 * v * (1.0 + u.tanh());
            prop_assert!((f64::from(gelu_new(x)) - want).abs() <= 4e-7 * (1.0 + v.abs()));
        }

        // Every sum has at most 13 additions in a row, so the mean is off by at most 14 half-ulps of
        // the largest value. The subtraction turns this into an error that grows as the row's
        // deviation shrinks; all other operations are relative to the result.
        #[test]
        fn layer_norm_is_its_definition(
            row in prop::collection::vec(-50.0f32..50.0, 2..40),
            exponent in -14i32..1,
        ) {
            const HALF_ULP: f64 = 1.0 / (1 << 24) as f64;
            // Subtracting the mean from close values loses digits.
            let row: Vec<f32> = row.iter().map(|v| row[0] + (v - row[0]) * 2.0_f32.powi(exponent)).collect();
            let d = row.len();
            let (gain, bias) = (vec![1.5; d], vec![-0.25; d]);
            let mut out = vec![f32::NAN; d];
            layer_norm(&row, &gain, &bias, 1e-5, &mut out);
            let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / d as f64;
            let var = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / d as f64;
            let deviation = (var + 1e-5).sqrt();
            let largest = row.iter().map(|v| f64::from(v.abs())).fold(0.0, f64::max);
            for (got, &v) in out.iter().zip(&row) {
                let z = (f64::from(v) - mean) / deviation;
                let bound = 1.5 * (16.0 * largest / deviation + 32.0 * z.abs() + 1.0) * HALF_ULP;
                prop_assert!((f64::from(*got) - (z * 1.5 - 0.25)).abs() <= bound);
            }
        }
    }

    #[test]
    fn extreme_inputs_stay_finite() {
        assert!(gelu_new(-1e4).abs() < 1e-30);
        assert_eq!(gelu_new(1e4), 1e4);
        assert!(exp(-1e9) < 1e-37);
    }

    #[test]
    fn softmax_sees_no_future() {
        let mut scores = [0.0, 9.0, 9.0, 1.0, 1.0, 9.0, 2.0, 2.0, 2.0];
        let mut last = scores[3..].to_vec();
        causal_softmax(&mut scores, 3, 0, 1.0);
        assert_relative_eq!(scores[..3], [1.0, 0.0, 0.0]);
        assert_relative_eq!(scores[3..6], [0.5, 0.5, 0.0]);
        assert_relative_eq!(scores[6..], [1.0 / 3.0; 3], epsilon = 1e-6);
        causal_softmax(&mut last, 3, 1, 1.0);
        assert_eq!(last, scores[3..], "only some rows");
    }
}
