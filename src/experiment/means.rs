//! The mean activation of every neuron, which an intervention may put in place of its activation.

use crate::error::Result;
use crate::model::{HookPoint, Hooks, Site};
use crate::run::Session;

/// Sums of activations over the tokens that count.
struct MeanSums<'a> {
    site: Site,
    keep: &'a [bool],
    /// One sum per neuron, over all layers.
    sums: &'a mut [f64],
}

impl Hooks for MeanSums<'_> {
    fn wants(&self, point: HookPoint) -> bool {
        point.site == self.site
    }

    fn at(&mut self, point: HookPoint, values: &mut [f32], width: usize) {
        if point.site != self.site {
            return;
        }
        let sums = &mut self.sums[point.layer * width..][..width];
        for (row, _) in values.chunks_exact(width).zip(self.keep).filter(|(_, keep)| **keep) {
            sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v));
        }
    }
}

/// Returns the mean activation at a site of every neuron of the reference model over the tokens
/// that count.
///
/// # Errors
/// Returns an error if the model cannot be loaded or the run was stopped.
pub fn mean_activations(session: &mut Session, site: Site) -> Result<Vec<f32>> {
    let (mut sums, mut tokens) = (vec![0.0; session.plan.reference().layout().n_neurons()], 0);
    session.read("reading tokens", |model, batch| {
        let keep = batch.kept();
        tokens += keep.iter().filter(|keep| **keep).count();
        let mut hooks = MeanSums { site, keep: &keep, sums: &mut sums };
        model.forward(&batch.ids(), &mut hooks).map(drop)
    })?;
    Ok(sums.into_iter().map(|sum| (sum / tokens as f64) as f32).collect())
}
