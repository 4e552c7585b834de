//! Launches of products on tensor cores and of the kernels that use their sums:
//! `kernels/correlate.cu`, `gram.cu`, `reduce.cu` and `candidates.cu`.

use super::super::array::{Array, HalfMatrix, HalfRows, Scalar};
use super::super::{Device, DeviceKernel, KernelArg};
use super::{THREADS, u32_of, whole, whole_mut};
use crate::error::Result;

/// Rows and columns of a tile.
const TILE: usize = 128;

/// Number of bins of equal width of the histogram of ρ, from −1 to 1.
pub const BINS: usize = 100;

/// Number of power sums of ρ per tile: the count, and Σρ to Σρ⁴.
const POWERS: usize = 5;

/// Returns the four arguments of an operand: values, rows, leading dimension, plane.
fn operand<'a, D: Device>(x: &HalfRows<'a, D>) -> [KernelArg<'a, D::Memory>; 4] {
    [
        KernelArg::In(&x.of.values.memory, x.start()),
        u32_of(x.len()),
        u32_of(x.of.ld()),
        KernelArg::U64(x.of.plane()),
    ]
}

/// Checks that both operands have `k` columns and the same format. Returns the number of terms.
fn terms<D: Device>(x: &HalfRows<D>, y: &HalfRows<D>, k: usize) -> u32 {
    assert!(k <= x.of.cols && k <= y.of.cols, "{k} of {} and {} columns", x.of.cols, y.of.cols);
    assert_eq!(x.of.form, y.of.form, "operands in two forms");
    x.of.form.terms()
}

/// The destination of a product.
#[derive(Debug)]
pub struct ProductTarget<'a, D: Device> {
    /// Row-major values.
    pub values: &'a mut Array<D, f32>,
    /// Index of the first value.
    pub at: usize,
    /// Distance between rows, in values.
    pub ld: usize,
    /// Whether the product is added to the values instead of replacing them.
    pub add: bool,
}

/// Computes `C[m, n] (+)= X Yᵀ (+ bias)` over the first `k` columns.
///
/// # Errors
///
/// Returns an error if the launch fails.
///
/// # Panics
///
/// Panics if the shapes do not fit.
pub fn product<D: Device>(
    device: &D,
    (x, y, k): (&HalfRows<D>, &HalfRows<D>, usize),
    c: ProductTarget<D>,
    bias: Option<&Array<D, f32>>,
) -> Result<()> {
    let (m, n) = (x.len(), y.len());
    let terms = terms(x, y, k);
    assert!(
        c.ld >= n && c.values.len() >= c.at + (m.max(1) - 1) * c.ld + n,
        "no room for {m} x {n}"
    );
    let [xv, xm, xl, xp] = operand(x);
    let [yv, yn, yl, yp] = operand(y);
    let out = KernelArg::Out(&mut c.values.memory, c.at * f32::BYTES);
    let bias = bias.map_or(KernelArg::Null, |bias| whole(bias, n));
    let (k, ld) = (u32_of(k), u32_of(c.ld));
    let args = [
        xv,
        xm,
        xl,
        xp,
        yv,
        yn,
        yl,
        yp,
        k,
        KernelArg::U32(terms),
        out,
        ld,
        KernelArg::U32(c.add.into()),
        bias,
    ];
    let grid = [n.div_ceil(TILE), m.div_ceil(TILE), 1];
    device.launch(DeviceKernel::Product(x.of.form.number), grid, &mut { args })
}

/// Computes `C[m, m] += X Xᵀ` over the first `k` columns.
///
/// # Errors
///
/// Returns an error if the launch fails.
///
/// # Panics
///
/// Panics if the shapes do not fit.
pub fn gram<D: Device>(
    device: &D,
    x: &HalfRows<D>,
    k: usize,
    c: &mut Array<D, f32>,
    at: usize,
) -> Result<()> {
    let m = x.len();
    let terms = terms(x, x, k);
    assert!(c.len() >= at + m * m, "no room for {m} x {m}");
    let [xv, xm, xl, xp] = operand(x);
    let out = KernelArg::Out(&mut c.memory, at * f32::BYTES);
    let tiles = m.div_ceil(TILE);
    let mut args = [xv, xm, xl, xp, u32_of(k), KernelArg::U32(terms), out, u32_of(m)];
    device.launch(DeviceKernel::Gram(x.of.form.number), [tiles * (tiles + 1) / 2, 1, 1], &mut args)
}

