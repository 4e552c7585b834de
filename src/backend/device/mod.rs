//! A graphics processor, or anything else that can execute the kernels of `kernels/`.
//!
//! [`Device`] is the whole interface to a device: memory, and launches of a closed set of kernels.
//! [`cuda`] is an NVIDIA GPU through its driver. The tests have a virtual machine that executes the
//! same PTX, so that all code above this trait is tested on machines without a GPU.

pub mod array;
pub mod cuda;
mod kernel;
pub mod ops;

pub use kernel::{DeviceKernel, HalfType, PtxModule};

use crate::error::Result;

/// Threads per block, for every kernel.
pub const THREADS: u32 = 256;

/// A kernel argument, in the order of the kernel's source.
#[derive(Debug)]
pub enum KernelArg<'a, M> {
    /// Memory that the kernel reads, starting at a byte offset.
    In(&'a M, usize),
    /// Memory that the kernel writes and may read, starting at a byte offset.
    Out(&'a mut M, usize),
    /// A null pointer.
    Null,
    /// A 32-bit integer.
    U32(u32),
    /// A 64-bit integer.
    U64(u64),
    /// A 32-bit float.
    F32(f32),
}

/// A device with its own memory that executes kernels.
pub trait Device: Send + Sync {
    /// An allocation in device memory.
    type Memory: std::fmt::Debug + Send;

    /// Returns a short description of the device for the user.
    fn name(&self) -> String;

    /// Returns the bytes of free memory.
    ///
    /// # Errors
    ///
    /// Returns an error if the device does not answer.
    fn free(&self) -> Result<usize>;

    /// Allocates `bytes` bytes of undefined content.
    ///
    /// # Errors
    ///
    /// Returns an error if the device has too little memory.
    fn allocate(&self, bytes: usize) -> Result<Self::Memory>;

    /// Copies `bytes` to the device, starting at byte `at` of `memory`.
    ///
    /// # Errors
    ///
    /// Returns an error if the bytes do not fit or the device fails.
    fn write(&self, memory: &mut Self::Memory, at: usize, bytes: &[u8]) -> Result<()>;

    /// Copies bytes from the device, starting at byte `at` of `memory`, after all earlier launches
    /// have finished.
    ///
    /// # Errors
    ///
    /// Returns an error if the range lies outside of `memory`, or if the device or an earlier
    /// launch failed.
    fn read(&self, memory: &Self::Memory, at: usize, bytes: &mut [u8]) -> Result<()>;

    /// Sets all of `memory` to zero.
    ///
    /// # Errors
    ///
    /// Returns an error if the device fails.
    fn clear(&self, memory: &mut Self::Memory) -> Result<()>;

    /// Executes a kernel on a grid of blocks of [`THREADS`] threads, after all earlier launches.
    ///
    /// Kernels do not check the lengths of their arguments. Only [`ops`], which checks them, should
    /// call this function.
    ///
    /// # Errors
    ///
    /// Returns an error if the launch fails.
    fn launch(
        &self,
        kernel: DeviceKernel,
        grid: [usize; 3],
        args: &mut [KernelArg<'_, Self::Memory>],
    ) -> Result<()>;
}
