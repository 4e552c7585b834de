//! Matrix products in f32 over strided views.
//!
//! The sum over the inner dimension is taken in an order that depends on the
//! inner dimension alone, so cutting the rows of the result over threads, or
//! putting other rows beside them, changes no bit of any element.

use rayon::prelude::*;

/// Rows of the result that one task computes: small enough to spread over the
/// cores, large enough that packing the right-hand side again costs little.
const ROWS_PER_TASK: usize = 128;

/// A read-only f32 matrix inside a slice.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> View<'a> {
    /// A row-major `rows` × `cols` matrix whose rows start `stride` elements apart.
    ///
    /// # Panics
    /// If the slice is too short for the shape.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(fits(data.len(), rows, cols, stride), "view exceeds its slice");
        Self { data, rows, cols, row_stride: stride, col_stride: 1 }
    }

    /// A row-major matrix without gaps.
    ///
    /// # Panics
    /// If the slice is too short for the shape.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// The transpose, without moving data.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Rows `from .. from + count`.
    fn rows(self, from: usize, count: usize) -> Self {
        debug_assert!(from + count <= self.rows);
        Self { data: &self.data[from * self.row_stride..], rows: count, ..self }
    }
}

fn fits(len: usize, rows: usize, cols: usize, stride: usize) -> bool {
    rows == 0 || cols == 0 || (stride >= cols && (rows - 1) * stride + cols <= len)
}

/// `out ← beta · out + a · b` on the calling thread; `out` is row-major with
/// rows `stride` apart. With `beta` 0 the old content is not read.
///
/// # Panics
/// If the inner dimensions differ or `out` is too short.
pub fn matmul(a: View, b: View, beta: f32, out: &mut [f32], stride: usize) {
    assert_eq!(a.cols, b.rows, "inner dimensions differ");
    assert!(fits(out.len(), a.rows, b.cols, stride), "output is too short");
    if a.rows == 0 || b.cols == 0 {
        return;
    }
    // SAFETY: the views were checked against their slices when they were made,
    // `out` just above, and `out` is a unique borrow, so it overlaps neither.
    unsafe {
        matrixmultiply::sgemm(
            a.rows,
            a.cols,
            b.cols,
            1.0,
            a.data.as_ptr(),
            a.row_stride as isize,
            a.col_stride as isize,
            b.data.as_ptr(),
            b.row_stride as isize,
            b.col_stride as isize,
            beta,
            out.as_mut_ptr(),
            stride as isize,
            1,
        );
    }
}

/// As [`matmul`] without gaps between the rows of `out`, on all cores.
///
/// # Panics
/// If the inner dimensions differ or `out` is not exactly `a.rows × b.cols` long.
pub fn matmul_all_cores(a: View, b: View, beta: f32, out: &mut [f32]) {
    assert_eq!(out.len(), a.rows * b.cols, "output has another shape");
    if b.cols == 0 {
        return;
    }
    out.par_chunks_mut(ROWS_PER_TASK * b.cols).enumerate().for_each(|(i, block)| {
        let rows = a.rows(i * ROWS_PER_TASK, block.len() / b.cols);
        matmul(rows, b, beta, block, b.cols);
    });
}

/// `sums ← sums + xᵀ y` with x `tokens × p` and y `tokens × q` in f32 and the
/// sums `p × q` in f64, on all cores.
///
/// The products of one call are added in f32; keep `tokens` near a thousand, so
/// that their rounding stays below that of f32 activations themselves.
///
/// # Panics
/// If the shapes disagree.
pub fn add_products(x: View, y: View, sums: &mut [f64]) {
    let q = y.cols;
    assert_eq!(sums.len(), x.cols * q, "sums have another shape");
    add_tiles(x, y, sums, |_| q);
}

/// As [`add_products`] of v with itself, filling only the tiles that reach the
/// diagonal or lie left of it: entry (j, k) is valid where `k ≤ j`.
///
/// # Panics
/// If the sums are not `v.cols × v.cols`.
pub fn add_symmetric_products(v: View, sums: &mut [f64]) {
    let q = v.cols;
    assert_eq!(sums.len(), q * q, "sums have another shape");
    add_tiles(v, v, sums, |end_row| end_row);
}

