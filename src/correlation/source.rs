//! Where the sums of products of two models come from when two layers are compared, so that a
//! matrix over all neurons of both models is never needed.

use std::borrow::Cow;
use std::ops::Range;

use super::sums::{CrossSums, GramSums, Layout, layer_of};
use crate::backend::matmul::Product;

/// Sums of products of the pilot-shifted activations of a model x and its partner y.
pub trait SumSource {
    /// Returns the layers of x that have sums.
    fn x_layers(&self) -> Range<usize>;
    /// Returns the layers of y that have sums.
    fn y_layers(&self) -> Range<usize>;
    /// Writes Σ x_i y_j of one layer of each model, `[d_x, d_y]`, to `out`.
    fn cross(&self, x_layer: usize, y_layer: usize, out: &mut [f64]);
    /// Returns Σ y_j y_k of one layer, `[d_y, d_y]`, valid for k ≤ j.
    fn gram(&self, y_layer: usize) -> Cow<'_, [f64]>;
}

/// Sums that were accumulated while tokens were read.
pub struct AccumulatedSums<'a> {
    /// Sums of x and y, or of y and x if `transposed`.
    pub cross: &'a CrossSums,
    /// Whether the sums are those of y and x.
    pub transposed: bool,
    /// Gram sums of y.
    pub grams: Option<&'a GramSums>,
    /// Layout of the model that has sums for all layers: y, or x if `transposed`.
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

/// The activations of all tokens; sums are computed when they are asked for.
pub struct ResidentActivations<'a> {
    /// The product that computes the sums.
    pub product: Product,
    /// Activations of x, `[tokens, n_neurons]`.
    pub x: &'a [f32],
    /// Layout of x.
    pub x_layout: Layout,
    /// Activations of y, `[tokens, n_neurons]`.
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
