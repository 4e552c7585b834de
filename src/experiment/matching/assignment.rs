//! One-to-one matches: the assignment of neurons of one model to neurons of another that has the
//! largest sum of correlations. Only candidates can be assigned to each other: two neurons are
//! candidates if one is among the best partners of the other.

use std::cell::RefCell;
use std::collections::BTreeMap;

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
#[derive(Default)]
struct CandidateGroup {
    /// Neurons of x, in order.
    x: Vec<usize>,
    /// Neurons of y, in order.
    y: Vec<usize>,
    /// The pairs of candidates among them.
    pairs: Vec<(usize, usize)>,
}

/// Which of two models a neuron belongs to, and its index.
type End = (bool, usize);

fn parts(candidates: &Candidates) -> Vec<CandidateGroup> {
    let mut neighbours: BTreeMap<End, Vec<End>> = BTreeMap::new();
    for &(i, j) in candidates.keys() {
        neighbours.entry((false, i)).or_default().push((true, j));
        neighbours.entry((true, j)).or_default().push((false, i));
    }
    let starts: Vec<End> = neighbours.keys().copied().collect();
    let connected = connected_components(&starts, |end| neighbours[end].clone());
    let place =
        connected.iter().enumerate().flat_map(|(at, ends)| ends.iter().map(move |e| (*e, at)));
    let place: BTreeMap<End, usize> = place.collect();
    let mut parts: Vec<CandidateGroup> =
        connected.iter().map(|_| CandidateGroup::default()).collect();
    for (&(of_y, neuron), &at) in &place {
        let side = if of_y { &mut parts[at].y } else { &mut parts[at].x };
        side.push(neuron);
    }
    for &(i, j) in candidates.keys() {
        parts[place[&(false, i)]].pairs.push((i, j));
    }
    parts
}

impl CandidateGroup {
    /// Returns the pairs that are assigned.
    fn assigned(&self, candidates: &Candidates) -> Vec<(usize, NeuronMatch)> {
        // No row may be left without a column, so the smaller side has the rows.
        let transposed = self.x.len() > self.y.len();
        let (_, columns) = kuhn_munkres(&GroupWeights::of(self, candidates, transposed));
        let ends = |(row, column): (usize, usize)| match transposed {
            true => (self.x[column], self.y[row]),
            false => (self.x[row], self.y[column]),
        };
        let pairs = columns.into_iter().enumerate().map(ends);
        // A pair that is no candidate has the weight 0: both of its neurons are left without one.
        pairs
            .filter_map(|(i, neuron)| {
                let rho = *candidates.get(&(i, neuron))?;
                Some((i, NeuronMatch { rho, neuron }))
            })
            .collect()
    }
}

/// The weights of a part.
struct GroupWeights {
    /// For each row, the columns of its candidates, with their weights.
    rows: Vec<Vec<(usize, i64)>>,
    columns: usize,
    /// The row that was asked for last, and its weight at every column: rows are read from one end to
    /// the other.
    last: RefCell<(usize, Vec<i64>)>,
}

impl GroupWeights {
    fn of(part: &CandidateGroup, candidates: &Candidates, transposed: bool) -> Self {
        let (rows, columns) = if transposed { (&part.y, &part.x) } else { (&part.x, &part.y) };
        let mut weights = vec![Vec::new(); rows.len()];
        let place = |list: &[usize], neuron: usize| list.binary_search(&neuron).ok();
        for &(i, j) in &part.pairs {
            let rho = candidates[&(i, j)];
            let (row, column) = if transposed { (j, i) } else { (i, j) };
            if let Some((row, column)) = place(rows, row).zip(place(columns, column)) {
                weights[row].push((column, (rho / UNIT) as i64));
            }
        }
        let last = RefCell::new((usize::MAX, vec![0; columns.len()]));
        Self { rows: weights, columns: columns.len(), last }
    }
}

impl Weights<i64> for GroupWeights {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn at(&self, row: usize, column: usize) -> i64 {
        let (last, weights) = &mut *self.last.borrow_mut();
        if *last != row {
            let before = self.rows.get(*last).into_iter().flatten();
            before.for_each(|(column, _)| weights[*column] = 0);
            self.rows[row].iter().for_each(|&(column, weight)| weights[column] = weight);
            *last = row;
        }
        weights[column]
    }

    fn neg(&self) -> Self {
        unreachable!("only a smallest sum needs it")
    }
}