/// Adds `xᵀ y` tile by tile, a tile being some rows of the result up to the
/// column that `columns` gives for the row after its last.
fn add_tiles(x: View, y: View, sums: &mut [f64], columns: impl Fn(usize) -> usize + Sync) {
    if y.cols == 0 {
        return;
    }
    let q = y.cols;
    let add_tile = |tile: &mut Vec<f32>, (i, block): (usize, &mut [f64])| {
        let (start, rows) = (i * ROWS_PER_TASK, block.len() / q);
        let cols = columns(start + rows);
        tile.resize(rows * cols, 0.0);
        let y = View { cols, ..y };
        matmul(x.t().rows(start, rows), y, 0.0, tile, cols);
        for (sums, products) in block.chunks_exact_mut(q).zip(tile.chunks_exact(cols)) {
            sums.iter_mut().zip(products).for_each(|(s, &p)| *s += f64::from(p));
        }
    };
    sums.par_chunks_mut(ROWS_PER_TASK * q).enumerate().for_each_init(Vec::new, add_tile);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, in f64.
    fn twin(a: &[f32], b: &[f32], (m, k, n): (usize, usize, usize)) -> Vec<f64> {
        let term = |i, j, l| f64::from(a[i * k + l]) * f64::from(b[l * n + j]);
        let entry = |i, j| (0..k).map(|l| term(i, j, l)).sum();
        (0..m * n).map(|e| entry(e / n, e % n)).collect()
    }

    fn noise(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn products_match_their_definition(m in 1usize..200, k in 1usize..40, n in 1usize..50, seed: u32) {
            let (a, b) = (noise(m * k, seed), noise(k * n, !seed));
            let mut out = vec![f32::NAN; m * n];
            matmul_all_cores(View::new(&a, m, k), View::new(&b, k, n), 0.0, &mut out);
            for (got, want) in out.iter().zip(twin(&a, &b, (m, k, n))) {
                prop_assert!((f64::from(*got) - want).abs() <= 1e-6 * k as f64);
            }
        }

        #[test]
        fn a_row_has_the_same_bits_whatever_stands_beside_it(m in 1usize..300, seed: u32) {
            let (k, n) = (17, 23);
            let (a, b) = (noise(m * k, seed), noise(k * n, !seed));
            let mut all = vec![0.0; m * n];
            matmul_all_cores(View::new(&a, m, k), View::new(&b, k, n), 0.0, &mut all);
            let mut one = vec![0.0; n];
            matmul(View::new(&a[(m - 1) * k..], 1, k), View::new(&b, k, n), 0.0, &mut one, n);
            prop_assert_eq!(&all[(m - 1) * n..], &one[..]);
        }

        #[test]
        fn summed_products_match_their_definition(t in 1usize..60, p in 1usize..150, q in 1usize..20, seed: u32) {
            let (x, y) = (noise(t * p, seed), noise(t * q, !seed));
            let mut sums = vec![1.0; p * q];
            add_products(View::new(&x, t, p), View::new(&y, t, q), &mut sums);
            for i in 0..p {
                for j in 0..q {
                    let want: f64 = (0..t).map(|s| f64::from(x[s * p + i]) * f64::from(y[s * q + j])).sum();
                    prop_assert!((sums[i * q + j] - 1.0 - want).abs() <= 1e-6 * t as f64);
                }
            }
        }

        #[test]
        fn symmetric_sums_equal_the_full_ones(t in 1usize..20, p in 1usize..300, seed: u32) {
            let x = noise(t * p, seed);
            let x = View::new(&x, t, p);
            let (mut half, mut full) = (vec![0.0; p * p], vec![0.0; p * p]);
            add_symmetric_products(x, &mut half);
            add_products(x, x, &mut full);
            for j in 0..p {
                prop_assert_eq!(&half[j * p..=j * p + j], &full[j * p..=j * p + j]);
            }
        }
    }
}
