//! Activations of chosen neurons, token by token.

use crate::corpus::{Batch, Tokens};
use crate::error::Result;
use crate::model::capture::{Activations, Capture};
use crate::model::{HookPoint, Hooks, Site};
use crate::run::{Decoders, Session};

/// A neuron of a model of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelNeuron {
    /// Index of the model in the family.
    pub model: usize,
    /// Index of the neuron over all layers.
    pub neuron: usize,
}

/// The neurons to read.
#[derive(Clone, Copy)]
pub struct ChosenNeurons<'a> {
    /// Neurons of the reference model, by their index over all layers.
    pub own: &'a [usize],
    /// Neurons of partner models.
    pub partners: &'a [ModelNeuron],
    /// The partner models read every so many rows.
    pub every: usize,
}

/// Activations of chosen neurons at every token that counts.
#[derive(Default)]
pub struct ChosenActivations {
    /// Pre-activations of the neurons of the reference model, `[neuron][token]`.
    pub pre: Vec<Vec<f32>>,
    /// Post-activations of the neurons of the reference model, `[neuron][token]`.
    pub post: Vec<Vec<f32>>,
    /// Row and position of each token.
    pub places: Vec<(usize, usize)>,
    /// Indices in `places` of the tokens that the partner models read, ascending.
    pub shared: Vec<usize>,
    /// Post-activations of the partner neurons at the shared tokens, `[neuron][shared token]`.
    pub partners: Vec<Vec<f32>>,
}

/// The activations of one neuron that were read.
#[derive(Clone, Copy)]
pub enum CardColumn {
    /// A neuron of the reference model, by its index among those that were read.
    Own(usize),
    /// A partner neuron, by its index among those that were read.
    Partner(usize),
}

/// What one batch adds.
pub struct BatchActivations<'a> {
    /// The batch.
    pub batch: &'a Batch<'a>,
    /// Which of its tokens count.
    pub keep: &'a [bool],
    /// All activations of chosen neurons so far, those of the batch included.
    pub all: &'a ChosenActivations,
    /// Post-activations of all neurons of the reference model at the shared tokens of the batch,
    /// `[tokens, n_neurons]`; empty without partner neurons.
    pub reference: &'a mut [f32],
}

impl ChosenActivations {
    /// Reads some tokens with the reference model, and every so many rows with the models of the
    /// partner neurons. Calls `see` after each batch.
    ///
    /// # Errors
    /// Returns an error if a model cannot be loaded, or the run was stopped.
    pub fn read(
        session: &mut Session,
        tokens: &Tokens,
        chosen: ChosenNeurons,
        mut see: impl FnMut(BatchActivations),
    ) -> Result<Self> {
        let ChosenNeurons { own, partners, .. } = chosen;
        let n = session.plan.reference().layout().n_neurons();
        let mut others: Vec<usize> = partners.iter().map(|partner| partner.model).collect();
        others.sort_unstable();
        others.dedup();
        let models: Vec<usize> = [session.plan.judged[0]].into_iter().chain(others).collect();
        let empty = |n: usize| vec![Vec::new(); n];
        let mut read = Self {
            pre: empty(own.len()),
            post: empty(own.len()),
            partners: empty(partners.len()),
            ..Self::default()
        };
        session.read_models("looking at neurons", tokens, &models, |decoders, batch| {
            let keep = batch.kept();
            let mut reference = Activations::new(n);
            let models = (decoders, &models[1..]);
            read.read_batch(models, batch, &keep, chosen, &mut reference)?;
            let reference = &mut reference.values;
            see(BatchActivations { batch, keep: &keep, all: &read, reference });
            Ok(())
        })?;
        session.control.progress.finish();
        Ok(read)
    }

    /// Adds the activations of a batch. `reference` receives those of all neurons of the reference
    /// model at the shared tokens.
    fn read_batch(
        &mut self,
        (decoders, partner_models): (&Decoders, &[usize]),
        batch: &Batch,
        keep: &[bool],
        ChosenNeurons { own, partners, every }: ChosenNeurons,
        reference: &mut Activations,
    ) -> Result<()> {
        let rows = batch.ids();
        let is_shared = |row: usize| !partners.is_empty() && row.is_multiple_of(every);
        let shared: Vec<bool> = (batch.first_row..)
            .zip(&rows)
            .flat_map(|(r, row)| std::iter::repeat_n(is_shared(r), row.len()))
            .collect();
        let kept: Vec<bool> = shared.iter().zip(keep).map(|(s, k)| *s && *k).collect();
        let own = ColumnCapture {
            keep,
            pre: own.iter().copied().zip(&mut self.pre).collect(),
            post: own.iter().copied().zip(&mut self.post).collect(),
            all: kept
                .contains(&true)
                .then(|| Capture::new(&kept, vec![(Site::MlpPost, reference)])),
        };
        let (shared_rows, shared_keep) = shared_rows(batch, keep, every);
        let mut reads = vec![(&rows, own)];
        if !shared_rows.is_empty() {
            let columns = columns_of(partner_models, partners, &mut self.partners);
            reads.extend(columns.into_iter().map(|post| {
                let keep = &shared_keep;
                (&shared_rows, ColumnCapture { keep, pre: Vec::new(), post, all: None })
            }));
        }
        decoders.each(reads, |decoder, (rows, mut capture)| {
            decoder.forward(rows, &mut capture).map(drop)
        })?;
        let places = (batch.first_row..).zip(&rows);
        let places = places.flat_map(|(r, row)| (0..row.len()).map(move |p| (r, p)));
        for ((place, keep), shared) in places.zip(keep).zip(&shared) {
            if *keep && *shared {
                self.shared.push(self.places.len());
            }
            self.places.extend(keep.then_some(place));
        }
        Ok(())
    }
}

