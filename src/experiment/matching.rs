//! `kind: matching`: which best matches hold in both directions, which neurons are one and the same in
//! several seeds, and how similar layers are as a whole. Beyond the paper, which looks at the best
//! match of each neuron of one model only.

mod assignment;
mod charts;
mod clusters;
mod layers;
mod matches;
mod tables;
#[cfg(test)]
mod tests;

pub use tables::cluster_models;

use super::cost::KindCost;
use super::kind::{Desk, Experiment, FigureName, figure};
use super::universality::NoSettings;
use crate::charts::Chart;
use crate::correlation::{ComparisonPlan, Keep};
use crate::error::Result;
use crate::findings::{Figures, Findings, Outcome};
use crate::plan::{Plan, Workload};
use crate::record::Tables;
use crate::run::Session;
use crate::spec::Section;
use crate::stats::percentile::mean;
use crate::table::NeuronId;

use clusters::{Cluster, clusters};
use matches::Matches;
use tables::NeuronRow;

/// Number of best partners that are kept of each neuron: ranks above it are not told apart, and only
/// these can be assigned to each other.
const KEPT: usize = 10;
/// Number of clusters that the lines of the run show.
const SHOWN: usize = 5;

/// The matching experiment.
pub struct MatchingKind;

impl Experiment for MatchingKind {
    type Settings = NoSettings;
    const KIND: &'static str = "matching";
    const PURPOSE: &'static str = "Compares every two models of the family in both directions, joins mutual matches to clusters, and compares layers.";
    const SECTION: Section = Section::None;
    const NEEDS_WHOLE_MODELS: bool = false;
    const READS_RECORDED: bool = true;
    const FIGURES: &'static [FigureName] = &[
        figure("mutual-matches", "share of best matches that are mutual, in percent"),
        figure("mutual-universal", "the same share over universal neurons"),
        figure(
            "one-to-one",
            "share of best matches that the one-to-one assignment of largest summed correlation keeps, in percent",
        ),
        figure("one-to-one-universal", "the same share over universal neurons"),
        figure(
            "cycle-consistency",
            "share of ways through two other models, from best match to best match, that return to the neuron where they began, in percent",
        ),
        figure("cycle-universal", "the same share over universal neurons"),
        figure("found-in", "number of neurons found in no, one, two … other models"),
        figure(
            "share-without",
            "universal share in percent if each of the other models in turn is left out",
        ),
        figure("clusters", "number of clusters that span two, three … models"),
        figure("clusters-of-all", "number of clusters that span all models"),
        figure("layer-cka", "mean linear CKA of layers at the same depth, and of the other pairs"),
        figure("layer-cka-gap", "the first value of `layer-cka` minus the second"),
    ];
    const EXAMPLE: &'static str = include_str!("../../experiments/matching.yaml");
    const DESK: Desk = Desk::Spec("experiments/matching.yaml");

    fn cost(_: &NoSettings, work: &Workload) -> KindCost {
        // The study that is counted judges fewer models.
        let references = (0..work.models.len()).collect();
        let all = ComparisonPlan { references, ..work.comparison.clone() };
        let operations = |plan: &ComparisonPlan| {
            let (reading, matching) = plan.operations(Keep::Sums { passes: 1 }, work.used);
            reading + matching
        };
        let more = operations(&all) - operations(&work.comparison);
        KindCost { operations: more, ..KindCost::of_studies(vec![1.0]) }
    }

    fn run(_: &NoSettings, session: &mut Session) -> Result<Figures> {
        let plan = session.plan.judging_all(KEPT)?;
        let outcome = session.outcome_of(&plan, "comparing every two models")?;
        let findings = in_family_order(&plan, &outcome);
        let matches = Matches::of(&plan, &findings);
        session.control.progress.say("assigning neurons one to one");
        let reference = plan.judged[0];
        let rows = tables::rows(&plan, &matches, findings[reference]);
        let clusters = clusters(&matches, plan.spec.correlation.threshold);
        let mut figures = Figures::default();
        add_matches(&mut figures, &plan, &rows);
        add_found(&mut figures, &plan, &rows);
        add_clusters(&mut figures, &plan, &clusters);
        layers::add(&mut figures, &plan, &matches, &findings);
        let partners = names(&plan, matches.others(reference));
        figures.tables.insert("matching".into(), tables::matching(&partners, &rows));
        let all = names(&plan, 0..plan.models.len());
        figures.tables.insert("clusters".into(), tables::clusters(&plan, &all, &clusters));
        Ok(figures)
    }

    fn charts(tables: &Tables) -> Result<Vec<Chart>> {
        charts::all(tables)
    }
}

