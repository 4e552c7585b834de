//! The innermost loop: a tile of products with its sums in registers.
//!
//! `a` and `b` are packed panels of words of 4 bytes (see [`PanelFormat`]); the tile,
//! row-major `[mr][nr]` in f32, grows by `Σ_k a[k][i] · b[k][j]`.
//!
//! In f32 every element is one chain of fused multiply-adds in the order of k,
//! so AVX-512, AVX2 and NEON give the same bits; only a processor without fused
//! multiply-add rounds differently. In bf16 the factors are rounded to 8 bits and
//! their products, which f32 holds exactly, are added in f32 in an order that
//! depends on the instructions.

#[cfg(target_arch = "x86_64")]
mod amx;
mod portable;
mod prefetch;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

use super::Precision;
use super::pack::PanelFormat;
use prefetch::LINES_AHEAD;

/// A kernel for the innermost loop: its tile shape and the packing of its factors.
#[derive(Debug, Clone, Copy)]
pub struct CpuKernel {
    /// Rows of a tile.
    pub mr: usize,
    /// Columns of a tile.
    pub nr: usize,
    /// Words of a panel that stay in the first-level cache together with the other operand's.
    pub inner: usize,
    /// Maximum number of rows of the result that one task computes: a multiple of `2 mr`, small
    /// enough for the second-level cache.
    pub rows: usize,
    /// Precision of the factors.
    pub precision: Precision,
    /// The instructions used, for provenance.
    pub name: &'static str,
    /// Packing of the rows of a tile.
    pub(super) a: PanelFormat,
    /// Packing of the columns of a tile.
    pub(super) b: PanelFormat,
    /// See [`CpuKernel::tile`].
    run: Run,
}

/// `run(words, a, b, tile, ahead)`; `ahead` is only prefetched.
type Run = unsafe fn(usize, *const u32, *const u32, *mut f32, *const u32);

/// Describes the processor and the instructions used for products of a precision.
pub fn cpu(precision: Precision) -> String {
    format!("cpu ({}, {})", std::env::consts::ARCH, CpuKernel::best(precision).name)
}

impl CpuKernel {
    /// Returns the fastest kernel of this processor for a precision.
    pub fn best(precision: Precision) -> Self {
        static BEST: [OnceLock<CpuKernel>; 2] = [OnceLock::new(), OnceLock::new()];
        *BEST[precision as usize].get_or_init(|| {
            let mut kernels = Self::available();
            kernels.retain(|kernel| kernel.precision == precision);
            kernels.remove(0)
        })
    }

    /// Returns all kernels that this processor can run, the fastest of each precision first.
    pub fn available() -> Vec<Self> {
        let in_f32 = Self::in_f32();
        // A processor without bf16 instructions rounds the factors and multiplies in f32.
        let rounding = in_f32[0].rounding();
        let mut kernels = in_f32;
        #[cfg(target_arch = "x86_64")]
        kernels.extend(Self::in_bf16());
        kernels.push(rounding);
        kernels
    }