impl ChosenActivations {
    /// Returns the post-activation of a neuron at a token; `None` if a partner model has not read
    /// the token.
    pub fn value(&self, of: CardColumn, token: usize) -> Option<f32> {
        match of {
            CardColumn::Own(i) => Some(self.post[i][token]),
            CardColumn::Partner(i) => {
                self.shared.binary_search(&token).ok().map(|shared| self.partners[i][shared])
            }
        }
    }

    /// Returns the tokens of the largest activations of a neuron among some tokens, at most one
    /// from each row and at most `most`.
    pub fn strongest(
        &self,
        of: CardColumn,
        among: impl Iterator<Item = usize>,
        most: usize,
    ) -> Vec<usize> {
        let value = |token: usize| self.value(of, token).unwrap_or(f32::NAN);
        let mut best: Vec<(usize, f32)> = Vec::new();
        for token in among {
            let new = (token, value(token));
            match best.last_mut() {
                Some(last) if self.places[last.0].0 == self.places[token].0 => {
                    if new.1 > last.1 {
                        *last = new;
                    }
                }
                _ => best.push(new),
            }
        }
        best.retain(|(_, value)| value.is_finite());
        best.sort_by(|a, b| b.1.total_cmp(&a.1));
        best.truncate(most);
        best.into_iter().map(|(token, _)| token).collect()
    }
}

/// Returns the token at each quantile of some values, which are given as shares from 0 to 1. Of equal
/// values, the earlier token has the lower rank. NaN and infinity do not count.
pub fn at_quantiles(values: &[f32], shares: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).filter(|&t| values[t].is_finite()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let Some(last) = order.len().checked_sub(1) else { return Vec::new() };
    shares.iter().map(|share| order[(share * last as f64).round() as usize]).collect()
}

/// Returns the rows of a batch that partner models read, and which of their tokens count.
fn shared_rows<'b>(batch: &'b Batch, keep: &[bool], every: usize) -> (Vec<&'b [u32]>, Vec<bool>) {
    let (mut shared, mut kept, mut rest) = (Vec::new(), Vec::new(), keep);
    for (r, row) in (batch.first_row..).zip(batch.ids()) {
        let (own, others) = rest.split_at(row.len());
        rest = others;
        if r.is_multiple_of(every) {
            shared.push(row);
            kept.extend_from_slice(own);
        }
    }
    (shared, kept)
}

/// Returns, for each of some models, its neurons among the partners, with their buffers.
fn columns_of<'b>(
    models: &[usize],
    partners: &[ModelNeuron],
    buffers: &'b mut [Vec<f32>],
) -> Vec<Vec<ColumnBuffer<'b>>> {
    let mut columns: Vec<Vec<ColumnBuffer>> = models.iter().map(|_| Vec::new()).collect();
    for (partner, buffer) in partners.iter().zip(buffers) {
        let model = models.iter().position(|&model| model == partner.model);
        columns[model.expect("every partner's model is read")].push((partner.neuron, buffer));
    }
    columns
}

/// A neuron, by its index over all layers, and the buffer for its activations.
type ColumnBuffer<'a> = (usize, &'a mut Vec<f32>);

/// Appends the activations of single neurons at the tokens marked in `keep` to one buffer each.
struct ColumnCapture<'a> {
    keep: &'a [bool],
    pre: Vec<ColumnBuffer<'a>>,
    post: Vec<ColumnBuffer<'a>>,
    /// Captures all post-activations, if they are wanted.
    all: Option<Capture<'a>>,
}

impl Hooks for ColumnCapture<'_> {
    fn wants(&self, point: HookPoint) -> bool {
        match point.site {
            Site::MlpPre => !self.pre.is_empty(),
            Site::MlpPost => self.all.is_some() || !self.post.is_empty(),
            _ => false,
        }
    }

    fn at(&mut self, point: HookPoint, values: &mut [f32], width: usize) {
        let columns = match point.site {
            Site::MlpPre => &mut self.pre,
            _ => &mut self.post,
        };
        let here: Vec<&mut ColumnBuffer> =
            columns.iter_mut().filter(|(neuron, _)| neuron / width == point.layer).collect();
        for (neuron, buffer) in here {
            let column = values.chunks_exact(width).map(|row| row[*neuron % width]);
            buffer.extend(column.zip(self.keep).filter(|(_, keep)| **keep).map(|(v, _)| v));
        }
        if let (Site::MlpPost, Some(all)) = (point.site, &mut self.all) {
            all.at(point, values, width);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_quantile_has_as_many_values_below_as_it_says(
            values in prop::collection::vec(-3i8..3, 1..60),
            share in 0.0f64..=1.0,
        ) {
            let values: Vec<f32> = values.into_iter().map(f32::from).collect();
            let found = at_quantiles(&values, &[share])[0];
            let place = (share * (values.len() - 1) as f64).round() as usize;
            let count = |test: &dyn Fn(f32) -> bool| values.iter().filter(|v| test(**v)).count();
            let (below, up_to) = (count(&|v| v < values[found]), count(&|v| v <= values[found]));
            prop_assert!(below <= place && place < up_to, "{} {} {}", below, place, up_to);
        }
    }

    #[test]
    fn values_that_are_not_finite_have_no_quantile() {
        assert!(at_quantiles(&[f32::NAN, f32::INFINITY], &[0.5]).is_empty());
        assert_eq!(at_quantiles(&[f32::NAN, 2.0, 1.0], &[0.0, 1.0]), [2, 1]);
    }
}
