//! The models: configuration, weights, the forward pass, hooks into it, and
//! the preprocessing that weight statistics need.

pub mod capture;
pub mod config;
pub mod fold;
pub mod gpt2;
pub mod hooks;
pub mod intervene;
pub mod on_device;
mod ops;
pub mod weights;

pub use config::Config;
pub use gpt2::Gpt2;
pub use hooks::{HookPoint, Hooks, Site};
pub use ops::gelu_new;
