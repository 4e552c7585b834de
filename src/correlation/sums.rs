//! Sums over tokens, from which every correlation follows.
//!
//! Values are taken relative to a pilot, each neuron's mean over the first
//! chunk. That leaves ρ as it is and removes the cancellation in
//! `Σx² − (Σx)²/n` for neurons of large mean.

use std::ops::Range;

use rayon::prelude::*;

use crate::backend::matmul::Product;
use crate::backend::pack::MatrixView;
use crate::checkpoint::{Part, State, Visit};
use crate::stats::PILOT_TOKENS;

/// How the neurons of a model are arranged: `n_layers` layers of `d_mlp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Number of layers.
    pub n_layers: usize,
    /// Neurons per layer.
    pub d_mlp: usize,
}

impl Layout {
    /// Neurons in all.
    pub fn n_neurons(self) -> usize {
        self.n_layers * self.d_mlp
    }

    /// Neurons of a layer, counted over all layers.
    pub fn neurons(self, layer: usize) -> Range<usize> {
        layer * self.d_mlp..(layer + 1) * self.d_mlp
    }

    /// Layer of a neuron counted over all layers.
    pub fn layer(self, neuron: usize) -> usize {
        neuron / self.d_mlp
    }
}

/// n, Σ(x − pilot) and Σ(x − pilot)² for every neuron of one model.
#[derive(Debug, Clone)]
pub struct NeuronSums {
    /// Tokens seen.
    pub n: u64,
    pilot: Vec<f32>,
    sum: Vec<f64>,
    sum_sq: Vec<f64>,
}

impl NeuronSums {
    /// No tokens yet.
    pub fn new(n_neurons: usize) -> Self {
        let zeros = vec![0.0; n_neurons];
        Self { n: 0, pilot: Vec::new(), sum: zeros.clone(), sum_sq: zeros }
    }

    /// No tokens yet, and a pilot of zeros: for values that are near zero anyway.
    pub fn around_zero(n_neurons: usize) -> Self {
        Self { pilot: vec![0.0; n_neurons], ..Self::new(n_neurons) }
    }

    /// Subtracts the pilot from tokens `[tokens, n_neurons]`, in place, and adds them up.
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

    /// Neurons.
    pub fn neurons(&self) -> usize {
        self.sum.len()
    }

    /// Adds sums over so many other tokens, of values relative to the same pilot.
    pub fn add(&mut self, tokens: u64, sum: &[f64], square: &[f64]) {
        self.n += tokens;
        self.sum.iter_mut().zip(sum).for_each(|(all, s)| *all += s);
        self.sum_sq.iter_mut().zip(square).for_each(|(all, s)| *all += s);
    }

    /// Those of some neurons, each multiplied by a factor.
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

    /// Takes each neuron's mean over the first chunk as its pilot, without adding it.
    pub fn take_pilot(&mut self, tokens: &[f32]) {
        let width = self.sum.len();
        let first = tokens.len().min(PILOT_TOKENS * width);
        self.pilot = column_means(&tokens[..first], width);
    }

    /// Subtracts the pilot from tokens that were added up before, in place.
    pub fn shift(&self, tokens: &mut [f32]) {
        tokens.par_chunks_exact_mut(self.sum.len()).for_each(|row| {
            row.iter_mut().zip(&self.pilot).for_each(|(x, p)| *x -= p);
        });
    }

    /// Σ(x − pilot) of a neuron.
    pub fn sum(&self, neuron: usize) -> f64 {
        self.sum[neuron]
    }

    /// `1 / √(Σx² − (Σx)²/n)`, or None where the neuron has no correlation: its
    /// activation never varies, or is not finite.
    pub fn inverse_spread(&self, neuron: usize) -> Option<f64> {
        let square = self.sum_sq[neuron] - self.sum[neuron].powi(2) / self.n as f64;
        (square > 0.0 && square.is_finite()).then(|| 1.0 / square.sqrt())
    }

    /// Whether some activation of the neuron was NaN or infinite.
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

/// Columns that one task adds up.
const COLUMNS: usize = 256;

fn column_means(chunk: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64; width];
    for row in chunk.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x));
    }
    let tokens = (chunk.len() / width) as f64;
    sums.iter().map(|s| (s / tokens) as f32).collect()
}

/// Σ x_i y_j over tokens of pilot-shifted values, for some layers of x and all of y.
#[derive(Debug, Clone)]
pub struct CrossSums {
    x: Layout,
    y: Layout,
    /// Layers of x that are summed.
    pub layers: Range<usize>,
    /// Row-major, a row for every neuron of those layers.
    values: Vec<f64>,
}

impl CrossSums {
    /// All zero.
    pub fn new(x: Layout, layers: Range<usize>, y: Layout) -> Self {
        let values = vec![0.0; layers.len() * x.d_mlp * y.n_neurons()];
        Self { x, y, layers, values }
    }

    /// Adds tokens of x, `[tokens, n_neurons]`, and the same of y.
    pub fn absorb(&mut self, product: Product, x: &[f32], y: &[f32]) {
        let (width, cols) = (self.x.n_neurons(), self.y.n_neurons());
        let tokens = x.len() / width;
        let (first, rows) = (self.layers.start * self.x.d_mlp, self.layers.len() * self.x.d_mlp);
        let x = MatrixView::strided(&x[first..], tokens, rows, width);
        product.add(x, MatrixView::new(y, tokens, cols), &mut self.values);
    }

    /// Copies the sums of one layer of each: `[d_x, d_y]`.
    pub fn copy(&self, x_layer: usize, y_layer: usize, out: &mut [f64]) {
        let rows = self.block(x_layer, y_layer);
        out.par_chunks_exact_mut(self.y.d_mlp).zip(rows).for_each(|(out, row)| {
            out.copy_from_slice(row);
        });
    }

    /// Copies the same sums with rows and columns exchanged: `[d_y, d_x]`.
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

/// Σ v_j v_k over tokens within each layer of one model; only `k ≤ j`, and
/// whatever else falls into the same tile, is filled.
#[derive(Debug, Clone)]
pub struct GramSums {
    layout: Layout,
    layers: Vec<Vec<f64>>,
}

impl GramSums {
    /// All zero.
    pub fn new(layout: Layout) -> Self {
        let layer = vec![0.0; layout.d_mlp * layout.d_mlp];
        Self { layout, layers: vec![layer; layout.n_layers] }
    }

    /// Adds pilot-shifted values `[tokens, n_neurons]`.
    pub fn absorb(&mut self, product: Product, tokens: &[f32]) {
        for (layer, sums) in self.layers.iter_mut().enumerate() {
            product.add_symmetric(layer_of(tokens, self.layout, layer), sums);
        }
    }

    /// Σ v_j v_k of a layer, `[d_mlp, d_mlp]`.
    pub fn layer(&self, layer: usize) -> &[f64] {
        &self.layers[layer]
    }
}

/// One layer of values `[tokens, n_neurons]`.
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