    fn in_f32() -> Vec<Self> {
        let kernel = |mr, nr, name, run| {
            let (precision, form) = (Precision::F32, PanelFormat::Single);
            Self { mr, nr, inner: 192, rows: 96, precision, name, a: form, b: form, run }
        };
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                kernels.push(kernel(12, 32, "avx512", x86::avx512));
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                kernels.push(kernel(6, 16, "avx2", x86::avx2));
            }
        }
        kernels.push(kernel(4, 8, "portable", portable::portable));
        kernels
    }

    #[cfg(target_arch = "x86_64")]
    fn in_bf16() -> Vec<Self> {
        let mut kernels = Vec::new();
        let precision = Precision::Bf16;
        if amx::usable() {
            let (a, b) = (PanelFormat::PairRows, PanelFormat::Pairs);
            let name = "amx-bf16";
            kernels.push(Self {
                mr: 32,
                nr: 32,
                inner: 256,
                rows: 192,
                precision,
                name,
                a,
                b,
                run: amx::amx,
            });
        }
        if is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512f") {
            let (a, b) = (PanelFormat::Pairs, PanelFormat::Pairs);
            let (name, run) = ("avx512-bf16", x86::avx512_bf16 as _);
            kernels.push(Self { mr: 12, nr: 32, inner: 192, rows: 96, precision, name, a, b, run });
        }
        kernels
    }

    fn rounding(self) -> Self {
        let (a, b) = (PanelFormat::Rounded, PanelFormat::Rounded);
        Self { precision: Precision::Bf16, name: "bf16 in f32", a, b, ..self }
    }

    /// Returns the number of values of the inner dimension in a packed word.
    pub fn values_per_word(self) -> usize {
        match self.a {
            PanelFormat::Single | PanelFormat::Rounded => 1,
            PanelFormat::Pairs | PanelFormat::PairRows => 2,
        }
    }

    /// Returns the number of elements of a tile.
    pub fn tile_len(self) -> usize {
        self.mr * self.nr
    }

    /// Returns the number of words that a call over `words` words prefetches.
    pub fn ahead(words: usize) -> usize {
        words / 8 * LINES_AHEAD * 16
    }

    /// Adds the products of `words` packed words of `a` and `b` to a tile. Meanwhile prefetches the
    /// words of `ahead`, if there are enough of them.
    ///
    /// # Panics
    ///
    /// Panics if a slice is too short, or if the words are not a multiple of the kernel's step.
    pub fn tile(self, words: usize, a: &[u32], b: &[u32], tile: &mut [f32], ahead: &[u32]) {
        assert!(a.len() >= words * self.mr && b.len() >= words * self.nr);
        assert!(tile.len() >= self.tile_len() && words.is_multiple_of(self.a.step()));
        // With nothing left to prefetch, the pointer names words already in use.
        let ahead = if ahead.len() >= Self::ahead(words) { ahead } else { b }.as_ptr();
        // SAFETY: the lengths were checked just above, and a kernel is in
        // `available` only if the processor has its instructions.
        unsafe { (self.run)(words, a.as_ptr(), b.as_ptr(), tile.as_mut_ptr(), ahead) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pack::{MatrixView, PackedMatrices};
    use super::*;
    use half::bf16;
    use proptest::prelude::*;

    fn noise(k: usize, width: usize, seed: u32) -> Vec<f32> {
        let value = |i: usize| {
            let mixed = (i as u32 ^ seed).wrapping_mul(2_654_435_761).rotate_left(13);
            (mixed >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..k * width).map(value).collect()
    }

    /// Returns the tile of one kernel for factors `[k][mr]` and `[k][nr]`.
    fn tile(kernel: CpuKernel, k: usize, a: &[f32], b: &[f32]) -> Vec<f32> {
        let mut tile = vec![0.0; kernel.tile_len()];
        let pack = |values, width, form| {
            PackedMatrices::one(MatrixView::new(values, k, width).t(), width, form)
        };
        let (a, b) = (pack(a, kernel.mr, kernel.a), pack(b, kernel.nr, kernel.b));
        for ((_, a), (_, b)) in a.get(0).panels().zip(b.get(0).panels()) {
            // In two parts, because a tile may be accumulated in parts.
            let words = kernel.a.words(k);
            let half = words / 2 / kernel.a.step() * kernel.a.step();
            kernel.tile(half, a, b, &mut tile, &[]);
            let (a, b) = (&a[half * kernel.mr..], &b[half * kernel.nr..]);
            kernel.tile(words - half, a, b, &mut tile, &[]);
        }
        tile
    }

    proptest! {
        #[test]
        fn f32_tiles_are_chains_of_fused_products(k in 0usize..70, seed: u32) {
            for kernel in CpuKernel::in_f32() {
                let (a, b) = (noise(k, kernel.mr, seed), noise(k, kernel.nr, !seed));
                for (e, got) in tile(kernel, k, &a, &b).iter().enumerate() {
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

        #[test]
        fn bf16_tiles_are_products_of_rounded_factors(k in 0usize..140, seed: u32) {
            for kernel in CpuKernel::available() {
                if kernel.precision != Precision::Bf16 {
                    continue;
                }
                let (a, b) = (noise(k, kernel.mr, seed), noise(k, kernel.nr, !seed));
                let rounded = |v: f32| bf16::from_f32(v).to_f64();
                for (e, got) in tile(kernel, k, &a, &b).iter().enumerate() {
                    let (i, j) = (e / kernel.nr, e % kernel.nr);
                    let term = |l| rounded(a[l * kernel.mr + i]) * rounded(b[l * kernel.nr + j]);
                    let want: f64 = (0..k).map(term).sum();
                    // The rounding error of at most k additions in f32 of terms below 1.
                    let bound = 1e-7 * (k * k) as f64;
                    prop_assert!((f64::from(*got) - want).abs() <= bound, "{}", kernel.name);
                }
            }
        }
    }
}
