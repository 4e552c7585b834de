//! The models that specs and claims name: their shapes, which are compared with which, and the
//! digests of their weights.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::revision::known_models;
use crate::error::{Error, Kind, Result};
use crate::model::ModelShape;

/// Models of one shape, of which claims may be about the first one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFamily {
    /// Name of the model whose neurons are judged.
    pub reference: String,
    /// Names of the models that it is compared with in a source of claims; empty if no claim is
    /// about the reference.
    #[serde(default)]
    pub partners: Vec<String>,
    /// Names of other models of the same shape.
    #[serde(default)]
    pub others: Vec<String>,
    /// The shape of every model of the family.
    pub shape: ModelShape,
    /// SHA-256 of the weights, by name, where it is known.
    #[serde(default)]
    pub weights: BTreeMap<String, String>,
}

impl ModelFamily {
    /// Returns the names of all models, the reference first.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.reference).chain(&self.partners).chain(&self.others)
    }

    /// Returns the name of the model whose weights have a digest.
    pub fn name_of(&self, digest: &str) -> Option<&String> {
        self.weights.iter().find(|(_, known)| *known == digest).map(|(name, _)| name)
    }
}

/// Returns the families of `expected/models.yaml`, with the digests of `expected/hub.yaml`.
///
/// # Errors
/// Returns an error if one of the embedded lists is malformed.
pub fn model_families() -> Result<Vec<ModelFamily>> {
    let mut families: Vec<ModelFamily> =
        serde_yaml::from_str(include_str!("../../expected/models.yaml"))
            .map_err(|e| Error::new(Kind::Model, "expected/models.yaml", e, "correct it"))?;
    for model in known_models()? {
        let family = families.iter_mut().find(|f| f.names().any(|name| *name == model.name));
        if let (Some(family), Some(digest)) = (family, model.weights) {
            family.weights.insert(model.name, digest);
        }
    }
    Ok(families)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use super::*;
    use crate::plan::PlannedModel;

    #[test]
    fn names_and_digests_are_unique() {
        let families = model_families().expect("well formed");
        let names: Vec<&String> = families.iter().flat_map(ModelFamily::names).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "{names:?}");
        let digests: Vec<&String> = families.iter().flat_map(|f| f.weights.values()).collect();
        assert_eq!(digests.iter().collect::<HashSet<_>>().len(), digests.len(), "{digests:?}");
        for digest in digests {
            assert!(
                digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()),
                "{digest}"
            );
        }
        for family in &families {
            let known = |name: &String| family.names().any(|n| n == name);
            assert!(family.weights.keys().all(known), "{}", family.reference);
        }
    }

    /// Every model that can be fetched by name has a known shape.
    #[test]
    fn models_of_the_hub_have_shapes() {
        let families = model_families().expect("well formed");
        let shaped: HashSet<&String> = families.iter().flat_map(ModelFamily::names).collect();
        let known = known_models().expect("well formed");
        let missing: Vec<_> = known.iter().filter(|m| !shaped.contains(&m.name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(known.iter().any(|model| model.weights.is_some()), "some digest is known");
    }

    #[test]
    fn bundled_models_are_those_that_are_listed() {
        let families = model_families().expect("well formed");
        let family = families.iter().find(|f| f.reference == "desk-a").expect("listed");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/desk");
        assert_eq!(family.names().count(), 5);
        for name in family.names() {
            let folder = root.join(name.strip_prefix("desk-").expect("a bundled model"));
            let found = PlannedModel::find(name, &folder).expect("a model");
            assert_eq!(Some(&found.weights_digest), family.weights.get(name), "{name}");
            assert_eq!(found.config.shape(), family.shape, "{name}");
        }
    }
}
