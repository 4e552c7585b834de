//! From the sums of a study to its findings.

use crate::backend::kernel::cpu;
use crate::correlation::{NeuronComparison, NeuronSums, PairResult, ScreeningCounts};
use crate::findings::{Findings, Outcome, Sources};
use crate::model::Transformer;
use crate::model::fold::preprocess;
use crate::plan::Plan;
use crate::stats::weights::weight_statistics;
use crate::stats::{ActivationSums, WeightStatistics};

/// Returns the statistics of all neurons' weights, given the index of a model in the family.
pub type WeightsOf<'a> = &'a dyn Fn(usize) -> Vec<WeightStatistics>;

/// Computes the statistics of the weights of a model.
pub fn weights_of(plan: &Plan, model: &Transformer) -> Vec<WeightStatistics> {
    let folded = preprocess(&model.weights, &model.config, &plan.spec.weights);
    weight_statistics(&folded, &model.config)
}

/// Computes the findings from a comparison and the statistics of every judged model, the reference
/// first.
pub fn outcome(
    plan: &Plan,
    weights_of: WeightsOf,
    comparison: impl NeuronComparison,
    statistics: &[ActivationSums],
) -> Outcome {
    let family = 0..plan.models.len();
    let family: Vec<_> = family.map(|i| comparison.neuron_sums(i).clone()).collect();
    let (screening, pairs) = (comparison.screening(), comparison.finish());
    let found = plan.judged.iter().zip(statistics).zip(&pairs).enumerate();
    let found = found.map(|(i, ((&model, activations), pairs))| Found {
        model,
        pairs,
        activations,
        screening: screening.get(i).copied(),
    });
    draw(plan, weights_of, &family.iter().collect::<Vec<_>>(), found)
}

/// The results for a judged model.
pub struct Found<'a> {
    /// Index of the model in the family.
    pub model: usize,
    /// The comparison with each partner.
    pub pairs: &'a [PairResult],
    /// Statistics of the model's activations.
    pub activations: &'a ActivationSums,
    /// Counts from screening; `None` if the run was not screened.
    pub screening: Option<ScreeningCounts>,
}

/// Computes the findings of every judged model, the reference first. `family` holds the sums over
/// the neurons of every model, in the order of the plan.
pub fn draw<'a>(
    plan: &Plan,
    weights_of: WeightsOf,
    family: &[&NeuronSums],
    judged: impl Iterator<Item = Found<'a>>,
) -> Outcome {
    let draw = |found: Found<'a>| {
        let Found { model: index, pairs, activations, screening } = found;
        let weights = weights_of(index);
        let weights = weights.as_slice();
        Findings::draw(plan, index, &Sources { pairs, family, activations, weights, screening })
    };
    let mut findings = judged.map(draw);
    let reference = findings.next().unwrap_or_else(|| unreachable!("a plan has a reference"));
    let also = findings.collect();
    Outcome { reference, also, device: cpu(plan.spec.correlation.precision) }
}
