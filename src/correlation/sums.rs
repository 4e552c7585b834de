//! Sums over tokens, from which every correlation follows.
//!
//! A pilot is subtracted from every activation: the neuron's mean over the first tokens. This does
//! not change ρ, and it removes the cancellation in `Σx² − (Σx)²/n` for neurons with a large mean.

use std::ops::Range;

use rayon::prelude::*;

use crate::backend::matmul::Product;
use crate::backend::pack::{MatrixView, PackedMatrices, PackedMatrix};
use crate::checkpoint::{Part, State, Visit};
use crate::stats::PILOT_TOKENS;

/// The arrangement of a model's neurons: `n_layers` layers of `d_mlp` neurons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Number of layers.
    pub n_layers: usize,
    /// Neurons per layer.
    pub d_mlp: usize,
}

impl Layout {
    /// Returns the number of neurons in all layers.
    pub fn n_neurons(self) -> usize {
        self.n_layers * self.d_mlp
    }

    /// Returns the neurons of a layer, as indices over all layers.
    pub fn neurons(self, layer: usize) -> Range<usize> {
        layer * self.d_mlp..(layer + 1) * self.d_mlp
    }

    /// Returns the layer of a neuron, given its index over all layers.
    pub fn layer(self, neuron: usize) -> usize {
        neuron / self.d_mlp
    }
}

/// n, Σ(x − pilot) and Σ(x − pilot)² for every neuron of one model.
#[derive(Debug, Clone)]
pub struct NeuronSums {
    /// Number of tokens added.
    pub n: u64,
    pilot: Vec<f32>,
    sum: Vec<f64>,
    sum_sq: Vec<f64>,
}

impl NeuronSums {
    /// Creates sums without tokens. The pilot is taken from the first tokens added.
    pub fn new(n_neurons: usize) -> Self {
        let zeros = vec![0.0; n_neurons];
        Self { n: 0, pilot: Vec::new(), sum: zeros.clone(), sum_sq: zeros }
    }

    /// Creates sums without tokens, with the given pilot of each neuron.
    pub fn around(pilot: Vec<f32>) -> Self {
        let none = Self::new(pilot.len());
        Self { pilot, ..none }
    }

    /// Creates sums without tokens and with a pilot of zero, for values that are near zero anyway.
    pub fn around_zero(n_neurons: usize) -> Self {
        Self::around(vec![0.0; n_neurons])
    }

    /// Subtracts the pilot from activations `[tokens, n_neurons]`, in place, and adds them to the
    /// sums.
    pub fn absorb(&mut self, tokens: &mut [f32]) {
        let width = self.sum.len();
        if self.pilot.is_empty() {
            self.take_pilot(tokens);
        }
        self.shift(tokens);
        self.n += (tokens.len() / width) as u64;
        let rows: &[f32] = tokens;
        let columns = self.sum.par_chunks_mut(COLUMNS).zip(self.sum_sq.par_chunks_mut(COLUMNS));
        columns.enumerate().for_each(|(block, (sum, sum_sq))| {
            for row in rows.chunks_exact(width) {
                let row = &row[block * COLUMNS..][..sum.len()];
                for ((s, q), &x) in sum.iter_mut().zip(sum_sq.iter_mut()).zip(row) {
                    let x = f64::from(x);
                    *s += x;
                    *q += x * x;
                }
            }
        });
    }

    /// Returns the number of neurons.
    pub fn neurons(&self) -> usize {
        self.sum.len()
    }

    /// Returns whether the sums are over `n` tokens, and the pilot is one value a neuron.
    pub fn is_of(&self, n: u64) -> bool {
        let pilot = self.pilot.len();
        self.n == n && (pilot == self.sum.len() || (pilot == 0 && n == 0))
    }

    /// Adds Σ(x − pilot) and Σ(x − pilot)² over `tokens` other tokens, taken with the same pilot.
    pub fn add(&mut self, tokens: u64, sum: &[f64], square: &[f64]) {
        self.n += tokens;
        self.sum.iter_mut().zip(sum).for_each(|(all, s)| *all += s);
        self.sum_sq.iter_mut().zip(square).for_each(|(all, s)| *all += s);
    }

    /// Returns the sums of some neurons, as if the activations of each had been multiplied by a
    /// factor.
    pub fn layer(&self, neurons: Range<usize>, factors: &[f64]) -> Self {
        let times = |values: &[f64], power: i32| {
            values.iter().zip(factors).map(|(v, f)| v * f.powi(power)).collect()
        };
        Self {
            n: self.n,
            pilot: Vec::new(),
            sum: times(&self.sum[neurons.clone()], 1),
            sum_sq: times(&self.sum_sq[neurons], 2),
        }
    }

    /// Sets each neuron's pilot to its mean over the first [`PILOT_TOKENS`] tokens, without adding
    /// them.
    pub fn take_pilot(&mut self, tokens: &[f32]) {
        let width = self.sum.len();
        let first = tokens.len().min(PILOT_TOKENS * width);
        self.pilot = column_means(&tokens[..first], width);
    }

    /// Subtracts the pilot from activations `[tokens, n_neurons]`, in place, without adding them.
    pub fn shift(&self, tokens: &mut [f32]) {
        tokens.par_chunks_exact_mut(self.sum.len()).for_each(|row| {
            row.iter_mut().zip(&self.pilot).for_each(|(x, p)| *x -= p);
        });
    }

    /// Returns Σ(x − pilot) of a neuron.
    pub fn sum(&self, neuron: usize) -> f64 {
        self.sum[neuron]
    }

    /// Returns Σ(x − pilot)² of a neuron.
    pub fn sum_of_squares(&self, neuron: usize) -> f64 {
        self.sum_sq[neuron]
    }

