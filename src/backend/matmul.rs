//! Matrix products over strided views.
//!
//! Both operands are packed into panels, which can be done once for several products. Each element of
//! the result is one chain of products in the order of the inner dimension. Its bits therefore depend
//! only on its row and its column, not on the number of threads or on neighbouring elements.

use std::ops::Range;

use rayon::prelude::*;

use super::Precision;
use super::cache::prefetch_to_write;
use super::kernel::CpuKernel;
use super::pack::{MatrixView, PackedMatrices, PackedMatrix, fits};
use super::wide::widened;

/// Minimum number of tasks per core, so that no core waits long for the last tasks. Smaller tasks
/// would read the columns more often.
const TASKS_PER_CORE: usize = 4;

/// Number of columns whose results stay in the second-level cache from one chain to the next.
const COLUMNS_AT_ONCE: usize = 256;

/// Writes tiles to a matrix whose rows are `stride` elements apart. Each row of a tile is written
/// by `write(values, first column, row of the tile)`.
struct TileWriter<'a, T, W> {
    values: &'a mut [T],
    stride: usize,
    write: W,
}

/// Position and size of a tile in the result.
#[derive(Clone, Copy)]
struct TilePosition {
    row: usize,
    col: usize,
    rows: usize,
    cols: usize,
}

impl<T, W: Fn(&mut [T], usize, &[f32])> TileWriter<'_, T, W> {
    /// Prefetches the destination of a tile while the tile is computed.
    fn prefetch(&self, place: TilePosition) {
        let values = &self.values[place.row * self.stride + place.col..];
        let rows = values.chunks(self.stride).take(place.rows);
        rows.for_each(|row| prefetch_to_write(&row[..place.cols]));
    }

    fn write_tile(&mut self, place: TilePosition, tile: &[f32], width: usize) {
        let values = &mut self.values[place.row * self.stride + place.col..];
        let rows = values.chunks_mut(self.stride).zip(tile.chunks_exact(width)).take(place.rows);
        for (out, tile) in rows {
            (self.write)(&mut out[..place.cols], place.col, &tile[..place.cols]);
        }
    }
}

/// The columns of a product that are computed, and the length in words of the chains along the inner
/// dimension. Each chain is written separately.
#[derive(Clone, Copy)]
struct ProductExtent {
    /// Column of the result that the first column of `b` is written to.
    first: usize,
    cols: usize,
    chain: usize,
}

/// Computes `a b` tile by tile; `b` holds the columns as rows.
///
/// # Panics
///
/// Panics if the inner dimensions differ.
fn for_each_tile<T, W: Fn(&mut [T], usize, &[f32])>(
    kernel: CpuKernel,
    a: PackedMatrix,
    b: PackedMatrix,
    extent: ProductExtent,
    out: &mut TileWriter<T, W>,
) {
    assert_eq!(a.words, b.words, "inner dimensions differ");
    let mut tiles = vec![0.0; a.rows.div_ceil(kernel.mr) * kernel.tile_len()];
    let columns: Vec<_> = b.panels().take_while(|(col, _)| *col < extent.cols).collect();
    for group in columns.chunks(COLUMNS_AT_ONCE / kernel.nr) {
        for from in (0..a.words.max(1)).step_by(extent.chain) {
            let chain = from..(from + extent.chain).min(a.words);
            for (i, &(col, panel)) in group.iter().enumerate() {
                let cols = kernel.nr.min(extent.cols - col);
                let rows = |row| kernel.mr.min(a.rows - row);
                let col = extent.first + col;
                let place = |row| TilePosition { row, col, rows: rows(row), cols };
                let next = group.get(i + 1).map_or(&[][..], |(_, next)| &next[from * kernel.nr..]);
                tiles.fill(0.0);
                a.panels().for_each(|(row, _)| out.prefetch(place(row)));
                multiply(kernel, a, ColumnPanel { panel, next }, chain.clone(), &mut tiles);
                for ((row, _), tile) in a.panels().zip(tiles.chunks_exact(kernel.tile_len())) {
                    out.write_tile(place(row), tile, kernel.nr);
                }
            }
        }
    }
}

