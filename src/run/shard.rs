//! A run in shares, one per machine. Each machine sums its own share of the tokens. Sums over
//! disjoint tokens can be added, so the shares are merged at the end.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::batches::share_of;
use super::passes::{READING, match_neurons, refuse_sparse, resume_or_begin};
use super::session::{Session, identity};
use crate::checkpoint::Shares;
use crate::correlation::Keep;
use crate::error::{Error, Kind, Result};
use crate::findings::Outcome;
use crate::plan::Plan;
use crate::record::Timing;

/// Why a merged run has no intervals.
const MERGED: &str =
    "the run was merged from shares, which hold no sums by document; run the spec on one machine";

/// Share `i` of `n` of the tokens, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    i: usize,
    n: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = |text: &str| text.parse::<usize>().ok();
        let parts = text.split_once('/').and_then(|(i, n)| Some((number(i)?, number(n)?)));
        match parts {
            Some((i, n)) if (1..=n).contains(&i) => Ok(Self { i, n }),
            _ => Err("expected i/n with i from 1 to n, such as 2/8".into()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-of-{}", self.i, self.n)
    }
}

impl Shard {
    /// Returns share `i` of `n`, counted from 1.
    ///
    /// # Panics
    /// Panics unless `1 ≤ i ≤ n`.
    pub fn of(i: usize, n: usize) -> Self {
        assert!((1..=n).contains(&i), "share {i} of {n}");
        Self { i, n }
    }

    /// Returns the number of the share, counted from 1, and the number of shares.
    pub fn fraction(self) -> [usize; 2] {
        [self.i, self.n]
    }
}

impl Session<'_> {
    /// Sums one share of the tokens and writes the sums to the checkpoints of the control.
    ///
    /// # Errors
    /// Returns an error as [`Session::study`] does, or if the run needs several passes over the
    /// tokens.
    ///
    /// # Panics
    /// Panics if there are no checkpoints to write to.
    pub fn sum_share(&mut self, shard: Shard) -> Result<PathBuf> {
        let plan = self.plan;
        refuse_to_cut(plan)?;
        if self.accelerator.is_some_and(|device| device.devices() > 1) {
            let problem = "a share of the tokens is summed on one card";
            let remedy = "name a card for each share, such as `--device cuda:1`";
            return Err(Error::new(Kind::Device, "--shard", problem, remedy));
        }
        let mut sums = self.empty_sums()?;
        let tokens = share_of(shard.i - 1, shard.n, plan.tokens.count().used);
        sums.start_at(tokens.start as u64);
        let checkpoints = self.control.checkpoints.as_mut();
        checkpoints.expect("a share is written as a checkpoint").of_share(shard.fraction());
        let batches = plan.tokens.batches(plan.spec.batch.tokens, tokens);
        let done = resume_or_begin(self, sums.as_mut(), &batches, true)?;
        self.read_batches(READING, &batches, done, sums.as_mut())?;
        sums.absorb_rest()?;
        self.control.progress.finish();
        let checkpoints = self.control.checkpoints.as_ref();
        checkpoints.expect("a share is written as a checkpoint").write_share(sums.as_mut())
    }

    /// Adds the sums of all shares and computes the findings.
    ///
    /// # Errors
    /// Returns an error if a share is missing, given twice, damaged, or of another spec, model,
    /// corpus or program, and as [`Session::study`] does.
    pub fn merge(&mut self, files: &[PathBuf]) -> Result<Outcome> {
        let plan = self.plan;
        refuse_to_cut(plan)?;
        let statistics = self.separate_statistics()?;
        let mut sums = self.empty_sums()?;
        let shares = Shares::open(files, &identity(plan, self.accelerator))?;
        let progress = &self.control.progress;
        progress.stage("adding shares", files.len() as u64);
        shares.add_to(sums.as_mut(), || progress.advance(1))?;
        let used = plan.tokens.count().used as u64;
        sums.check(used, used).map_err(|why| {
            let problem = format!("the shares are not those of this run: {why}");
            let remedy = "give the files that `run --shard` wrote for this spec";
            Error::new(Kind::Store, plan.spec_path.display(), problem, remedy)
        })?;
        let begun = std::time::Instant::now();
        match_neurons(self, sums.as_mut())?;
        let mut outcome = sums.finish(plan, statistics);
        outcome.set_intervals_missing(plan, MERGED);
        self.control.progress.finish();
        let finish_s = begun.elapsed().as_secs_f64();
        Ok(outcome.timed(Timing { load_s: 0.0, tokens_s: 0.0, finish_s }))
    }
}

/// Refuses a plan whose sums cannot be computed in shares.
fn refuse_to_cut(plan: &Plan) -> Result<()> {
    refuse_sparse(plan, "--shard")?;
    if plan.spec.correlation.screen.is_some() {
        let problem = "`correlation.screen` cannot be combined with --shard: which neurons are compared \
                       exactly follows from all tokens";
        return Err(Error::new(
            Kind::Spec,
            plan.spec_path.display(),
            problem,
            "remove one of them",
        ));
    }
    match plan.keep {
        Keep::Sums { passes } if passes > 1 => Err(Error::new(
            Kind::Spec,
            plan.spec_path.display(),
            format_args!(
                "within `batch.memory_gib` the run needs {passes} passes over the tokens, a share has one"
            ),
            "give a share of the tokens more memory, or run without --shard",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_written_as_a_fraction() {
        assert_eq!("2/8".parse(), Ok(Shard { i: 2, n: 8 }));
        for wrong in ["0/8", "9/8", "2", "2/", "/8", "a/b", "-1/2", "1/0"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
