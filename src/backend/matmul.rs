//! Matrix products in f32 over strided views.
//!
//! Both operands are packed into panels, and each element of the result is one
//! chain of products in the order of the inner dimension. Its bits therefore
//! depend on its row and its column alone: not on threads, not on what stands
//! beside it.

use rayon::prelude::*;

use super::aligned::Aligned;
use super::kernel::{Kernel, MAX_TILE};

/// Rows of the result that one task computes: a multiple of every kernel's rows,
/// small enough to spread over the cores and to stay in the second-level cache.
const ROWS_PER_TASK: usize = 96;

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

/// Steps of the inner dimension that are taken for all rows of a task before the
/// next ones: a panel of columns of this depth stays in the first-level cache.
const INNER: usize = 192;

/// The rows of a view in panels of a kernel's width, `[panel][k][width]`, the
/// last one filled up with zeros.
struct Packed {
    width: usize,
    k: usize,
    rows: usize,
    data: Aligned,
}

impl Packed {
    fn new(view: View, width: usize) -> Self {
        let mut packed = Self::empty(view, width);
        let panels = packed.data.chunks_exact_mut((width * view.cols).max(1));
        panels.enumerate().for_each(|(i, panel)| pack_panel(view, i * width, width, panel));
        packed
    }

    fn on_all_cores(view: View, width: usize) -> Self {
        let mut packed = Self::empty(view, width);
        let panels = packed.data.par_chunks_exact_mut((width * view.cols).max(1));
        panels.enumerate().for_each(|(i, panel)| pack_panel(view, i * width, width, panel));
        packed
    }

    fn empty(view: View, width: usize) -> Self {
        let View { rows, cols: k, .. } = view;
        Self { width, k, rows, data: Aligned::zeros(rows.div_ceil(width) * width * k) }
    }

    /// First row and content of each panel.
    fn panels(&self) -> impl Iterator<Item = (usize, &[f32])> {
        let size = self.width * self.k;
        let panel = move |i: usize| (i * self.width, &self.data[i * size..(i + 1) * size]);
        (0..self.rows.div_ceil(self.width)).map(panel)
    }
}

fn pack_panel(view: View, start: usize, width: usize, panel: &mut [f32]) {
    let rows = width.min(view.rows - start);
    let data = &view.data[start * view.row_stride..];
    if view.row_stride == 1 {
        for (k, out) in panel.chunks_exact_mut(width).enumerate() {
            out[..rows].copy_from_slice(&data[k * view.col_stride..][..rows]);
        }
        return;
    }
    for i in 0..rows {
        let row = &data[i * view.row_stride..];
        for (k, out) in panel.chunks_exact_mut(width).enumerate() {
            out[i] = row[k * view.col_stride];
        }
    }
}

/// A part of the result: its place, its size, and its rows `stride` apart.
struct Tile<'a> {
    row: usize,
    col: usize,
    rows: usize,
    cols: usize,
    stride: usize,
    values: &'a [f32],
}

impl Tile<'_> {
    /// Shows each row of the tile together with its part of `out`, whose rows are `stride` apart.
    fn zip_rows<T>(&self, out: &mut [T], stride: usize, each: impl Fn(&mut [T], &[f32])) {
        for i in 0..self.rows {
            let start = (self.row + i) * stride + self.col;
            let values = &self.values[i * self.stride..][..self.cols];
            each(&mut out[start..start + self.cols], values);
        }
    }
}

/// Computes `a b` tile by tile up to column `cols`; `b` holds the columns as rows.
fn for_each_tile(kernel: Kernel, a: &Packed, b: &Packed, cols: usize, mut emit: impl FnMut(Tile)) {
    let mut tiles = vec![[0.0; MAX_TILE]; a.rows.div_ceil(kernel.mr)];
    for (col, b_panel) in b.panels().take_while(|(col, _)| *col < cols) {
        tiles.iter_mut().for_each(|tile| tile.fill(0.0));
        for start in (0..a.k).step_by(INNER) {
            let k = INNER.min(a.k - start);
            for ((_, a_panel), tile) in a.panels().zip(&mut tiles) {
                let (a, b) = (&a_panel[start * kernel.mr..], &b_panel[start * kernel.nr..]);
                kernel.tile(k, a, b, tile);
            }
        }
        for ((row, _), values) in a.panels().zip(&tiles) {
            emit(Tile {
                row,
                col,
                rows: kernel.mr.min(a.rows - row),
                cols: kernel.nr.min(cols - col),
                stride: kernel.nr,
                values,
            });
        }
    }
}

