//! Launches of `kernels/change.cu`.

use super::super::array::{Array, HalfMatrix};
use super::super::{Device, DeviceKernel, KernelArg};
use super::{THREADS, u32_of, whole, whole_mut};
use crate::error::Result;

/// A change of some columns of activations: `x = min(max(x scale + add, low), high)`.
#[derive(Debug)]
pub struct PlacedChange<D: Device> {
    columns: Array<D, u32>,
    /// `[columns][4]`: scale, add, low, high.
    rules: Array<D, f32>,
    /// 0 for each token that stays as it is; `None` if all are changed.
    marks: Option<Array<D, u32>>,
}

impl<D: Device> PlacedChange<D> {
    /// Copies a change to the device. `rules` holds scale, add, low and high of each column, and
    /// `marks` is 0 for each token that stays as it is.
    ///
    /// # Errors
    ///
    /// Returns an error if the device fails.
    ///
    /// # Panics
    ///
    /// Panics if a column occurs twice, or without a rule for each column.
    pub fn of(
        device: &D,
        columns: &[usize],
        rules: &[[f32; 4]],
        marks: Option<&[bool]>,
    ) -> Result<Self> {
        assert_eq!(columns.len(), rules.len(), "a rule for each column");
        let mut sorted = columns.to_vec();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[0] < pair[1]), "a column occurs twice");
        let columns: Vec<u32> = columns.iter().map(|&column| super::int(column)).collect();
        let marks = marks.map(|marks| {
            Array::of(device, &marks.iter().map(|&mark| mark.into()).collect::<Vec<u32>>())
        });
        Ok(Self {
            columns: Array::of(device, &columns)?,
            rules: Array::of(device, rules.as_flattened())?,
            marks: marks.transpose()?,
        })
    }

    /// Returns the arguments that both kernels end with.
    fn arguments(&self, tokens: usize) -> [KernelArg<'_, D::Memory>; 4] {
        let count = self.columns.len();
        [
            whole(&self.columns, count),
            whole(&self.rules, 4 * count),
            self.marks.as_ref().map_or(KernelArg::Null, |marks| whole(marks, tokens)),
            u32_of(count),
        ]
    }

    fn grid(&self, tokens: usize) -> [usize; 3] {
        [tokens, self.columns.len().div_ceil(THREADS), 1]
    }
}

/// Changes columns of `x`, `[tokens, width]`.
///
/// # Errors
///
/// Returns an error if the launch fails.
///
/// # Panics
///
/// Panics if the shapes do not fit. That columns exist is not checked.
pub fn change_values<D: Device>(
    device: &D,
    x: &mut Array<D, f32>,
    (tokens, width): (usize, usize),
    change: &PlacedChange<D>,
) -> Result<()> {
    let [columns, rules, marks, count] = change.arguments(tokens);
    let x = whole_mut(x, tokens * width);
    let mut args = [x, u32_of(width), columns, rules, marks, count];
    device.launch(DeviceKernel::ChangeValues, change.grid(tokens), &mut args)
}

/// Changes columns of an operand. A changed value is rounded to the operand's format.
///
/// # Errors
///
/// Returns an error if the launch fails.
///
/// # Panics
///
/// Panics if the shapes do not fit. That columns exist is not checked.
pub fn change_operand<D: Device>(
    device: &D,
    x: &mut HalfMatrix<D>,
    change: &PlacedChange<D>,
) -> Result<()> {
    let (tokens, ld, plane) = (x.rows, x.ld(), x.plane());
    let kernel = DeviceKernel::ChangeOperand(x.form.number);
    let [columns, rules, marks, count] = change.arguments(tokens);
    let x = KernelArg::Out(&mut x.values.memory, 0);
    let mut args = [x, u32_of(ld), KernelArg::U64(plane), columns, rules, marks, count];
    device.launch(kernel, change.grid(tokens), &mut args)
}