/// Σx and 1 / √(Σx² − (Σx)²/n) for each row of an operand; the latter is NaN if the neuron has no
/// correlation.
#[derive(Debug)]
pub struct OperandSums<'a, D: Device> {
    /// Σx of every neuron.
    pub sum: &'a Array<D, f32>,
    /// 1 / spread of every neuron.
    pub inverse: &'a Array<D, f32>,
    /// Index of the first row's neuron.
    pub at: usize,
}

impl<D: Device> OperandSums<'_, D> {
    fn args(&self, rows: usize) -> [KernelArg<'_, D::Memory>; 2] {
        let one = |array: &'_ Array<D, f32>| {
            assert!(array.len() >= self.at + rows, "no {rows} values from {} on", self.at);
        };
        one(self.sum);
        one(self.inverse);
        let at = self.at * f32::BYTES;
        [KernelArg::In(&self.sum.memory, at), KernelArg::In(&self.inverse.memory, at)]
    }
}

/// The best partners and the distribution of ρ for one block of rows and columns.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockMatches {
    /// `[best][rows]`, largest first; NaN in unused slots.
    pub rho: Vec<f32>,
    /// `[best][rows]`: the column of the partner.
    pub partner: Vec<u32>,
    /// Number of correlations in each bin.
    pub histogram: Vec<u64>,
    /// The count, and Σρ to Σρ⁴.
    pub powers: [f64; POWERS],
}

/// Device buffers for the matches of each tile.
#[derive(Debug)]
struct MatchBuffers<D: Device> {
    rho: Array<D, f32>,
    partner: Array<D, u32>,
    histogram: Array<D, u64>,
    powers: Array<D, f32>,
    rows: usize,
    tiles: [usize; 2],
    best: usize,
}

impl<D: Device> MatchBuffers<D> {
    fn new(device: &D, m: usize, n: usize, best: usize) -> Result<Self> {
        let tiles = [n.div_ceil(TILE), m.div_ceil(TILE)];
        Ok(Self {
            rho: Array::new(device, tiles[0] * best * m)?,
            partner: Array::new(device, tiles[0] * best * m)?,
            histogram: Array::zeros(device, BINS)?,
            powers: Array::new(device, tiles[0] * tiles[1] * POWERS)?,
            rows: m,
            tiles,
            best,
        })
    }

    fn args(&mut self) -> [KernelArg<'_, D::Memory>; 5] {
        [
            KernelArg::Out(&mut self.rho.memory, 0),
            KernelArg::Out(&mut self.partner.memory, 0),
            u32_of(self.best),
            KernelArg::Out(&mut self.histogram.memory, 0),
            KernelArg::Out(&mut self.powers.memory, 0),
        ]
    }

    fn grid(&self) -> [usize; 3] {
        [self.tiles[0], self.tiles[1], 1]
    }

    /// Merges the matches of all tiles.
    fn finish(self, device: &D) -> Result<BlockMatches> {
        let len = self.best * self.rows;
        let mut rho = Array::<D, f32>::new(device, len)?;
        let mut partner = Array::<D, u32>::new(device, len)?;
        let mut args = [
            KernelArg::In(&self.rho.memory, 0),
            KernelArg::In(&self.partner.memory, 0),
            u32_of(self.tiles[0]),
            u32_of(self.best),
            u32_of(self.rows),
            KernelArg::U32(0),
            whole_mut(&mut rho, len),
            whole_mut(&mut partner, len),
        ];
        device.launch(DeviceKernel::MergeBest, [self.rows.div_ceil(THREADS), 1, 1], &mut args)?;
        let mut powers = [0.0; POWERS];
        for tile in self.powers.to_vec(device)?.chunks_exact(POWERS) {
            powers.iter_mut().zip(tile).for_each(|(all, &tile)| *all += f64::from(tile));
        }
        Ok(BlockMatches {
            rho: rho.to_vec(device)?,
            partner: partner.to_vec(device)?,
            histogram: self.histogram.to_vec(device)?,
            powers,
        })
    }
}

