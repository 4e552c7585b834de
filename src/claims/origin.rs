//! Whose weights a run was made with. Names of folders and shapes say nothing about this: only the
//! digests of the weights do.

use crate::experiment::DYNAMICS;
use crate::hub::ModelFamily;
use crate::plan::{Plan, PlannedModel};
use crate::record::Provenance;

/// The SHA-256 of the weights that a run was made with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunWeights {
    /// Digest of the reference model; `None` if the run does not record it.
    pub reference: Option<String>,
    /// Digests of the models that it was compared with.
    pub partners: Vec<String>,
    /// Digests of the checkpoints that were read in their place. `None` if the kind of experiment
    /// reads no checkpoints.
    pub checkpoints: Option<Vec<String>>,
}

impl RunWeights {
    /// Returns the digests that a run recorded.
    pub fn of_run(provenance: &Provenance) -> Self {
        let reference = provenance.reference();
        let units = provenance.spec.models.units;
        let others = provenance.models.iter().filter(|m| Some(*m) != reference);
        let checkpoints = || provenance.files_sha256.values().cloned().collect();
        Self {
            reference: reference
                .filter(|m| m.activations_sha256.is_none() && units.are_activations())
                .map(|m| m.weights_sha256.clone()),
            partners: others.map(|m| m.weights_sha256.clone()).collect(),
            checkpoints: (provenance.spec.kind == DYNAMICS).then(checkpoints),
        }
    }

    /// Returns the digests of a plan that was carried out.
    pub fn of_plan(plan: &Plan) -> Self {
        let checkpoints = || plan.files.digests().into_values().collect();
        // Claims are about neurons, and recorded activations are of no known weights.
        let known = |m: &PlannedModel| {
            let is_model = m.recording().is_none() && m.units.are_activations();
            is_model.then(|| m.weights_digest.clone())
        };
        let digest = |i: usize| known(&plan.models[i]).unwrap_or_default();
        Self {
            reference: known(plan.reference()),
            partners: plan.partners(plan.judged[0]).map(digest).collect(),
            checkpoints: (plan.spec.kind == DYNAMICS).then(checkpoints),
        }
    }

    /// Returns why the weights are not known to be those of a family: its reference, compared with
    /// its partners. Returns `None` if they are.
    pub fn unknown(&self, family: &ModelFamily) -> Option<String> {
        let Some(reference) = &self.reference else {
            return Some("the run does not record the digests of its weights".into());
        };
        let own = &family.reference;
        if let Some(problem) = is_model(family, own, reference) {
            return Some(problem);
        }
        let mut partners = self.partners.iter().enumerate();
        partners
            .find_map(|(i, digest)| is_partner(family, digest, self.partners[..i].contains(digest)))
            .or_else(|| self.unknown_checkpoint(family))
    }

    fn unknown_checkpoint(&self, family: &ModelFamily) -> Option<String> {
        let checkpoints = self.checkpoints.as_ref()?;
        if checkpoints.is_empty() {
            return Some("the run does not record the digests of its checkpoints".into());
        }
        let unknown = checkpoints.iter().find(|digest| family.name_of(digest).is_none())?;
        Some(format!("a checkpoint has the SHA-256 {unknown}, which is of no known training step"))
    }
}

/// Returns why weights are not those of one model, if they are not.
fn is_model(family: &ModelFamily, name: &str, digest: &str) -> Option<String> {
    match (family.name_of(digest), family.weights.get(name)) {
        (Some(other), _) if other == name => None,
        (Some(other), _) => Some(format!("the weights are those of {other}, not of {name}")),
        (None, Some(known)) => {
            Some(format!("the weights have the SHA-256 {digest}, those of {name} have {known}"))
        }
        (None, None) => Some(format!(
            "the SHA-256 of the weights of {name} is not known, those of the run have {digest}"
        )),
    }
}

