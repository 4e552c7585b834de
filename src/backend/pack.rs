//! Views of matrices in slices, and their rows packed into panels for a kernel.

use std::ops::Range;

use rayon::prelude::*;

use super::aligned::AlignedBuffer;
use super::cache::prefetch_to_read;
use super::wide::{Both, widened};

/// A read-only f32 matrix in a slice.
#[derive(Debug, Clone, Copy)]
pub struct MatrixView<'a> {
    data: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> MatrixView<'a> {
    /// Views a row-major `rows` × `cols` matrix whose rows start `stride` elements apart.
    ///
    /// # Panics
    ///
    /// Panics if the slice is too short for the shape.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(fits(data.len(), rows, cols, stride), "view exceeds its slice");
        Self { data, rows, cols, row_stride: stride, col_stride: 1 }
    }

    /// Views a row-major matrix without gaps.
    ///
    /// # Panics
    ///
    /// Panics if the slice is too short for the shape.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// Returns the transpose, without moving data.
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

    /// Returns rows `from .. from + count`.
    pub(super) fn part(self, from: usize, count: usize) -> Self {
        debug_assert!(from + count <= self.rows);
        Self { data: &self.data[from * self.row_stride..], rows: count, ..self }
    }

    /// Prefetches some columns, if the values of a column are contiguous.
    fn prefetch_columns(&self, columns: Range<usize>) {
        if self.row_stride == 1 {
            let column = |k: usize| &self.data[k * self.col_stride..][..self.rows];
            columns.for_each(|k| prefetch_to_read(column(k)));
        }
    }

    /// Returns column `k` of `W` rows from `start`; zero beyond the last row.
    #[inline(always)]
    fn line<const W: usize>(&self, start: usize, k: usize) -> [f32; W] {
        let data = &self.data[start * self.row_stride + k * self.col_stride..];
        let mut line = [0.0; W];
        match data.first_chunk::<W>() {
            Some(whole) if self.row_stride == 1 && start + W <= self.rows => line = *whole,
            _ => {
                let values = data.iter().step_by(self.row_stride).take(self.rows - start);
                Both(line.iter_mut(), values).for_each(|(out, value)| *out = *value);
            }
        }
        line
    }
}

/// Returns whether a row-major matrix with this stride fits in `len` values.
pub(super) fn fits(len: usize, rows: usize, cols: usize, stride: usize) -> bool {
    rows == 0 || cols == 0 || (stride >= cols && (rows - 1) * stride + cols <= len)
}

/// The layout of a panel of `width` rows, in words of 4 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PanelFormat {
    /// One f32 per word, `[k][width]`.
    Single,
    /// One f32 per word, rounded to bf16, `[k][width]`.
    Rounded,
    /// The bf16 values of two successive k per word, `[k / 2][width]`, padded to a multiple of 32
    /// values of k.
    Pairs,
    /// The same words as `Pairs`, laid out as `[k / 32][width][16]`.
    PairRows,
}

impl PanelFormat {
    /// Returns the words of each row with `k` values.
    pub fn words(self, k: usize) -> usize {
        match self {
            Self::Single | Self::Rounded => k,
            Self::Pairs | Self::PairRows => k.div_ceil(32) * 16,
        }
    }

    /// Returns the number of words that a kernel consumes at a time.
    pub fn step(self) -> usize {
        match self {
            Self::Single | Self::Rounded | Self::Pairs => 1,
            Self::PairRows => 16,
        }
    }
}

/// Number of columns packed for all panels of a group before the next columns, so that few memory
/// pages are visited at a time.
const COLUMNS_AT_ONCE: usize = 64;

/// Number of panels that one task packs.
const PANELS_PER_TASK: usize = 8;

/// Matrices of one shape, each packed into panels of a kernel's width. The last panel of each is padded
/// with zeros.
pub struct PackedMatrices {
    width: usize,
    /// Words per row.
    words: usize,
    /// Rows of each matrix.
    rows: usize,
    data: AlignedBuffer,
}

impl PackedMatrices {
    /// Packs the rows of a view on the calling thread.
    pub fn one(view: MatrixView, width: usize, form: PanelFormat) -> Self {
        let mut packed = Self::empty(&[view], width, form);
        pack(view, width, form, &mut packed.data);
        packed
    }

