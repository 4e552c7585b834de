//! Typed arrays in the memory of a device.

use std::marker::PhantomData;
use std::ops::Range;

use half::{bf16, f16};

use super::{Device, HalfType};
use crate::error::Result;

/// A number as it lies in memory.
pub trait Scalar: Copy {
    /// Its size.
    const BYTES: usize;
    /// Appends its bytes.
    fn put(self, out: &mut Vec<u8>);
    /// From its bytes.
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

/// Numbers of one type in the memory of a device.
#[derive(Debug)]
pub struct Array<D: Device, T> {
    pub(in crate::backend::device) memory: D::Memory,
    len: usize,
    of: PhantomData<T>,
}

impl<D: Device, T: Scalar> Array<D, T> {
    /// So many numbers, undefined until they are written.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn new(device: &D, len: usize) -> Result<Self> {
        let memory = device.allocate(len * T::BYTES)?;
        Ok(Self { memory, len, of: PhantomData })
    }

    /// So many zeros.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn zeros(device: &D, len: usize) -> Result<Self> {
        let mut array = Self::new(device, len)?;
        device.clear(&mut array.memory)?;
        Ok(array)
    }

    /// A copy of these.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn of(device: &D, values: &[T]) -> Result<Self> {
        let mut array = Self::new(device, values.len())?;
        device.write(&mut array.memory, 0, &bytes_of(values))?;
        Ok(array)
    }

    /// Numbers held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where they lie.
    pub fn memory(&self) -> &D::Memory {
        &self.memory
    }

    /// Sets all to zero.
    ///
    /// # Errors
    /// If the device fails.
    pub fn clear(&mut self, device: &D) -> Result<()> {
        device.clear(&mut self.memory)
    }

    /// Copies some from the device.
    ///
    /// # Errors
    /// If a launch before this has failed.
    pub fn read(&self, device: &D, range: Range<usize>) -> Result<Vec<T>> {
        let mut bytes = vec![0; range.len() * T::BYTES];
        device.read(&self.memory, range.start * T::BYTES, &mut bytes)?;
        Ok(bytes.chunks_exact(T::BYTES).map(T::get).collect())
    }

    /// Copies all from the device.
    ///
    /// # Errors
    /// As [`Array::read`].
    pub fn to_vec(&self, device: &D) -> Result<Vec<T>> {
        self.read(device, 0..self.len)
    }
}

impl HalfType {
    /// The nearest number of sixteen bits. f16 stops at ±65,504, like the kernels.
    pub fn round(self, x: f32) -> u16 {
        match self {
            Self::F16 if x.is_finite() => {
                f16::from_f32(x.clamp(f16::MIN.to_f32(), f16::MAX.to_f32())).to_bits()
            }
            Self::F16 => f16::from_f32(x).to_bits(),
            Self::Bf16 => bf16::from_f32(x).to_bits(),
        }
    }

    /// Its value.
    pub fn widen(self, bits: u16) -> f32 {
        match self {
            Self::F16 => f16::from_bits(bits).to_f32(),
            Self::Bf16 => bf16::from_bits(bits).to_f32(),
        }
    }
}

/// How values enter a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HalfFormat {
    /// What they are rounded to.
    pub number: HalfType,
    /// Whether what is rounded away is kept in a second plane, so that products are
    /// nearly those of f32.
    pub split: bool,
}

impl HalfFormat {
    /// Products of planes that a product is the sum of.
    pub fn terms(self) -> u32 {
        if self.split { 3 } else { 1 }
    }

    /// Planes that values take.
    pub fn planes(self) -> usize {
        if self.split { 2 } else { 1 }
    }
}

/// A matrix `[rows, cols]` in sixteen bits, `cols` contiguous: an operand of products
/// over `cols`. Rows begin every `ld` values, a multiple of 8.
#[derive(Debug)]
pub struct HalfMatrix<D: Device> {
    pub(super) values: Array<D, u16>,
    /// How values are held.
    pub form: HalfFormat,
    /// Rows.
    pub rows: usize,
    /// Columns that there is room for.
    pub cols: usize,
}

impl<D: Device> HalfMatrix<D> {
    /// Undefined values.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn new(device: &D, rows: usize, cols: usize, form: HalfFormat) -> Result<Self> {
        let len = rows * cols.next_multiple_of(8) * form.planes();
        Ok(Self { values: Array::new(device, len)?, form, rows, cols })
    }

    /// A matrix rounded on the host; `value(row, col)` is asked for each.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn of(
        device: &D,
        (rows, cols): (usize, usize),
        form: HalfFormat,
        value: impl Fn(usize, usize) -> f32,
    ) -> Result<Self> {
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
        Ok(Self { values: Array::of(device, &planes)?, form, rows, cols })
    }

    /// The numbers as they lie in memory: `[planes][rows][ld]`.
    pub fn values(&self) -> &Array<D, u16> {
        &self.values
    }

    /// Values from one row to the next.
    pub fn ld(&self) -> usize {
        self.cols.next_multiple_of(8)
    }

    /// Values from the first plane to the second; 0 where there is none.
    pub fn plane(&self) -> u64 {
        if self.form.split { (self.rows * self.ld()) as u64 } else { 0 }
    }

    /// Some of its rows.
    pub fn rows(&self, rows: Range<usize>) -> HalfRows<'_, D> {
        assert!(rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        HalfRows { of: self, rows }
    }

    /// All of its rows.
    pub fn all(&self) -> HalfRows<'_, D> {
        self.rows(0..self.rows)
    }

    /// What the values mean, `[rows, cols]`.
    ///
    /// # Errors
    /// If a launch before this has failed.
    pub fn to_vec(&self, device: &D, cols: usize) -> Result<Vec<f32>> {
        let mut out = Vec::with_capacity(self.rows * cols);
        for row in 0..self.rows {
            let at = row * self.ld();
            let plane = |first: usize| self.values.read(device, first + at..first + at + cols);
            let number = self.form.number;
            let first = plane(0)?;
            let second = if self.form.split { plane(self.rows * self.ld())? } else { Vec::new() };
            out.extend(
                first.iter().enumerate().map(|(i, &v)| {
                    number.widen(v) + second.get(i).map_or(0.0, |&v| number.widen(v))
                }),
            );
        }
        Ok(out)
    }
}

/// Some rows of a matrix in sixteen bits.
#[derive(Debug, Clone)]
pub struct HalfRows<'a, D: Device> {
    pub(super) of: &'a HalfMatrix<D>,
    /// Which.
    pub rows: Range<usize>,
}

impl<D: Device> HalfRows<'_, D> {
    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes before the first.
    pub(super) fn start(&self) -> usize {
        self.rows.start * self.of.ld() * u16::BYTES
    }
}
