//! Compares sparse activations, most of which are zero. Correlations follow from the products of the
//! entries that are stored; the zeros between them are not visited.
//!
//! For a neuron i of the reference, Σ x_i y_j is summed over the tokens at which i is active. The
//! partner neurons j that are active at none of them have the correlation −A_i B_j, with A = mean ·
//! inverse spread of x and B = sum · inverse spread of y: their best, their distribution and their
//! moments follow from all B in order. No table of all pairs is made. Dense neurons (`matrix`) are
//! multiplied token by token.

use rayon::prelude::*;

use super::compare::Watch;
use super::pair::PairResult;
use super::plan::ComparisonPlan;
use super::rows::{keep_if_best, row_bin};
use super::surrogate::SurrogateId;
use crate::backend::device::ops::BINS;
use crate::error::Result;
use crate::stats::PowerSums;

mod matrix;

pub use matrix::{SparseModel, SparseTokens};

/// Number of neurons of the reference that are compared at once. Bounds the memory of their results.
const NEURONS: usize = 4096;

/// Compares every reference model of a plan with the others. Returns the results as
/// `[reference][partner]`. The baseline is the permutation of the partner's tokens, whatever the
/// plan says of its kind.
///
/// # Errors
/// Returns the error of `watch`, which is called [`sparse_steps`] times.
///
/// # Panics
/// Panics if the models differ in their numbers of tokens.
pub fn compare_sparse(
    plan: &ComparisonPlan,
    models: &[SparseModel],
    watch: Watch,
) -> Result<Vec<Vec<PairResult>>> {
    let of_reference = |&x: &usize| {
        let partners = (0..models.len()).filter(|&y| y != x);
        partners.map(|y| compare_pair(plan, models, (x, y), watch)).collect()
    };
    plan.references.iter().map(of_reference).collect()
}

/// Returns how often [`compare_sparse`] calls its `watch`.
pub fn sparse_steps(plan: &ComparisonPlan) -> usize {
    let of = |&x: &usize| plan.models[x].n_neurons().div_ceil(NEURONS) * (plan.models.len() - 1);
    plan.references.iter().map(of).sum()
}

fn compare_pair(
    plan: &ComparisonPlan,
    models: &[SparseModel],
    (x, y): (usize, usize),
    watch: Watch,
) -> Result<PairResult> {
    let draws = plan.baseline.draws;
    let layout = plan.models[x];
    let mut pair = PairResult::new(layout.n_neurons(), plan.top, draws);
    let partner = SparsePartner::new(&models[y]);
    let tokens = models[x].tokens();
    let order = |draw| SurrogateId { model: y, draw }.order(plan, 0, tokens);
    let orders: Vec<Vec<usize>> = (0..draws).map(order).collect();
    for first in (0..layout.n_neurons()).step_by(NEURONS) {
        let neurons = first..layout.n_neurons().min(first + NEURONS);
        let found: Vec<NeuronResult> = neurons
            .clone()
            .into_par_iter()
            .map_init(
                || Products::new(models[y].neurons()),
                |products, neuron| partner.judge(&models[x], neuron, (plan.top, &orders), products),
            )
            .collect();
        for (neuron, found) in neurons.zip(found) {
            let slots = neuron * plan.top..(neuron + 1) * plan.top;
            pair.rho[slots.clone()].copy_from_slice(&found.rho);
            pair.partner[slots].copy_from_slice(&found.partner);
            pair.baseline.iter_mut().zip(found.baseline).for_each(|(all, own)| all[neuron] = own);
            pair.histogram.iter_mut().zip(&found.bins).for_each(|(all, own)| *all += own);
            pair.moments.merge(&found.moments);
        }
        watch()?;
    }
    Ok(pair)
}

/// What was found for one neuron of the reference.
struct NeuronResult {
    rho: Vec<f64>,
    partner: Vec<u32>,
    /// Best correlation for each draw of the baseline.
    baseline: Vec<f64>,
    /// Number of correlations in each bin.
    bins: Vec<f64>,
    moments: PowerSums,
}

/// Σ x_i y_j for one neuron i and all j, which are zero but for a few.
struct Products {
    sums: Vec<f64>,
    /// Whether j is listed.
    is_touched: Vec<bool>,
    /// The partner neurons that are dense or active together with i, in ascending order.
    touched: Vec<usize>,
}

impl Products {
    fn new(neurons: usize) -> Self {
        Self { sums: vec![0.0; neurons], is_touched: vec![false; neurons], touched: Vec::new() }
    }

    /// Sums products with the partner's tokens, those in `order` if one is given.
    fn compute(&mut self, x: &[(usize, f64)], y: &SparseModel, order: Option<&[usize]>) {
        for neuron in self.touched.drain(..) {
            self.sums[neuron] = 0.0;
            self.is_touched[neuron] = false;
        }
        let partner_token = |token: usize| order.map_or(token, |order| order[token]);
        for &(token, value) in x {
            for (neuron, other) in y.row(partner_token(token)) {
                self.sums[neuron] += value * other;
                self.touch(neuron);
            }
        }
        for other in y.dense() {
            let product = |&(token, value)| value * other.centred(partner_token(token));
            self.sums[other.neuron] = x.iter().map(product).sum();
            self.touch(other.neuron);
        }
        self.touched.sort_unstable();
    }

    fn touch(&mut self, neuron: usize) {
        if !self.is_touched[neuron] {
            self.is_touched[neuron] = true;
            self.touched.push(neuron);
        }
    }
}

