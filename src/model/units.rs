//! Units other than MLP neurons, read from a model as if they were its neurons.

use std::sync::Arc;

use super::config::ModelShape;
use super::forward::{Decoder, ResidualStream};
use super::hook_point::{HookPoint, Site};
use super::hooks::Hooks;
use super::{Config, Transformer};
use crate::error::{Error, Kind, Result};
use crate::spec::Units;

impl Units {
    /// Returns where the units are read.
    pub fn site(self) -> Site {
        match self {
            Self::MlpPost => Site::MlpPost,
            Self::MlpPre => Site::MlpPre,
            Self::HeadOutputNorm => Site::HeadOutputNorm,
            Self::AttentionToBos => Site::AttentionToFirst,
            Self::Residual => Site::ResidPost,
        }
    }

    /// Returns the number of units in each layer of a model.
    pub fn per_layer(self, shape: &ModelShape) -> usize {
        match self {
            Self::MlpPost | Self::MlpPre => shape.d_mlp,
            Self::HeadOutputNorm | Self::AttentionToBos => shape.n_heads,
            Self::Residual => shape.d_model,
        }
    }
}

/// A model whose units take the place of neurons: hooks see the units at [`Site::MlpPost`], and there
/// is nothing before an activation function, so that they see the same at [`Site::MlpPre`].
#[derive(Debug)]
pub struct UnitReader {
    /// The model.
    pub model: Arc<Transformer>,
    /// The units.
    pub units: Units,
}

/// Hands the units to hooks that ask for neurons.
struct UnitHooks<'a> {
    site: Site,
    hooks: &'a mut dyn Hooks,
}

/// Where hooks ask for neurons.
const NEURONS: [Site; 2] = [Site::MlpPre, Site::MlpPost];

impl Hooks for UnitHooks<'_> {
    fn wants(&self, HookPoint { layer, site }: HookPoint) -> bool {
        let asked = |site| self.hooks.wants(HookPoint { layer, site });
        site == self.site && NEURONS.into_iter().any(asked)
    }

    fn at(&mut self, HookPoint { layer, site }: HookPoint, values: &mut [f32], width: usize) {
        if site != self.site {
            return;
        }
        for site in NEURONS {
            let point = HookPoint { layer, site };
            if self.hooks.wants(point) {
                // What hooks change must not reach the model.
                self.hooks.at(point, &mut values.to_vec(), width);
            }
        }
    }
}

impl Decoder for UnitReader {
    fn config(&self) -> &Config {
        &self.model.config
    }

    fn forward(&self, rows: &[&[u32]], hooks: &mut dyn Hooks) -> Result<Vec<f32>> {
        let mut hooks = UnitHooks { site: self.units.site(), hooks };
        Ok(self.model.forward(rows, &mut hooks))
    }

    fn forward_from(
        &self,
        _: ResidualStream<'_>,
        _: &[&[u32]],
        _: &mut dyn Hooks,
    ) -> Result<Vec<f32>> {
        Err(needs_neurons())
    }

    fn logits(&self, _: &[f32]) -> Result<Vec<f32>> {
        Err(needs_neurons())
    }
}

fn needs_neurons() -> Error {
    let problem = "other units than neurons are only read";
    Error::new(Kind::Spec, "models.units", problem, "remove it, or use `kind: universality`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::capture::{Activations, Capture};

    /// Units are what the hook point of the same name sees, whichever neurons are asked for.
    #[test]
    fn units_are_the_values_of_their_hook_point() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/expected/golden/tiny");
        let model = Arc::new(Transformer::load(folder.as_ref()).unwrap_or_else(|e| panic!("{e}")));
        let rows: [&[u32]; 2] = [&[31, 3, 9, 4], &[8, 1]];
        let keep = [true, true, false, true, true, true];
        for units in [
            Units::MlpPost,
            Units::MlpPre,
            Units::HeadOutputNorm,
            Units::AttentionToBos,
            Units::Residual,
        ] {
            let n = model.config.n_layers * units.per_layer(&model.config.shape());
            let [mut want, mut post, mut pre] = [(); 3].map(|()| Activations::new(n));
            let own = vec![(units.site(), &mut want)];
            model.forward(&rows, &mut Capture::new(&keep, own));
            let reader = UnitReader { model: Arc::clone(&model), units };
            let both = vec![(Site::MlpPost, &mut post), (Site::MlpPre, &mut pre)];
            reader.forward(&rows, &mut Capture::new(&keep, both)).expect("the CPU does not fail");
            assert_eq!((&post.values, &pre.values), (&want.values, &want.values), "{units:?}");
            assert!(post.tokens() == 5 && want.values.iter().any(|v| *v != 0.0), "{units:?}");
        }
    }
}
