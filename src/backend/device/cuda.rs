//! An NVIDIA GPU through its driver. All `unsafe` code for devices is here.
//!
//! The driver is loaded at run time: building does not need CUDA, and a machine without a GPU gets
//! an error that says so.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, CudaView, CudaViewMut, DriverError,
    LaunchConfig, PushKernelArg, result, sys,
};
use cudarc::nvrtc::Ptx;

use super::{Device, DeviceKernel, KernelArg, PtxModule, THREADS};
use crate::error::{Error, Kind, Result};

/// The oldest compute capability that the kernels run on: they need `cp.async` and `mma` for bf16.
const OLDEST: (i32, i32) = (8, 0);

/// A GPU.
pub struct Cuda {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    functions: Mutex<HashMap<DeviceKernel, CudaFunction>>,
    name: String,
}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cuda").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Cuda {
    /// Opens the first GPU.
    ///
    /// # Errors
    ///
    /// Returns an error as [`Self::open_card`] does.
    pub fn open() -> Result<Self> {
        Self::open_card(0)
    }

    /// Opens the GPU with a number, as the driver counts, from 0.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no driver, no such GPU, or only one older than compute
    /// capability 8.0.
    pub fn open_card(number: usize) -> Result<Self> {
        let cards = Self::count()?;
        if number >= cards {
            let remedy = "name another with `device: { cuda: … }`, counted from 0";
            let problem = format!("there is no card {number}: the driver shows {cards}");
            return Err(Error::new(Kind::Device, "device cuda", problem, remedy));
        }
        let opening = |e| failed(format_args!("opening card {number}"), e);
        let context = CudaContext::new(number).map_err(opening)?;
        let about = |e| failed("asking the card what it is", e);
        let capability = context.compute_capability().map_err(about)?;
        let name = context.name().map_err(about)?;
        if capability < OLDEST {
            let problem =
                format!("{name} has compute capability {}.{}", capability.0, capability.1);
            return Err(missing(format!("{problem}; 8.0 is the oldest that the kernels run on")));
        }
        let stream = context.new_stream().map_err(|e| failed("opening a stream", e))?;
        Ok(Self { context, stream, functions: Mutex::default(), name })
    }

    /// Returns the number of GPUs that the driver shows.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no driver or no GPU.
    pub fn count() -> Result<usize> {
        // cudarc panics if the library is absent, so this check must come first.
        // SAFETY: loads a shared library and unloads it. That runs the library's initialisers,
        // which are those of NVIDIA's driver, or of a library that the user put in its place.
        if !unsafe { sys::is_culib_present() } {
            return Err(missing("there is no NVIDIA driver: libcuda was not found".to_owned()));
        }
        result::init().map_err(|e| failed("starting the driver", e))?;
        match CudaContext::device_count().map_err(|e| failed("counting cards", e))? {
            0 => Err(missing("the driver shows no card".to_owned())),
            cards => Ok(cards as usize),
        }
    }

    fn function(&self, kernel: DeviceKernel) -> Result<CudaFunction> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(&kernel) {
            return Ok(function.clone());
        }
        let entry = kernel.entry();
        let module = self.load(kernel.module())?;
        let function = module.load_function(entry);
        let function = function.map_err(|e| failed(format_args!("finding kernel {entry}"), e))?;
        functions.insert(kernel, function.clone());
        Ok(function)
    }

    fn load(&self, module: PtxModule) -> Result<Arc<cudarc::driver::CudaModule>> {
        let what = format!("loading kernels/ptx/{}.ptx", module.name());
        self.context.load_module(Ptx::from_src(module.ptx())).map_err(|e| failed(what, e))
    }
}

fn missing(problem: String) -> Error {
    let remedy = "use `device: cpu`, or run on a machine with an NVIDIA card and its driver";
    Error::new(Kind::Device, "device cuda", problem, remedy)
}

/// Converts an error of the driver, with the driver's own description.
fn failed(doing: impl fmt::Display, error: DriverError) -> Error {
    let code = error.0;
    let text = error.error_string().ok().map(|s| s.to_string_lossy().into_owned());
    let problem = format!("{doing} failed: {} ({code:?})", text.as_deref().unwrap_or("unknown"));
    let remedy = match code {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            "lower `batch.tokens` or set `batch.memory_gib`, or free memory of the card"
        }
        sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            "update the driver: branch 550 is the oldest that reads these kernels"
        }
        _ => "see `nvidia-smi`; use `device: cpu` to run without the GPU",
    };
    Error::new(Kind::Device, "device cuda", problem, remedy)
}

