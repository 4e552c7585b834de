//! Compares sparse activations, most of which are zero. Correlations follow from the products of the
//! entries that are stored; the zeros between them are not visited.
//!
//! For a neuron i of the reference, Σ x_i y_j is summed over the tokens at which i is active. The
//! partner neurons j that are active at none of them have the correlation −A_i B_j, with A = mean ·
//! inverse spread of x and B = sum · inverse spread of y: their best, their distribution and their
//! moments follow from all B in order. No table of all pairs is made.

use rayon::prelude::*;

use super::compare::Watch;
use super::pair::PairResult;
use super::plan::ComparisonPlan;
use super::rows::{keep_if_best, row_bin};
use super::sums::NeuronSums;
use super::surrogate::SurrogateId;
use crate::backend::device::ops::BINS;
use crate::error::Result;
use crate::stats::PowerSums;

/// Number of neurons of the reference that are compared at once. Bounds the memory of their results.
const NEURONS: usize = 4096;

/// The activations of one model in compressed rows, `[tokens, neurons]`.
#[derive(Debug, Clone, Default)]
pub struct SparseTokens {
    neurons: usize,
    /// For each token, the end of its entries.
    ends: Vec<usize>,
    indices: Vec<u32>,
    values: Vec<f32>,
}

impl SparseTokens {
    /// Creates a matrix of `neurons` neurons without tokens.
    pub fn new(neurons: usize) -> Self {
        Self { neurons, ..Self::default() }
    }

    /// Adds a token, with the neurons that are not zero and their values.
    ///
    /// # Panics
    /// Panics if an entry lies outside the matrix.
    pub fn push(&mut self, entries: impl Iterator<Item = (u32, f32)>) {
        for (neuron, value) in entries {
            assert!((neuron as usize) < self.neurons, "neuron {neuron} of {}", self.neurons);
            self.indices.push(neuron);
            self.values.push(value);
        }
        self.ends.push(self.indices.len());
    }

    /// Returns the number of tokens.
    pub fn tokens(&self) -> usize {
        self.ends.len()
    }

    /// Returns the entries of a token.
    fn row(&self, token: usize) -> impl Iterator<Item = (usize, f64)> {
        let start = token.checked_sub(1).map_or(0, |before| self.ends[before]);
        let own = start..self.ends[token];
        let entries = self.indices[own.clone()].iter().zip(&self.values[own]);
        entries.map(|(&neuron, &value)| (neuron as usize, f64::from(value)))
    }

    /// Returns the same entries, neuron by neuron.
    pub fn columns(&self) -> SparseColumns {
        let mut ends = vec![0_usize; self.neurons];
        self.indices.iter().for_each(|&neuron| ends[neuron as usize] += 1);
        let mut next = 0;
        for end in &mut ends {
            next += *end;
            // Where the neuron's entries begin, until they are placed.
            *end = next - *end;
        }
        let mut entries = vec![(0, 0.0); self.indices.len()];
        for token in 0..self.tokens() {
            for (neuron, value) in self.row(token) {
                entries[ends[neuron]] = (token as u32, value as f32);
                ends[neuron] += 1;
            }
        }
        SparseColumns { tokens: self.tokens(), ends, entries }
    }
}

/// The activations of one model in compressed columns.
#[derive(Debug, Clone)]
pub struct SparseColumns {
    tokens: usize,
    /// For each neuron, the end of its entries.
    ends: Vec<usize>,
    /// Token and value of each entry, by ascending token.
    entries: Vec<(u32, f32)>,
}

impl SparseColumns {
    /// Returns the number of neurons.
    pub fn neurons(&self) -> usize {
        self.ends.len()
    }

    /// Returns the number of tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Returns the entries of a neuron: tokens and values.
    pub fn of(&self, neuron: usize) -> &[(u32, f32)] {
        let start = neuron.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.entries[start..self.ends[neuron]]
    }

    /// Returns the sums over tokens of every neuron.
    pub fn sums(&self) -> NeuronSums {
        let of = |neuron: usize| {
            let values = self.of(neuron).iter().map(|&(_, value)| f64::from(value));
            let first = values.clone().next().unwrap_or(0.0);
            // Sums around zero would leave a neuron that never varies a spread from rounding.
            if values.len() == self.tokens && values.clone().all(|value| value == first) {
                return (0.0, 0.0);
            }
            (values.clone().sum(), values.map(|value| value * value).sum())
        };
        let (sums, squares): (Vec<f64>, Vec<f64>) =
            (0..self.neurons()).into_par_iter().map(of).unzip();
        let mut all = NeuronSums::around_zero(self.neurons());
        all.add(self.tokens as u64, &sums, &squares);
        all
    }
}

