//! The state of a comparison on a device, for checkpoints and shares.

use std::io;
use std::ops::Range;

use super::on_device::{DeviceAccumulated, DeviceCorrelator};
use crate::backend::device::Device;
use crate::backend::device::array::{Array, HalfMatrix};
use crate::checkpoint::{Part, State, Visit};
use crate::error::{Error, Result};

/// Number of values that are copied between host and device at a time.
const AT_ONCE: usize = 1 << 20;

impl<D: Device> State for DeviceCorrelator<'_, D> {
    fn parts(&mut self, visit: Visit) -> io::Result<()> {
        self.own.iter_mut().try_for_each(|own| own.parts(visit))?;
        self.check_room(visit)?;
        let device = self.device;
        if let DeviceAccumulated::Sums { cross, grams } = &mut self.sums {
            let grams = grams.iter_mut().flatten();
            for sums in cross.iter_mut().map(|(_, _, sums)| sums).chain(grams) {
                sum_parts(device, sums, visit)?;
            }
        }
        let mut filled = None;
        for kept in &mut self.kept {
            let mut tokens = TokenColumns::read(device, kept, self.filled).map_err(failed)?;
            visit(Part::Values(&mut tokens.values))?;
            let count = tokens.count().filter(|n| filled.is_none_or(|filled| filled == *n));
            let count = count.filter(|n| *n <= kept.cols);
            filled =
                Some(count.ok_or_else(|| io::Error::other("its models have read other tokens"))?);
            // Reading from a file adds tokens; writing a checkpoint changes nothing here.
            if filled != Some(self.filled) {
                tokens.write(device, kept).map_err(failed)?;
            }
        }
        self.filled = filled.unwrap_or(0);
        Ok(())
    }
}

impl<D: Device> DeviceCorrelator<'_, D> {
    /// Refuses a state that was made with other memory: sums are added to whenever the buffers are
    /// full, so that their bits depend on it.
    fn check_room(&self, visit: Visit) -> io::Result<()> {
        let all = matches!(self.sums, DeviceAccumulated::Tokens);
        let capacity = self.kept.iter().map(|kept| kept.cols).min().unwrap_or(0);
        let own = if all { -1.0 } else { capacity as f64 };
        let mut room = own;
        visit(Part::Shift(&mut room))?;
        let said = |room: f64| match room < 0.0 {
            true => "all tokens".to_owned(),
            false => format!("{room} tokens at a time"),
        };
        if room.to_bits() == own.to_bits() {
            return Ok(());
        }
        let why = format!(
            "it was made where the device had room for {}, now it has room for {}",
            said(room),
            said(own)
        );
        Err(io::Error::other(why))
    }
}

fn failed(error: Error) -> io::Error {
    io::Error::other(error)
}

/// Visits sums, a few at a time.
fn sum_parts<D: Device>(device: &D, sums: &mut Array<D, f32>, visit: Visit) -> io::Result<()> {
    for start in (0..sums.len()).step_by(AT_ONCE) {
        let range: Range<usize> = start..(start + AT_ONCE).min(sums.len());
        let before = sums.read(device, range).map_err(failed)?;
        let mut numbers: Vec<f64> = before.iter().map(|&v| v.into()).collect();
        visit(Part::Numbers(&mut numbers))?;
        let after: Vec<f32> = numbers.iter().map(|&v| v as f32).collect();
        if after.iter().zip(&before).any(|(a, b)| a.to_bits() != b.to_bits()) {
            sums.write_at(device, start, &after).map_err(failed)?;
        }
    }
    Ok(())
}

/// The kept activations of a model, token by token. Each value holds the bits of both planes, so
/// that what is read back is multiplied as it was.
struct TokenColumns {
    n_neurons: usize,
    values: Vec<f32>,
}

impl TokenColumns {
    /// Reads the first `tokens` columns.
    fn read<D: Device>(device: &D, kept: &HalfMatrix<D>, tokens: usize) -> Result<Self> {
        let planes: Vec<Vec<u16>> = (0..kept.form.planes())
            .map(|plane| kept.read_plane(device, plane, tokens))
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
    fn write<D: Device>(&self, device: &D, kept: &mut HalfMatrix<D>) -> Result<()> {
        let tokens = self.values.len() / self.n_neurons;
        for plane in 0..kept.form.planes() {
            let bits = |neuron: usize, token: usize| {
                let packed = self.values[token * self.n_neurons + neuron].to_bits();
                (packed >> (16 * plane)) as u16
            };
            kept.write_plane(device, plane, tokens, bits)?;
        }
        Ok(())
    }
}
