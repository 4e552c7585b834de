//! Kernels in vector instructions of x86-64.

use std::arch::x86_64::{
    __m512bh, _MM_HINT_T1, _mm_prefetch, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_setzero_ps, _mm256_storeu_ps, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::prefetch::LINES_AHEAD;

/// Prefetches the next lines of `ahead` in every eighth step.
#[inline(always)]
fn fetch(ahead: *const u32, step: usize) {
    if step % 8 == 7 {
        for line in 0..LINES_AHEAD {
            let place = ahead.wrapping_add((step / 8 * LINES_AHEAD + line) * 16);
            // SAFETY: a hint without any effect on memory, wherever it points.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(place.cast()) };
        }
    }
}

/// Adds a 12 × 32 tile of products in f32: 24 of the 32 registers hold sums.
#[target_feature(enable = "avx512f")]
pub unsafe fn avx512(k: usize, a: *const u32, b: *const u32, tile: *mut f32, ahead: *const u32) {
    let (a, b) = (a.cast::<f32>(), b.cast::<f32>());
    let mut sums = [[_mm512_setzero_ps(); 2]; 12];
    for (i, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the caller gives a whole tile.
        *sums =
            unsafe { [_mm512_loadu_ps(tile.add(i * 32)), _mm512_loadu_ps(tile.add(i * 32 + 16))] };
    }
    for step in 0..k {
        fetch(ahead, step);
        // SAFETY: the caller gives `k` packed rows of each.
        unsafe {
            let b = b.add(step * 32);
            let columns = [_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(16))];
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = _mm512_set1_ps(*a.add(step * 12 + i));
                sums[0] = _mm512_fmadd_ps(row, columns[0], sums[0]);
                sums[1] = _mm512_fmadd_ps(row, columns[1], sums[1]);
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        // SAFETY: the caller gives room for a tile.
        unsafe {
            _mm512_storeu_ps(tile.add(i * 32), sums[0]);
            _mm512_storeu_ps(tile.add(i * 32 + 16), sums[1]);
        }
    }
}

/// Adds a 12 × 32 tile of products of bf16 pairs: like [`avx512`], with two values of k per step.
#[target_feature(enable = "avx512f,avx512bf16")]
pub unsafe fn avx512_bf16(
    words: usize,
    a: *const u32,
    b: *const u32,
    tile: *mut f32,
    ahead: *const u32,
) {
    let mut sums = [[_mm512_setzero_ps(); 2]; 12];
    for (i, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the caller gives a whole tile.
        *sums =
            unsafe { [_mm512_loadu_ps(tile.add(i * 32)), _mm512_loadu_ps(tile.add(i * 32 + 16))] };
    }
    for step in 0..words {
        fetch(ahead, step);
        // SAFETY: the caller gives `words` packed words of each row and column; a
        // register of integers and a register of pairs have the same bits.
        unsafe {
            let pairs = |v| std::mem::transmute::<_, __m512bh>(v);
            let b = b.add(step * 32);
            let columns = [b, b.add(16)].map(|b| pairs(_mm512_loadu_si512(b.cast())));
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = pairs(_mm512_set1_epi32(*a.add(step * 12 + i) as i32));
                sums[0] = _mm512_dpbf16_ps(sums[0], row, columns[0]);
                sums[1] = _mm512_dpbf16_ps(sums[1], row, columns[1]);
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        // SAFETY: the caller gives room for a tile.
        unsafe {
            _mm512_storeu_ps(tile.add(i * 32), sums[0]);
            _mm512_storeu_ps(tile.add(i * 32 + 16), sums[1]);
        }
    }
}

/// Adds a 6 × 16 tile of products in f32: 12 of the 16 registers hold sums.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn avx2(k: usize, a: *const u32, b: *const u32, tile: *mut f32, ahead: *const u32) {
    let (a, b) = (a.cast::<f32>(), b.cast::<f32>());
    let mut sums = [[_mm256_setzero_ps(); 2]; 6];
    for (i, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the caller gives a whole tile.
        *sums =
            unsafe { [_mm256_loadu_ps(tile.add(i * 16)), _mm256_loadu_ps(tile.add(i * 16 + 8))] };
    }
    for step in 0..k {
        fetch(ahead, step);
        // SAFETY: the caller gives `k` packed rows of each.
        unsafe {
            let b = b.add(step * 16);
            let columns = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
            for (i, sums) in sums.iter_mut().enumerate() {
                let row = _mm256_broadcast_ss(&*a.add(step * 6 + i));
                sums[0] = _mm256_fmadd_ps(row, columns[0], sums[0]);
                sums[1] = _mm256_fmadd_ps(row, columns[1], sums[1]);
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        // SAFETY: the caller gives room for a tile.
        unsafe {
            _mm256_storeu_ps(tile.add(i * 16), sums[0]);
            _mm256_storeu_ps(tile.add(i * 16 + 8), sums[1]);
        }
    }
}