    /// Packs the rows of views on all cores.
    ///
    /// # Panics
    ///
    /// Panics if the views differ in shape.
    pub fn on_all_cores(views: &[MatrixView], width: usize, form: PanelFormat) -> Self {
        let mut packed = Self::empty(views, width, form);
        let task = PANELS_PER_TASK * width;
        let (each, size) = (packed.size().max(1), (task * packed.words).max(1));
        packed.data.par_chunks_mut(each).zip(views).for_each(|(data, view)| {
            data.par_chunks_mut(size).enumerate().for_each(|(i, panels)| {
                let rows = (view.rows - i * task).min(task);
                pack(view.part(i * task, rows), width, form, panels);
            });
        });
        packed
    }

    fn empty(views: &[MatrixView], width: usize, form: PanelFormat) -> Self {
        let (rows, cols) = views.first().map_or((0, 0), |view| (view.rows, view.cols));
        assert!(views.iter().all(|view| (view.rows, view.cols) == (rows, cols)), "other shapes");
        let words = form.words(cols);
        let data = AlignedBuffer::new(views.len() * rows.div_ceil(width) * width * words);
        Self { width, words, rows, data }
    }

    /// Returns the words of each matrix.
    fn size(&self) -> usize {
        self.rows.div_ceil(self.width) * self.width * self.words
    }

    /// Returns one of the matrices.
    pub fn get(&self, i: usize) -> PackedMatrix<'_> {
        let Self { width, words, rows, .. } = *self;
        let size = self.size();
        PackedMatrix { width, words, rows, data: &self.data[i * size..(i + 1) * size] }
    }
}

/// A matrix packed into panels of a kernel's width.
#[derive(Clone, Copy)]
pub struct PackedMatrix<'a> {
    width: usize,
    /// Words per row.
    pub words: usize,
    /// Number of rows.
    pub rows: usize,
    data: &'a [u32],
}

impl<'a> PackedMatrix<'a> {
    /// Returns some rows, the first of which begins a panel.
    ///
    /// # Panics
    ///
    /// Panics if there are not as many rows, or the first is inside a panel.
    pub fn part(self, rows: Range<usize>) -> Self {
        assert!(rows.start.is_multiple_of(self.width) && rows.end <= self.rows, "other rows");
        Self { rows: rows.len(), data: &self.data[rows.start * self.words..], ..self }
    }

    /// Returns the first row and the words of each panel.
    pub fn panels(self) -> impl Iterator<Item = (usize, &'a [u32])> {
        let size = self.width * self.words;
        let panel = move |i: usize| (i * self.width, &self.data[i * size..(i + 1) * size]);
        (0..self.rows.div_ceil(self.width)).map(panel)
    }
}

/// Packs with a width known to the compiler: one of the kernels' tile sizes.
fn pack(view: MatrixView, width: usize, form: PanelFormat, panels: &mut [u32]) {
    match width {
        4 => pack_as::<4>(view, form, panels),
        6 => pack_as::<6>(view, form, panels),
        8 => pack_as::<8>(view, form, panels),
        12 => pack_as::<12>(view, form, panels),
        16 => pack_as::<16>(view, form, panels),
        32 => pack_as::<32>(view, form, panels),
        _ => unreachable!("no kernel has tiles of this width"),
    }
}

widened! {
fn pack_as<const W: usize>(view: MatrixView, form: PanelFormat, panels: &mut [u32]) {
    let size = W * form.words(view.cols);
    if size == 0 {
        return;
    }
    for from in (0..view.cols).step_by(COLUMNS_AT_ONCE) {
        let columns = from..(from + COLUMNS_AT_ONCE).min(view.cols);
        view.prefetch_columns(columns.end..(columns.end + COLUMNS_AT_ONCE).min(view.cols));
        for (i, panel) in panels.chunks_exact_mut(size).enumerate() {
            let words = &mut panel[form.words(from) * W..form.words(columns.end) * W];
            let part = PanelSource { view, row: i * W, columns: columns.clone() };
            match form {
                PanelFormat::Single => part.words::<W>(words, f32::to_bits),
                PanelFormat::Rounded => part.words::<W>(words, |v| bf16_bits(v) << 16),
                PanelFormat::Pairs => part.pairs::<W>(words),
                PanelFormat::PairRows => part.pair_rows::<W>(words),
            }
        }
    }
}
}

/// Some columns of the rows of one panel.
struct PanelSource<'a> {
    view: MatrixView<'a>,
    row: usize,
    columns: Range<usize>,
}