/// Returns why weights are not those of a partner, if they are not, or `repeated`.
fn is_partner(family: &ModelFamily, digest: &str, repeated: bool) -> Option<String> {
    let unlisted = || family.partners.iter().find(|name| !family.weights.contains_key(*name));
    match (family.name_of(digest), unlisted()) {
        (Some(name), _) if repeated => Some(format!("{name} was compared with twice")),
        (Some(name), _) if family.partners.contains(name) => None,
        (Some(name), _) => Some(format!("{name} was compared with, which is not a partner")),
        (None, Some(name)) => Some(format!(
            "a partner has the SHA-256 {digest}, and that of the weights of {name} is not known"
        )),
        (None, None) => Some(format!(
            "a partner has the SHA-256 {digest}, which is of none of {}",
            family.partners.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::hub::model_families;

    /// The bundled models, with digests that are easy to read.
    fn family() -> ModelFamily {
        let families = model_families().expect("well formed");
        let desk = families.into_iter().find(|f| f.reference == "desk-a").expect("listed");
        let weights = ["a", "b", "c", "d", "e"].map(|m| (format!("desk-{m}"), m.repeat(64)));
        ModelFamily { weights: BTreeMap::from(weights), ..desk }
    }

    fn weights(reference: &str, partners: &[&str]) -> RunWeights {
        RunWeights {
            reference: Some(reference.repeat(64)),
            partners: partners.iter().map(|m| m.repeat(64)).collect(),
            checkpoints: None,
        }
    }

    #[test]
    fn weights_of_the_family_are_known_in_any_order_and_number() {
        for partners in [&["b", "c", "d", "e"][..], &["e", "b"], &["d"], &[]] {
            assert_eq!(weights("a", partners).unknown(&family()), None, "{partners:?}");
        }
    }

    #[test]
    fn other_weights_are_of_unknown_origin_and_the_reason_is_given() {
        let mut bit = weights("a", &["b"]);
        bit.reference = Some("a".repeat(63) + "b");
        let forgotten = RunWeights { reference: None, ..weights("a", &["b"]) };
        for (run, says) in [
            (weights("b", &["a", "c"]), "are those of desk-b, not of desk-a"),
            (weights("f", &["b"]), "those of desk-a have aaaa"),
            (bit, "those of desk-a have aaaa"),
            (weights("a", &["b", "f"]), "which is of none of desk-b, desk-c"),
            (weights("a", &["a"]), "desk-a was compared with, which is not a partner"),
            (weights("a", &["b", "c", "b"]), "desk-b was compared with twice"),
            (forgotten, "does not record the digests of its weights"),
            (RunWeights::default(), "does not record the digests of its weights"),
        ] {
            let reason = run.unknown(&family()).unwrap_or_else(|| panic!("{run:?} is known"));
            assert!(reason.contains(says), "{run:?}: {reason}");
        }
    }

    /// A digest that is not known makes weights unknown, even under the right name.
    #[test]
    fn weights_without_a_known_digest_are_of_unknown_origin() {
        for (lost, says) in [
            ("desk-a", "SHA-256 of the weights of desk-a is not known"),
            ("desk-c", "that of the weights of desk-c is not known"),
        ] {
            let mut family = family();
            family.weights.remove(lost);
            let reason = weights("a", &["b", "c"]).unknown(&family).expect("unknown");
            assert!(reason.contains(says), "{lost}: {reason}");
        }
    }

    /// The last step may be the model itself; every step before it has weights of its own.
    #[test]
    fn every_step_of_training_must_be_known() {
        let with = |steps: &[&str]| RunWeights {
            checkpoints: Some(steps.iter().map(|m| m.repeat(64)).collect()),
            ..weights("a", &["b"])
        };
        assert_eq!(with(&["a", "b"]).unknown(&family()), None);
        for (run, says) in [
            (with(&["f", "a", "b"]), "of no known training step"),
            (with(&[]), "does not record the digests of its checkpoints"),
        ] {
            let reason = run.unknown(&family()).expect("unknown");
            assert!(reason.contains(says), "{reason}");
        }
    }

    /// The reference is found by its name, and a model that is judged too counts as a partner.
    #[test]
    fn digests_are_taken_from_the_plan() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let spec = root.join("experiments/desk-permutation.yaml");
        let plan = Plan::make(crate::experiment::load_spec(&spec).expect("loads")).expect("a plan");
        let run = RunWeights::of_plan(&plan);
        let families = model_families().expect("well formed");
        let desk = families.iter().find(|f| f.reference == "desk-a").expect("listed");
        assert_eq!(run.reference.as_ref(), desk.weights.get("desk-b"));
        assert_eq!(run.partners.len(), 4);
        let reason = run.unknown(desk).expect("the reference is b");
        assert!(reason.contains("those of desk-b, not of desk-a"), "{reason}");
    }
}
