//! Activations in the memory of a device.

use std::io;

use crate::backend::device::Device;
use crate::backend::device::array::{HalfFormat, HalfMatrix};
use crate::checkpoint::{Part, State, Visit};
use crate::error::{Error, Result};

/// The activations of one model on some tokens, shifted and scaled, in the memory of a device, and
/// the sums over them.
#[derive(Debug)]
pub struct HalfTokens<'a, D: Device> {
    pub(super) device: &'a D,
    /// `[n_neurons, capacity]`, in the format of `kernels/activation.cu`.
    pub values: HalfMatrix<D>,
    /// Number of tokens: the columns of `values` in use.
    pub tokens: usize,
    /// Σx of every neuron over these tokens.
    pub sum: Vec<f64>,
    /// Σx² of every neuron over these tokens.
    pub square: Vec<f64>,
}

impl<'a, D: Device> HalfTokens<'a, D> {
    /// Allocates room for `capacity` tokens.
    ///
    /// # Errors
    /// Returns an error if the device has too little memory.
    pub fn new(device: &'a D, n_neurons: usize, capacity: usize, form: HalfFormat) -> Result<Self> {
        Ok(Self::around(device, HalfMatrix::new(device, n_neurons, capacity, form)?))
    }

    /// Takes a matrix `[n_neurons, capacity]` as the room for tokens, of which there are none yet.
    pub(super) fn around(device: &'a D, values: HalfMatrix<D>) -> Self {
        let zeros = vec![0.0; values.rows];
        Self { device, values, tokens: 0, sum: zeros.clone(), square: zeros }
    }

    /// Returns whether `tokens` more tokens fit.
    pub fn has_room(&self, tokens: usize) -> bool {
        self.tokens + tokens <= self.values.cols
    }

    /// Records that `tokens` tokens were written to `values`, with Σx and Σx² of every neuron.
    pub fn count(&mut self, tokens: usize, sum: &[f64], square: &[f64]) {
        self.tokens += tokens;
        self.sum.iter_mut().zip(sum).for_each(|(all, s)| *all += s);
        self.square.iter_mut().zip(square).for_each(|(all, s)| *all += s);
    }

    /// Removes all tokens.
    pub fn clear(&mut self) {
        self.tokens = 0;
        self.sum.fill(0.0);
        self.square.fill(0.0);
    }
}

impl<D: Device> State for HalfTokens<'_, D> {
    fn parts(&mut self, visit: Visit) -> io::Result<()> {
        visit(Part::Numbers(&mut self.sum))?;
        visit(Part::Numbers(&mut self.square))?;
        let mut columns = TokenColumns::read(self).map_err(failed)?;
        visit(Part::Values(&mut columns.values))?;
        let count = columns.count().filter(|n| *n <= self.values.cols);
        let count = count.ok_or_else(|| io::Error::other("it holds too many activations"))?;
        // Reading from a file adds tokens; writing a checkpoint changes nothing here.
        if count != self.tokens {
            columns.write(self).map_err(failed)?;
            self.tokens = count;
        }
        Ok(())
    }
}

pub(super) fn failed(error: Error) -> io::Error {
    io::Error::other(error)
}

/// Activations token by token. Each value holds the bits of both planes, so that what is read back
/// is multiplied as it was.
struct TokenColumns {
    n_neurons: usize,
    values: Vec<f32>,
}

impl TokenColumns {
    fn read<D: Device>(from: &HalfTokens<D>) -> Result<Self> {
        let (kept, tokens) = (&from.values, from.tokens);
        let planes: Vec<Vec<u16>> = (0..kept.form.planes())
            .map(|plane| kept.read_plane(from.device, plane, tokens))
            .collect::<Result<_>>()?;
        let n_neurons = kept.rows;
        let value = |token: usize, neuron: usize| {
            let bits = |plane: &Vec<u16>| u32::from(plane[neuron * tokens + token]);
            f32::from_bits(bits(&planes[0]) | planes.get(1).map_or(0, bits) << 16)
        };
        let places = (0..tokens).flat_map(|token| (0..n_neurons).map(move |n| (token, n)));
        Ok(Self { n_neurons, values: places.map(|(token, n)| value(token, n)).collect() })
    }

    /// Returns the number of tokens, or `None` if the last one is not whole.
    fn count(&self) -> Option<usize> {
        let whole = self.values.len().is_multiple_of(self.n_neurons);
        whole.then(|| self.values.len() / self.n_neurons)
    }

    /// Writes the tokens to the first columns.
    fn write<D: Device>(&self, to: &mut HalfTokens<D>) -> Result<()> {
        let tokens = self.values.len() / self.n_neurons;
        for plane in 0..to.values.form.planes() {
            let bits = |neuron: usize, token: usize| {
                let packed = self.values[token * self.n_neurons + neuron].to_bits();
                (packed >> (16 * plane)) as u16
            };
            to.values.write_plane(to.device, plane, tokens, bits)?;
        }
        Ok(())
    }
}