/// A panel of columns, and the panel to prefetch meanwhile.
struct ColumnPanel<'a> {
    panel: &'a [u32],
    next: &'a [u32],
}

/// Multiplies all rows with one panel of columns, over some words of the inner dimension.
fn multiply(
    kernel: CpuKernel,
    a: PackedMatrix,
    b: ColumnPanel,
    words: Range<usize>,
    tiles: &mut [f32],
) {
    for start in words.clone().step_by(kernel.inner) {
        let count = kernel.inner.min(words.end - start);
        let columns = &b.panel[start * kernel.nr..];
        let next = if start + count < words.end { &columns[count * kernel.nr..] } else { b.next };
        // While one part of the columns is multiplied, the next part is prefetched.
        let next = &next[..next.len().min(kernel.inner * kernel.nr)];
        let mut ahead = next.chunks(CpuKernel::ahead(count).max(1));
        for ((_, a), tile) in a.panels().zip(tiles.chunks_exact_mut(kernel.tile_len())) {
            let ahead = ahead.next().unwrap_or_default();
            kernel.tile(count, &a[start * kernel.mr..], columns, tile, ahead);
        }
    }
}

/// Computes `out ← a · b` on the calling thread. `out` is row-major with rows `stride` elements
/// apart; its old content is not read.
///
/// # Panics
///
/// Panics if the inner dimensions differ or `out` is too short.
pub fn matmul(a: MatrixView, b: MatrixView, out: &mut [f32], stride: usize) {
    assert_eq!(a.cols, b.rows, "inner dimensions differ");
    assert!(fits(out.len(), a.rows, b.cols, stride), "output is too short");
    let kernel = CpuKernel::best(Precision::F32);
    let extent = ProductExtent { first: 0, cols: b.cols, chain: usize::MAX };
    let a = PackedMatrices::one(a, kernel.mr, kernel.a);
    let b = PackedMatrices::one(b.t(), kernel.nr, kernel.b);
    let write = |out: &mut [f32], _, tile: &[f32]| out.copy_from_slice(tile);
    let mut out = TileWriter { values: out, stride, write };
    for_each_tile(kernel, a.get(0), b.get(0), extent, &mut out);
}

/// Computes `out ← a · b` on all cores; `out` is row-major without gaps.
///
/// # Panics
///
/// Panics if the inner dimensions differ or `out` is not exactly `a.rows × b.cols` long.
pub fn matmul_all_cores(a: MatrixView, b: MatrixView, out: &mut [f32]) {
    Product::plain().write(a, b, out);
}

/// Computes `out ← a · b + bias` on all cores, with one bias value per column.
///
/// # Panics
///
/// Panics as [`matmul_all_cores`] does, or if the bias has another length.
pub fn affine(a: MatrixView, b: MatrixView, bias: &[f32], out: &mut [f32]) {
    assert_eq!(bias.len(), b.cols, "bias has another length");
    let write = |out: &mut [f32], col: usize, tile: &[f32]| write_sum(out, tile, &bias[col..]);
    Product::plain().into_f32(a, b, out, write);
}

/// Computes `out ← out + (a · b + bias)` on all cores, with one bias value per column.
///
/// # Panics
///
/// Panics as [`affine`] does.
pub fn add_affine(a: MatrixView, b: MatrixView, bias: &[f32], out: &mut [f32]) {
    assert_eq!(bias.len(), b.cols, "bias has another length");
    let write = |out: &mut [f32], col: usize, tile: &[f32]| add_sum(out, tile, &bias[col..]);
    Product::plain().into_f32(a, b, out, write);
}

/// A product summed over tokens: `chain` tokens in f32, then added to f64 sums.
///
/// Keep the chain near a thousand, so that the rounding of its additions stays below that of the
/// f32 activations themselves. Summing several chains in one call gives the same bits as one call
/// per chain, and reads the sums only once.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// The kernel that multiplies.
    pub kernel: CpuKernel,
    /// Number of tokens summed in f32.
    pub chain: usize,
}

