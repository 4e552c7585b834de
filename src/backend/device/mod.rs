//! A graphics processor, or whatever can execute the kernels of `kernels/`.
//!
//! [`Device`] is all that the rest of the program asks of one: memory, and launches
//! of a closed set of kernels. [`cuda`] is an NVIDIA card through its driver; the
//! tests have a virtual machine that executes the same PTX, so that everything
//! above this trait is proved on machines without a card.

pub mod array;
pub mod cuda;
mod kernel;
pub mod ops;

pub use kernel::{DeviceKernel, HalfType, PtxModule};

use crate::error::Result;

/// Threads of a block, for every kernel.
pub const THREADS: u32 = 256;

/// An argument of a kernel, in the order of its source.
#[derive(Debug)]
pub enum KernelArg<'a, M> {
    /// Memory that the kernel reads, from so many bytes on.
    In(&'a M, usize),
    /// Memory that the kernel writes, and may read, from so many bytes on.
    Out(&'a mut M, usize),
    /// No memory.
    Null,
    /// A 32-bit integer.
    U32(u32),
    /// A 64-bit integer.
    U64(u64),
    /// A 32-bit float.
    F32(f32),
}

/// Something with memory of its own that executes kernels.
pub trait Device {
    /// A piece of its memory.
    type Memory: std::fmt::Debug;

    /// What it is, in a few words for the user.
    fn name(&self) -> String;

    /// Bytes of memory that are free.
    ///
    /// # Errors
    /// If the device does not answer.
    fn free(&self) -> Result<usize>;

    /// Memory of so many bytes, whose content is undefined.
    ///
    /// # Errors
    /// If there is not so much.
    fn allocate(&self, bytes: usize) -> Result<Self::Memory>;

    /// Copies bytes to the device, from byte `at` of the memory on.
    ///
    /// # Errors
    /// If they do not fit, or the device fails.
    fn write(&self, memory: &mut Self::Memory, at: usize, bytes: &[u8]) -> Result<()>;

    /// Copies bytes from the device, once all launches before have ended.
    ///
    /// # Errors
    /// If there are not so many, or the device or a launch before has failed.
    fn read(&self, memory: &Self::Memory, at: usize, bytes: &mut [u8]) -> Result<()>;

    /// Sets all of the memory to zero.
    ///
    /// # Errors
    /// If the device fails.
    fn clear(&self, memory: &mut Self::Memory) -> Result<()>;

    /// Executes a kernel on a grid of blocks of [`THREADS`] threads, after all launches before.
    ///
    /// Kernels check no bounds of their arguments beyond what their sizes say: only
    /// [`ops`], which checks them, should call this.
    ///
    /// # Errors
    /// If the device fails.
    fn launch(
        &self,
        kernel: DeviceKernel,
        grid: [usize; 3],
        args: &mut [KernelArg<'_, Self::Memory>],
    ) -> Result<()>;
}
