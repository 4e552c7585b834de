//! What every comparison of neurons offers, whatever it keeps and wherever it is computed.

use super::compare::Watch;
use super::engine::Engine;
use super::pair::PairResult;
use super::sums::NeuronSums;
use crate::checkpoint::State;
use crate::error::Result;

/// The activations that a comparison takes.
pub type TokensOf<C> = <<C as NeuronComparison>::Engine as Engine>::Tokens;

/// A comparison of the neurons of several models over a stream of tokens.
pub trait NeuronComparison: State {
    /// Where the comparison is computed.
    type Engine: Engine;

    /// Adds the activations of the same tokens in every model. On the CPU each is `[tokens,
    /// n_neurons]`, every call of a pass but the last has [`TOKENS_AT_ONCE`](super::TOKENS_AT_ONCE) tokens, and the pilot
    /// is subtracted from the values in place.
    ///
    /// # Errors
    ///
    /// Returns an error if the engine fails.
    fn absorb(&mut self, tokens: &mut [&mut TokensOf<Self>]) -> Result<()>;

    /// Sets the pilot of a model from the first tokens of a corpus, without adding them, if the
    /// engine subtracts one.
    fn take_pilot(&mut self, model: usize, tokens: &TokensOf<Self>);

    /// Sets the corpus index of the first token, a multiple of [`CHUNK`](super::CHUNK), so that surrogates draw
    /// the same random numbers however the corpus is split.
    fn start_at(&mut self, token: u64);

    /// Checks that what was read from a file is what a pass holds that has absorbed `absorbed` of
    /// `all` tokens.
    ///
    /// # Errors
    ///
    /// Returns what does not fit.
    fn check(&self, absorbed: u64, all: u64) -> Result<(), String>;

    /// Returns whether a checkpoint can hold what this pass has added.
    fn can_be_saved(&self) -> bool {
        true
    }

    /// Returns the arithmetic.
    fn engine(&mut self) -> &mut Self::Engine;

    /// Returns whether this pass reads tokens that an earlier pass has read.
    fn is_repeated_pass(&self) -> bool;

    /// Returns the sums over the neurons of a model.
    fn neuron_sums(&self, model: usize) -> &NeuronSums;

    /// Ends a pass over the tokens. Returns whether another pass is needed.
    ///
    /// # Errors
    ///
    /// Returns the error of `watch` if it asks to stop. The comparison cannot be used after that.
    fn end_pass(&mut self, watch: Watch) -> Result<bool>;

    /// Returns the counts of screening for each reference model, or an empty list if every neuron
    /// is compared exactly.
    fn screening(&self) -> Vec<ScreeningCounts>;

    /// Returns the results as `[reference][partner]`, in the order of the plan.
    fn finish(self) -> Vec<Vec<PairResult>>;
}

/// How many neurons screening compared exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct ScreeningCounts {
    /// Number of neurons compared exactly.
    pub exact: usize,
    /// How many of them became doubtful only when the exact correlations of their candidates were
    /// known.
    pub screened_again: usize,
    /// Number of neurons of the reference.
    pub of: usize,
}
