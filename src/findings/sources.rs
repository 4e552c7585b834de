//! The input of findings.

use crate::correlation::{NeuronSums, PairResult, ScreeningCounts};
use crate::stats::{ActivationSums, WeightStatistics};

/// The sums and statistics that findings are drawn from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The comparison with each partner, in the order of the family.
    pub pairs: &'a [PairResult],
    /// Sums over the neurons of every model, in the order of the family.
    pub family: &'a [&'a NeuronSums],
    /// Statistics of the reference model's activations.
    pub activations: &'a ActivationSums,
    /// Statistics of the reference model's weights.
    pub weights: &'a [WeightStatistics],
    /// Numbers of neurons that screening compared exactly, if the run was screened.
    pub screening: Option<ScreeningCounts>,
}
