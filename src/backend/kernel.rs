//! The innermost loop: a tile of products with its sums in registers.
//!
//! `a` is packed `[k][MR]` and `b` `[k][NR]`; the tile, row-major `[MR][NR]`,
//! grows by `Σ_k a[k][i] · b[k][j]`. Every element is one chain of fused
//! multiply-adds in the order of k, so AVX-512, AVX2 and NEON give the same bits;
//! only a processor without fused multiply-add rounds otherwise.

use std::sync::OnceLock;

/// Largest tile of any kernel, in elements.
pub const MAX_TILE: usize = 12 * 32;

/// A kernel and the shape of its tiles.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// Rows of a tile.
    pub mr: usize,
    /// Columns of a tile.
    pub nr: usize,
    /// Instructions used, for provenance.
    pub name: &'static str,
    /// `run(k, a, b, tile)`; see [`Kernel::tile`].
    run: unsafe fn(usize, *const f32, *const f32, *mut f32),
}

impl Kernel {
    /// The fastest kernel of this processor.
    pub fn best() -> Self {
        static BEST: OnceLock<Kernel> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().remove(0))
    }

    /// All kernels that this processor can run, fastest first.
    pub fn available() -> Vec<Self> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                kernels.push(Self { mr: 12, nr: 32, name: "avx512", run: x86::avx512 });
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                kernels.push(Self { mr: 6, nr: 16, name: "avx2", run: x86::avx2 });
            }
        }
        kernels.push(Self { mr: 4, nr: 8, name: "portable", run: portable });
        kernels
    }

    /// Adds the products of `k` packed rows of `a` and `b` to a tile.
    ///
    /// # Panics
    /// If a slice is too short.
    pub fn tile(self, k: usize, a: &[f32], b: &[f32], tile: &mut [f32; MAX_TILE]) {
        assert!(a.len() >= k * self.mr && b.len() >= k * self.nr && self.mr * self.nr <= MAX_TILE);
        // SAFETY: the lengths were checked just above, and a kernel is in
        // `available` only if the processor has its instructions.
        unsafe { (self.run)(k, a.as_ptr(), b.as_ptr(), tile.as_mut_ptr()) }
    }
}

/// Plain Rust; fused where the target always has the instruction.
unsafe fn portable(k: usize, a: *const f32, b: *const f32, tile: *mut f32) {
    const MR: usize = 4;
    const NR: usize = 8;
    let fused = cfg!(target_arch = "aarch64");
    // SAFETY: the caller gives a whole tile.
    let mut sums = unsafe { tile.cast::<[[f32; NR]; MR]>().read() };
    for step in 0..k {
        // SAFETY: the caller gives `k` packed rows of each.
        let (a, b) = unsafe {
            (&*a.add(step * MR).cast::<[f32; MR]>(), &*b.add(step * NR).cast::<[f32; NR]>())
        };
        for (sums, &a) in sums.iter_mut().zip(a) {
            for (sum, &b) in sums.iter_mut().zip(b) {
                *sum = if fused { a.mul_add(b, *sum) } else { a * b + *sum };
            }
        }
    }
    // SAFETY: the caller gives room for a tile.
    unsafe { tile.cast::<[[f32; NR]; MR]>().write(sums) }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps,
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    /// 12 × 32: 24 of the 32 registers hold sums.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn avx512(k: usize, a: *const f32, b: *const f32, tile: *mut f32) {
        let mut sums = [[_mm512_setzero_ps(); 2]; 12];
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller gives a whole tile.
            *sums = unsafe {
                [_mm512_loadu_ps(tile.add(i * 32)), _mm512_loadu_ps(tile.add(i * 32 + 16))]
            };
        }
        for step in 0..k {
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

    /// 6 × 16: 12 of the 16 registers hold sums.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2(k: usize, a: *const f32, b: *const f32, tile: *mut f32) {
        let mut sums = [[_mm256_setzero_ps(); 2]; 6];
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the caller gives a whole tile.
            *sums = unsafe {
                [_mm256_loadu_ps(tile.add(i * 16)), _mm256_loadu_ps(tile.add(i * 16 + 8))]
            };
        }
        for step in 0..k {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(k: usize, width: usize, seed: u32) -> Vec<f32> {
        let value = |i: usize| {
            let mixed = (i as u32 ^ seed).wrapping_mul(2_654_435_761).rotate_left(13);
            (mixed >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..k * width).map(value).collect()
    }

    proptest! {
        #[test]
        fn tiles_are_chains_of_fused_products(k in 0usize..70, seed: u32) {
            for kernel in Kernel::available() {
                let (a, b) = (packed(k, kernel.mr, seed), packed(k, kernel.nr, !seed));
                let mut tile = [0.0; MAX_TILE];
                // In two parts, since a tile may grow in parts.
                let half = k / 2;
                kernel.tile(half, &a, &b, &mut tile);
                let (a_rest, b_rest) = (&a[half * kernel.mr..], &b[half * kernel.nr..]);
                kernel.tile(k - half, a_rest, b_rest, &mut tile);
                for (e, got) in tile[..kernel.mr * kernel.nr].iter().enumerate() {
                    let (i, j) = (e / kernel.nr, e % kernel.nr);
                    let product = |l: usize| (a[l * kernel.mr + i], b[l * kernel.nr + j]);
                    let chain = (0..k).map(product).fold(0.0_f32, |sum, (a, b)| a.mul_add(b, sum));
                    if kernel.name == "portable" && !cfg!(target_arch = "aarch64") {
                        prop_assert!((got - chain).abs() <= 1e-5, "{}", kernel.name);
                    } else {
                        prop_assert_eq!(got.to_bits(), chain.to_bits(), "{}", kernel.name);
                    }
                }
            }
        }
    }
}
