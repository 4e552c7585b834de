//! One function per kernel: checks the sizes, then launches. Shapes, equations and grids are
//! documented in the kernel's source in `kernels/`.

mod change;
mod elementwise;
mod products;

pub use change::{PlacedChange, change_operand, change_values};
pub use elementwise::{
    ACTIVATION_CHUNK, ACTIVATION_SUMS, ActivationBatch, Gelu, HISTOGRAM_BINS, MAX_D_HEAD,
    Sequences, activation, attention, embed, histogram, layer_norm, rotate,
};
pub use products::{
    BINS, BlockMatches, OperandSums, ProductTarget, StoredSums, candidates, correlate, gather,
    gram, judge_sums, product, scale_sums,
};

use super::array::{Array, Scalar};
use super::{Device, KernelArg};

/// Threads of a block.
const THREADS: usize = super::THREADS as usize;

fn int(n: usize) -> u32 {
    // No device can hold more elements than fit in 32 bits.
    u32::try_from(n).unwrap_or_else(|_| panic!("{n} does not fit in 32 bits"))
}

fn u32_of<'a, M>(n: usize) -> KernelArg<'a, M> {
    KernelArg::U32(int(n))
}

fn whole<D: Device, T: Scalar>(array: &Array<D, T>, len: usize) -> KernelArg<'_, D::Memory> {
    assert!(array.len() >= len, "an array of {} is shorter than {len}", array.len());
    KernelArg::In(&array.memory, 0)
}

fn whole_mut<D: Device, T: Scalar>(
    array: &mut Array<D, T>,
    len: usize,
) -> KernelArg<'_, D::Memory> {
    assert!(array.len() >= len, "an array of {} is shorter than {len}", array.len());
    KernelArg::Out(&mut array.memory, 0)
}
