//! What a comparison computes on one kind of device.

use std::borrow::{BorrowMut, Cow};
use std::io;
use std::ops::Range;

use super::candidates::CandidateSums;
use super::pair::PairResult;
use super::plan::ComparisonPlan;
use super::sums::{Layout, NeuronSums};
use super::surrogate::SurrogateId;
use crate::checkpoint::{State, Visit};
use crate::error::Result;

/// The arithmetic of a comparison on one kind of device: sums of products of activations, and what
/// follows from the sums of two layers. [`HostEngine`](super::HostEngine) runs on the CPU,
/// [`DeviceEngine`](super::DeviceEngine) on a graphics processor.
pub trait Engine: Clone {
    /// The activations of one model on some tokens.
    type Tokens: ?Sized;
    /// Activations that the comparison keeps.
    type OwnTokens: BorrowMut<Self::Tokens> + State;
    /// Activations of one layer, arranged as the rows of products.
    type Rows;
    /// Activations of one layer, arranged as the columns of products.
    type Columns;
    /// Σ x_i y_j over tokens, for some layers of a model x and all of a model y.
    type Cross: State;
    /// Σ y_j y_k over tokens within every layer of a model y.
    type Grams: State;
    /// Σ x_i y_c over tokens, for every neuron i of a model x and its candidates c in a model y.
    type Candidates;
    /// Sums over neurons, where the comparison reads them.
    type PlacedSums;
    /// The rotated neurons of one layer of a partner, in all draws.
    type Rotated;
    /// Buffers for the comparison of two layers.
    type Room;

    /// Whether the sums of x and y serve for y and x too.
    const TRANSPOSES: bool;

    /// Creates sums over neurons, without tokens.
    fn neuron_sums(&self, n_neurons: usize) -> NeuronSums;

    /// Sets the pilot of `own` from the first tokens of a corpus, if the engine subtracts one.
    fn take_pilot(&self, own: &mut NeuronSums, tokens: &Self::Tokens);

    /// Shifts activations by the pilot of a model if they are not shifted yet. Adds them to `own`
    /// unless an earlier pass has added them.
    fn absorb(&self, own: &mut NeuronSums, tokens: &mut Self::Tokens, again: bool);

    /// Returns no activations of a model.
    ///
    /// # Errors
    /// Returns an error if the device fails or has too little memory.
    fn no_tokens(&self, layout: Layout) -> Result<Self::OwnTokens>;

    /// Adds activations to those that are kept. May take them from `tokens`.
    fn keep(&self, kept: &mut Self::OwnTokens, tokens: &mut Self::Tokens);

    /// Returns the number of tokens, or `None` if the last one is not whole.
    fn count(&self, tokens: &Self::Tokens, layout: Layout) -> Option<u64>;

    /// Creates zero sums of products.
    ///
    /// # Errors
    /// Returns an error if the device fails or has too little memory.
    fn new_cross(&self, x: Layout, layers: Range<usize>, y: Layout) -> Result<Self::Cross>;

    /// Arranges the activations of a layer as the rows of products.
    fn rows(&self, tokens: &Self::Tokens, layout: Layout, layer: usize) -> Self::Rows;

    /// Arranges the activations of a layer as the columns of products.
    fn columns(&self, tokens: &Self::Tokens, layout: Layout, layer: usize) -> Self::Columns;

    /// Adds the products of the activations of a model y with those of other models at the same
    /// tokens and, if `grams` is given, within each of its own layers. `x` has the activations of every
    /// model that `sums` name, by its index.
    ///
    /// # Errors
    /// Returns an error if the device fails or has too little memory.
    fn add_products(
        &self,
        sums: Vec<&mut StoredCross<Self>>,
        grams: Option<&mut Self::Grams>,
        x: &[&Self::Tokens],
        y: (&Self::Tokens, Layout),
    ) -> Result<()>;

    /// Creates zero Gram sums.
    ///
    /// # Errors
    /// Returns an error if the device fails or has too little memory.
    fn new_grams(&self, layout: Layout) -> Result<Self::Grams>;

    /// Returns a surrogate of activations, the first of which is that of token `first` of the
    /// corpus.
    ///
    /// # Errors
    /// Returns an error if the device fails or has too little memory.
    fn surrogate(
        &self,
        plan: &ComparisonPlan,
        id: SurrogateId,
        tokens: &Self::Tokens,
        first: u64,
    ) -> Result<Self::OwnTokens>;

    /// Returns a copy of activations: of chosen neurons, or of all.
    ///
    /// # Errors
    /// Returns an error if the device fails or has too little memory.
    fn pick(
        &self,
        layout: Layout,
        tokens: &Self::Tokens,
        neurons: Option<&[usize]>,
    ) -> Result<Self::OwnTokens>;

    /// Returns the Frobenius norm of the covariances of each layer, with which layers are compared.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn gram_norms(&self, grams: &Self::Grams, side: Side<Self>) -> Result<Vec<f64>>;

    /// Creates zero sums of the best partners that were found in a sample.
    ///
    /// # Errors
    /// Returns an error if the device fails or has too little memory.
    fn new_candidates(&self, sample: &PairResult) -> Result<Self::Candidates>;

    /// Adds the products of shifted activations of the same tokens in every model.
    ///
    /// # Errors
    /// Returns an error if the device fails or has too little memory.
    fn add_candidates(
        &self,
        candidates: &mut [StoredCandidates<Self>],
        tokens: &[&mut Self::Tokens],
        models: &[Layout],
    ) -> Result<()>;

