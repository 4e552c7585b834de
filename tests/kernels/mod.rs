//! Compares every kernel of `kernels/` with its f64 oracle, always on the virtual machine, and on a
//! GPU if there is one. Both run the same test bodies.

mod compile;
mod elementwise;
mod machine;
mod models;
mod mutations;
mod products;
mod roofline;
mod stub;
mod twin;

use std::ops::Deref;
use std::sync::LazyLock;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use universal_neurons::backend::device::array::HalfFormat;
use universal_neurons::backend::device::cuda::Cuda;
use universal_neurons::backend::device::{Device, HalfType};

use crate::ptx_vm::Machine;
use crate::ptx_vm::memory::Buffer;

/// A device that may also count its writes.
pub trait Probe: Device {
    /// Returns how often the last launch wrote each byte, if the device counts writes.
    fn writes(&self, _: &Self::Memory) -> Option<Vec<u8>> {
        None
    }
}

impl Probe for Cuda {}

impl Probe for Machine {
    fn writes(&self, memory: &Buffer) -> Option<Vec<u8>> {
        Some(memory.writes())
    }
}

static MACHINE: LazyLock<Machine> = LazyLock::new(Machine::new);

/// Returns the virtual machine that the tests share.
pub fn machine() -> &'static Machine {
    MACHINE.deref()
}

/// Returns the GPU. Without one, prints why its tests are skipped, or panics if `REQUIRE_GPU=1`.
pub fn card() -> Option<Cuda> {
    match Cuda::open() {
        Ok(card) => Some(card),
        Err(error) if std::env::var("REQUIRE_GPU").is_ok_and(|v| v == "1") => {
            panic!("REQUIRE_GPU=1, but {error}")
        }
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// Makes two tests of each body: one on the virtual machine, one on the GPU.
macro_rules! on_every_device {
    ($($body:ident),* $(,)?) => {
        mod vm {
            $(#[test] fn $body() { super::$body(crate::kernels::machine()); })*
        }
        mod cuda {
            $(#[test] fn $body() {
                if let Some(card) = crate::kernels::card() { super::$body(&card); }
            })*
        }
    };
}
use on_every_device;

pub const FORMS: [HalfFormat; 4] = [
    HalfFormat { number: HalfType::F16, split: false },
    HalfFormat { number: HalfType::Bf16, split: false },
    HalfFormat { number: HalfType::F16, split: true },
    HalfFormat { number: HalfType::Bf16, split: true },
];

/// A source of random numbers for tests.
pub struct Random(ChaCha8Rng);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Returns a number uniform in [-1, 1).
    pub fn value(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.value()).collect()
    }
}