fn store(tile: &Tile, beta: f32, out: &mut [f32], stride: usize) {
    tile.zip_rows(out, stride, |out, values| {
        for (o, &v) in out.iter_mut().zip(values) {
            // With beta 0 the old content is not read: it may be NaN.
            *o = if beta == 0.0 { v } else { beta * *o + v };
        }
    });
}

/// `out ← beta · out + a · b` on the calling thread; `out` is row-major with
/// rows `stride` apart. With `beta` 0 the old content is not read.
///
/// # Panics
/// If the inner dimensions differ or `out` is too short.
pub fn matmul(a: View, b: View, beta: f32, out: &mut [f32], stride: usize) {
    assert_eq!(a.cols, b.rows, "inner dimensions differ");
    assert!(fits(out.len(), a.rows, b.cols, stride), "output is too short");
    let kernel = Kernel::best();
    let (a, b) = (Packed::new(a, kernel.mr), Packed::new(b.t(), kernel.nr));
    for_each_tile(kernel, &a, &b, b.rows, |tile| store(&tile, beta, out, stride));
}

/// As [`matmul`] without gaps between the rows of `out`, on all cores.
///
/// # Panics
/// If the inner dimensions differ or `out` is not exactly `a.rows × b.cols` long.
pub fn matmul_all_cores(a: View, b: View, beta: f32, out: &mut [f32]) {
    assert_eq!(a.cols, b.rows, "inner dimensions differ");
    assert_eq!(out.len(), a.rows * b.cols, "output has another shape");
    by_blocks(a, b, out, |_| b.cols, |tile, out| store(tile, beta, out, b.cols));
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
    assert_eq!(sums.len(), x.cols * y.cols, "sums have another shape");
    by_blocks(x.t(), y, sums, |_| y.cols, |tile, sums| add(tile, sums, y.cols));
}

/// As [`add_products`] of v with itself, filling only the tiles that reach the
/// diagonal or lie left of it: entry (j, k) is valid where `k ≤ j`.
///
/// # Panics
/// If the sums are not `v.cols × v.cols`.
pub fn add_symmetric_products(v: View, sums: &mut [f64]) {
    assert_eq!(sums.len(), v.cols * v.cols, "sums have another shape");
    by_blocks(v.t(), v, sums, |end_row| end_row, |tile, sums| add(tile, sums, v.cols));
}

fn add(tile: &Tile, sums: &mut [f64], stride: usize) {
    tile.zip_rows(sums, stride, |sums, values| {
        sums.iter_mut().zip(values).for_each(|(s, &v)| *s += f64::from(v));
    });
}

/// Computes `a b` on all cores by blocks of rows of `out`, each up to the column
/// that `columns` gives for the row after its last.
fn by_blocks<T: Send>(
    a: View,
    b: View,
    out: &mut [T],
    columns: impl Fn(usize) -> usize + Sync,
    each: impl Fn(&Tile, &mut [T]) + Sync,
) {
    if b.cols == 0 {
        return;
    }
    let kernel = Kernel::best();
    let b = Packed::on_all_cores(b.t(), kernel.nr);
    out.par_chunks_mut(ROWS_PER_TASK * b.rows).enumerate().for_each(|(i, block)| {
        let (start, rows) = (i * ROWS_PER_TASK, block.len() / b.rows);
        let a = Packed::new(a.rows(start, rows), kernel.mr);
        for_each_tile(kernel, &a, &b, columns(start + rows), |tile| each(&tile, block));
    });
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