    /// Returns sums of candidates in the memory of the CPU.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn read_candidates<'s>(&self, sums: &'s Self::Candidates) -> Result<Cow<'s, CandidateSums>>;

    /// Calls `visit` with the sums of candidates.
    ///
    /// # Errors
    /// Returns the error of `visit`, or an error if the device fails.
    fn visit_candidates(&self, sums: &mut Self::Candidates, visit: Visit) -> io::Result<()>;

    /// Copies sums over neurons to where the comparison reads them.
    ///
    /// # Errors
    /// Returns an error if the device fails or has too little memory.
    fn place(&self, sums: &NeuronSums) -> Result<Self::PlacedSums>;

    /// Allocates buffers for the comparison of a layer of x with one of y.
    ///
    /// # Errors
    /// Returns an error if the device fails or has too little memory.
    fn room(&self, x: Layout, y: Layout) -> Result<Self::Room>;

    /// Rotates a layer of a partner, `(model, layer)`, in every draw of the baseline.
    ///
    /// # Errors
    /// Returns an error if the device fails or has too little memory.
    fn rotate(
        &self,
        plan: &ComparisonPlan,
        at: (usize, usize),
        y: Side<Self>,
        sums: LayerSums<Self>,
    ) -> Result<Self::Rotated>;

    /// Adds the correlations of two layers to the result. If `rotated` is given, raises the chance
    /// correlations of the layer of x to the best ones with the rotated neurons.
    ///
    /// # Errors
    /// Returns an error if the device fails or has too little memory.
    fn judge(
        &self,
        block: &LayerPair<Self>,
        rotated: Option<&Self::Rotated>,
        room: &mut Self::Room,
        pair: &mut PairResult,
    ) -> Result<()>;

    /// Raises the chance correlations of a layer of x, in one draw, to the best ones with a layer
    /// of a surrogate.
    ///
    /// # Errors
    /// Returns an error if the device fails or has too little memory.
    fn judge_surrogate(
        &self,
        block: &LayerPair<Self>,
        room: &mut Self::Room,
        best: &mut [f64],
    ) -> Result<()>;
}

/// Sums of products of two models, and which they are.
pub struct StoredCross<E: Engine> {
    /// Index of the model whose neurons are the rows.
    pub x: usize,
    /// Index of the model whose neurons are the columns.
    pub y: usize,
    /// The layers of x that are summed. Those of y are summed all.
    pub layers: Range<usize>,
    /// The sums.
    pub sums: E::Cross,
}

/// Sums for the candidates of the neurons of a model x in a model y.
pub struct StoredCandidates<E: Engine> {
    /// Index of x.
    pub x: usize,
    /// Index of y.
    pub y: usize,
    /// The sums.
    pub sums: E::Candidates,
}

/// One side of a comparison: a model and the sums over its neurons.
pub struct Side<'a, E: Engine> {
    /// Index of the model.
    pub model: usize,
    /// Layout of the model.
    pub layout: Layout,
    /// Sums over the model's neurons.
    pub sums: &'a NeuronSums,
    /// The same sums, where the engine reads them.
    pub placed: &'a E::PlacedSums,
}

impl<E: Engine> Clone for Side<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Engine> Copy for Side<'_, E> {}

/// Where the sums of products of a model x and its partner y come from.
pub enum SumSource<'a, E: Engine> {
    /// Sums that were added up while tokens were read.
    Sums {
        /// Sums of x and y, or of y and x if `transposed`.
        cross: &'a StoredCross<E>,
        /// Whether the sums are those of y and x.
        transposed: bool,
        /// Gram sums of y, if the baseline is a rotation.
        grams: Option<&'a E::Grams>,
    },
    /// The activations of all tokens in x and y; sums are computed when they are needed.
    Tokens {
        /// Activations of x.
        x: &'a E::Tokens,
        /// The same activations, layer by layer, as rows.
        rows: &'a [E::Rows],
        /// Activations of y.
        y: &'a E::Tokens,
    },
}

impl<E: Engine> SumSource<'_, E> {
    /// Returns the layers of x that have sums.
    pub fn x_layers(&self, x: Layout) -> Range<usize> {
        match self {
            Self::Sums { cross, transposed: false, .. } => cross.layers.clone(),
            _ => 0..x.n_layers,
        }
    }

    /// Returns the activations of a layer of y as columns, if there are no sums.
    pub fn columns(&self, engine: &E, y: Layout, layer: usize) -> Option<E::Columns> {
        match self {
            Self::Sums { .. } => None,
            Self::Tokens { y: tokens, .. } => Some(engine.columns(tokens, y, layer)),
        }
    }

    /// Returns the layers of y that have sums.
    pub fn y_layers(&self, y: Layout) -> Range<usize> {
        match self {
            Self::Sums { cross, transposed: true, .. } => cross.layers.clone(),
            _ => 0..y.n_layers,
        }
    }
}

/// Where the sums of products with one layer of y come from.
pub struct LayerSums<'a, E: Engine> {
    /// Where those of all layers come from.
    pub source: &'a SumSource<'a, E>,
    /// The activations of the layer, if there are no sums.
    pub columns: Option<&'a E::Columns>,
}

impl<E: Engine> Clone for LayerSums<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Engine> Copy for LayerSums<'_, E> {}

/// A layer of a model x and one of its partner y.
pub struct LayerPair<'a, E: Engine> {
    /// Where the sums of their products come from.
    pub sums: LayerSums<'a, E>,
    /// The model x and its layer.
    pub x: (Side<'a, E>, usize),
    /// The model y and its layer.
    pub y: (Side<'a, E>, usize),
}
