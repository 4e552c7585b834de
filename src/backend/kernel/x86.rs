//! Kernels in vector instructions of x86-64.

use std::arch::x86_64::{
    __m256, __m512, __m512bh, _MM_HINT_T1, _mm_prefetch, _mm256_broadcast_ss, _mm256_fmadd_ps,
    _mm256_setzero_ps, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps,
};
use std::slice;

use super::prefetch::LINES_AHEAD;
use crate::backend::wide::Both;

/// Repeats a block for every row `i` of a tile. Written out instead of a loop: where the compiler
/// does not unroll the loop, as in tests, the sums are in memory instead of registers, and a kernel
/// takes 2.6 times as long.
macro_rules! for_rows {
    (12, $i:ident => $body:block) => { for_rows!([0 1 2 3 4 5 6 7 8 9 10 11], $i => $body) };
    (6, $i:ident => $body:block) => { for_rows!([0 1 2 3 4 5], $i => $body) };
    ([$($row:literal)*], $i:ident => $body:block) => { $({ let $i: usize = $row; $body })* };
}

/// A register in memory, at any address. A load or store by an intrinsic is checked in tests, where
/// the checks would take half as long as the kernel.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Unaligned<T>(T);

/// Loads the sums of a tile, two registers a row.
macro_rules! load_tile {
    ($rows:tt, $sums:ident, $tile:ident) => {
        for_rows!($rows, i => {
            $sums[i] = [$tile[i][0].0, $tile[i][1].0];
        })
    };
}

/// Stores the sums of a tile, two registers a row.
macro_rules! store_tile {
    ($rows:tt, $sums:ident, $tile:ident) => {
        for_rows!($rows, i => {
            $tile[i] = [Unaligned($sums[i][0]), Unaligned($sums[i][1])];
        })
    };
}

/// Repeats a block for the words `a` and `b` of every step, and prefetches the next lines of `ahead`
/// after every eighth. Steps are not counted: where additions are checked, as in tests, a kernel
/// would take a third longer.
macro_rules! for_steps {
    ($a:ident, $b:ident, $ahead:ident => $body:block) => {
        let mut place = $ahead;
        let (a_eights, a_rest) = $a.as_chunks::<8>();
        let (b_eights, b_rest) = $b.as_chunks::<8>();
        for (a_steps, b_steps) in Both(a_eights.iter(), b_eights.iter()) {
            for ($a, $b) in Both(a_steps.iter(), b_steps.iter()) $body
            place = fetch(place);
        }
        for ($a, $b) in Both(a_rest.iter(), b_rest.iter()) $body
    };
}

/// Prefetches some lines. Returns the place of the next ones.
#[inline(always)]
fn fetch(mut place: *const u32) -> *const u32 {
    for _ in 0..LINES_AHEAD {
        // SAFETY: a hint without any effect on memory, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(place.cast()) };
        place = place.wrapping_add(16);
    }
    place
}

/// Returns the packed words of all steps, `N` words or registers each.
///
/// # Safety
/// There are `steps` times `N` values of `T` at `packed`.
#[inline(always)]
unsafe fn words<'a, T, const N: usize>(packed: *const u32, steps: usize) -> &'a [[T; N]] {
    // SAFETY: the caller gives them; `T` is `u32`, `f32` or a register of them, which any bits are a
    // value of.
    unsafe { slice::from_raw_parts(packed.cast(), steps) }
}

/// Adds a 12 × 32 tile of products in f32: 24 of the 32 registers hold sums.
#[target_feature(enable = "avx512f")]
pub unsafe fn avx512(k: usize, a: *const u32, b: *const u32, tile: *mut f32, ahead: *const u32) {
    // SAFETY: the caller gives `k` packed rows of each, and a whole tile. Every load and store is
    // of 16 values of one of these.
    unsafe {
        let (a, b) = (words::<f32, 12>(a, k), words::<Unaligned<__m512>, 2>(b, k));
        let tile = &mut *tile.cast::<[[Unaligned<__m512>; 2]; 12]>();
        let mut sums = [[_mm512_setzero_ps(); 2]; 12];
        load_tile!(12, sums, tile);
        for_steps!(a, b, ahead => {
            let (left, right) = (b[0].0, b[1].0);
            for_rows!(12, i => {
                let row = _mm512_set1_ps(a[i]);
                sums[i][0] = _mm512_fmadd_ps(row, left, sums[i][0]);
                sums[i][1] = _mm512_fmadd_ps(row, right, sums[i][1]);
            });
        });
        store_tile!(12, sums, tile);
    }
}

/// Adds a 12 × 32 tile of products of bf16 pairs: like [`avx512`], with two values of k per step.
#[target_feature(enable = "avx512f,avx512bf16")]
pub unsafe fn avx512_bf16(
    steps: usize,
    a: *const u32,
    b: *const u32,
    tile: *mut f32,
    ahead: *const u32,
) {
    // SAFETY: the caller gives `steps` packed words of each row and column, and a whole tile. Every
    // load and store is of 16 values of one of these; a register of integers and a register of
    // pairs have the same bits.
    unsafe {
        let (a, b) = (words::<u32, 12>(a, steps), words::<Unaligned<__m512bh>, 2>(b, steps));
        let tile = &mut *tile.cast::<[[Unaligned<__m512>; 2]; 12]>();
        let mut sums = [[_mm512_setzero_ps(); 2]; 12];
        load_tile!(12, sums, tile);
        for_steps!(a, b, ahead => {
            let (left, right) = (b[0].0, b[1].0);
            for_rows!(12, i => {
                let row: __m512bh = std::mem::transmute(_mm512_set1_epi32(a[i].cast_signed()));
                sums[i][0] = _mm512_dpbf16_ps(sums[i][0], row, left);
                sums[i][1] = _mm512_dpbf16_ps(sums[i][1], row, right);
            });
        });
        store_tile!(12, sums, tile);
    }
}

/// Adds a 6 × 16 tile of products in f32: 12 of the 16 registers hold sums.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn avx2(k: usize, a: *const u32, b: *const u32, tile: *mut f32, ahead: *const u32) {
    // SAFETY: the caller gives `k` packed rows of each, and a whole tile. Every load and store is
    // of 8 values of one of these.
    unsafe {
        let (a, b) = (words::<f32, 6>(a, k), words::<Unaligned<__m256>, 2>(b, k));
        let tile = &mut *tile.cast::<[[Unaligned<__m256>; 2]; 6]>();
        let mut sums = [[_mm256_setzero_ps(); 2]; 6];
        load_tile!(6, sums, tile);
        for_steps!(a, b, ahead => {
            let (left, right) = (b[0].0, b[1].0);
            for_rows!(6, i => {
                let row = _mm256_broadcast_ss(&a[i]);
                sums[i][0] = _mm256_fmadd_ps(row, left, sums[i][0]);
                sums[i][1] = _mm256_fmadd_ps(row, right, sums[i][1]);
            });
        });
        store_tile!(6, sums, tile);
    }
}
