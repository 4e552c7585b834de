//! One-to-one matches: the assignment of neurons of one model to neurons of another that has the
//! largest sum of correlations. Only candidates can be assigned to each other: two neurons of which
//! one is among the best partners of the other.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use pathfinding::kuhn_munkres::{Weights, kuhn_munkres};
use pathfinding::undirected::connected_components::connected_components;

use super::matches::{Matches, Partners};
use crate::correlation::NeuronMatch;

/// Correlations are assigned as whole numbers of this unit, which is far below their rounding.
const UNIT: f64 = 1.0 / (1_u64 << 40) as f64;

/// Returns the partner in y that each neuron of x is assigned; `None` for a neuron without one. Pairs
/// with a negative correlation are not assigned.
pub fn assignment(matches: &Matches, [x, y]: [usize; 2]) -> Vec<Option<NeuronMatch>> {
    let candidates = candidates(matches, [x, y]);
    let mut assigned = vec![None; matches.neurons(x)];
    for part in parts(&candidates) {
        for (i, found) in part.assigned(&candidates) {
            assigned[i] = Some(found);
        }
    }
    assigned
}

/// The correlation of each pair of candidates.
type Candidates = BTreeMap<(usize, usize), f64>;

fn candidates(matches: &Matches, [x, y]: [usize; 2]) -> Candidates {
    let lists = |a: usize, b: usize| {
        let of = move |(i, partners): (usize, &Partners)| {
            partners.top.clone().into_iter().map(move |found| (i, found))
        };
        matches.partners[a][b].iter().enumerate().flat_map(of)
    };
    let forth = lists(x, y).map(|(i, found)| ((i, found.neuron), found.rho));
    let back = lists(y, x).map(|(j, found)| ((found.neuron, j), found.rho));
    forth.chain(back).filter(|(_, rho)| *rho > 0.0).collect()
}

/// Neurons that are candidates of each other, directly or by way of others. The assignment of one
/// part does not depend on that of another.
struct Part {
    /// Neurons of x.
    x: Vec<usize>,
    /// Neurons of y.
    y: Vec<usize>,
}

/// Which of two models a neuron belongs to, and its index.
type End = (bool, usize);

fn parts(candidates: &Candidates) -> Vec<Part> {
    let mut neighbours: BTreeMap<End, Vec<End>> = BTreeMap::new();
    for &(i, j) in candidates.keys() {
        neighbours.entry((false, i)).or_default().push((true, j));
        neighbours.entry((true, j)).or_default().push((false, i));
    }
    let starts: Vec<End> = neighbours.keys().copied().collect();
    let connected = connected_components(&starts, |end| neighbours[end].clone());
    let part = |ends: HashSet<End>| {
        let ends: BTreeSet<End> = ends.into_iter().collect();
        let of = |side: bool| ends.iter().filter(|e| e.0 == side).map(|e| e.1).collect();
        Part { x: of(false), y: of(true) }
    };
    connected.into_iter().map(part).collect()
}

impl Part {
    /// Returns the pairs that are assigned.
    fn assigned(&self, candidates: &Candidates) -> Vec<(usize, NeuronMatch)> {
        let transposed = self.x.len() > self.y.len();
        let weights = PartWeights { part: self, candidates, transposed };
        let (_, columns) = kuhn_munkres(&weights);
        let pairs = columns.into_iter().enumerate().map(|(row, column)| weights.ends(row, column));
        // A pair that is no candidate has the weight 0: both of its neurons are left without one.
        pairs
            .filter_map(|(i, neuron)| {
                let rho = *candidates.get(&(i, neuron))?;
                Some((i, NeuronMatch { rho, neuron }))
            })
            .collect()
    }
}

/// The weights of a part, with the smaller side as rows.
struct PartWeights<'a> {
    part: &'a Part,
    candidates: &'a Candidates,
    transposed: bool,
}

impl PartWeights<'_> {
    fn ends(&self, row: usize, column: usize) -> (usize, usize) {
        match self.transposed {
            true => (self.part.x[column], self.part.y[row]),
            false => (self.part.x[row], self.part.y[column]),
        }
    }
}

impl Weights<i64> for PartWeights<'_> {
    fn rows(&self) -> usize {
        self.part.x.len().min(self.part.y.len())
    }

    fn columns(&self) -> usize {
        self.part.x.len().max(self.part.y.len())
    }

    fn at(&self, row: usize, column: usize) -> i64 {
        let rho = self.candidates.get(&self.ends(row, column));
        rho.map_or(0, |rho| (rho / UNIT) as i64)
    }

    fn neg(&self) -> Self {
        unreachable!("only a smallest sum needs it")
    }
}