impl Product {
    /// Returns a product in f32 that is not summed further.
    fn plain() -> Self {
        Self { kernel: CpuKernel::best(Precision::F32), chain: usize::MAX }
    }

    /// Packs activations x `[tokens, p]` as the rows of sums `xᵀ y`.
    pub fn rows(self, x: MatrixView) -> PackedMatrices {
        PackedMatrices::on_all_cores(&[x.t()], self.kernel.mr, self.kernel.a)
    }

    /// Packs activations y `[tokens, q]`, several of one shape, as the columns of sums `xᵀ y`.
    pub fn columns(self, y: &[MatrixView]) -> PackedMatrices {
        let views: Vec<MatrixView> = y.iter().map(|y| y.t()).collect();
        PackedMatrices::on_all_cores(&views, self.kernel.nr, self.kernel.b)
    }

    /// Computes `sums ← sums + xᵀ y` on all cores, with x `[tokens, p]` and y `[tokens, q]` in f32
    /// and the sums `[p, q]` in f64.
    ///
    /// # Panics
    ///
    /// Panics if the shapes disagree.
    pub fn add(self, x: MatrixView, y: MatrixView, sums: &mut [f64]) {
        assert_eq!(sums.len(), x.cols * y.cols, "sums have another shape");
        let columns = self.columns(&[y]);
        self.by_blocks(ProductRows::View(x.t()), &[columns.get(0)], sums, |_| y.cols, adding);
    }

    /// Like [`Self::add`], with y packed by [`Self::columns`], in parts that lie side by side.
    ///
    /// # Panics
    ///
    /// Panics if the shapes disagree.
    pub fn add_columns(self, x: MatrixView, y: &[PackedMatrix], sums: &mut [f64]) {
        let cols = y.iter().map(|part| part.rows).sum::<usize>();
        assert_eq!(sums.len(), x.cols * cols, "sums have another shape");
        self.by_blocks(ProductRows::View(x.t()), y, sums, |_| cols, adding);
    }

    /// Like [`Self::add`], with x packed by [`Self::rows`] and y by [`Self::columns`].
    ///
    /// # Panics
    ///
    /// Panics if the shapes disagree.
    pub fn add_packed(self, x: PackedMatrix, y: PackedMatrix, sums: &mut [f64]) {
        assert_eq!(sums.len(), x.rows * y.rows, "sums have another shape");
        self.by_blocks(ProductRows::Packed(x), &[y], sums, |_| y.rows, adding);
    }

    /// Computes `sums ← sums + vᵀ v` on all cores, with v `[tokens, p]` and the sums `[p, p]` in f64,
    /// but only the tiles on and left of the diagonal: entry (j, k) is valid if `k ≤ j`. `columns` is
    /// v packed by [`Self::columns`].
    ///
    /// # Panics
    ///
    /// Panics if the shapes disagree.
    pub fn add_symmetric(self, v: MatrixView, columns: PackedMatrix, sums: &mut [f64]) {
        assert_eq!(sums.len(), v.cols * v.cols, "sums have another shape");
        self.by_blocks(ProductRows::View(v.t()), &[columns], sums, |end_row| end_row, adding);
    }

    /// Computes `out ← a · b` in f32, with factors in this precision, on all cores.
    ///
    /// # Panics
    ///
    /// Panics as [`matmul_all_cores`] does.
    pub fn write(self, a: MatrixView, b: MatrixView, out: &mut [f32]) {
        let write = |out: &mut [f32], _, tile: &[f32]| out.copy_from_slice(tile);
        Self { chain: usize::MAX, ..self }.into_f32(a, b, out, write);
    }

