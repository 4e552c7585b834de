//! Estimates the cost of a run before it starts: counted operations, and a time from a short
//! calibration on this machine.

use std::fmt;
use std::time::Instant;

use serde_json::json;

use crate::backend::kernel::CpuKernel;
use crate::backend::matmul::Product;
use crate::backend::pack::MatrixView;
use crate::correlation::Keep;
use crate::plan::Plan;
use crate::spec::Precision;

/// The cost of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Number of tokens that enter the statistics.
    pub tokens: usize,
    /// What the run keeps of the tokens: activations or sums.
    pub keep: Keep,
    /// Whether the run is screened, so that doubtful neurons cost more than is counted.
    pub screened: bool,
    /// Floating-point operations of all forward passes.
    pub forward: f64,
    /// Floating-point operations of all sums over tokens.
    pub sums: f64,
    /// Floating-point operations after the last token: rotations.
    pub finish: f64,
    /// Bytes of weights, sums and activations.
    pub bytes: usize,
    /// Measured operations per second of this machine's products.
    pub rate: f64,
}

impl Estimate {
    /// Counts the operations of a plan and calibrates this machine.
    pub fn of(plan: &Plan) -> Self {
        let tokens = plan.tokens.count().used;
        let read: usize = plan.tokens.rows.iter().map(|row| row.ids.len()).sum();
        let screen = plan.spec.correlation.screen.as_ref();
        let sampled = screen.map_or(tokens, |screen| screen.sample.min(tokens));
        let (mut sums, finish) = plan.comparison_plan().operations(plan.keep, sampled);
        sums += screen
            .map_or(0.0, |s| plan.comparison_plan().candidate_operations(s.candidates, tokens));
        let read = read + if screen.is_some() { sampled } else { 0 };
        let weights: usize = plan.models.iter().map(|m| m.config.block_weights()).sum();
        let passes = match plan.keep {
            Keep::Sums { passes } => passes,
            Keep::Tokens => 1,
        };
        Self {
            tokens,
            keep: plan.keep,
            screened: screen.is_some(),
            forward: (2 * passes * read) as f64 * weights as f64,
            sums,
            finish,
            bytes: plan.bytes(),
            rate: calibrate(plan.spec.correlation.precision),
        }
    }

    /// Returns the cost as a JSON object.
    pub fn json(&self) -> serde_json::Value {
        let Self { tokens, screened, forward, sums, finish, bytes, rate, .. } = *self;
        let (keeps, passes) = match self.keep {
            Keep::Tokens => ("activations", 1),
            Keep::Sums { passes } => ("sums", passes),
        };
        json!({
            "tokens": tokens,
            "keeps": keeps,
            "passes": passes,
            "screened": screened,
            "operations": { "forward": forward, "sums": sums, "rotations": finish },
            "bytes": bytes,
            "operations_per_second": rate,
            "seconds": self.seconds(),
        })
    }

    /// Returns the seconds of the run if all operations ran at the measured rate.
    pub fn seconds(&self) -> f64 {
        (self.forward + self.sums + self.finish) / self.rate
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tera = |operations: f64| operations / 1e12;
        writeln!(f, "tokens      {} in statistics", self.tokens)?;
        writeln!(
            f,
            "operations  {:.3} T: forward passes {:.3}, sums {:.3}, rotations {:.3}",
            tera(self.forward + self.sums + self.finish),
            tera(self.forward),
            tera(self.sums),
            tera(self.finish)
        )?;
        let kept = match self.keep {
            Keep::Tokens if self.screened => "all activations of a sample are kept".to_string(),
            Keep::Tokens => "all activations are kept".to_string(),
            Keep::Sums { passes: 1 } => "sums are kept".to_string(),
            Keep::Sums { passes } => format!("sums are kept, in {passes} passes over the tokens"),
        };
        writeln!(f, "memory      {:.2} GiB; {kept}", self.bytes as f64 / f64::from(1 << 30))?;
        if self.screened {
            writeln!(
                f,
                "screening   neurons in doubt are compared exactly, at a cost not counted here"
            )?;
        }
        writeln!(
            f,
            "time        at least {:.0} s, at the {:.0} GFLOP/s that this machine's products reach",
            self.seconds().ceil(),
            self.rate / 1e9
        )
    }
}

/// Measures the operations per second of the product used for sums, on all cores. The best of a few
/// runs counts, because other work on the machine can only slow a run down.
fn calibrate(precision: Precision) -> f64 {
    const N: usize = 1024;
    let x: Vec<f32> = (0..N * N).map(|i| (i % 977) as f32 / 977.0 - 0.5).collect();
    let mut sums = vec![0.0; N * N];
    let product = Product { kernel: CpuKernel::best(precision), chain: N };
    let mut once = || {
        let start = Instant::now();
        product.add(MatrixView::new(&x, N, N), MatrixView::new(&x, N, N), &mut sums);
        start.elapsed().as_secs_f64()
    };
    let best = (0..5).map(|_| once()).fold(f64::INFINITY, f64::min);
    2.0 * (N * N * N) as f64 / best
}
