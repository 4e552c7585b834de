//! Rates of a device's products, as fractions of the rate of its simplest product.

use std::time::Instant;

use super::floors::CARD;
use super::rate::{RUNS, Rate};
use crate::backend::device::array::{Array, HalfFormat, HalfMatrix};
use crate::backend::device::ops::{self, OperandSums, ProductTarget};
use crate::backend::device::{Device, HalfType};
use crate::error::Result;

/// Number of neurons of each operand, and number of tokens.
pub const SHAPE: (usize, usize) = (8192, 8192);

/// Measures products of `neurons` by `neurons` over `tokens` tokens: written sums; written sums of
/// pairs of f16 (three products); sums searched for best partners without being written; symmetric
/// sums. Operations are counted as those of one plain product.
///
/// # Errors
///
/// Returns an error if the device fails.
pub fn measure<D: Device>(device: &D, (neurons, tokens): (usize, usize)) -> Result<Vec<Rate>> {
    let operations = 2.0 * (neurons * neurons) as f64 * tokens as f64;
    let value = |row: usize, col: usize| ((row * 31 + col * 17) % 97) as f32 / 97.0 - 0.5;
    let make = |split| {
        HalfMatrix::of(
            device,
            (neurons, tokens),
            HalfFormat { number: HalfType::F16, split },
            value,
        )
    };
    let (plain, pairs) = (make(false)?, make(true)?);
    let mut c = Array::zeros(device, neurons * neurons)?;
    let one = Array::of(device, &vec![1.0; neurons])?;
    let side = OperandSums { sum: &one, inverse: &one, at: 0 };
    let mut into = |x: &HalfMatrix<D>| {
        let into = ProductTarget { values: &mut c, at: 0, ld: neurons, add: true };
        ops::product(device, (&x.all(), &x.all(), tokens), into, None)?;
        c.read(device, 0..1).map(drop)
    };
    let peak = operations / best(|| into(&plain))?;
    let paired = operations / best(|| into(&pairs))?;
    let fused = operations
        / best(|| {
            let operands = (&plain.all(), &plain.all(), tokens);
            ops::correlate(device, operands, (&side, &side), tokens as f64, 1).map(drop)
        })?;
    let gram = operations
        / best(|| {
            ops::gram(device, &plain.all(), tokens, &mut c, 0)?;
            c.read(device, 0..1).map(drop)
        })?;
    let named = [("product", peak), ("pairs", paired), ("fused", fused), ("gram", gram)];
    Ok(named.map(|(what, rate)| of(what, rate, peak)).to_vec())
}

fn of(what: &'static str, rate: f64, peak: f64) -> Rate {
    Rate { kernel: CARD, what, gflops: rate / 1e9, of_peak: rate / peak }
}

/// Returns the seconds of the fastest of several runs; the first run loads the kernel.
fn best(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut once = || {
        let start = Instant::now();
        run().map(|()| start.elapsed().as_secs_f64())
    };
    (0..RUNS).try_fold(f64::INFINITY, |best, _| Ok(once()?.min(best)))
}
