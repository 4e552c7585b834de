//! The sums of a study of sparse activations, on the CPU. The entries of all tokens are kept, and
//! neurons are matched at the end.

use std::sync::Arc;

use super::member::FamilyMember;
use super::outcome::{Found, draw};
use super::study_sums::{BatchReader, StudySums, TokenSums};
use crate::checkpoint::{State, Visit};
use crate::corpus::Batch;
use crate::correlation::{
    ComparisonPlan, PairResult, SparseModel, SparseTokens, Watch, compare_sparse,
};
use crate::error::Result;
use crate::findings::Outcome;
use crate::model::{Decoder, Recording};
use crate::plan::Plan;
use crate::stats::{ActivationSums, WeightStatistics};

/// The sums of a study of sparse activations.
pub struct SparseSums {
    comparison: ComparisonPlan,
    members: Vec<Arc<Recording>>,
    /// The entries that were read, one matrix per model, in the order of the plan.
    tokens: Vec<SparseTokens>,
    /// The models with their sums, once all tokens were read.
    models: Vec<SparseModel>,
    /// The matches, `[reference][partner]`.
    pairs: Vec<Vec<PairResult>>,
}

impl SparseSums {
    /// Creates sums without tokens.
    pub fn new(comparison: ComparisonPlan, members: &[FamilyMember]) -> Self {
        let recording = |member: &FamilyMember| match member {
            FamilyMember::Recording(recording) => Some(Arc::clone(recording)),
            FamilyMember::Model(_) | FamilyMember::Units(_) => None,
        };
        let tokens = comparison.models.iter().map(|layout| SparseTokens::new(layout.n_neurons()));
        Self {
            tokens: tokens.collect(),
            members: members.iter().filter_map(recording).collect(),
            comparison,
            models: Vec::new(),
            pairs: Vec::new(),
        }
    }

    /// Returns the statistics of the activations of a model.
    fn statistics(&self, model: usize) -> ActivationSums {
        let columns = self.models[model].columns();
        let neuron = |i| columns.of(i).iter().map(|&(_, value)| value);
        ActivationSums::of_sparse(columns.tokens() as u64, (0..columns.neurons()).map(neuron))
    }
}

impl BatchReader for SparseSums {
    fn read(&mut self, batches: &[Batch]) -> Result<()> {
        for batch in batches {
            let ids = batch.ids().concat().into_iter().zip(batch.kept());
            let ids: Vec<u32> = ids.filter(|(_, kept)| *kept).map(|(id, _)| id).collect();
            for (member, tokens) in self.members.iter().zip(&mut self.tokens) {
                let layers = 0..member.config().n_layers;
                let layers = layers.map(|layer| member.entries(layer, &ids));
                let layers = layers.collect::<Result<Vec<_>>>()?;
                let units = member.config().d_mlp();
                for token in 0..ids.len() {
                    let of_layer = layers.iter().enumerate().flat_map(|(layer, entries)| {
                        let first = (layer * units) as u32;
                        entries[token].iter().map(move |&(unit, value)| (first + unit, value))
                    });
                    tokens.push(of_layer);
                }
            }
        }
        Ok(())
    }
}

impl TokenSums for SparseSums {
    fn absorb_rest(&mut self) -> Result<()> {
        Ok(())
    }

    fn end_pass(&mut self, watch: Watch) -> Result<bool> {
        self.models = self.tokens.drain(..).map(SparseModel::new).collect();
        self.pairs = compare_sparse(&self.comparison, &self.models, watch)?;
        Ok(false)
    }
}

impl StudySums for SparseSums {
    fn begin(&mut self, _: &Plan, _: bool) -> Result<()> {
        Ok(())
    }

    fn start_at(&mut self, _: u64) {
        unreachable!("shares of sparse activations are refused");
    }

    fn check(&self, _: u64, _: u64) -> Result<(), String> {
        Err("sparse activations write no checkpoints".into())
    }

    fn matches(self: Box<Self>) -> Vec<Vec<PairResult>> {
        self.pairs
    }

    fn finish(self: Box<Self>, plan: &Plan, separate: Option<Vec<ActivationSums>>) -> Outcome {
        let own = || plan.judged.iter().map(|&model| self.statistics(model)).collect();
        let statistics = separate.unwrap_or_else(own);
        let family: Vec<_> = self.models.iter().map(SparseModel::sums).collect();
        let found = plan.judged.iter().zip(&statistics).zip(&self.pairs);
        let found = found.map(|((&model, activations), pairs)| Found {
            model,
            pairs,
            activations,
            screening: None,
        });
        let weights =
            |i: usize| vec![WeightStatistics::MISSING; plan.models[i].layout().n_neurons()];
        draw(plan, &weights, &family, found)
    }
}

impl State for SparseSums {
    fn parts(&mut self, _: Visit) -> std::io::Result<()> {
        unreachable!("sparse activations write no checkpoints")
    }
}