/// Returns the findings about every model, in the order of the family.
fn in_family_order<'a>(plan: &Plan, outcome: &'a Outcome) -> Vec<&'a Findings> {
    let mut all: Vec<_> = plan.judged.iter().zip(outcome.all()).collect();
    all.sort_by_key(|(model, _)| **model);
    all.into_iter().map(|(_, findings)| findings).collect()
}

fn names(plan: &Plan, models: impl Iterator<Item = usize>) -> Vec<String> {
    models.map(|model| plan.models[model].name.clone()).collect()
}

/// Adds a share over all rows and one over those of universal neurons, with a line of text.
fn add_shares(
    figures: &mut Figures,
    rows: &[NeuronRow],
    [of_all, of_universal]: [&str; 2],
    what: &str,
    of: impl Fn(&NeuronRow) -> Option<f64>,
) {
    let percent = |universal: bool| {
        let chosen = rows.iter().filter(|row| !universal || row.universal);
        100.0 * mean(chosen.filter_map(&of))
    };
    let [all, universal] = [false, true].map(percent);
    figures.add(of_all, [all]);
    figures.add(of_universal, [universal]);
    let line = format!("{what}: {all:.1} %, of universal neurons {universal:.1} %");
    figures.lines.push(line);
}

fn add_matches(figures: &mut Figures, plan: &Plan, rows: &[NeuronRow]) {
    let names = ["mutual-matches", "mutual-universal"];
    add_shares(figures, rows, names, "best matches that are mutual", NeuronRow::mutual);
    let names = ["one-to-one", "one-to-one-universal"];
    let kept = "best matches that a one-to-one assignment keeps";
    add_shares(figures, rows, names, kept, NeuronRow::kept);
    if plan.models.len() > 2 {
        let names = ["cycle-consistency", "cycle-universal"];
        let ways = "ways through two other models that return";
        add_shares(figures, rows, names, ways, NeuronRow::cycles_closed);
    }
}

fn add_found(figures: &mut Figures, plan: &Plan, rows: &[NeuronRow]) {
    let partners = plan.models.len() - 1;
    let found = |n: usize| rows.iter().filter(|row| row.seeds == n).count() as f64;
    let counts: Vec<f64> = (0..=partners).map(found).collect();
    figures.lines.push(format!(
        "found in every other model: {} of {} neurons; in none: {}",
        counts[partners],
        rows.len(),
        counts[0]
    ));
    figures.add("found-in", counts);
    if partners > 1 {
        let threshold = plan.spec.correlation.threshold;
        let share = |without: usize| {
            let above = rows.iter().filter(|row| row.without[without] > threshold).count();
            100.0 * above as f64 / rows.len() as f64
        };
        figures.add("share-without", (0..partners).map(share).collect::<Vec<_>>());
    }
}

fn add_clusters(figures: &mut Figures, plan: &Plan, clusters: &[Cluster]) {
    let models = plan.models.len();
    let of = |n: usize| clusters.iter().filter(|c| c.models() == n).count() as f64;
    let counts: Vec<f64> = (2..=models).map(of).collect();
    let all = of(models);
    figures.lines.push(format!("clusters that span all {models} models: {all}"));
    for cluster in clusters.iter().filter(|c| c.models() == models).take(SHOWN) {
        let name = |&(model, neuron): &(usize, usize)| {
            let of = &plan.models[model];
            format!("{} {}", of.name, NeuronId::of(neuron, of.layout().d_mlp))
        };
        let members: Vec<String> = cluster.members.iter().map(name).collect();
        let line =
            format!("  {} (mean correlation {:.2})", members.join(", "), cluster.mean_corr());
        figures.lines.push(line);
    }
    figures.add("clusters", counts);
    figures.add("clusters-of-all", [all]);
}
