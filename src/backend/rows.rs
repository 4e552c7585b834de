//! What becomes of a row of a tile whose products are summed: it is added in f64.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    _mm512_add_pd, _mm512_castps512_ps256, _mm512_cvtps_pd, _mm512_loadu_pd, _mm512_loadu_ps,
    _mm512_shuffle_f32x4, _mm512_storeu_pd,
};

/// Values of a register.
#[cfg(target_arch = "x86_64")]
const WIDE: usize = 16;

/// `sums ← sums + values`, each widened first.
///
/// # Panics
/// If the lengths differ.
pub fn add_to_f64(sums: &mut [f64], values: &[f32]) {
    assert_eq!(sums.len(), values.len(), "sums of another length");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has the instructions.
        return unsafe { add_avx512(sums, values) };
    }
    add_one_by_one(sums, values);
}

fn add_one_by_one(sums: &mut [f64], values: &[f32]) {
    sums.iter_mut().zip(values).for_each(|(s, &v)| *s += f64::from(v));
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn add_avx512(sums: &mut [f64], values: &[f32]) {
    let (registers, rest) = sums.as_chunks_mut::<WIDE>();
    for (sums, values) in registers.iter_mut().zip(values.chunks_exact(WIDE)) {
        // SAFETY: 16 sums are two registers, 16 values one.
        unsafe {
            let values = _mm512_loadu_ps(values.as_ptr());
            let upper = _mm512_shuffle_f32x4::<0b11_10>(values, values);
            for (half, values) in [values, upper].into_iter().enumerate() {
                let place = sums.as_mut_ptr().add(8 * half);
                let wide = _mm512_cvtps_pd(_mm512_castps512_ps256(values));
                _mm512_storeu_pd(place, _mm512_add_pd(_mm512_loadu_pd(place), wide));
            }
        }
    }
    add_one_by_one(rest, &values[values.len() - rest.len()..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_one_value_after_the_other() {
        for len in [0, 1, 16, 31, 32, 77] {
            let values: Vec<f32> = (0..len).map(|i| i as f32 / 3.0 - 5.0).collect();
            let (mut got, mut want) = (vec![0.1; len], vec![0.1; len]);
            add_to_f64(&mut got, &values);
            add_one_by_one(&mut want, &values);
            assert_eq!(got, want);
        }
    }
}
