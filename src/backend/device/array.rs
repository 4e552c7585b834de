//! Typed arrays in the memory of a device.

use std::marker::PhantomData;
use std::ops::Range;

use half::{bf16, f16};

use super::{Device, HalfType};
use crate::error::Result;

/// A number type that can be copied to and from a device.
pub trait Scalar: Copy {
    /// Size in bytes.
    const BYTES: usize;
    /// Appends the little-endian bytes of the number to `out`.
    fn put(self, out: &mut Vec<u8>);
    /// Reads a number from its little-endian bytes.
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! plain {
    ($($number:ty),*) => {$(
        impl Scalar for $number {
            const BYTES: usize = size_of::<Self>();
            fn put(self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }
            fn get(bytes: &[u8]) -> Self {
                let mut exact = [0; size_of::<Self>()];
                exact.copy_from_slice(bytes);
                Self::from_le_bytes(exact)
            }
        }
    )*};
}

plain!(u16, u32, i32, u64, f32, f64);

fn bytes_of<T: Scalar>(values: &[T]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * T::BYTES);
    values.iter().for_each(|v| v.put(&mut bytes));
    bytes
}

/// An array of numbers in device memory.
#[derive(Debug)]
pub struct Array<D: Device, T> {
    pub(in crate::backend::device) memory: D::Memory,
    len: usize,
    of: PhantomData<T>,
}

impl<D: Device, T: Scalar> Array<D, T> {
    /// Allocates `len` numbers of undefined content.
    ///
    /// # Errors
    ///
    /// Returns an error if the device has too little memory.
    pub fn new(device: &D, len: usize) -> Result<Self> {
        let memory = device.allocate(len * T::BYTES)?;
        Ok(Self { memory, len, of: PhantomData })
    }

    /// Allocates `len` zeros.
    ///
    /// # Errors
    ///
    /// Returns an error if the device has too little memory.
    pub fn zeros(device: &D, len: usize) -> Result<Self> {
        let mut array = Self::new(device, len)?;
        device.clear(&mut array.memory)?;
        Ok(array)
    }

    /// Copies `values` to the device.
    ///
    /// # Errors
    ///
    /// Returns an error if the device has too little memory.
    pub fn of(device: &D, values: &[T]) -> Result<Self> {
        let mut array = Self::new(device, values.len())?;
        device.write(&mut array.memory, 0, &bytes_of(values))?;
        Ok(array)
    }

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the array has no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the underlying memory.
    pub fn memory(&self) -> &D::Memory {
        &self.memory
    }

    /// Replaces the first elements.
    ///
    /// # Errors
    ///
    /// Returns an error if the values do not fit or the device fails.
    pub fn write(&mut self, device: &D, values: &[T]) -> Result<()> {
        self.write_at(device, 0, values)
    }

    /// Replaces the elements from index `at` on.
    ///
    /// # Errors
    ///
    /// Returns an error if the values do not fit or the device fails.
    pub fn write_at(&mut self, device: &D, at: usize, values: &[T]) -> Result<()> {
        device.write(&mut self.memory, at * T::BYTES, &bytes_of(values))
    }

    /// Sets all elements to zero.
    ///
    /// # Errors
    ///
    /// Returns an error if the device fails.
    pub fn clear(&mut self, device: &D) -> Result<()> {
        device.clear(&mut self.memory)
    }

    /// Copies a range of elements to the host.
    ///
    /// # Errors
    ///
    /// Returns an error if the copy or an earlier launch failed.
    pub fn read(&self, device: &D, range: Range<usize>) -> Result<Vec<T>> {
        let mut bytes = vec![0; range.len() * T::BYTES];
        device.read(&self.memory, range.start * T::BYTES, &mut bytes)?;
        Ok(bytes.chunks_exact(T::BYTES).map(T::get).collect())
    }

