//! The chance that a claim would hold if the labels that decide it were in random order.

use std::fmt;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::Serialize;

use super::evidence::Evidence;
use super::measure::{Measure, Permuted, Quantity};
use super::measurement::Measurement;

/// Largest number of labels of which all orders are tried: 720 orders.
const MOST_LABELS: usize = 6;
/// Number of random orders that are tried otherwise.
const DRAWS: usize = 1000;

/// How often a claim holds when the labels that decide it are in another order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Chance {
    /// The labels.
    pub permuted: Permuted,
    /// Number of orders in which the claim holds.
    pub holds: usize,
    /// Number of orders that were tried.
    pub of: usize,
    /// Whether all orders were tried, rather than random ones.
    pub all: bool,
}

impl fmt::Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { holds, of, .. } = self;
        let percent = 100.0 * *holds as f64 / *of as f64;
        write!(f, "would hold in {holds} of {of} ")?;
        f.write_str(match (self.permuted, self.all) {
            (Permuted::Layers, true) => "orders of the layers",
            (Permuted::Layers, false) => "random orders of the layers",
            (Permuted::Universal, _) => "random choices of as many universal neurons",
        })?;
        write!(f, " ({percent:.0} %)")
    }
}

impl Measure {
    /// Returns how often `holds` is true of the values of the measure when its labels are put in
    /// another order. `None` if the measure depends on no labels, or they are not known.
    pub(super) fn chance(
        &self,
        evidence: &[Arc<Evidence>],
        holds: impl Fn(&[f64]) -> bool,
    ) -> Option<Chance> {
        let [e] = evidence else { return None };
        match (self.permute?, self.name) {
            (Permuted::Layers, Some(quantity)) => {
                let mut measurement = Measurement::new(self, quantity, e);
                of_layers(e.shape.n_layers, |order| {
                    measurement.layers = order.to_vec();
                    measurement.take().is_ok_and(|values| holds(&values))
                })
            }
            (Permuted::Layers, None) => {
                let by_layer = self.by_layer()?;
                let values = e.figures.get(by_layer.values)?;
                of_layers(values.len(), |order| {
                    let moved: Vec<f64> = order.iter().map(|&layer| values[layer]).collect();
                    holds(&(by_layer.compute)(&moved))
                })
            }
            (Permuted::Universal, Some(quantity)) => self.of_universal(quantity, e, holds),
            (Permuted::Universal, None) => None,
        }
    }

    fn of_universal(
        &self,
        quantity: Quantity,
        e: &Evidence,
        holds: impl Fn(&[f64]) -> bool,
    ) -> Option<Chance> {
        let mut measurement = Measurement::new(self, quantity, e);
        let known = measurement.universal.iter().enumerate();
        let mut rows: Vec<usize> = known.filter_map(|(i, u)| u.map(|_| i)).collect();
        let universal = measurement.universal.iter().filter(|u| **u == Some(true)).count();
        if !e.whole || universal == 0 || universal == rows.len() {
            return None;
        }
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let mut draw = || {
            shuffle(&mut rows, universal, &mut random);
            for (i, &row) in rows.iter().enumerate() {
                measurement.universal[row] = Some(i < universal);
            }
            measurement.take().is_ok_and(|values| holds(&values))
        };
        let holds = (0..DRAWS).filter(|_| draw()).count();
        Some(Chance { permuted: Permuted::Universal, holds, of: DRAWS, all: false })
    }
}

/// Tries the orders of the layers: all if there are few layers, otherwise random ones. `None` if
/// there is no other order.
fn of_layers(layers: usize, mut holds: impl FnMut(&[usize]) -> bool) -> Option<Chance> {
    let mut order: Vec<usize> = (0..layers).collect();
    let (mut n, mut of) = (0, 0);
    let mut attempt = |order: &[usize]| {
        of += 1;
        n += usize::from(holds(order));
    };
    let all = layers <= MOST_LABELS;
    if all {
        each_order(&mut order, 0, &mut attempt);
    } else {
        let mut random = ChaCha8Rng::seed_from_u64(0);
        for _ in 0..DRAWS {
            shuffle(&mut order, layers, &mut random);
            attempt(&order);
        }
    }
    (layers > 1).then_some(Chance { permuted: Permuted::Layers, holds: n, of, all })
}

/// Calls `attempt` with every order of the labels from `start` on.
fn each_order(labels: &mut [usize], start: usize, attempt: &mut impl FnMut(&[usize])) {
    if start == labels.len() {
        return attempt(labels);
    }
    for i in start..labels.len() {
        labels.swap(start, i);
        each_order(labels, start + 1, attempt);
        labels.swap(start, i);
    }
}

