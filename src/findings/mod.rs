//! Findings: what a run says, drawn from its sums and ready to be shown or judged.

mod summary;

use crate::correlation::excess::{Agreement, agreements};
use crate::correlation::{NeuronSums, Pair};
use crate::error::{Error, Kind, Result};
use crate::plan::Plan;
use crate::spec::SparsityKind;
use crate::stats::{ActivationSums, WeightStatistics};
use crate::table::{NeuronId, Table, published_row};

pub use summary::{Published, Share, Signature, Summary, Timing, Top};

/// Everything a universality run found.
#[derive(Debug, Clone)]
pub struct Findings {
    /// The neuron table of the reference.
    pub table: Table,
    /// What the published columns have no room for, row by row.
    pub extra: Vec<Extra>,
    /// The headline.
    pub summary: Summary,
}

/// One row of `neurons-extra.csv`.
#[derive(Debug, Clone, PartialEq)]
pub struct Extra {
    /// Best partner per model, in the order of [`Summary::partners`].
    pub matches: Vec<Option<Match>>,
    /// Standard deviation of the mean baseline over draws.
    pub baseline_sd: f64,
    /// Share of tokens with post-activation below 0.01.
    pub note_sparsity: f64,
    /// Share of tokens with pre-activation in or above the published bin below zero.
    pub published_sparsity: f64,
    /// The activation never varies, so there is no correlation.
    pub dead: bool,
    /// Some activation was NaN or infinite, so there is no correlation.
    pub non_finite: bool,
}

/// A best match in one partner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// The partner's neuron.
    pub id: NeuronId,
    /// ρ with it.
    pub rho: f64,
    /// ρ of the best chance neuron, mean over draws.
    pub baseline: f64,
}

impl Findings {
    /// Draws the findings of a run.
    ///
    /// # Errors
    /// If no neuron of the reference has a correlation.
    pub fn draw(
        plan: &Plan,
        pairs: &[Pair],
        own: &NeuronSums,
        activations: &ActivationSums,
        weights: &[WeightStatistics],
    ) -> Result<Self> {
        let agreements = agreements(pairs);
        if agreements.iter().all(Option::is_none) {
            let problem = "no neuron of the reference has a correlation with every partner";
            let remedy = "check the weights and give more text";
            return Err(Error::new(Kind::Model, &plan.spec.models.reference, problem, remedy));
        }
        let table = draw_table(plan, &agreements, activations, weights);
        let extra = (0..agreements.len())
            .map(|i| draw_extra(plan, pairs, own, activations, agreements[i].as_ref(), i))
            .collect::<Vec<_>>();
        let summary = Summary::draw(plan, &table, &extra, pairs);
        Ok(Self { table, extra, summary })
    }

    /// Adds how long it took.
    #[must_use]
    pub fn timed(mut self, timing: Timing) -> Self {
        self.summary.timing = Some(timing);
        self
    }
}

fn draw_table(
    plan: &Plan,
    agreements: &[Option<Agreement>],
    activations: &ActivationSums,
    weights: &[WeightStatistics],
) -> Table {
    let d_mlp = plan.reference().layout().d_mlp;
    let mut table = Table::new();
    for (i, (agreement, weights)) in agreements.iter().zip(weights).enumerate() {
        let activation = activations.statistics(i, plan.spec.statistics.sparsity);
        let id = NeuronId { layer: i / d_mlp, neuron: i % d_mlp };
        table.push(id, published_row(agreement.as_ref(), &activation, weights));
    }
    table
}

fn draw_extra(
    plan: &Plan,
    pairs: &[Pair],
    own: &NeuronSums,
    activations: &ActivationSums,
    agreement: Option<&Agreement>,
    i: usize,
) -> Extra {
    let one = |(partner, pair): (usize, &Pair)| {
        let best = pair.best[i]?;
        let d_mlp = plan.models[partner].layout().d_mlp;
        let id = NeuronId { layer: best.neuron / d_mlp, neuron: best.neuron % d_mlp };
        let draws = pair.baseline.len() as f64;
        let baseline = pair.baseline.iter().map(|draw| draw[i]).sum::<f64>() / draws;
        Some(Match { id, rho: best.rho, baseline })
    };
    let non_finite = own.non_finite(i);
    let published = activations.statistics(i, SparsityKind::PublishedBin);
    Extra {
        matches: plan.partners().zip(pairs).map(one).collect(),
        baseline_sd: agreement.map_or(f64::NAN, |a| a.baseline_sd),
        note_sparsity: published.note_sparsity,
        published_sparsity: published.sparsity,
        dead: !non_finite && own.inverse_spread(i).is_none(),
        non_finite,
    }
}