    /// Copies all elements to the host.
    ///
    /// # Errors
    ///
    /// Returns an error if the copy or an earlier launch failed.
    pub fn to_vec(&self, device: &D) -> Result<Vec<T>> {
        self.read(device, 0..self.len)
    }
}

impl HalfType {
    /// Rounds a number to sixteen bits. Finite values beyond the range of f16 become ±65,504, as in
    /// the kernels.
    pub fn round(self, x: f32) -> u16 {
        match self {
            Self::F16 if x.is_finite() => {
                f16::from_f32(x.clamp(f16::MIN.to_f32(), f16::MAX.to_f32())).to_bits()
            }
            Self::F16 => f16::from_f32(x).to_bits(),
            Self::Bf16 => bf16::from_f32(x).to_bits(),
        }
    }

    /// Returns the value of a number in sixteen bits.
    pub fn widen(self, bits: u16) -> f32 {
        match self {
            Self::F16 => f16::from_bits(bits).to_f32(),
            Self::Bf16 => bf16::from_bits(bits).to_f32(),
        }
    }
}

/// How values are rounded to sixteen bits as factors of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HalfFormat {
    /// The sixteen-bit number type.
    pub number: HalfType,
    /// Whether the rounding error of each value is kept in a second plane (value ≈ hi + lo), so
    /// that products are nearly as accurate as in f32.
    pub split: bool,
}

impl HalfFormat {
    /// Returns the number of products of planes that make up one product: 3 if split (hi·hi + hi·lo
    /// + lo·hi), otherwise 1.
    pub fn terms(self) -> u32 {
        if self.split { 3 } else { 1 }
    }

    /// Returns the number of planes: 2 if split, otherwise 1.
    pub fn planes(self) -> usize {
        if self.split { 2 } else { 1 }
    }
}

/// A matrix `[rows, cols]` in sixteen bits, with `cols` contiguous: an operand of products over
/// `cols`. Rows start every `ld` values, a multiple of 8.
#[derive(Debug)]
pub struct HalfMatrix<D: Device> {
    pub(super) values: Array<D, u16>,
    /// The format of the values.
    pub form: HalfFormat,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns allocated.
    pub cols: usize,
}

impl<D: Device> HalfMatrix<D> {
    /// Allocates a matrix of undefined content.
    ///
    /// # Errors
    ///
    /// Returns an error if the device has too little memory.
    pub fn new(device: &D, rows: usize, cols: usize, form: HalfFormat) -> Result<Self> {
        let len = rows * cols.next_multiple_of(8) * form.planes();
        Ok(Self { values: Array::new(device, len)?, form, rows, cols })
    }

    /// Rounds a matrix on the host and copies it to the device; `value(row, col)` is called for
    /// each element.
    ///
    /// # Errors
    ///
    /// Returns an error if the device has too little memory.
    pub fn of(
        device: &D,
        (rows, cols): (usize, usize),
        form: HalfFormat,
        value: impl Fn(usize, usize) -> f32,
    ) -> Result<Self> {
        let planes = planes((rows, cols), form, value);
        Ok(Self { values: Array::of(device, &planes)?, form, rows, cols })
    }

    /// Replaces all values with `values`, `[rows, cols]`, rounded on the host.
    ///
    /// # Errors
    ///
    /// Returns an error if the device fails.
    pub fn write(&mut self, device: &D, values: &[f32]) -> Result<()> {
        let cols = self.cols;
        let planes = planes((self.rows, cols), self.form, |row, col| values[row * cols + col]);
        self.values.write(device, &planes)
    }

    /// Returns the numbers as stored: `[planes][rows][ld]`.
    pub fn values(&self) -> &Array<D, u16> {
        &self.values
    }

    /// Returns the distance between rows, in values.
    pub fn ld(&self) -> usize {
        self.cols.next_multiple_of(8)
    }

    /// Returns the distance between the two planes, in values; 0 if there is only one.
    pub fn plane(&self) -> u64 {
        if self.form.split { (self.rows * self.ld()) as u64 } else { 0 }
    }

