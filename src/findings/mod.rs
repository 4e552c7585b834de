//! Findings: the results of a study, drawn from its sums and ready to be shown or judged.

mod figures;
mod intervals;
mod sources;
mod summary;
#[cfg(test)]
mod tests;

use crate::correlation::excess::{Agreement, agreements, universal_error};
use crate::correlation::{NeuronMatch, PairResult};
use crate::error::{Error, Kind, Result};
use crate::plan::{Plan, PlannedModel};
use crate::record::{
    BestMatch, DrawError, ExtraRow, PartnerCorrelations, Resampling, Summary, Timing, Uncorrelated,
};
use crate::spec::{IntervalOptions, SparsityKind};
use crate::table::{NeuronId, Table, published_row};

pub use figures::Figures;
pub use intervals::Resamples;
pub use sources::Sources;
use summary::{Flag, draw_summary};

/// The results of a universality study for one reference model.
#[derive(Debug, Clone)]
pub struct Findings {
    /// The neuron table of the reference model.
    pub table: Table,
    /// The rows of `neurons-extra.csv`.
    pub extra: Vec<ExtraRow>,
    /// The headline figures.
    pub summary: Summary,
    /// The correlations with each partner model, in the order of the family.
    pub partners: Vec<PartnerCorrelations>,
    /// `[partner][neuron]`: its best few partners, as indices over all layers, which resamples
    /// compare it with; empty if the spec asks for no intervals.
    pub candidates: Vec<Vec<Vec<u32>>>,
}

/// Whether each neuron is universal, counted over all layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Universal(pub Vec<bool>);

impl Universal {
    /// Finds the neurons whose excess correlation lies above a threshold.
    pub fn of(findings: &Findings, threshold: f64) -> Self {
        Self::above(&findings.table, threshold)
    }

    /// Finds the universal neurons in a table of all neurons, in the order of neurons.
    pub fn above(table: &Table, threshold: f64) -> Self {
        let excess = table.column(crate::table::Column::ExcessCorr);
        Self(excess.iter().map(|&e| e > threshold).collect())
    }
}

/// The results of a study for all its reference models.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Results for the reference model.
    pub reference: Findings,
    /// Results for the models of `also_reference`, in the order of the spec.
    pub also: Vec<Findings>,
    /// The device and kernel that computed the matrix products.
    pub device: String,
}

impl Outcome {
    /// Checks that every reference model has correlations that can be judged.
    ///
    /// # Errors
    /// Returns an error if no neuron of some model has a correlation with every partner.
    pub fn check_correlated(&self) -> Result<()> {
        self.all().try_for_each(Findings::check_correlated)
    }

    /// Records why there are no intervals, if the spec asks for them.
    pub fn set_intervals_missing(&mut self, plan: &Plan, why: &str) {
        let IntervalOptions { blocks, resamples, .. } = plan.spec.statistics.intervals;
        let candidates = plan.candidates();
        let resampling = Resampling { blocks, resamples, candidates, missing: Some(why.into()) };
        for findings in self.all_mut() {
            findings.summary.resampling = (blocks > 0).then(|| resampling.clone());
        }
    }

    /// Returns the findings about all judged models, in the order of the plan.
    pub fn all(&self) -> impl Iterator<Item = &Findings> {
        std::iter::once(&self.reference).chain(&self.also)
    }

    /// Returns the same findings, to be changed.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Findings> {
        std::iter::once(&mut self.reference).chain(&mut self.also)
    }

    /// Adds the duration of the run.
    #[must_use]
    pub fn timed(mut self, timing: Timing) -> Self {
        self.reference.summary.timing = Some(timing);
        self
    }
}

impl Findings {
    /// Draws the findings about a reference model. `judged` is its place in the family.
    pub fn draw(plan: &Plan, judged: usize, sources: &Sources) -> Self {
        let agreements = agreements(sources.pairs);
        let table = draw_table(plan, judged, &agreements, sources);
        let extra = (0..agreements.len())
            .map(|i| draw_extra(plan, judged, sources, agreements[i].as_ref(), i))
            .collect::<Vec<_>>();
        let mut summary = draw_summary(plan, judged, &table, &extra, sources);
        summary.screening = sources.screening;
        summary.draws = Some(draw_error(plan, sources.pairs, &agreements));
        let partners = plan.partners(judged).zip(sources.pairs);
        let most = plan.spec.correlation.top_partners;
        let partners =
            partners.map(|(i, pair)| draw_partner(&plan.models[i], pair, most)).collect();
        let few = plan.candidates();
        let pairs = sources.pairs.iter().take(if few > 0 { usize::MAX } else { 0 });
        let candidates = pairs.map(|pair| best_few(pair, few)).collect();
        Self { table, extra, summary, partners, candidates }
    }