/// The partner of a comparison.
struct SparsePartner<'a> {
    model: &'a SparseModel,
    /// Inverse spread of each neuron; NaN for one without a correlation.
    inverse: Vec<f64>,
    /// B of each neuron: its sum times its inverse spread.
    b: Vec<f64>,
    /// The neurons with a correlation, by ascending B.
    ascending: Vec<u32>,
    /// The same neurons, by descending B.
    descending: Vec<u32>,
    /// Sums of the first four powers of B.
    powers: [f64; 4],
}

impl<'a> SparsePartner<'a> {
    fn new(model: &'a SparseModel) -> Self {
        let (neurons, sums) = (model.neurons(), model.sums());
        let inverse = |j| sums.inverse_spread(j).unwrap_or(f64::NAN);
        let inverse: Vec<f64> = (0..neurons).map(inverse).collect();
        let b: Vec<f64> = inverse.iter().enumerate().map(|(j, i)| sums.sum(j) * i).collect();
        let valid = || (0..neurons as u32).filter(|&j| !b[j as usize].is_nan());
        let (mut ascending, mut descending): (Vec<u32>, Vec<u32>) =
            (valid().collect(), valid().collect());
        ascending.sort_by(|&i, &j| b[i as usize].total_cmp(&b[j as usize]));
        descending.sort_by(|&i, &j| b[j as usize].total_cmp(&b[i as usize]));
        let power = |k: i32| valid().map(|j| b[j as usize].powi(k)).sum();
        let powers = [1, 2, 3, 4].map(power);
        Self { model, inverse, b, ascending, descending, powers }
    }

    /// Compares a neuron of the reference with all neurons of the partner, and with the partner's
    /// tokens in each of some orders.
    fn judge(
        &self,
        x: &SparseModel,
        neuron: usize,
        (top, orders): (usize, &[Vec<usize>]),
        products: &mut Products,
    ) -> NeuronResult {
        let mut found = NeuronResult {
            rho: vec![f64::NAN; top],
            partner: vec![0; top],
            baseline: vec![f64::NAN; orders.len()],
            bins: vec![0.0; BINS],
            moments: PowerSums::around(0.0),
        };
        let sums = x.sums();
        let Some(inverse) = sums.inverse_spread(neuron) else { return found };
        let (own, mean) = (x.shifted(neuron), sums.sum(neuron) / sums.n as f64);
        let row = SparseRow { partner: self, mean, inverse };
        products.compute(&own, self.model, None);
        row.keep_best(products, &mut found.rho, &mut found.partner);
        row.add_distribution(products, &mut found.bins, &mut found.moments);
        for (best, order) in found.baseline.iter_mut().zip(orders) {
            products.compute(&own, self.model, Some(order));
            row.keep_best(products, std::slice::from_mut(best), &mut [0]);
        }
        found
    }
}

/// The correlations of one neuron of the reference with all neurons of the partner.
struct SparseRow<'a> {
    partner: &'a SparsePartner<'a>,
    /// Mean and inverse spread of the neuron, less its pilot.
    mean: f64,
    inverse: f64,
}

impl SparseRow<'_> {
    /// Returns the correlation with a partner neuron, given the sum of products.
    fn rho(&self, j: usize, product: f64) -> f64 {
        let covariance = product - self.mean * self.partner.model.sums().sum(j);
        covariance * self.inverse * self.partner.inverse[j]
    }

    /// Returns the correlation with a partner neuron that is never active together with this one.
    fn apart(&self, j: usize) -> f64 {
        -(self.mean * self.inverse) * self.partner.b[j]
    }

    /// Keeps the best partners.
    fn keep_best(&self, products: &Products, rho: &mut [f64], partner: &mut [u32]) {
        for &j in &products.touched {
            keep_if_best(self.rho(j, products.sums[j]), j, rho, partner);
        }
        // The largest of −A·B come first.
        let order = match self.mean < 0.0 {
            true => &self.partner.descending,
            false => &self.partner.ascending,
        };
        let apart = order.iter().map(|&j| j as usize).filter(|&j| !products.is_touched[j]);
        for j in apart.take(rho.len()) {
            keep_if_best(self.apart(j), j, rho, partner);
        }
    }

    /// Adds the correlations with all partner neurons to a histogram and to power sums.
    fn add_distribution(&self, products: &Products, bins: &mut [f64], moments: &mut PowerSums) {
        let SparsePartner { b, ascending, powers, .. } = self.partner;
        let a = -(self.mean * self.inverse);
        let mut sums = [1, 2, 3, 4].map(|k| a.powi(k) * powers[k as usize - 1]);
        // All neurons as if none were active together, bin by bin: ρ is monotonic in B.
        let bin = |j: &u32| row_bin(a * b[*j as usize]);
        let mut done = 0;
        while let Some(first) = ascending.get(done) {
            let own = bin(first);
            let end = done + ascending[done..].partition_point(|j| bin(j) == own);
            bins[own] += (end - done) as f64;
            done = end;
        }
        for &j in products.touched.iter().filter(|&&j| !b[j].is_nan()) {
            let (apart, rho) = (self.apart(j), self.rho(j, products.sums[j]));
            bins[row_bin(apart)] -= 1.0;
            bins[row_bin(rho)] += 1.0;
            for (k, sum) in (1..).zip(&mut sums) {
                *sum += rho.powi(k) - apart.powi(k);
            }
        }
        moments.merge(&PowerSums::of(0.0, ascending.len() as f64, sums));
    }
}

#[cfg(test)]
mod tests;