impl PanelSource<'_> {
    #[inline(always)]
    fn words<const W: usize>(&self, words: &mut [u32], word: impl Fn(f32) -> u32) {
        let lines = words.as_chunks_mut::<W>().0;
        if self.view.col_stride != 1 || self.row + W > self.view.rows {
            for (k, out) in Both(self.columns.clone(), lines.iter_mut()) {
                let line = self.view.line::<W>(self.row, k);
                Both(out.iter_mut(), line.iter()).for_each(|(out, value)| *out = word(*value));
            }
            return;
        }
        // Each row is contiguous, so rows are read one after the other.
        for row in 0..W {
            let start = (self.row + row) * self.view.row_stride + self.columns.start;
            let values = &self.view.data[start..start + self.columns.len()];
            lines.iter_mut().zip(values).for_each(|(out, &value)| out[row] = word(value));
        }
    }

    /// Returns the words of columns `k` and `k + 1`.
    #[inline(always)]
    fn pair<const W: usize>(&self, k: usize) -> [u32; W] {
        let line = |k| match k < self.columns.end {
            true => self.view.line::<W>(self.row, k),
            false => [0.0; W],
        };
        let (low, high) = (line(k), line(k + 1));
        std::array::from_fn(|row| bf16_bits(low[row]) | bf16_bits(high[row]) << 16)
    }

    #[inline(always)]
    fn pairs<const W: usize>(&self, words: &mut [u32]) {
        let first = self.columns.start;
        for (pair, out) in words.as_chunks_mut::<W>().0.iter_mut().enumerate() {
            *out = self.pair(first + 2 * pair);
        }
    }

    #[inline(always)]
    fn pair_rows<const W: usize>(&self, words: &mut [u32]) {
        for (step, words) in words.chunks_exact_mut(16 * W).enumerate() {
            let first = self.columns.start + 32 * step;
            let pairs: [[u32; W]; 16] = std::array::from_fn(|pair| self.pair(first + 2 * pair));
            for (row, out) in words.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                *out = std::array::from_fn(|pair| pairs[pair][row]);
            }
        }
    }
}

/// Returns the bits of the nearest bf16, ties to even; NaN stays NaN. Rounds as the `half` crate
/// does, but without a branch, so that loops vectorise.
#[inline(always)]
fn bf16_bits(value: f32) -> u32 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if bits & 0x7fff_ffff > 0x7f80_0000 { bits >> 16 | 0x40 } else { nearest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;
    use proptest::prelude::*;

    fn value(word: u32) -> [f32; 2] {
        [bf16::from_bits(word as u16), bf16::from_bits((word >> 16) as u16)].map(bf16::to_f32)
    }

    proptest! {
        #[test]
        fn packing_keeps_every_value(rows in 1usize..80, k in 1usize..150, transposed: bool) {
            // Integers below 256 are exact in bf16.
            let data: Vec<f32> = (0..rows * k).map(|i| (i % 251) as f32).collect();
            let view = if transposed { MatrixView::new(&data, k, rows).t() } else { MatrixView::new(&data, rows, k) };
            let at = |row: usize, k: usize| if row < rows && k < view.cols { view.line::<1>(row, k)[0] } else { 0.0 };
            const W: usize = 12;
            for form in [PanelFormat::Single, PanelFormat::Rounded, PanelFormat::Pairs, PanelFormat::PairRows] {
                let (one, two) = (PackedMatrices::one(view, W, form), PackedMatrices::on_all_cores(&[view, view], W, form));
                for packed in [one.get(0), two.get(0), two.get(1)] {
                    for (start, panel) in packed.panels() {
                        for row in 0..W {
                            for k in 0..packed.words {
                                let (found, first) = match form {
                                    PanelFormat::Single | PanelFormat::Rounded => (vec![f32::from_bits(panel[k * W + row])], k),
                                    PanelFormat::Pairs => (value(panel[k * W + row]).to_vec(), 2 * k),
                                    PanelFormat::PairRows => (value(panel[k / 16 * 16 * W + row * 16 + k % 16]).to_vec(), 2 * k),
                                };
                                for (i, found) in found.into_iter().enumerate() {
                                    prop_assert_eq!(found, at(start + row, first + i), "{:?}", form);
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn rounding_is_that_of_half(bits: u32) {
            let value = f32::from_bits(bits);
            prop_assert_eq!(bf16_bits(value), u32::from(bf16::from_f32(value).to_bits()));
        }
    }

    #[test]
    fn nan_stays_nan() {
        let data = [f32::NAN, f32::INFINITY];
        let packed = PackedMatrices::one(MatrixView::new(&data, 1, 2), 4, PanelFormat::Pairs);
        let (_, panel) = packed.get(0).panels().next().expect("a panel");
        let [first, second] = value(panel[0]);
        assert!(first.is_nan() && second == f32::INFINITY);
    }
}
