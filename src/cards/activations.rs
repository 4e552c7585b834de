//! Activations of chosen neurons, token by token.

use crate::corpus::{Batch, Tokens};
use crate::error::Result;
use crate::model::Site;
use crate::model::capture::{Activations, Capture};
use crate::run::Session;

/// Activations of chosen neurons of the reference model at every token that counts.
#[derive(Default)]
pub struct ChosenActivations {
    /// Pre-activations, `[neuron][token]`.
    pub pre: Vec<Vec<f32>>,
    /// Post-activations, `[neuron][token]`.
    pub post: Vec<Vec<f32>>,
    /// Row and position of each token.
    pub places: Vec<(usize, usize)>,
}

impl ChosenActivations {
    /// Reads some tokens. Calls `see` after each batch with the batch, a mask of its tokens that
    /// count, and all activations so far.
    ///
    /// # Errors
    /// Returns an error if the model cannot be loaded, or the run was stopped.
    pub fn read(
        session: &mut Session,
        tokens: &Tokens,
        chosen: &[usize],
        mut see: impl FnMut(&Batch, &[bool], &Self),
    ) -> Result<Self> {
        let n = session.plan.reference().layout().n_neurons();
        let empty = || vec![Vec::new(); chosen.len()];
        let mut read = Self { pre: empty(), post: empty(), places: Vec::new() };
        session.read_tokens("looking at neurons", tokens, |model, batch| {
            let (rows, keep) = (batch.ids(), batch.kept());
            let (mut pre, mut post) = (Activations::new(n), Activations::new(n));
            let targets = vec![(Site::MlpPre, &mut pre), (Site::MlpPost, &mut post)];
            model.forward(&rows, &mut Capture::new(&keep, targets))?;
            take_columns(&pre, chosen, &mut read.pre);
            take_columns(&post, chosen, &mut read.post);
            let places = (batch.first_row..).zip(&rows);
            let places = places.flat_map(|(r, row)| (0..row.len()).map(move |p| (r, p)));
            read.places.extend(places.zip(&keep).filter(|(_, keep)| **keep).map(|(p, _)| p));
            see(batch, &keep, &read);
            Ok(())
        })?;
        session.control.progress.finish();
        Ok(read)
    }
}

/// Appends the chosen columns of `[tokens, n_neurons]`.
fn take_columns(all: &Activations, chosen: &[usize], columns: &mut [Vec<f32>]) {
    for row in all.values.chunks_exact(all.n_neurons) {
        columns.iter_mut().zip(chosen).for_each(|(column, &i)| column.push(row[i]));
    }
}