/// Correlates rows of x with rows of y over their first `k` columns, `k` tokens, and keeps the
/// `best` partners of each row of x. The matrix of ρ is never written.
///
/// # Errors
///
/// Returns an error if a launch fails.
///
/// # Panics
///
/// Panics if the shapes do not fit.
pub fn correlate<D: Device>(
    device: &D,
    (x, y, k): (&HalfRows<D>, &HalfRows<D>, usize),
    (of_x, of_y): (&OperandSums<D>, &OperandSums<D>),
    tokens: f64,
    best: usize,
) -> Result<BlockMatches> {
    let (m, n) = (x.len(), y.len());
    let terms = terms(x, y, k);
    let mut found = MatchBuffers::new(device, m, n, best)?;
    let grid = found.grid();
    let [xv, xm, xl, xp] = operand(x);
    let [yv, yn, yl, yp] = operand(y);
    let [a, b, c, d] = sides((of_x, m), (of_y, n));
    let [f0, f1, f2, f3, f4] = found.args();
    let (k, per_token) = (u32_of(k), KernelArg::F32((1.0 / tokens) as f32));
    let terms = KernelArg::U32(terms);
    let mut args =
        [xv, xm, xl, xp, yv, yn, yl, yp, k, terms, a, b, c, d, per_token, f0, f1, f2, f3, f4];
    device.launch(DeviceKernel::Fused(x.of.form.number), grid, &mut args)?;
    found.finish(device)
}

/// Stored sums of products `[m, n]`, starting at value `at`, with rows `ld` values apart.
#[derive(Debug)]
pub struct StoredSums<'a, D: Device> {
    /// The array of sums.
    pub values: &'a Array<D, f32>,
    /// Index of the first sum.
    pub at: usize,
    /// Distance between rows, in values.
    pub ld: usize,
    /// Number of rows and columns.
    pub shape: (usize, usize),
}

impl<D: Device> StoredSums<'_, D> {
    fn arg(&self) -> KernelArg<'_, D::Memory> {
        let (m, n) = self.shape;
        let end = self.at + (m.max(1) - 1) * self.ld + n;
        assert!(self.ld >= n && self.values.len() >= end, "no {m} x {n} sums there");
        KernelArg::In(&self.values.memory, self.at * f32::BYTES)
    }
}

/// Like [`correlate`], but from stored sums.
///
/// # Errors
///
/// Returns an error if a launch fails.
///
/// # Panics
///
/// Panics if the shapes do not fit.
pub fn judge_sums<D: Device>(
    device: &D,
    c: &StoredSums<D>,
    (of_x, of_y): (&OperandSums<D>, &OperandSums<D>),
    tokens: f64,
    best: usize,
) -> Result<BlockMatches> {
    let (m, n) = c.shape;
    let mut found = MatchBuffers::new(device, m, n, best)?;
    let grid = found.grid();
    let [x0, x1, y0, y1] = sides((of_x, m), (of_y, n));
    let [f0, f1, f2, f3, f4] = found.args();
    let per_token = KernelArg::F32((1.0 / tokens) as f32);
    let (m, n, ld) = (u32_of(m), u32_of(n), u32_of(c.ld));
    let mut args = [c.arg(), m, n, ld, x0, x1, y0, y1, per_token, f0, f1, f2, f3, f4];
    device.launch(DeviceKernel::JudgeSums, grid, &mut args)?;
    found.finish(device)
}

