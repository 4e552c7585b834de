//! Clusters of neurons of all models that are each other's best matches: one neuron, as it appears in
//! several seeds.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use pathfinding::undirected::connected_components::connected_components;

use super::matches::Matches;

/// A model of the family and a neuron of it.
pub type Member = (usize, usize);

/// Neurons that are connected by mutual best matches above chance.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// The members, in the order of models and neurons.
    pub members: Vec<Member>,
    /// The correlations of the mutual best matches that connect them.
    pub links: Vec<f64>,
}

impl Cluster {
    fn of(members: HashSet<Member>) -> Self {
        let members: BTreeSet<Member> = members.into_iter().collect();
        Self { members: members.into_iter().collect(), links: Vec::new() }
    }

    /// Returns the number of models that have a member.
    pub fn models(&self) -> usize {
        self.members.iter().map(|(model, _)| model).collect::<BTreeSet<_>>().len()
    }

    /// Returns the mean correlation of the mutual best matches that connect the members.
    pub fn mean_corr(&self) -> f64 {
        self.links.iter().sum::<f64>() / self.links.len() as f64
    }

    /// Returns the smallest of these correlations.
    pub fn least_corr(&self) -> f64 {
        self.links.iter().copied().fold(f64::INFINITY, f64::min)
    }
}

/// Returns all clusters of two or more neurons: the connected components of the graph that joins two
/// neurons if each is the best match of the other and this match lies above chance by more than
/// `threshold`, seen from both. Clusters of most models come first, then those of the largest mean
/// correlation.
pub fn clusters(matches: &Matches, threshold: f64) -> Vec<Cluster> {
    let links = links(matches, threshold);
    let mut neighbours: BTreeMap<Member, Vec<Member>> = BTreeMap::new();
    for &(a, b) in links.keys() {
        neighbours.entry(a).or_default().push(b);
        neighbours.entry(b).or_default().push(a);
    }
    let starts: Vec<Member> = neighbours.keys().copied().collect();
    let connected = connected_components(&starts, |member| neighbours[member].clone());
    let mut all: Vec<Cluster> = connected.into_iter().map(Cluster::of).collect();
    let place = all.iter().enumerate().flat_map(|(at, c)| c.members.iter().map(move |m| (*m, at)));
    let place: BTreeMap<Member, usize> = place.collect();
    links.iter().for_each(|((a, _), rho)| all[place[a]].links.push(*rho));
    all.sort_by(|a, b| {
        let by_models = b.models().cmp(&a.models());
        by_models.then(b.mean_corr().total_cmp(&a.mean_corr())).then(a.members.cmp(&b.members))
    });
    all
}

/// Returns the mutual best matches above chance, each once, with its correlation.
fn links(matches: &Matches, threshold: f64) -> BTreeMap<(Member, Member), f64> {
    let is_above = |pair: [usize; 2], i: usize| {
        matches.excess(pair, i).is_some_and(|excess| excess > threshold)
    };
    let mut links = BTreeMap::new();
    for x in 0..matches.models() {
        for y in x + 1..matches.models() {
            for i in (0..matches.neurons(x)).filter(|&i| matches.is_mutual([x, y], i)) {
                let Some(best) = matches.best([x, y], i) else { continue };
                if is_above([x, y], i) && is_above([y, x], best.neuron) {
                    links.insert(((x, i), (y, best.neuron)), best.rho);
                }
            }
        }
    }
    links
}