    /// Returns a view of some rows.
    pub fn rows(&self, rows: Range<usize>) -> HalfRows<'_, D> {
        assert!(rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        HalfRows { of: self, rows }
    }

    /// Returns a view of all rows.
    pub fn all(&self) -> HalfRows<'_, D> {
        self.rows(0..self.rows)
    }

    /// Copies the first `cols` columns to the host, widened to f32, `[rows, cols]`.
    ///
    /// # Errors
    ///
    /// Returns an error if the copy or an earlier launch failed.
    pub fn to_vec(&self, device: &D, cols: usize) -> Result<Vec<f32>> {
        let planes: Vec<Vec<u16>> = (0..self.form.planes())
            .map(|plane| self.read_plane(device, plane, cols))
            .collect::<Result<_>>()?;
        let widened = |bits: &u16| self.form.number.widen(*bits);
        let first = planes[0].iter().map(widened);
        Ok(match planes.get(1) {
            Some(second) => first.zip(second).map(|(high, low)| high + widened(low)).collect(),
            None => first.collect(),
        })
    }

    /// Replaces the first `cols` columns of a plane; `bits(row, col)` is called for each element.
    ///
    /// # Errors
    ///
    /// Returns an error if the device fails.
    ///
    /// # Panics
    ///
    /// Panics if the matrix has fewer columns.
    pub fn write_plane(
        &mut self,
        device: &D,
        plane: usize,
        cols: usize,
        bits: impl Fn(usize, usize) -> u16,
    ) -> Result<()> {
        assert!(cols <= self.cols, "{cols} of {} columns", self.cols);
        let (ld, start) = (self.ld(), plane * self.rows * self.ld());
        for row in 0..self.rows {
            let values: Vec<u16> = (0..cols).map(|col| bits(row, col)).collect();
            self.values.write_at(device, start + row * ld, &values)?;
        }
        Ok(())
    }

    /// Copies the first `cols` columns of a plane to the host, `[rows, cols]`, as stored.
    ///
    /// # Errors
    ///
    /// Returns an error if the copy or an earlier launch failed.
    pub fn read_plane(&self, device: &D, plane: usize, cols: usize) -> Result<Vec<u16>> {
        let (ld, start) = (self.ld(), plane * self.rows * self.ld());
        if cols == ld {
            return self.values.read(device, start..start + self.rows * ld);
        }
        // What lies between the rows may never have been written.
        let rows = (0..self.rows).map(|row| start + row * ld);
        let rows = rows.map(|at| self.values.read(device, at..at + cols));
        Ok(rows.collect::<Result<Vec<_>>>()?.concat())
    }
}

/// Rounds a matrix to the planes of a format, `[planes][rows][ld]`.
fn planes(
    (rows, cols): (usize, usize),
    form: HalfFormat,
    value: impl Fn(usize, usize) -> f32,
) -> Vec<u16> {
    let ld = cols.next_multiple_of(8);
    let mut planes = vec![0_u16; rows * ld * form.planes()];
    let (first, second) = planes.split_at_mut(rows * ld);
    for row in 0..rows {
        for col in 0..cols {
            let (x, at) = (value(row, col), row * ld + col);
            first[at] = form.number.round(x);
            if form.split {
                second[at] = form.number.round(x - form.number.widen(first[at]));
            }
        }
    }
    planes
}

/// A view of some rows of a [`HalfMatrix`].
#[derive(Debug, Clone)]
pub struct HalfRows<'a, D: Device> {
    pub(super) of: &'a HalfMatrix<D>,
    /// The rows of the matrix.
    pub rows: Range<usize>,
}

impl<D: Device> HalfRows<'_, D> {
    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the byte offset of the first row.
    pub(super) fn start(&self) -> usize {
        self.rows.start * self.of.ld() * u16::BYTES
    }
}
