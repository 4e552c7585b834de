//! Sums of products in device memory.

use std::io;
use std::ops::Range;

use super::half_tokens::failed;
use crate::backend::device::Device;
use crate::backend::device::array::Array;
use crate::checkpoint::{Part, State, Visit};
use crate::error::Result;

/// Sums of products in device memory, `[rows, ld]`.
pub struct ProductSums<'a, D: Device> {
    device: &'a D,
    /// Distance between rows.
    pub ld: usize,
    /// First row: the first neuron of the layers that are summed.
    pub first: usize,
    /// The sums, row-major.
    pub values: Array<D, f32>,
}

impl<'a, D: Device> ProductSums<'a, D> {
    /// Creates sums of zero for some rows.
    ///
    /// # Errors
    /// Returns an error if the device has too little memory.
    pub fn zeros(device: &'a D, rows: Range<usize>, ld: usize) -> Result<Self> {
        let values = Array::zeros(device, rows.len() * ld)?;
        Ok(Self { device, ld, first: rows.start, values })
    }
}

/// Number of values that are copied between host and device at a time.
const AT_ONCE: usize = 1 << 20;

impl<D: Device> State for ProductSums<'_, D> {
    /// Visits the sums, a few at a time.
    fn parts(&mut self, visit: Visit) -> io::Result<()> {
        let Self { device, values, .. } = self;
        for start in (0..values.len()).step_by(AT_ONCE) {
            let before = values.read(*device, start..(start + AT_ONCE).min(values.len()));
            let before = before.map_err(failed)?;
            let mut numbers: Vec<f64> = before.iter().map(|&v| v.into()).collect();
            visit(Part::Numbers(&mut numbers))?;
            let after: Vec<f32> = numbers.iter().map(|&v| v as f32).collect();
            if after.iter().zip(&before).any(|(a, b)| a.to_bits() != b.to_bits()) {
                values.write_at(*device, start, &after).map_err(failed)?;
            }
        }
        Ok(())
    }
}
