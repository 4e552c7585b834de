//! Units other than MLP neurons, read from a model as if they were its neurons.

use std::sync::Arc;

use half::f16;

use super::config::ModelShape;
use super::forward::{Decoder, ResidualStream};
use super::hook_point::{HookPoint, Site};
use super::hooks::Hooks;
use super::{Config, Transformer};
use crate::error::Result;
use crate::spec::{ActivationFormat, Units};

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

/// A model that is read in another way than by its activations in f32. Other units take the place of
/// neurons: hooks see them at [`Site::MlpPost`], and there is nothing before an activation function, so
/// that they see the same at [`Site::MlpPre`].
#[derive(Debug)]
pub struct UnitReader {
    /// The model.
    pub model: Arc<Transformer>,
    /// The units.
    pub units: Units,
    /// The format that hooks see values in.
    pub format: ActivationFormat,
}

/// Hands the units to hooks that ask for neurons.
struct UnitHooks<'a> {
    reader: &'a UnitReader,
    hooks: &'a mut dyn Hooks,
}

/// Where hooks ask for neurons.
const NEURONS: [Site; 2] = [Site::MlpPre, Site::MlpPost];

impl UnitHooks<'_> {
    /// Returns where hooks are called with the values of a point.
    fn places(&self, point: HookPoint) -> Vec<HookPoint> {
        let sites = match self.reader.units {
            Units::MlpPost => vec![point.site],
            units if units.site() == point.site => NEURONS.to_vec(),
            _ => Vec::new(),
        };
        let places = sites.into_iter().map(|site| HookPoint { site, ..point });
        places.filter(|place| self.hooks.wants(*place)).collect()
    }
}

impl Hooks for UnitHooks<'_> {
    fn wants(&self, point: HookPoint) -> bool {
        !self.places(point).is_empty()
    }

    fn at(&mut self, point: HookPoint, values: &mut [f32], width: usize) {
        for place in self.places(point) {
            // What hooks see or change must not reach the model.
            let mut seen = values.to_vec();
            if self.reader.format == ActivationFormat::F16 {
                seen.iter_mut().for_each(|v| *v = f16::from_f32(*v).to_f32());
            }
            self.hooks.at(place, &mut seen, width);
        }
    }
}

impl Decoder for UnitReader {
    fn config(&self) -> &Config {
        &self.model.config
    }

    fn forward(&self, rows: &[&[u32]], hooks: &mut dyn Hooks) -> Result<Vec<f32>> {
        let mut hooks = UnitHooks { reader: self, hooks };
        Ok(self.model.forward(rows, &mut hooks))
    }

    fn forward_from(
        &self,
        start: ResidualStream<'_>,
        rows: &[&[u32]],
        hooks: &mut dyn Hooks,
    ) -> Result<Vec<f32>> {
        let mut hooks = UnitHooks { reader: self, hooks };
        self.model.forward_from(start, rows, &mut hooks)
    }

    fn logits(&self, resid: &[f32]) -> Result<Vec<f32>> {
        Ok(self.model.logits(resid))
    }
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
            let format = ActivationFormat::F32;
            let reader = UnitReader { model: Arc::clone(&model), units, format };
            let both = vec![(Site::MlpPost, &mut post), (Site::MlpPre, &mut pre)];
            reader.forward(&rows, &mut Capture::new(&keep, both)).expect("the CPU does not fail");
            assert_eq!(post.values, want.values, "{units:?}");
            if units != Units::MlpPost {
                assert_eq!(pre.values, want.values, "{units:?}");
            }
            assert!(post.tokens() == 5 && want.values.iter().any(|v| *v != 0.0), "{units:?}");
        }
    }

    /// Rounded values differ from exact ones by at most one part in 2,048, and reach no later layer.
    #[test]
    fn rounded_activations_are_those_of_the_exact_model() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/expected/golden/tiny");
        let model = Arc::new(Transformer::load(folder.as_ref()).unwrap_or_else(|e| panic!("{e}")));
        let n = model.config.n_layers * model.config.d_mlp();
        let rows: [&[u32]; 1] = [&[31, 3, 9, 4, 8, 1]];
        let read = |decoder: &dyn Decoder| {
            let [mut post, mut pre] = [(); 2].map(|()| Activations::new(n));
            let both = vec![(Site::MlpPost, &mut post), (Site::MlpPre, &mut pre)];
            let end = decoder.forward(&rows, &mut Capture::new(&[true; 6], both));
            (post.values, pre.values, end.expect("the CPU does not fail"))
        };
        let (units, format) = (Units::MlpPost, ActivationFormat::F16);
        let rounded = read(&UnitReader { model: Arc::clone(&model), units, format });
        let exact = read(model.as_ref());
        assert_eq!(rounded.2, exact.2, "the residual stream");
        for (rounded, exact) in [(rounded.0, exact.0), (rounded.1, exact.1)] {
            assert_ne!(rounded, exact);
            let near = |(r, e): (&f32, &f32)| (r - e).abs() <= e.abs() / 2048.0 + 3e-8;
            assert!(rounded.iter().zip(&exact).all(near));
            assert!(rounded.iter().all(|v| f16::from_f32(*v).to_f32() == *v));
        }
    }
}