    fn into_f32(
        self,
        a: MatrixView,
        b: MatrixView,
        out: &mut [f32],
        write: impl Fn(&mut [f32], usize, &[f32]) + Sync,
    ) {
        assert_eq!(a.cols, b.rows, "inner dimensions differ");
        assert_eq!(out.len(), a.rows * b.cols, "output has another shape");
        let columns = self.columns(&[b]);
        self.by_blocks(ProductRows::View(a), &[columns.get(0)], out, |_| b.cols, write);
    }

    /// Computes `a b` on all cores by blocks of rows of `out`. The parts of `b` lie side by side.
    /// `columns` maps the row after a block's last to the number of columns to compute.
    fn by_blocks<T: Send>(
        self,
        a: ProductRows,
        b: &[PackedMatrix],
        out: &mut [T],
        columns: impl Fn(usize) -> usize + Sync,
        write: impl Fn(&mut [T], usize, &[f32]) + Sync,
    ) {
        let stride = b.iter().map(|part| part.rows).sum();
        if stride == 0 {
            return;
        }
        let kernel = self.kernel;
        let chain = kernel.a.words(self.chain);
        let block = rows_per_task(kernel, out.len() / stride);
        out.par_chunks_mut(block * stride).enumerate().for_each(|(i, values)| {
            let rows = i * block..i * block + values.len() / stride;
            let cols = columns(rows.end);
            let mut out = TileWriter { values, stride, write: &write };
            let packed;
            let a = match a {
                ProductRows::Packed(a) => a.part(rows),
                ProductRows::View(a) => {
                    let a = a.part(rows.start, rows.len());
                    packed = PackedMatrices::one(a, kernel.mr, kernel.a);
                    packed.get(0)
                }
            };
            let mut first = 0;
            for &b in b {
                let cols = b.rows.min(cols.saturating_sub(first));
                for_each_tile(kernel, a, b, ProductExtent { first, cols, chain }, &mut out);
                first += b.rows;
            }
        });
    }
}

