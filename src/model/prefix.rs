//! Residual streams that are kept from one forward pass, so that passes that differ from it only in
//! later layers start there.

use std::collections::BTreeMap;

use super::forward::{Decoder, ResidualStream};
use super::hook_point::{HookPoint, Site};
use super::hooks::Hooks;
use super::intervene::{Intervention, Interventions};
use crate::error::Result;

/// Hooks that keep the residual stream before some blocks.
#[derive(Debug, Clone, Default)]
pub struct KeptStreams(BTreeMap<usize, Vec<f32>>);

impl KeptStreams {
    /// Prepares to keep the residual streams before some blocks. Each takes `4 · tokens · d_model`
    /// bytes.
    pub fn before(layers: impl IntoIterator<Item = usize>) -> Self {
        Self(layers.into_iter().map(|layer| (layer, Vec::new())).collect())
    }

    /// Prepares to keep the streams at which passes with each of some groups of interventions
    /// start. A pass that changes the first block starts at the embedding and needs none.
    pub fn for_interventions<'i>(groups: impl IntoIterator<Item = &'i [Intervention]>) -> Self {
        Self::before(groups.into_iter().filter_map(first_layer).filter(|layer| *layer > 0))
    }

    /// Keeps the streams of another, too.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Returns the stream before a block, `[tokens, d_model]`, if a pass has shown it.
    pub fn get(&self, layer: usize) -> Option<&[f32]> {
        self.0.get(&layer).map(Vec::as_slice).filter(|stream| !stream.is_empty())
    }
}

impl Hooks for KeptStreams {
    fn wants(&self, point: HookPoint) -> bool {
        point.site == Site::ResidPre && self.0.contains_key(&point.layer)
    }

    fn at(&mut self, point: HookPoint, values: &mut [f32], _: usize) {
        if point.site != Site::ResidPre {
            return;
        }
        if let Some(stream) = self.0.get_mut(&point.layer) {
            stream.clear();
            stream.extend_from_slice(values);
        }
    }
}

impl<H: Hooks> Interventions<'_, H> {
    /// Runs rows through a model with the interventions. The pass starts at the first block that
    /// they change if `kept`, which is from the unchanged model on the same rows, has the stream
    /// before it, and at the embedding otherwise. The result has the same bits either way; hooks
    /// of blocks that are skipped are not called.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn forward(
        &mut self,
        model: &dyn Decoder,
        rows: &[&[u32]],
        kept: &KeptStreams,
    ) -> Result<Vec<f32>> {
        let start = first_layer(self.interventions)
            .and_then(|layer| Some(ResidualStream { layer, values: kept.get(layer)? }));
        match start {
            Some(start) => model.forward_from(start, rows, self),
            None => model.forward(rows, self),
        }
    }
}

/// Returns the first block that interventions change, if there is any.
fn first_layer(interventions: &[Intervention]) -> Option<usize> {
    interventions.iter().map(|intervention| intervention.point.layer).min()
}
