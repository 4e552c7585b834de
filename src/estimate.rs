//! Estimates the cost of a run before it starts: counted operations, and a time from a short
//! calibration on this machine.

use std::fmt;
use std::time::Instant;

use serde_json::json;

use crate::backend::kernel::CpuKernel;
use crate::backend::matmul::Product;
use crate::backend::pack::MatrixView;
use crate::correlation::Keep;
use crate::error::Result;
use crate::experiment::{self, KindCost};
use crate::plan::{Workload, weight_bytes};
use crate::spec::Precision;

/// The cost of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Name of the experiment.
    pub name: String,
    /// The kind of the experiment.
    pub kind: String,
    /// Number of tokens that enter the statistics.
    pub tokens: usize,
    /// Whether that number is known, rather than assumed of a text that is not here.
    pub tokens_known: bool,
    /// The cost that depends on the kind.
    pub cost: KindCost,
    /// What a study keeps of the tokens: activations or sums. `None` without a study.
    pub keep: Option<Keep>,
    /// Whether a study is screened, so that doubtful neurons cost more than is counted.
    pub screened: bool,
    /// Floating-point operations of all forward passes, predictions included.
    pub forward: f64,
    /// Floating-point operations of all sums over tokens.
    pub sums: f64,
    /// Floating-point operations after the last token of every study: rotations.
    pub finish: f64,
    /// Bytes of weights, sums and activations.
    pub bytes: f64,
}

impl Estimate {
    /// Counts the operations of a run. If `universal` neurons are known from another run, no study
    /// has to find them.
    ///
    /// # Errors
    /// Returns an error if a study does not fit into the memory that the spec allows.
    pub fn of(work: &Workload, universal: bool) -> Result<Self> {
        let mut cost = experiment::cost(work)?;
        if cost.universal && !universal {
            cost.studies.push(1.0);
        }
        let mut estimate = Self {
            name: work.spec.name.clone(),
            kind: work.spec.kind.clone(),
            tokens: work.used,
            tokens_known: work.is_known,
            keep: None,
            screened: false,
            forward: 0.0,
            sums: 0.0,
            finish: 0.0,
            bytes: weight_bytes(work.reference()) as f64 + cost.bytes,
            cost,
        };
        estimate.add_studies(work)?;
        estimate.add_passes(work);
        Ok(estimate)
    }

    /// Adds the studies of the family.
    fn add_studies(&mut self, work: &Workload) -> Result<()> {
        if self.cost.studies.is_empty() {
            return Ok(());
        }
        let keep = work.choose_keep()?;
        let share: f64 = self.cost.studies.iter().sum();
        let screen = work.spec.correlation.screen.as_ref();
        let sampled = screen.map_or(work.used, |screen| screen.sample.min(work.used));
        let (mut sums, finish) = match work.sparse_operations() {
            Some(operations) => (operations, 0.0),
            None => work.comparison.operations(keep, sampled),
        };
        sums +=
            screen.map_or(0.0, |s| work.comparison.candidate_operations(s.candidates, work.used));
        let passes = match keep {
            Keep::Sums { passes } => passes,
            Keep::Tokens => 1,
        };
        let read = passes * work.read + if screen.is_some() { sampled } else { 0 };
        let weights: usize = work.models.iter().map(|m| m.block_weights()).sum();
        self.forward += share * 2.0 * read as f64 * weights as f64;
        self.sums += share * sums;
        self.finish += self.cost.studies.len() as f64 * finish;
        let candidates = work.spec.statistics.intervals.candidates();
        if work.spec.statistics.exclude.is_some() {
            // Statistics over other tokens take one more pass of the judged models.
            let judged = work.comparison.references.iter();
            let weights: usize = judged.map(|&model| work.models[model].block_weights()).sum();
            self.forward += share * 2.0 * work.read as f64 * weights as f64;
        }
        if work.spec.kind == experiment::STUDY && candidates > 0 && work.sparse_entries.is_none() {
            // Intervals take one more pass over the tokens.
            self.forward += 2.0 * work.read as f64 * weights as f64;
            self.sums += work.comparison.candidate_operations(candidates, work.used);
        }
        self.bytes = self.bytes.max(work.bytes(keep) as f64);
        (self.keep, self.screened) = (Some(keep), screen.is_some());
        Ok(())
    }

    /// Adds what the kind does beside studies.
    fn add_passes(&mut self, work: &Workload) {
        let of = work.reference();
        let logits = (of.d_vocab * of.d_model) as f64;
        let each = self.cost.passes * of.block_weights() as f64 + self.cost.predictions * logits;
        self.forward += 2.0 * work.read as f64 * each;
        self.sums += self.cost.operations;
    }

    /// Returns the cost as a JSON object. `rate` is the operations per second of this machine.
    pub fn json(&self, rate: f64) -> serde_json::Value {
        let keeps = self.keep.map(|keep| match keep {
            Keep::Tokens => ("activations", 1),
            Keep::Sums { passes } => ("sums", passes),
        });
        json!({
            "name": self.name,
            "kind": self.kind,
            "tokens": self.tokens,
            "tokens_known": self.tokens_known,
            "studies": self.cost.studies.len(),
            "reference_passes": self.cost.passes,
            "keeps": keeps.map(|keeps| keeps.0),
            "passes": keeps.map(|keeps| keeps.1),
            "screened": self.screened,
            "operations": { "forward": self.forward, "sums": self.sums, "rotations": self.finish },
            "bytes": self.bytes,
            "operations_per_second": rate,
            "seconds": self.seconds(rate),
        })
    }

    /// Returns the seconds of the run if all operations ran at a rate.
    pub fn seconds(&self, rate: f64) -> f64 {
        (self.forward + self.sums + self.finish) / rate
    }

    /// Returns the cost as text.
    pub fn text(&self, rate: f64) -> String {
        format!(
            "{self}time        at least {:.0} s, at the {:.0} GFLOP/s that this machine's products reach\n",
            self.seconds(rate).ceil(),
            rate / 1e9
        )
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tera = |operations: f64| operations / 1e12;
        let assumed = if self.tokens_known { "" } else { ", assumed: the text is not here" };
        writeln!(f, "tokens      {} in statistics{assumed}", self.tokens)?;
        let (studies, passes) = (self.cost.studies.len(), self.cost.passes);
        writeln!(
            f,
            "work        studies of the family: {studies}; passes of the reference beside them: {passes:.1}"
        )?;
        writeln!(
            f,
            "operations  {:.3} T: forward passes {:.3}, sums {:.3}, rotations {:.3}",
            tera(self.forward + self.sums + self.finish),
            tera(self.forward),
            tera(self.sums),
            tera(self.finish)
        )?;
        let kept = match self.keep {
            None => "no study is made".to_string(),
            Some(Keep::Tokens) if self.screened => {
                "all activations of a sample are kept".to_string()
            }
            Some(Keep::Tokens) => "all activations are kept".to_string(),
            Some(Keep::Sums { passes: 1 }) => "sums are kept".to_string(),
            Some(Keep::Sums { passes }) => {
                format!("sums are kept, in {passes} passes over the tokens")
            }
        };
        writeln!(f, "memory      {:.2} GiB; {kept}", self.bytes / f64::from(1 << 30))?;
        if self.screened {
            writeln!(
                f,
                "screening   neurons in doubt are compared exactly, at a cost not counted here"
            )?;
        }
        Ok(())
    }
}

/// Measures the operations per second of the product used for sums, on all cores. The best of a few
/// runs counts, because other work on the machine can only slow a run down.
pub fn calibrate(precision: Precision) -> f64 {
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
