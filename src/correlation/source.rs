//! Where the sums of two models come from when they are compared, one layer of
//! each at a time, so that no matrix over all neurons of both need exist.

use std::borrow::Cow;
use std::ops::Range;

use super::sums::{CrossSums, GramSums, Layout, layer_of};
use crate::backend::matmul::Product;

/// Sums of pilot-shifted values of a model x and its partner y.
pub trait SumSource {
    /// Layers of x that there are sums of.
    fn x_layers(&self) -> Range<usize>;
    /// Layers of y that there are sums of.
    fn y_layers(&self) -> Range<usize>;
    /// Σ x_i y_j of one layer of each, `[d_x, d_y]`.
    fn cross(&self, x_layer: usize, y_layer: usize, out: &mut [f64]);
    /// Σ y_j y_k of one layer, `[d_y, d_y]`, valid for k ≤ j.
    fn gram(&self, y_layer: usize) -> Cow<'_, [f64]>;
}

/// Sums that were kept while tokens went by.
pub struct AccumulatedSums<'a> {
    /// Of x and y, or of y and x.
    pub cross: &'a CrossSums,
    /// Whether they are of y and x.
    pub transposed: bool,
    /// Of y.
    pub grams: Option<&'a GramSums>,
    /// Layout of the model whose layers are all there: y, or x where transposed.
    pub whole: Layout,
}

impl AccumulatedSums<'_> {
    fn layers(&self, of_first: bool) -> Range<usize> {
        if of_first { self.cross.layers.clone() } else { 0..self.whole.n_layers }
    }
}

impl SumSource for AccumulatedSums<'_> {
    fn x_layers(&self) -> Range<usize> {
        self.layers(!self.transposed)
    }

    fn y_layers(&self) -> Range<usize> {
        self.layers(self.transposed)
    }

    fn cross(&self, x_layer: usize, y_layer: usize, out: &mut [f64]) {
        if self.transposed {
            self.cross.copy_transposed(y_layer, x_layer, out);
        } else {
            self.cross.copy(x_layer, y_layer, out);
        }
    }

    fn gram(&self, y_layer: usize) -> Cow<'_, [f64]> {
        Cow::Borrowed(self.grams.map_or(&[], |grams| grams.layer(y_layer)))
    }
}

/// All tokens in memory: sums are made when they are asked for.
pub struct ResidentActivations<'a> {
    /// What multiplies.
    pub product: Product,
    /// Values of x, `[tokens, n_neurons]`.
    pub x: &'a [f32],
    /// Layout of x.
    pub x_layout: Layout,
    /// Values of y, `[tokens, n_neurons]`.
    pub y: &'a [f32],
    /// Layout of y.
    pub y_layout: Layout,
}

impl SumSource for ResidentActivations<'_> {
    fn x_layers(&self) -> Range<usize> {
        0..self.x_layout.n_layers
    }

    fn y_layers(&self) -> Range<usize> {
        0..self.y_layout.n_layers
    }

    fn cross(&self, x_layer: usize, y_layer: usize, out: &mut [f64]) {
        out.fill(0.0);
        let x = layer_of(self.x, self.x_layout, x_layer);
        self.product.add(x, layer_of(self.y, self.y_layout, y_layer), out);
    }

    fn gram(&self, y_layer: usize) -> Cow<'_, [f64]> {
        let d = self.y_layout.d_mlp;
        let mut sums = vec![0.0; d * d];
        self.product.add_symmetric(layer_of(self.y, self.y_layout, y_layer), &mut sums);
        Cow::Owned(sums)
    }
}
