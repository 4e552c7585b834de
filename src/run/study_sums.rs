//! What a study needs of its sums, wherever they are: on the CPU or on a device.

use crate::checkpoint::State;
use crate::corpus::Batch;
use crate::correlation::{ComparisonPlan, Keep, Margin, PairResult, Watch};
use crate::error::Result;
use crate::findings::Outcome;
use crate::plan::Plan;
use crate::stats::ActivationSums;

/// Receives the batches of a pass over the tokens.
pub trait BatchReader {
    /// Reads batches.
    ///
    /// # Errors
    /// Returns an error that ends the pass.
    fn read(&mut self, batches: &[Batch]) -> Result<()>;

    /// Returns the number of batches that are read at the same time.
    fn at_once(&self) -> usize {
        1
    }

    /// Returns the state that a checkpoint saves, or `None` if the pass cannot be resumed.
    fn state(&mut self) -> Option<&mut dyn State> {
        None
    }
}

impl<F: FnMut(&Batch) -> Result<()>> BatchReader for F {
    fn read(&mut self, batches: &[Batch]) -> Result<()> {
        batches.iter().try_for_each(self)
    }
}

/// How neurons are matched.
pub enum Matching {
    /// Every neuron of a model is compared with every neuron of another.
    All {
        /// The models and the method.
        plan: ComparisonPlan,
        /// What the CPU keeps of the tokens. A device chooses by its own memory.
        keep: Keep,
        /// Number of tokens that are read.
        tokens: usize,
    },
    /// Most neurons are compared with their candidates only.
    Candidates {
        /// The models and the method.
        plan: ComparisonPlan,
        /// The uncertainty of the sample.
        margin: Margin,
        /// The matches in the sample, `[reference][partner]`.
        sample: Vec<Vec<PairResult>>,
        /// Bytes that the CPU may use for neurons that are compared exactly.
        room: usize,
    },
}

/// Sums over the tokens, from which neurons are matched.
pub trait TokenSums: BatchReader {
    /// Adds the activations that are buffered.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn absorb_rest(&mut self) -> Result<()>;

    /// Matches neurons at the end of a pass. Returns whether another pass over the tokens is
    /// needed.
    ///
    /// # Errors
    /// Returns an error if the device fails, or the error of `watch`.
    fn end_pass(&mut self, watch: Watch) -> Result<bool>;
}

/// The sums of a study, of all tokens or of a share of them.
pub trait StudySums: TokenSums + State {
    /// Prepares to read the first batch of a run or, if `share` is true, of a share of it. Takes
    /// the pilots, which are subtracted from all activations, from the first tokens of the corpus
    /// without adding these tokens, where the first batch does not do that.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn begin(&mut self, plan: &Plan, share: bool) -> Result<()>;

    /// Sets the index in the corpus of the first token.
    fn start_at(&mut self, token: u64);

    /// Checks that the sums, read from a file, are those of a pass that has read `held` of `all`
    /// tokens.
    ///
    /// # Errors
    /// Returns an error that describes the first inconsistency.
    fn check(&self, held: u64, all: u64) -> Result<(), String>;

    /// Returns the matches, `[reference][partner]`.
    fn matches(self: Box<Self>) -> Vec<Vec<PairResult>>;

    /// Computes the findings. `statistics` replaces the statistics of the activations of every judged
    /// model, if they are over other tokens.
    fn finish(self: Box<Self>, plan: &Plan, statistics: Option<Vec<ActivationSums>>) -> Outcome;
}
