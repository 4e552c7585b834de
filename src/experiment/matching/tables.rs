//! The tables of a run of `kind: matching`.

use rayon::prelude::*;

use super::assignment::assignment;
use super::clusters::Cluster;
use super::matches::Matches;
use crate::correlation::NeuronMatch;
use crate::findings::{Findings, Universal};
use crate::plan::Plan;
use crate::record::TextTable;
use crate::table::{Column, NeuronId, cell, fixed_cell};

/// What is known about the matches of one neuron of the reference model.
#[derive(Debug, Clone, PartialEq)]
pub struct NeuronRow {
    /// The neuron.
    pub id: NeuronId,
    /// Its excess correlation.
    pub excess: f64,
    /// Whether it is universal.
    pub universal: bool,
    /// Number of other models in which it is found.
    pub seeds: usize,
    /// Ways through two other models that return to it, and all such ways.
    pub cycles: (usize, usize),
    /// Its excess correlation if each of the other models in turn is left out.
    pub without: Vec<f64>,
    /// Its matches in each of the other models.
    pub partners: Vec<PartnerRow>,
}

/// The matches of a neuron in one model.
#[derive(Debug, Clone, PartialEq)]
pub struct PartnerRow {
    /// The best match.
    pub best: Option<NeuronMatch>,
    /// Rank of the neuron among the best partners of its best match.
    pub rank: Option<usize>,
    /// The neuron that it is assigned one to one.
    pub assigned: Option<NeuronMatch>,
    /// Neurons per layer of the model.
    pub d_mlp: usize,
}

impl NeuronRow {
    /// Returns the share of the neuron's best matches for which `test` holds.
    fn share(&self, test: impl Fn(&PartnerRow) -> bool) -> Option<f64> {
        let matched: Vec<_> = self.partners.iter().filter(|p| p.best.is_some()).collect();
        let some = matched.iter().filter(|p| test(p)).count();
        (!matched.is_empty()).then(|| some as f64 / matched.len() as f64)
    }

    /// Returns the share of the neuron's best matches that are mutual.
    pub fn mutual(&self) -> Option<f64> {
        self.share(|partner| partner.rank == Some(1))
    }

    /// Returns the share of the neuron's best matches that the one-to-one assignment keeps.
    pub fn kept(&self) -> Option<f64> {
        let neuron = |found: Option<NeuronMatch>| found.map(|found| found.neuron);
        self.share(|partner| neuron(partner.best) == neuron(partner.assigned))
    }

    /// Returns the share of ways through two other models that return to the neuron.
    pub fn cycles_closed(&self) -> Option<f64> {
        let (closed, all) = self.cycles;
        (all > 0).then(|| closed as f64 / all as f64)
    }
}

/// Returns a row for each neuron of the reference model.
pub fn rows(plan: &Plan, matches: &Matches, findings: &Findings) -> Vec<NeuronRow> {
    let (x, threshold) = (plan.judged[0], plan.spec.correlation.threshold);
    let universal = Universal::of(findings, threshold).0;
    let others: Vec<usize> = matches.others(x).collect();
    let assigned: Vec<_> = others.par_iter().map(|&y| assignment(matches, [x, y])).collect();
    let partner = |place: usize, i: usize| PartnerRow {
        best: matches.best([x, others[place]], i),
        rank: matches.rank([x, others[place]], i),
        assigned: assigned[place][i],
        d_mlp: plan.models[others[place]].layout().d_mlp,
    };
    let row = |i: usize| NeuronRow {
        id: findings.table.ids[i],
        excess: findings.table.column(Column::ExcessCorr)[i],
        universal: universal[i],
        seeds: matches.found_in(x, i, threshold),
        cycles: matches.cycles(x, i),
        without: others.iter().map(|&y| matches.excess_without(x, i, y)).collect(),
        partners: (0..others.len()).map(|place| partner(place, i)).collect(),
    };
    (0..findings.table.ids.len()).map(row).collect()
}

/// Returns `matching.csv`, with a row for each neuron of the reference model.
pub fn matching(partners: &[String], rows: &[NeuronRow]) -> TextTable {
    let fixed = ["layer", "neuron", "excess_corr", "universal", "found_in", "cycles", "of_cycles"];
    let of_partner = |name: &String| {
        let of = |what: &str| format!("{what}_{name}");
        ["best", "corr", "rank", "assigned", "assigned_corr", "excess_without"].map(of)
    };
    let header = fixed.map(String::from).into_iter().chain(partners.iter().flat_map(of_partner));
    let row = |row: &NeuronRow| {
        let mut cells = vec![
            row.id.layer.to_string(),
            row.id.neuron.to_string(),
            cell(row.excess),
            row.universal.to_string(),
            row.seeds.to_string(),
            row.cycles.0.to_string(),
            row.cycles.1.to_string(),
        ];
        for (partner, without) in row.partners.iter().zip(&row.without) {
            let [best, corr] = named(partner.best, partner.d_mlp);
            let [assigned, assigned_corr] = named(partner.assigned, partner.d_mlp);
            let rank = partner.rank.map_or(String::new(), |rank| rank.to_string());
            cells.extend([best, corr, rank, assigned, assigned_corr, cell(*without)]);
        }
        cells
    };
    TextTable { header: header.collect(), rows: rows.iter().map(row).collect() }
}

/// Returns the name of a matched neuron and the correlation with it, both empty if there is none.
fn named(found: Option<NeuronMatch>, d_mlp: usize) -> [String; 2] {
    match found {
        Some(found) => [NeuronId::of(found.neuron, d_mlp).to_string(), cell(found.rho)],
        None => [String::new(), String::new()],
    }
}

/// The columns of `clusters.csv` before those of the models, one for each.
const OF_CLUSTER: [&str; 5] = ["cluster", "models", "neurons", "mean_corr", "least_corr"];

/// Returns the models that `clusters.csv` has columns for, which are the last ones.
pub fn cluster_models(table: &TextTable) -> &[String] {
    table.header.get(OF_CLUSTER.len()..).unwrap_or_default()
}

/// Returns `clusters.csv`, with a row for each cluster.
pub fn clusters(plan: &Plan, models: &[String], clusters: &[Cluster]) -> TextTable {
    let header = OF_CLUSTER.map(String::from).into_iter().chain(models.iter().cloned());
    let row = |(i, cluster): (usize, &Cluster)| {
        let mut cells = vec![
            (i + 1).to_string(),
            cluster.models().to_string(),
            cluster.members.len().to_string(),
            fixed_cell(cluster.mean_corr(), 6),
            fixed_cell(cluster.least_corr(), 6),
        ];
        cells.extend((0..models.len()).map(|model| {
            let own = cluster.members.iter().filter(|(of, _)| *of == model);
            let d_mlp = plan.models[model].layout().d_mlp;
            let names: Vec<String> =
                own.map(|(_, neuron)| NeuronId::of(*neuron, d_mlp).to_string()).collect();
            names.join(" ")
        }));
        cells
    };
    TextTable { header: header.collect(), rows: clusters.iter().enumerate().map(row).collect() }
}
