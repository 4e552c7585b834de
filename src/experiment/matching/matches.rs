//! The best matches between every two models of a family, and what they say about one neuron.

use crate::correlation::NeuronMatch;
use crate::findings::Findings;
use crate::plan::Plan;
use crate::record::ExtraRow;
use crate::table::NeuronId;

/// The best partners of a neuron in one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Partners {
    /// The best partners, best first.
    pub top: Vec<NeuronMatch>,
    /// The chance level: the best correlation with the baseline of this model.
    pub baseline: f64,
}

/// Returns the place of y among the partners of x, which are all other models.
pub fn place_among_partners([x, y]: [usize; 2]) -> usize {
    y - usize::from(y > x)
}

/// The best partners of every neuron of each model in every other model. Neurons are counted over
/// all layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Matches {
    /// `[model][partner][neuron]`; empty where the partner is the model itself.
    pub partners: Vec<Vec<Vec<Partners>>>,
}

impl Matches {
    /// Takes the matches from findings about every model, in the order of the family.
    pub fn of(plan: &Plan, findings: &[&Findings]) -> Self {
        let models = plan.models.len();
        let of_pair = |x: usize, y: usize| {
            if x == y {
                return Vec::new();
            }
            let place = place_among_partners([x, y]);
            let d_mlp = plan.models[y].layout().d_mlp;
            let found = findings[x];
            let lists = found.partners[place].top.iter().zip(&found.extra);
            let indexed =
                |(id, rho): &(NeuronId, f64)| NeuronMatch { rho: *rho, neuron: id.index(d_mlp) };
            let one = |(top, row): (&Vec<_>, &ExtraRow)| Partners {
                top: top.iter().map(indexed).collect(),
                baseline: row.matches[place].map_or(f64::NAN, |best| best.baseline),
            };
            lists.map(one).collect()
        };
        let of_model = |x| (0..models).map(|y| of_pair(x, y)).collect();
        Self { partners: (0..models).map(of_model).collect() }
    }

    /// Returns the number of models.
    pub fn models(&self) -> usize {
        self.partners.len()
    }

    /// Returns the number of neurons of a model.
    pub fn neurons(&self, x: usize) -> usize {
        self.partners[x].iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Returns the models other than `x`, in the order of the family.
    pub fn others(&self, x: usize) -> impl Iterator<Item = usize> + Clone + use<> {
        (0..self.models()).filter(move |y| *y != x)
    }

    /// Returns the best match of neuron `i` of x in y.
    pub fn best(&self, [x, y]: [usize; 2], i: usize) -> Option<NeuronMatch> {
        self.partners[x][y][i].top.first().copied()
    }

    /// Returns how far the best match of neuron `i` of x in y lies above chance.
    pub fn excess(&self, [x, y]: [usize; 2], i: usize) -> Option<f64> {
        Some(self.best([x, y], i)?.rho - self.partners[x][y][i].baseline)
    }

    /// Returns the rank of neuron `i` of x among the best partners of its own best match in y: 1 if
    /// the match is mutual, `None` if the neuron is not among those that were kept.
    pub fn rank(&self, [x, y]: [usize; 2], i: usize) -> Option<usize> {
        let best = self.best([x, y], i)?;
        let seen = &self.partners[y][x][best.neuron].top;
        Some(1 + seen.iter().position(|back| back.neuron == i)?)
    }

    /// Returns whether neuron `i` of x is the best match of its best match in y.
    pub fn is_mutual(&self, pair: [usize; 2], i: usize) -> bool {
        self.rank(pair, i) == Some(1)
    }

    /// Returns the number of models in which the best match of neuron `i` of x lies above chance by
    /// more than `threshold`.
    pub fn found_in(&self, x: usize, i: usize, threshold: f64) -> usize {
        let found = |y: &usize| self.excess([x, *y], i).is_some_and(|excess| excess > threshold);
        self.others(x).filter(found).count()
    }

    /// Returns the mean excess of neuron `i` of x over all partners but `without`. NaN if there is no
    /// other partner, or the neuron has no correlation with one.
    pub fn excess_without(&self, x: usize, i: usize, without: usize) -> f64 {
        let kept = self.others(x).filter(|y| *y != without);
        let excess = kept.map(|y| self.excess([x, y], i).unwrap_or(f64::NAN));
        let excess: Vec<f64> = excess.collect();
        excess.iter().sum::<f64>() / excess.len() as f64
    }

    /// Returns how many of the ways from neuron `i` of x to its best match in a second model, from
    /// there to the best match in a third one, and back to x, return to the neuron; and how many ways
    /// there are.
    pub fn cycles(&self, x: usize, i: usize) -> (usize, usize) {
        let ways = self
            .others(x)
            .flat_map(|y| self.others(x).filter(move |z| *z != y).map(move |z| [y, z]));
        let returns = |[y, z]: [usize; 2]| {
            let there = self.best([x, y], i)?;
            let on = self.best([y, z], there.neuron)?;
            let back = self.best([z, x], on.neuron)?;
            Some(back.neuron == i)
        };
        let ends: Vec<bool> = ways.filter_map(returns).collect();
        (ends.iter().filter(|closed| **closed).count(), ends.len())
    }
}