/// Puts a random choice of `n` labels at the front, in random order (Fisher and Yates).
fn shuffle(labels: &mut [usize], n: usize, random: &mut ChaCha8Rng) {
    for i in 0..n.min(labels.len()) {
        // The remainder favours small numbers by less than 1 in 2^40: there are far fewer labels.
        let j = i + (random.next_u64() % (labels.len() - i) as u64) as usize;
        labels.swap(i, j);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::correlation::Layout;
    use crate::table::{Column, NeuronId, Table};

    /// A model whose layers have these numbers of universal neurons, of four each. The skewness of
    /// a neuron is its index.
    fn evidence(universal: &[usize]) -> Arc<Evidence> {
        let mut table = Table::new();
        for (layer, n) in universal.iter().enumerate() {
            for neuron in 0..4 {
                let mut row = [neuron as f64; Column::ALL.len()];
                let excess = Column::ALL.iter().position(|c| *c == Column::ExcessCorr);
                row[excess.expect("a column")] = if neuron >= 4 - n { 0.9 } else { 0.1 };
                table.push(NeuronId { layer, neuron }, row);
            }
        }
        let shape = Layout { n_layers: universal.len(), d_mlp: 4 };
        Arc::new(Evidence::of_neurons(shape, table))
    }

    fn measure(text: &str) -> Measure {
        let measure: Measure = serde_yaml::from_str(text).expect(text);
        assert_eq!(measure.problem(), None, "{text}");
        measure
    }

    #[test]
    fn every_order_is_tried_once() {
        let mut seen = HashSet::new();
        each_order(&mut [0, 1, 2, 3], 0, &mut |order: &[usize]| {
            assert!(seen.insert(order.to_vec()), "{order:?} comes twice");
        });
        assert_eq!(seen.len(), 24);
    }

    /// Of three layers with different numbers, the two largest are the first two in two orders of
    /// six.
    #[test]
    fn two_of_three_layers_come_first_by_chance_in_a_third_of_the_orders() {
        let measure = measure("{name: early-among-largest, permute: layers}");
        let evidence = [evidence(&[2, 3, 1])];
        assert_eq!(measure.take(&evidence), Ok(vec![2.0]));
        let chance = measure.chance(&evidence, |v| v == [2.0]).expect("labels");
        let expected = Chance { permuted: Permuted::Layers, holds: 2, of: 6, all: true };
        assert_eq!(chance, expected);
        assert_eq!(chance.to_string(), "would hold in 2 of 6 orders of the layers (33 %)");
    }

    /// Of seven layers the first two hold most in 2!5! of 7! orders, 1 in 21.
    #[test]
    fn many_layers_are_put_in_random_orders() {
        let measure = measure("{name: early-among-largest, permute: layers}");
        let evidence = [evidence(&[4, 4, 1, 1, 1, 1, 1])];
        let chance = measure.chance(&evidence, |v| v == [2.0]).expect("labels");
        assert_eq!((chance.of, chance.all), (DRAWS, false));
        // Five standard deviations of a binomial number; the seed is fixed.
        let (p, n) = (1.0 / 21.0, DRAWS as f64);
        let off = (chance.holds as f64 - n * p).abs();
        assert!(off < 5.0 * (n * p * (1.0 - p)).sqrt(), "{chance}");
    }

    /// The one universal neuron of each of three layers has the largest skewness of four: a random
    /// choice of three neurons of twelve has a larger median skewness than the others by chance.
    #[test]
    fn labels_of_universal_neurons_are_given_to_random_neurons() {
        let measure = measure("{name: percentile-gap, column: skew, permute: universal}");
        let evidence = [evidence(&[1, 1, 1])];
        let gap = measure.take(&evidence).expect("taken")[0];
        let as_large = measure.chance(&evidence, |v| v[0] >= gap).expect("labels");
        // Three of the three largest of twelve: 1 in 220 choices; two of three have this median
        // too, with one of nine others: 27 more.
        let (p, n) = (28.0 / 220.0, DRAWS as f64);
        assert!((as_large.holds as f64 - n * p).abs() < 5.0 * (n * p * (1.0 - p)).sqrt());
        assert_eq!(measure.chance(&evidence, |_| true).map(|c| c.holds), Some(DRAWS));
    }

    #[test]
    fn without_labels_there_is_no_chance() {
        let plain = measure("{name: universal-share}");
        assert_eq!(plain.chance(&[evidence(&[1, 1])], |_| true), None);
        let universal = measure("{name: percentile-gap, column: skew, permute: universal}");
        assert_eq!(
            universal.chance(&[evidence(&[0, 0])], |_| true),
            None,
            "no neuron is universal"
        );
        assert_eq!(universal.chance(&[evidence(&[4, 4])], |_| true), None, "all are universal");
        let layers = measure("{name: early-among-largest, permute: layers}");
        assert_eq!(layers.chance(&[evidence(&[1])], |_| true), None, "one layer");
    }
}