/// A kernel argument, held while a launch is prepared.
enum LaunchArg<'a> {
    View(CudaView<'a, u8>),
    ViewMut(CudaViewMut<'a, u8>),
    U32(u32),
    U64(u64),
    F32(f32),
}

impl Device for Cuda {
    type Memory = CudaSlice<u8>;

    fn name(&self) -> String {
        self.name.clone()
    }

    fn free(&self) -> Result<usize> {
        let info = self.context.mem_get_info();
        info.map(|(free, _)| free).map_err(|e| failed("asking for free memory", e))
    }

    fn allocate(&self, bytes: usize) -> Result<CudaSlice<u8>> {
        // SAFETY: every bit pattern is a valid u8. The typed arrays in `array.rs` decide what
        // the bytes mean, and write them before they read them.
        let memory = unsafe { self.stream.alloc::<u8>(bytes.max(1)) };
        memory.map_err(|e| failed(format_args!("allocating {bytes} bytes"), e))
    }

    fn write(&self, memory: &mut CudaSlice<u8>, at: usize, bytes: &[u8]) -> Result<()> {
        let mut to = memory.slice_mut(at..at + bytes.len());
        self.stream.memcpy_htod(bytes, &mut to).map_err(|e| failed("copying to the card", e))
    }

    fn read(&self, memory: &CudaSlice<u8>, at: usize, bytes: &mut [u8]) -> Result<()> {
        let from = memory.slice(at..at + bytes.len());
        let copied = self.stream.memcpy_dtoh(&from, bytes);
        // The copy is asynchronous; an error of an earlier launch shows here as well.
        let ended = copied.and_then(|()| self.stream.synchronize());
        ended.map_err(|e| failed("copying from the card", e))
    }

    fn clear(&self, memory: &mut CudaSlice<u8>) -> Result<()> {
        self.stream.memset_zeros(memory).map_err(|e| failed("clearing memory of the card", e))
    }

    fn launch(
        &self,
        kernel: DeviceKernel,
        grid: [usize; 3],
        args: &mut [KernelArg<'_, CudaSlice<u8>>],
    ) -> Result<()> {
        let function = self.function(kernel)?;
        let [x, y, z] = grid.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        let mut held: Vec<LaunchArg> = args.iter_mut().map(hold).collect();
        let mut launch = self.stream.launch_builder(&function);
        for arg in &mut held {
            match arg {
                LaunchArg::View(view) => launch.arg(&*view),
                LaunchArg::ViewMut(view) => launch.arg(view),
                LaunchArg::U32(value) => launch.arg(&*value),
                LaunchArg::U64(value) => launch.arg(&*value),
                LaunchArg::F32(value) => launch.arg(&*value),
            };
        }
        let config =
            LaunchConfig { grid_dim: (x, y, z), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };
        // SAFETY, by the list of `LaunchArgs::launch`:
        // 1. Number, order, and widths of arguments are those of the source: only
        //    `super::ops` calls this, one function for each kernel, and the virtual
        //    machine of the tests executes each of these calls and checks them against
        //    the parameters that the PTX declares.
        // 2. Kernels write only what is passed as `KernelArg::Out`, which is a `&mut` here:
        //    the machine faults on a write to anything else.
        // 3. `super::ops` checks the lengths of arrays against the sizes it passes, and
        //    the machine checks every access on sizes that are not multiples of a tile.
        // Memory stays allocated: the slices are borrowed here, and cudarc orders their release
        // after the launch by events.
        let launched = unsafe { launch.launch(config) };
        launched.map(drop).map_err(|e| failed(format_args!("launching {}", kernel.entry()), e))
    }
}

fn hold<'a>(arg: &'a mut KernelArg<'_, CudaSlice<u8>>) -> LaunchArg<'a> {
    match arg {
        KernelArg::In(memory, at) => LaunchArg::View(memory.slice(*at..)),
        KernelArg::Out(memory, at) => LaunchArg::ViewMut(memory.slice_mut(*at..)),
        KernelArg::Null => LaunchArg::U64(0),
        KernelArg::U32(value) => LaunchArg::U32(*value),
        KernelArg::U64(value) => LaunchArg::U64(*value),
        KernelArg::F32(value) => LaunchArg::F32(*value),
    }
}
