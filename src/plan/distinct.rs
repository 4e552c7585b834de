//! Checks that models which are meant to differ do.

use std::path::Path;

use super::PlannedModel;
use crate::error::{Error, Kind, Result};
use crate::spec::Spec;

/// Checks that no two models of a family have the same weights, unless the spec says that it is
/// meant: a folder that was copied under another name would make every neuron universal.
pub(super) fn check_distinct(spec: &Spec, path: &Path, models: &[PlannedModel]) -> Result<()> {
    if spec.models.same_weights {
        return Ok(());
    }
    let pairs =
        models.iter().enumerate().flat_map(|(i, a)| models[..i].iter().map(move |b| (b, a)));
    for (first, second) in pairs {
        if first.weights_digest == second.weights_digest {
            let what = if first.recording().is_some() { "activations" } else { "weights" };
            let problem =
                format!("models `{}` and `{}` have the same {what}", first.name, second.name);
            let remedy = "correct `models.family[].path`, or set `models.same_weights: true` if a model is to be compared with itself";
            return Err(Error::new(Kind::Spec, path.display(), problem, remedy));
        }
    }
    Ok(())
}
