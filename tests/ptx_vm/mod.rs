//! A machine that executes the PTX of `kernels/`: whole grids, warp by warp, blocks in
//! parallel. It stops at what a card would let pass: addresses out of bounds or out of
//! line, reads of what was never written, races in shared memory between barriers,
//! barriers that not every thread reaches. An instruction it does not know is an error.
//!
//! Two things it cannot know are left to the card: in which order a tensor core adds,
//! and the exact error of approximations; here sums are rounded once, and approximations
//! are off by what the manual allows.

mod accesses;
mod copies;
pub mod launch;
pub mod memory;
mod ops;
pub mod parse;
mod registers;
mod shared;
mod tensor;
mod warp;
// The program's own macro, which holds the only `unsafe` that this needs.
#[path = "../../src/backend/wide.rs"]
mod wide;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use universal_neurons::backend::device::{Device, DeviceKernel, KernelArg, PtxModule, THREADS};
use universal_neurons::error::{Error, Kind, Result};

use launch::{Counts, Grid, Window};
use memory::Buffer;
use parse::Program;

type Programs = HashMap<String, Arc<Program>>;

/// The embedded kernels, parsed once.
static EMBEDDED: LazyLock<HashMap<PtxModule, Programs>> =
    LazyLock::new(|| PtxModule::ALL.into_iter().map(|m| (m, programs(m, m.ptx()))).collect());

fn programs(module: PtxModule, ptx: &str) -> Programs {
    parse::parse(ptx).unwrap_or_else(|e| panic!("kernels/ptx/{}.ptx: {e}", module.name()))
}

/// A virtual machine for PTX.
pub struct Machine {
    programs: Programs,
    /// Counts of all launches so far.
    pub counts: Mutex<Counts>,
    /// Number of launches of each kernel so far.
    launches: Mutex<HashMap<&'static str, usize>>,
    /// Bytes copied to the host so far.
    pub read: AtomicUsize,
    /// Bytes of free memory that the machine reports.
    pub memory: usize,
    /// Bytes of all buffers that exist.
    allocated: Arc<AtomicUsize>,
}

impl Machine {
    /// Creates a machine with the embedded kernels.
    pub fn new() -> Self {
        Self::with(|_, ptx| ptx.to_owned())
    }

    /// Creates a machine that reports `bytes` of free memory.
    pub fn of_memory(bytes: usize) -> Self {
        Self { memory: bytes, ..Self::new() }
    }

    /// Creates a machine with changed kernels.
    pub fn with(change: impl Fn(PtxModule, &str) -> String) -> Self {
        let of = |module: PtxModule| {
            let ptx = change(module, module.ptx());
            match ptx == module.ptx() {
                true => EMBEDDED[&module].clone(),
                false => programs(module, &ptx),
            }
        };
        let programs = PtxModule::ALL.into_iter().flat_map(of).collect();
        Self::of_programs(programs, 1 << 30)
    }

    /// Creates a machine with the kernels in `ptx` only.
    pub fn of(ptx: &str) -> std::result::Result<Self, String> {
        Ok(Self::of_programs(parse::parse(ptx)?, 0))
    }

    fn of_programs(programs: Programs, memory: usize) -> Self {
        let (counts, launches, read, allocated) = Default::default();
        Self { programs, counts, launches, read, memory, allocated }
    }

    /// Returns how often kernels whose names start with `prefix` were launched.
    pub fn launches(&self, prefix: &str) -> usize {
        let launches = self.launches.lock().unwrap_or_else(PoisonError::into_inner);
        launches.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, n)| n).sum()
    }

    /// Returns the bytes of all buffers that exist.
    pub fn allocated(&self) -> usize {
        self.allocated.load(Ordering::Relaxed)
    }

    /// Executes a kernel by name.
    pub fn execute(
        &self,
        name: &str,
        grid: [usize; 3],
        threads: usize,
        args: &mut [KernelArg<'_, Buffer>],
    ) -> std::result::Result<Counts, String> {
        let program = self.programs.get(name).ok_or_else(|| format!("no kernel {name}"))?;
        if program.params.len() != args.len() {
            return Err(format!(
                "{name} takes {} arguments, not {}",
                program.params.len(),
                args.len()
            ));
        }
        let (mut params, mut windows) = (Vec::new(), Vec::new());
        for (i, (arg, &bytes)) in args.iter_mut().zip(&program.params).enumerate() {
            let (value, window, size) = match arg {
                KernelArg::In(buffer, at) => {
                    (launch::address(i, *at), Some(Window { buffer, writable: false }), 8)
                }
                KernelArg::Out(buffer, at) => {
                    buffer.begin_launch();
                    (launch::address(i, *at), Some(Window { buffer, writable: true }), 8)
                }
                KernelArg::Null => (0, None, 8),
                KernelArg::U32(v) => (u64::from(*v), None, 4),
                KernelArg::U64(v) => (*v, None, 8),
                KernelArg::F32(v) => (u64::from(v.to_bits()), None, 4),
            };
            if size != bytes {
                return Err(format!("argument {i} of {name} has {bytes} bytes, not {size}"));
            }
            params.push(value);
            windows.push(window);
        }
        Grid { program, params, windows, turn: Mutex::new(()) }.run(grid, threads)
    }
}

fn failed(problem: impl std::fmt::Display) -> Error {
    Error::new(Kind::Device, "the virtual machine", problem, "mend the kernel")
}

impl Device for Machine {
    type Memory = Buffer;

    fn name(&self) -> String {
        "a virtual machine for PTX".to_owned()
    }

    fn free(&self) -> Result<usize> {
        Ok(self.memory)
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer> {
        Ok(Buffer::counted(bytes, Arc::clone(&self.allocated)))
    }

    fn write(&self, memory: &mut Buffer, at: usize, bytes: &[u8]) -> Result<()> {
        memory.fill(at, bytes);
        Ok(())
    }

    fn read(&self, memory: &Buffer, at: usize, bytes: &mut [u8]) -> Result<()> {
        self.read.fetch_add(bytes.len(), Ordering::Relaxed);
        memory.copy_to(at, bytes).map_err(failed)
    }

    fn clear(&self, memory: &mut Buffer) -> Result<()> {
        memory.fill(0, &vec![0; memory.len()]);
        Ok(())
    }

    fn launch(
        &self,
        kernel: DeviceKernel,
        grid: [usize; 3],
        args: &mut [KernelArg<'_, Buffer>],
    ) -> Result<()> {
        let counts = self.execute(kernel.entry(), grid, THREADS as usize, args).map_err(failed)?;
        let mut all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *all = all.merge(counts);
        let mut launches = self.launches.lock().unwrap_or_else(PoisonError::into_inner);
        *launches.entry(kernel.entry()).or_default() += 1;
        Ok(())
    }
}
