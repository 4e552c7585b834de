//! Sparse activations of one model, token by token and neuron by neuron.
//!
//! Sums around zero lose digits where a neuron's mean is large beside its spread. This cannot be
//! where a neuron is active at no more than half of the tokens: its squared mean is then no larger
//! than its variance. Every other neuron is *dense*: all its tokens are kept, zeros included, and
//! its mean is subtracted from them.

use rayon::prelude::*;

use crate::correlation::sums::NeuronSums;

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

    /// Returns the entries of some neurons.
    fn filtered(&self, is_kept: impl Fn(usize) -> bool) -> Self {
        let mut kept = Self::new(self.neurons);
        for token in 0..self.tokens() {
            let entries = self.row(token).filter(|(neuron, _)| is_kept(*neuron));
            kept.push(entries.map(|(neuron, value)| (neuron as u32, value as f32)));
        }
        kept
    }

    /// Returns the same entries, neuron by neuron.
    fn columns(&self) -> SparseColumns {
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
}

/// All tokens of a neuron that is active at more than half of them.
pub struct DenseNeuron {
    /// Index of the neuron over all layers.
    pub neuron: usize,
    values: Vec<f32>,
    mean: f32,
}

impl DenseNeuron {
    fn new(columns: &SparseColumns, neuron: usize) -> Self {
        let mut values = vec![0.0; columns.tokens];
        let mut sum = 0.0;
        for &(token, value) in columns.of(neuron) {
            values[token as usize] = value;
            sum += f64::from(value);
        }
        Self { neuron, mean: (sum / values.len() as f64) as f32, values }
    }

    /// Returns the activation at a token, less the neuron's mean.
    pub fn centred(&self, token: usize) -> f64 {
        f64::from(self.values[token]) - f64::from(self.mean)
    }
}

/// One sparse model of a comparison.
pub struct SparseModel {
    /// The entries of the neurons that are not dense.
    rows: SparseTokens,
    columns: SparseColumns,
    /// The dense neurons, in ascending order.
    dense: Vec<DenseNeuron>,
    sums: NeuronSums,
}

impl SparseModel {
    /// Computes the sums of a model over its tokens.
    pub fn new(rows: SparseTokens) -> Self {
        let columns = rows.columns();
        let is_dense = |neuron: usize| 2 * columns.of(neuron).len() > columns.tokens;
        let dense: Vec<usize> = (0..columns.neurons()).filter(|&neuron| is_dense(neuron)).collect();
        let rows = if dense.is_empty() { rows } else { rows.filtered(|neuron| !is_dense(neuron)) };
        let dense = dense.into_par_iter().map(|neuron| DenseNeuron::new(&columns, neuron));
        let dense: Vec<DenseNeuron> = dense.collect();
        Self { sums: sums(&columns, &dense), rows, columns, dense }
    }

    /// Returns the number of neurons.
    pub fn neurons(&self) -> usize {
        self.columns.neurons()
    }

    /// Returns the number of tokens.
    pub fn tokens(&self) -> usize {
        self.columns.tokens
    }

    /// Returns the activations, neuron by neuron.
    pub fn columns(&self) -> &SparseColumns {
        &self.columns
    }

    /// Returns the sums over the neurons. The pilot of a dense neuron is its mean, that of others
    /// zero.
    pub fn sums(&self) -> &NeuronSums {
        &self.sums
    }

    /// Returns the dense neurons, in ascending order.
    pub fn dense(&self) -> &[DenseNeuron] {
        &self.dense
    }

    /// Returns the activations of the neurons that are not dense at a token.
    pub fn row(&self, token: usize) -> impl Iterator<Item = (usize, f64)> {
        self.rows.row(token)
    }

    /// Returns the tokens and activations of a neuron, less its pilot. What is left out is zero.
    pub fn shifted(&self, neuron: usize) -> Vec<(usize, f64)> {
        shifted(&self.columns, &self.dense, neuron)
    }
}

/// See [`SparseModel::shifted`].
fn shifted(columns: &SparseColumns, dense: &[DenseNeuron], neuron: usize) -> Vec<(usize, f64)> {
    match dense.binary_search_by_key(&neuron, |dense| dense.neuron) {
        Ok(at) => (0..columns.tokens).map(|token| (token, dense[at].centred(token))).collect(),
        Err(_) => {
            let entries = columns.of(neuron).iter();
            entries.map(|&(token, value)| (token as usize, f64::from(value))).collect()
        }
    }
}

/// Returns the sums over tokens of every neuron.
fn sums(columns: &SparseColumns, dense: &[DenseNeuron]) -> NeuronSums {
    let neurons = columns.neurons();
    let mut pilots = vec![0.0; neurons];
    dense.iter().for_each(|own| pilots[own.neuron] = own.mean);
    let of = |neuron| {
        let values = shifted(columns, dense, neuron).into_iter();
        values.fold((0.0, 0.0), |(sum, square), (_, v)| (sum + v, square + v * v))
    };
    let (sums, squares): (Vec<f64>, Vec<f64>) = (0..neurons).into_par_iter().map(of).unzip();
    let mut all = NeuronSums::around(pilots);
    all.add(columns.tokens as u64, &sums, &squares);
    all
}