    /// Returns `1 / √(Σx² − (Σx)²/n)`, or `None` if the neuron has no correlation because its
    /// activation never varies or is not finite.
    pub fn inverse_spread(&self, neuron: usize) -> Option<f64> {
        let square = self.sum_sq[neuron] - self.sum[neuron].powi(2) / self.n as f64;
        (square > 0.0 && square.is_finite()).then(|| 1.0 / square.sqrt())
    }

    /// Returns whether some activation of the neuron was NaN or infinite.
    pub fn non_finite(&self, neuron: usize) -> bool {
        !self.sum_sq[neuron].is_finite()
    }
}

/// A model's layout and the sums over its neurons: one side of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct ModelSums<'a> {
    /// Layout of the model.
    pub layout: Layout,
    /// Sums over the model's neurons.
    pub sums: &'a NeuronSums,
}

impl State for NeuronSums {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        visit(Part::Count(&mut self.n))?;
        visit(Part::Pilot(&mut self.pilot))?;
        visit(Part::Numbers(&mut self.sum))?;
        visit(Part::Numbers(&mut self.sum_sq))
    }
}

/// Number of neurons that one task sums.
const COLUMNS: usize = 256;

fn column_means(chunk: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64; width];
    for row in chunk.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x));
    }
    let tokens = (chunk.len() / width) as f64;
    sums.iter().map(|s| (s / tokens) as f32).collect()
}

/// Σ x_i y_j over the pilot-shifted activations of all tokens, for some layers of x and all of y.
#[derive(Debug, Clone)]
pub struct CrossSums {
    x: Layout,
    y: Layout,
    /// The layers of x that are summed.
    pub layers: Range<usize>,
    /// Row-major `[neurons of the layers of x, n_neurons of y]`.
    values: Vec<f64>,
}

impl CrossSums {
    /// Creates zero sums.
    pub fn new(x: Layout, layers: Range<usize>, y: Layout) -> Self {
        let values = vec![0.0; layers.len() * x.d_mlp * y.n_neurons()];
        Self { x, y, layers, values }
    }

    /// Adds the activations of the same tokens in x, `[tokens, n_neurons]`, and in all layers of y,
    /// each packed as a matrix.
    pub fn absorb(&mut self, product: Product, x: &[f32], y: &PackedMatrices) {
        let width = self.x.n_neurons();
        let (first, rows) = (self.layers.start * self.x.d_mlp, self.layers.len() * self.x.d_mlp);
        let x = MatrixView::strided(&x[first..], x.len() / width, rows, width);
        let y: Vec<PackedMatrix> = (0..self.y.n_layers).map(|layer| y.get(layer)).collect();
        product.add_columns(x, &y, &mut self.values);
    }

    /// Copies the sums of one layer of each model, `[d_x, d_y]`, to `out`.
    pub fn copy(&self, x_layer: usize, y_layer: usize, out: &mut [f64]) {
        let rows = self.block(x_layer, y_layer);
        out.par_chunks_exact_mut(self.y.d_mlp).zip(rows).for_each(|(out, row)| {
            out.copy_from_slice(row);
        });
    }

    /// Copies the same sums transposed, `[d_y, d_x]`, to `out`.
    pub fn copy_transposed(&self, x_layer: usize, y_layer: usize, out: &mut [f64]) {
        let rows: Vec<&[f64]> = self.block(x_layer, y_layer).collect();
        out.par_chunks_exact_mut(rows.len()).enumerate().for_each(|(j, out)| {
            out.iter_mut().zip(&rows).for_each(|(out, row)| *out = row[j]);
        });
    }

    fn block(&self, x_layer: usize, y_layer: usize) -> impl IndexedParallelIterator<Item = &[f64]> {
        let (cols, d) = (self.y.n_neurons(), self.y.d_mlp);
        let first = (x_layer - self.layers.start) * self.x.d_mlp * cols;
        let rows = self.values[first..first + self.x.d_mlp * cols].par_chunks_exact(cols);
        rows.map(move |row| &row[y_layer * d..(y_layer + 1) * d])
    }
}

impl State for CrossSums {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        visit(Part::Numbers(&mut self.values))
    }
}

/// Σ v_j v_k over tokens within each layer of one model. Only entries with `k ≤ j`, and the rest of
/// their tiles, are filled.
#[derive(Debug, Clone)]
pub struct GramSums {
    layout: Layout,
    layers: Vec<Vec<f64>>,
}

impl GramSums {
    /// Creates zero sums.
    pub fn new(layout: Layout) -> Self {
        let layer = vec![0.0; layout.d_mlp * layout.d_mlp];
        Self { layout, layers: vec![layer; layout.n_layers] }
    }

    /// Adds pilot-shifted activations `[tokens, n_neurons]`, whose layers are packed as columns too.
    pub fn absorb(&mut self, product: Product, tokens: &[f32], columns: &PackedMatrices) {
        for (layer, sums) in self.layers.iter_mut().enumerate() {
            product.add_symmetric(layer_of(tokens, self.layout, layer), columns.get(layer), sums);
        }
    }

    /// Returns Σ v_j v_k of a layer, `[d_mlp, d_mlp]`.
    pub fn layer(&self, layer: usize) -> &[f64] {
        &self.layers[layer]
    }
}

/// Returns the columns of one layer of activations `[tokens, n_neurons]`.
pub fn layer_of(tokens: &[f32], layout: Layout, layer: usize) -> MatrixView<'_> {
    let width = layout.n_neurons();
    let first = (layer * layout.d_mlp).min(tokens.len());
    MatrixView::strided(&tokens[first..], tokens.len() / width, layout.d_mlp, width)
}

impl State for GramSums {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        self.layers.iter_mut().try_for_each(|layer| visit(Part::Numbers(layer)))
    }
}
