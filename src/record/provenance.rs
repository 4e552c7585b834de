//! `provenance.json`: everything that the numbers of a run depend on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_yaml::{Mapping, Value};

use crate::error::{Error, Kind, Result};
use crate::plan::Plan;
use crate::spec::{Models, Spec};
use crate::store::{MARK, read_json};

/// `provenance.json`. When a run is complete, the file also lists all files of the run, which
/// [`crate::store`] adds and checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Name of the program.
    pub program: String,
    /// Version of the program.
    pub version: String,
    /// Commit of the repository that contains the spec, if there is one.
    pub commit: Option<String>,
    /// The spec, with all defaults filled in.
    #[serde(deserialize_with = "recorded_spec")]
    pub spec: Spec,
    /// Path of the spec file.
    pub spec_path: PathBuf,
    /// Digest of the spec file.
    pub spec_sha256: String,
    /// The models, in the order of the spec.
    pub models: Vec<ModelDigests>,
    /// Digest of the text; absent if activations were recorded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub corpus_sha256: String,
    /// Digest of the tokens.
    pub tokens_sha256: String,
    /// Digest of the neuron table that universal neurons were taken from (`--universal`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub universal_sha256: Option<String>,
    /// Digests of the files that the settings of the spec name, by path, and of the weights of
    /// checkpoints, by folder.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files_sha256: BTreeMap<String, String>,
    /// Number of tokens whose products are summed in f32 before they are added in f64.
    pub tokens_per_chunk: usize,
    /// The device and kernel that computed the matrix products.
    pub device: String,
    /// Number of threads.
    pub threads: usize,
}

/// A model and the digests of its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelDigests {
    /// Name of the model in the spec.
    pub name: String,
    /// Folder of the model, or file of its recorded activations.
    pub folder: PathBuf,
    /// Digest of the weights; absent if activations were recorded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub weights_sha256: String,
    /// Digest of `config.json`; absent if activations were recorded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub config_sha256: String,
    /// Digest of the activations that were recorded in place of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activations_sha256: Option<String>,
    /// Digest of the tokenizer, if the folder has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer_sha256: Option<String>,
    /// Tensors that hold NaN or infinity: how many values, and the first one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub non_finite: Vec<String>,
}

impl ModelDigests {
    /// Returns the digest of what identifies the model: its weights, or its recorded activations.
    pub fn content_sha256(&self) -> &str {
        self.activations_sha256.as_deref().unwrap_or(&self.weights_sha256)
    }
}

impl Provenance {
    /// Reads the provenance of the run in a folder.
    ///
    /// # Errors
    /// Returns an error if the folder is not that of a run, or the file is damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        read_json(&folder.join(MARK))
    }

    /// Returns the reference model and the digests of its files.
    pub fn reference(&self) -> Option<&ModelDigests> {
        self.models.iter().find(|m| m.name == self.spec.models.reference)
    }

    /// Refuses the run in `folder` if its reference model is not that of a plan, as
    /// [`Self::check_model`] does.
    ///
    /// # Errors
    /// Returns an error if the weights or the configs of the two models differ.
    pub fn check_reference(&self, folder: &Path, plan: &Plan) -> Result<()> {
        self.check_model(&self.spec.models.reference, folder, plan)
    }

    /// Returns whether the run, if it is a study, gives the universal neurons of a plan: it has the same
    /// weights, tokens, units and comparison.
    pub fn is_study_of(&self, plan: &Plan) -> bool {
        let models = self.models.iter().map(|m| (m.content_sha256(), m.config_sha256.as_str()));
        let own = plan.models.iter().map(|m| (m.weights_digest.as_str(), m.config_digest.as_str()));
        let (ran, planned) = (&self.spec, &plan.spec);
        let units = |models: &Models| (models.units, models.activations, models.layers.clone());
        models.eq(own)
            && ran.models.reference == planned.models.reference
            && units(&ran.models) == units(&planned.models)
            && ran.correlation == planned.correlation
            && self.tokens_sha256 == plan.tokens_digest()
    }

    /// Refuses the run in `folder` if its model `name` is not the reference model of a plan:
    /// neurons of different models have nothing in common but their numbers.
    ///
    /// # Errors
    /// Returns an error if the run has no such model, or the weights or the configs of the two
    /// models differ.
    pub fn check_model(&self, name: &str, folder: &Path, plan: &Plan) -> Result<()> {
        let own = self.models.iter().find(|m| m.name == name);
        let reference = plan.reference();
        let same = own.is_some_and(|own| {
            own.content_sha256() == reference.weights_digest
                && own.config_sha256 == reference.config_digest
        });
        if same {
            return Ok(());
        }
        let problem = format!(
            "its model `{name}` is not the model `{}` of {}: weights or config differ",
            reference.name,
            plan.spec_path.display()
        );
        let remedy = "name a run and a spec with the same models";
        Err(Error::new(Kind::Evidence, folder.display(), problem, remedy))
    }
}

/// Reads a spec as a run recorded it: complete, with the settings of its kind under the kind's name.
fn recorded_spec<'de, D: Deserializer<'de>>(from: D) -> Result<Spec, D::Error> {
    let mut fields = Mapping::deserialize(from)?;
    let kind = fields.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let settings = fields.remove(&*kind);
    let mut spec: Spec =
        serde_yaml::from_value(Value::Mapping(fields)).map_err(D::Error::custom)?;
    spec.settings.extend(settings.map(|settings| (kind, settings)));
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_bundled_spec_is_read_back_as_it_was_written() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
        let files = std::fs::read_dir(folder).expect("specs").map(|e| e.expect("entry").path());
        let mut specs = 0;
        for file in files.filter(|file| file.extension().is_some_and(|e| e == "yaml")) {
            let spec = crate::experiment::load_spec(&file).unwrap_or_else(|e| panic!("{e}")).spec;
            let written = Provenance {
                program: "p".into(),
                version: "v".into(),
                commit: None,
                spec,
                spec_path: file,
                spec_sha256: "s".into(),
                models: Vec::new(),
                corpus_sha256: "c".into(),
                tokens_sha256: "t".into(),
                universal_sha256: None,
                files_sha256: BTreeMap::from([("x.yaml".into(), "f".into())]),
                tokens_per_chunk: 1,
                device: "d".into(),
                threads: 1,
            };
            let text = serde_json::to_string_pretty(&written).expect("JSON");
            let read: Provenance = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(read, written);
            assert_eq!(serde_json::to_string_pretty(&read).expect("JSON"), text);
            specs += 1;
        }
        assert!(specs >= 8, "{specs} specs");
    }
}
