//! Models: configuration, weights, the forward pass with its hooks, and the preprocessing that
//! weight statistics need.

pub mod capture;
pub mod change;
pub mod check;
pub mod config;
pub mod fold;
pub mod forward;
pub mod hook_point;
pub mod hooks;
pub mod intervene;
mod ops;
pub mod prefix;
pub mod recorded;
mod rotary;
pub mod snapshot;
pub mod transformer;
pub mod twin;
pub mod units;
pub mod weights;

pub use config::{Activation, Architecture, Config, ModelShape, Rotary};
pub use forward::Decoder;
pub use hook_point::{HookPoint, Site};
pub use hooks::Hooks;
pub(crate) use ops::{exp, largest};
pub use recorded::Recording;
pub use transformer::Transformer;
pub use units::UnitReader;