/// Computes the operand `out = (C − Σx Σy / n) / spread_x · unit`, `[m, n]`; 0 in columns without
/// correlation.
///
/// # Errors
///
/// Returns an error if the launch fails.
///
/// # Panics
///
/// Panics if the shapes do not fit.
pub fn scale_sums<D: Device>(
    device: &D,
    c: &StoredSums<D>,
    (of_x, of_y): (&OperandSums<D>, &OperandSums<D>),
    (tokens, unit): (f64, f32),
    out: &mut HalfMatrix<D>,
) -> Result<()> {
    let (m, n) = c.shape;
    assert!(out.rows >= m && out.cols >= n, "`out` has no room for {m} x {n}");
    let (ld, plane, number) = (out.ld(), out.plane(), out.form.number);
    let [x0, x1, y0, y1] = sides((of_x, m), (of_y, n));
    let mut args = [
        c.arg(),
        u32_of(n),
        u32_of(c.ld),
        x0,
        x1,
        y0,
        y1,
        KernelArg::F32((1.0 / tokens) as f32),
        KernelArg::F32(unit),
        KernelArg::Out(&mut out.values.memory, 0),
        u32_of(ld),
        KernelArg::U64(plane),
    ];
    device.launch(DeviceKernel::ScaleSums(number), [n.div_ceil(THREADS), m, 1], &mut args)
}

fn sides<'a, D: Device>(
    (x, m): (&'a OperandSums<D>, usize),
    (y, n): (&'a OperandSums<D>, usize),
) -> [KernelArg<'a, D::Memory>; 4] {
    let ([x0, x1], [y0, y1]) = (x.args(m), y.args(n));
    [x0, x1, y0, y1]
}

/// Computes `sums[p] += Σ_t x[i_p, t] y[j_p, t]` over the first `tokens` columns.
///
/// # Errors
///
/// Returns an error if the launch fails.
///
/// # Panics
///
/// Panics if the shapes do not fit.
pub fn candidates<D: Device>(
    device: &D,
    (x, y, tokens): (&HalfMatrix<D>, &HalfMatrix<D>, usize),
    (i, j): (&Array<D, u32>, &Array<D, u32>),
    sums: &mut Array<D, f64>,
) -> Result<()> {
    terms(&x.all(), &y.all(), tokens);
    let pairs = i.len();
    let mut args = [
        KernelArg::In(&x.values.memory, 0),
        u32_of(x.ld()),
        KernelArg::U64(x.plane()),
        KernelArg::In(&y.values.memory, 0),
        u32_of(y.ld()),
        KernelArg::U64(y.plane()),
        u32_of(tokens),
        whole(i, pairs),
        whole(j, pairs),
        u32_of(pairs),
        whole_mut(sums, pairs),
    ];
    device.launch(DeviceKernel::Candidates(x.form.number), [pairs.div_ceil(8), 1, 1], &mut args)
}

/// Copies rows and columns of a matrix to the first columns of `out`: `out[r][c] = x[rows[r]]
/// [columns[c]]`. `None` stands for all rows, or for all columns of `out`, in order.
///
/// # Errors
///
/// Returns an error if the launch fails.
///
/// # Panics
///
/// Panics if the shapes do not fit. The indices are not checked.
pub fn gather<D: Device>(
    device: &D,
    x: &HalfMatrix<D>,
    rows: Option<&Array<D, u32>>,
    columns: Option<&Array<D, u32>>,
    out: &mut HalfMatrix<D>,
) -> Result<()> {
    let height = rows.map_or(x.rows, Array::len);
    let width = columns.map_or(x.cols.min(out.cols), Array::len);
    assert_eq!(x.form, out.form, "two forms");
    assert!(out.rows == height && out.cols >= width, "`out` is not {height} x {width}");
    let (ld, plane) = (out.ld(), out.plane());
    let mut args = [
        KernelArg::In(&x.values.memory, 0),
        u32_of(x.ld()),
        KernelArg::U64(x.plane()),
        rows.map_or(KernelArg::Null, |rows| whole(rows, height)),
        columns.map_or(KernelArg::Null, |columns| whole(columns, width)),
        u32_of(width),
        KernelArg::Out(&mut out.values.memory, 0),
        u32_of(ld),
        KernelArg::U64(plane),
    ];
    device.launch(DeviceKernel::Gather, [height, width.div_ceil(THREADS), 1], &mut args)
}