/// The rows of a product, packed or not.
#[derive(Clone, Copy)]
enum ProductRows<'a> {
    /// Each task packs the rows that it needs.
    View(MatrixView<'a>),
    Packed(PackedMatrix<'a>),
}

fn rows_per_task(kernel: CpuKernel, rows: usize) -> usize {
    let tasks = TASKS_PER_CORE * rayon::current_num_threads();
    if rows >= tasks * kernel.rows { kernel.rows } else { kernel.rows / 2 }
}

fn adding(sums: &mut [f64], _: usize, tile: &[f32]) {
    add_all(sums, tile);
}

widened! {
    fn write_sum(out: &mut [f32], tile: &[f32], bias: &[f32]) {
        out.iter_mut().zip(tile).zip(bias).for_each(|((out, v), b)| *out = v + b);
    }
}

widened! {
    fn add_sum(out: &mut [f32], tile: &[f32], bias: &[f32]) {
        out.iter_mut().zip(tile).zip(bias).for_each(|((out, v), b)| *out += v + b);
    }
}

widened! {
    fn add_all(sums: &mut [f64], values: &[f32]) {
        sums.iter_mut().zip(values).for_each(|(sum, &v)| *sum += f64::from(v));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Computes the definition in f64.
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

    fn product(precision: Precision, chain: usize) -> Product {
        Product { kernel: CpuKernel::best(precision), chain }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn products_match_their_definition(m in 1usize..200, k in 1usize..40, n in 1usize..50, seed: u32) {
            let (a, b) = (noise(m * k, seed), noise(k * n, !seed));
            let mut out = vec![f32::NAN; m * n];
            matmul_all_cores(MatrixView::new(&a, m, k), MatrixView::new(&b, k, n), &mut out);
            for (got, want) in out.iter().zip(twin(&a, &b, (m, k, n))) {
                prop_assert!((f64::from(*got) - want).abs() <= 1e-6 * k as f64);
            }
        }

        #[test]
        fn a_row_has_the_same_bits_whatever_stands_beside_it(m in 1usize..300, seed: u32) {
            let (k, n) = (17, 23);
            let (a, b) = (noise(m * k, seed), noise(k * n, !seed));
            let mut all = vec![0.0; m * n];
            matmul_all_cores(MatrixView::new(&a, m, k), MatrixView::new(&b, k, n), &mut all);
            let mut one = vec![0.0; n];
            matmul(MatrixView::new(&a[(m - 1) * k..], 1, k), MatrixView::new(&b, k, n), &mut one, n);
            prop_assert_eq!(&all[(m - 1) * n..], &one[..]);
        }

        #[test]
        fn summed_products_match_their_definition(t in 1usize..60, p in 1usize..150, q in 1usize..20, seed: u32) {
            let (x, y) = (noise(t * p, seed), noise(t * q, !seed));
            let mut sums = vec![1.0; p * q];
            product(Precision::F32, 1024).add(MatrixView::new(&x, t, p), MatrixView::new(&y, t, q), &mut sums);
            for i in 0..p {
                for j in 0..q {
                    let want: f64 = (0..t).map(|s| f64::from(x[s * p + i]) * f64::from(y[s * q + j])).sum();
                    prop_assert!((sums[i * q + j] - 1.0 - want).abs() <= 1e-6 * t as f64);
                }
            }
        }

        #[test]
        fn packed_products_have_the_bits_of_others(t in 1usize..60, p in 1usize..150, q in 1usize..40, parts in 1usize..4, seed: u32) {
            let (x, y) = (noise(t * p, seed), noise(t * q * parts, !seed));
            let (x, cols) = (MatrixView::new(&x, t, p), q * parts);
            for kernel in CpuKernel::available() {
                let product = Product { kernel, chain: 32 };
                let whole = MatrixView::new(&y, t, cols);
                let [mut want, mut sums, mut packed] = [(); 3].map(|()| vec![0.5; p * cols]);
                product.add(x, whole, &mut want);
                let part = |i: usize| MatrixView::strided(&y[i * q..], t, q, cols);
                let columns = product.columns(&(0..parts).map(part).collect::<Vec<_>>());
                let columns: Vec<PackedMatrix> = (0..parts).map(|i| columns.get(i)).collect();
                product.add_columns(x, &columns, &mut sums);
                prop_assert_eq!(&sums, &want, "{}", kernel.name);
                let (rows, whole) = (product.rows(x), product.columns(&[whole]));
                product.add_packed(rows.get(0), whole.get(0), &mut packed);
                prop_assert_eq!(&packed, &want, "{}", kernel.name);
            }
        }

        #[test]
        fn chains_at_once_have_the_bits_of_one_after_the_other(chains in 1usize..5, rest in 0usize..32, p in 1usize..50, seed: u32) {
            let (chain, q) = (32, 21);
            let t = (chains - 1) * chain + rest + 1;
            let (x, y) = (noise(t * p, seed), noise(t * q, !seed));
            for kernel in CpuKernel::available() {
                let product = Product { kernel, chain };
                let (mut together, mut apart) = (vec![0.5; p * q], vec![0.5; p * q]);
                product.add(MatrixView::new(&x, t, p), MatrixView::new(&y, t, q), &mut together);
                for (x, y) in x.chunks(chain * p).zip(y.chunks(chain * q)) {
                    let t = x.len() / p;
                    product.add(MatrixView::new(x, t, p), MatrixView::new(y, t, q), &mut apart);
                }
                prop_assert_eq!(&together, &apart, "{}", kernel.name);
            }
        }

        #[test]
        fn symmetric_sums_equal_the_full_ones(t in 1usize..20, p in 1usize..300, seed: u32) {
            let x = noise(t * p, seed);
            let x = MatrixView::new(&x, t, p);
            for precision in [Precision::F32, Precision::Bf16] {
                let (mut half, mut full) = (vec![0.0; p * p], vec![0.0; p * p]);
                let product = product(precision, 1024);
                product.add_symmetric(x, product.columns(&[x]).get(0), &mut half);
                product.add(x, x, &mut full);
                for j in 0..p {
                    prop_assert_eq!(&half[j * p..=j * p + j], &full[j * p..=j * p + j]);
                }
            }
        }
    }
}
