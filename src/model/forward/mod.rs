//! The forward pass, written once for every [`Backend`]: the CPU, and devices.

mod backend;
mod cpu;
mod decoder;
mod gpu;
mod gpu_transformer;
mod heads;
mod keep;
mod pass;
mod tap;

pub use backend::{Backend, HeadShape};
pub use cpu::{Cpu, normalize};
pub use decoder::{Decoder, ResidualStream};
pub use gpu::{Gpu, GpuValues};
pub use gpu_transformer::GpuTransformer;
pub use keep::{BatchSums, KeepNeurons, NeuronPilot, NeuronPilots};
pub use pass::PlacedModel;
pub use tap::{HookTap, Tap};