    /// Checks that some neuron has a correlation with every partner. Otherwise there is nothing to
    /// judge, although the statistics of weights and activations are right.
    ///
    /// # Errors
    /// Returns an error that names the models with neurons without a correlation.
    pub fn check_correlated(&self) -> Result<()> {
        let excess = self.table.column(crate::table::Column::ExcessCorr);
        if excess.iter().any(|e| !e.is_nan()) {
            return Ok(());
        }
        let flagged = self.summary.models.iter().filter(|m| !m.is_empty()).map(|m| {
            let Uncorrelated { model, neurons, dead, non_finite } = m;
            let (dead, non_finite) = (dead.len(), non_finite.len());
            format!("; of {neurons} neurons of model {model}, {dead} never vary and {non_finite} are not finite")
        });
        let flagged: String = flagged.collect();
        let problem = format!("no neuron has a correlation with every partner{flagged}");
        let remedy = "check the weights of these models, or give more text";
        let subject = format_args!("model {}", self.summary.reference);
        Err(Error::new(Kind::Model, subject, problem, remedy))
    }
}

/// Returns how much the universal share depends on the draws of the baseline.
fn draw_error(plan: &Plan, pairs: &[PairResult], agreements: &[Option<Agreement>]) -> DrawError {
    let threshold = plan.spec.correlation.threshold;
    let count = universal_error(pairs, agreements, threshold);
    let is_near = |a: &&Agreement| (a.excess() - threshold).abs() <= a.baseline_se;
    DrawError {
        draws: plan.spec.correlation.baseline.draws,
        percent: 100.0 * count / agreements.len() as f64,
        near: agreements.iter().flatten().filter(is_near).count(),
    }
}

/// Returns the best `few` partners of each neuron, as indices over all layers.
fn best_few(pair: &PairResult, few: usize) -> Vec<Vec<u32>> {
    let of = |i| pair.top(i).take(few).map(|best| best.neuron as u32).collect();
    (0..pair.neurons()).map(of).collect()
}

fn draw_table(
    plan: &Plan,
    judged: usize,
    agreements: &[Option<Agreement>],
    sources: &Sources,
) -> Table {
    let d_mlp = plan.models[judged].layout().d_mlp;
    let mut table = Table::new();
    for (i, (agreement, weights)) in agreements.iter().zip(sources.weights).enumerate() {
        let activation = sources.activations.statistics(i, plan.spec.statistics.sparsity);
        let id = NeuronId::of(i, d_mlp);
        table.push(id, published_row(agreement.as_ref(), &activation, weights));
    }
    table
}

fn draw_extra(
    plan: &Plan,
    judged: usize,
    sources: &Sources,
    agreement: Option<&Agreement>,
    i: usize,
) -> ExtraRow {
    let Sources { pairs, family, activations, .. } = *sources;
    let one = |(partner, pair): (usize, &PairResult)| {
        let best = pair.best(i)?;
        let id = NeuronId::of(best.neuron, plan.models[partner].layout().d_mlp);
        let draws = pair.baseline.len() as f64;
        let baseline = pair.baseline.iter().map(|draw| draw[i]).sum::<f64>() / draws;
        Some(BestMatch { id, rho: best.rho, baseline })
    };
    let flag = Flag::of(family[judged], i);
    let published = activations.statistics(i, SparsityKind::PublishedBin);
    ExtraRow {
        matches: plan.partners(judged).zip(pairs).map(one).collect(),
        baseline_sd: agreement.map_or(f64::NAN, |a| a.baseline_sd),
        baseline_se: agreement.map_or(f64::NAN, |a| a.baseline_se),
        excess: None,
        note_sparsity: published.note_sparsity,
        published_sparsity: published.sparsity,
        dead: flag == Some(Flag::Dead),
        non_finite: flag == Some(Flag::NonFinite),
        name: plan.models[judged].names.get(i).map(str::to_owned),
    }
}

/// Draws the correlations with a partner model, with at most `most` partner neurons for each
/// neuron.
fn draw_partner(model: &PlannedModel, pair: &PairResult, most: usize) -> PartnerCorrelations {
    let d_mlp = model.layout().d_mlp;
    let named = |best: NeuronMatch| (NeuronId::of(best.neuron, d_mlp), best.rho);
    PartnerCorrelations {
        partner: model.name.clone(),
        pairs: pair.histogram.iter().sum(),
        rho: pair.moments.moments(),
        histogram: pair.histogram.clone(),
        cka: pair.cka.chunks(model.layout().n_layers).map(<[f64]>::to_vec).collect(),
        top: (0..pair.neurons()).map(|i| pair.top(i).take(most).map(named).collect()).collect(),
    }
}