/// One sparse model of a comparison.
pub struct SparseModel {
    rows: SparseTokens,
    columns: SparseColumns,
    sums: NeuronSums,
}

impl SparseModel {
    /// Computes the sums of a model over its tokens.
    pub fn new(rows: SparseTokens) -> Self {
        let columns = rows.columns();
        Self { sums: columns.sums(), rows, columns }
    }

    /// Returns the activations, neuron by neuron.
    pub fn columns(&self) -> &SparseColumns {
        &self.columns
    }

    /// Returns the sums over the neurons.
    pub fn sums(&self) -> &NeuronSums {
        &self.sums
    }
}

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
    let tokens = models[x].rows.tokens();
    let order = |draw| SurrogateId { model: y, draw }.order(plan, 0, tokens);
    let orders: Vec<Vec<usize>> = (0..draws).map(order).collect();
    for first in (0..layout.n_neurons()).step_by(NEURONS) {
        let neurons = first..layout.n_neurons().min(first + NEURONS);
        let found: Vec<NeuronResult> = neurons
            .clone()
            .into_par_iter()
            .map_init(
                || Products::new(models[y].rows.neurons),
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
    /// The partner neurons that are active together with i, in ascending order.
    touched: Vec<usize>,
}

impl Products {
    fn new(neurons: usize) -> Self {
        Self { sums: vec![0.0; neurons], is_touched: vec![false; neurons], touched: Vec::new() }
    }

    /// Sums products with the partner's tokens, those in `order` if one is given.
    fn compute(&mut self, x: &[(u32, f32)], y: &SparseTokens, order: Option<&[usize]>) {
        for neuron in self.touched.drain(..) {
            self.sums[neuron] = 0.0;
            self.is_touched[neuron] = false;
        }
        for &(token, value) in x {
            let token = token as usize;
            for (neuron, other) in y.row(order.map_or(token, |order| order[token])) {
                self.sums[neuron] += f64::from(value) * other;
                if !self.is_touched[neuron] {
                    self.is_touched[neuron] = true;
                    self.touched.push(neuron);
                }
            }
        }
        self.touched.sort_unstable();
    }
}

/// The partner of a comparison.
struct SparsePartner<'a> {
    rows: &'a SparseTokens,
    sums: &'a NeuronSums,
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
        let (rows, sums) = (&model.rows, &model.sums);
        let inverse = |j| sums.inverse_spread(j).unwrap_or(f64::NAN);
        let inverse: Vec<f64> = (0..rows.neurons).map(inverse).collect();
        let b: Vec<f64> = inverse.iter().enumerate().map(|(j, i)| sums.sum(j) * i).collect();
        let valid = || (0..rows.neurons as u32).filter(|&j| !b[j as usize].is_nan());
        let (mut ascending, mut descending): (Vec<u32>, Vec<u32>) =
            (valid().collect(), valid().collect());
        ascending.sort_by(|&i, &j| b[i as usize].total_cmp(&b[j as usize]));
        descending.sort_by(|&i, &j| b[j as usize].total_cmp(&b[i as usize]));
        let power = |k: i32| valid().map(|j| b[j as usize].powi(k)).sum();
        let powers = [1, 2, 3, 4].map(power);
        Self { rows, sums, inverse, b, ascending, descending, powers }
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
        let Some(inverse) = x.sums.inverse_spread(neuron) else { return found };
        let (own, mean) = (x.columns.of(neuron), x.sums.sum(neuron) / x.sums.n as f64);
        let row = SparseRow { partner: self, mean, inverse };
        products.compute(own, self.rows, None);
        row.keep_best(products, &mut found.rho, &mut found.partner);
        row.add_distribution(products, &mut found.bins, &mut found.moments);
        for (best, order) in found.baseline.iter_mut().zip(orders) {
            products.compute(own, self.rows, Some(order));
            row.keep_best(products, std::slice::from_mut(best), &mut [0]);
        }
        found
    }
}

/// The correlations of one neuron of the reference with all neurons of the partner.
struct SparseRow<'a> {
    partner: &'a SparsePartner<'a>,
    /// Mean and inverse spread of the neuron.
    mean: f64,
    inverse: f64,
}

impl SparseRow<'_> {
    /// Returns the correlation with a partner neuron, given the sum of products.
    fn rho(&self, j: usize, product: f64) -> f64 {
        let covariance = product - self.mean * self.partner.sums.sum(j);
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
