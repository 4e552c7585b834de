//! Sums over tokens, from which every correlation follows.
//!
//! Values are taken relative to a pilot, each neuron's mean over the first
//! chunk. That leaves ρ as it is and removes the cancellation in
//! `Σx² − (Σx)²/n` for neurons of large mean.

use rayon::prelude::*;

use crate::backend::kernel::Kernel;
use crate::backend::matmul::Product;
use crate::backend::pack::View;
use crate::checkpoint::{Part, State, Visit};

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

    /// Subtracts the pilot from a chunk `[tokens, n_neurons]`, in place, and adds it up.
    pub fn absorb(&mut self, chunk: &mut [f32]) {
        let width = self.sum.len();
        if self.pilot.is_empty() {
            self.pilot = column_means(chunk, width);
        }
        chunk.par_chunks_exact_mut(width).for_each(|row| {
            row.iter_mut().zip(&self.pilot).for_each(|(x, p)| *x -= p);
        });
        self.n += (chunk.len() / width) as u64;
        let rows: &[f32] = chunk;
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

impl State for NeuronSums {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        visit(Part::Count(&mut self.n))?;
        visit(Part::Values(&mut self.pilot))?;
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

/// Σ x_i y_j over tokens, `rows × cols` row-major, of pilot-shifted values.
#[derive(Debug, Clone)]
pub struct CrossSums {
    /// Neurons of the reference.
    pub rows: usize,
    /// Neurons of the partner.
    pub cols: usize,
    /// The sums.
    pub values: Vec<f64>,
}

impl CrossSums {
    /// All zero.
    pub fn new(rows: usize, cols: usize) -> Self {
        Self { rows, cols, values: vec![0.0; rows * cols] }
    }

    /// Adds a chunk of the reference and the same tokens of the partner.
    pub fn absorb(&mut self, x: &[f32], y: &[f32]) {
        let tokens = x.len() / self.rows;
        let x = View::new(x, tokens, self.rows);
        Product { kernel: Kernel::best(crate::spec::Precision::F32), chain: 1024 }.add(
            x,
            View::new(y, tokens, self.cols),
            &mut self.values,
        );
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

    /// Adds a chunk of pilot-shifted values `[tokens, n_neurons]`.
    pub fn absorb(&mut self, chunk: &[f32]) {
        let Layout { d_mlp, .. } = self.layout;
        let width = self.layout.n_neurons();
        let tokens = chunk.len() / width;
        for (layer, sums) in self.layers.iter_mut().enumerate() {
            let v = View::strided(&chunk[layer * d_mlp..], tokens, d_mlp, width);
            Product { kernel: Kernel::best(crate::spec::Precision::F32), chain: 1024 }
                .add_symmetric(v, sums);
        }
    }

    /// Σ v_j v_k of a layer, for any two of its neurons.
    pub fn get(&self, layer: usize, j: usize, k: usize) -> f64 {
        self.layers[layer][j.max(k) * self.layout.d_mlp + j.min(k)]
    }
}

impl State for GramSums {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        self.layers.iter_mut().try_for_each(|layer| visit(Part::Numbers(layer)))
    }
}
