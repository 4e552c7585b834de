//! A measured rate.

use serde::Serialize;

/// Number of runs of each measurement. The fastest counts, because other work on the machine can
/// only slow a run down.
pub(super) const RUNS: usize = 7;

/// One measured rate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rate {
    /// Instructions of the innermost loop.
    pub kernel: &'static str,
    /// What was measured.
    pub what: &'static str,
    /// 10⁹ floating-point operations per second, on all cores.
    pub gflops: f64,
    /// Fraction of the innermost loop's own rate.
    pub of_peak: f64,
}
