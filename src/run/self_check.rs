//! The check of a device before the first token.

use std::sync::Arc;

use crate::backend::device::Device;
use crate::error::{Error, Kind, Result};
use crate::model::forward::{Gpu, GpuTransformer};
use crate::model::{Decoder, Transformer};
use crate::spec::Precision;

/// Number of tokens that are read.
const TOKENS: u32 = 8;

/// Copies a model to a device, and checks that it computes there what it does on the CPU.
///
/// # Errors
/// Returns an error if the device has too little memory, fails, or gives another result.
pub fn place_checked<'d, D: Device>(
    gpu: Gpu<'d, D>,
    model: &Arc<Transformer>,
    precision: Precision,
) -> Result<GpuTransformer<'d, D>> {
    let placed = GpuTransformer::of(gpu, Arc::clone(model))?;
    self_check(model, &placed, precision)?;
    Ok(placed)
}

/// Runs a model over a few tokens on a device and on the CPU, and compares the residual streams after
/// the last block. So embeddings, LayerNorm, products, attention and the activation function of the
/// device are checked with the weights of the run.
///
/// # Errors
/// Returns an error with both values where they differ by more than rounding explains, or if the
/// device fails.
fn self_check(host: &Transformer, placed: &dyn Decoder, precision: Precision) -> Result<()> {
    let ids = TOKENS.min(host.config.d_vocab as u32).min(host.config.n_ctx as u32);
    let row: Vec<u32> = (0..ids).collect();
    let want = Decoder::forward(host, &[&row], &mut ())?;
    let got = placed.forward(&[&row], &mut ())?;
    let size = want.iter().filter(|v| v.is_finite()).fold(0.0_f32, |size, v| size.max(v.abs()));
    let allowed = size * tolerance(precision);
    // A weight that is not finite is reported elsewhere.
    let off = |(got, want): (&f32, &f32)| {
        want.is_finite() && (!got.is_finite() || (got - want).abs() > allowed)
    };
    let Some(at) = got.iter().zip(&want).position(off) else { return Ok(()) };
    let problem = format!(
        "gives a wrong result: {} after the last block, the CPU {} (token {}, dimension {})",
        got[at],
        want[at],
        at / host.config.d_model,
        at % host.config.d_model
    );
    let remedy = "use `device: cpu`, and check the card and its driver";
    Err(Error::new(Kind::Device, "the device", problem, remedy))
}

/// Returns the largest difference relative to the largest value. Factors are rounded to 22 or 8 bits
/// in every block.
fn tolerance(precision: Precision) -> f32 {
    match precision {
        Precision::F32 => 2e-3,
        Precision::Bf16 => 0.05,
    }
}
