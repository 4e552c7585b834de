//! A model of a plan, with its folder, shape and digests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::UnitNames;
use super::notes::NonFiniteWeights;
use super::untrained::untrained;
use crate::corpus::tokenizer::{BpeTokenizer, END_OF_TEXT, TokenizerFiles, TokenizerFor};
use crate::correlation::Layout;
use crate::digest::digest;
use crate::error::{Error, Kind, Result};
use crate::input::Stamp;
use crate::model::weights::{NonFinite, Source, Weights};
use crate::model::{Config, Decoder, Recording, Transformer, snapshot};
use crate::progress::Progress;
use crate::spec::recorded::recording_files;
use crate::spec::{ActivationFormat, Spec, Units};

/// A model whose config was read and whose files were found.
#[derive(Debug, Clone)]
pub struct PlannedModel {
    /// Name of the model in the spec.
    pub name: String,
    /// Folder of the model, or file of its recorded activations.
    pub folder: PathBuf,
    /// Shape and options of the model; with the layers that are studied, if only the first ones are.
    pub config: Config,
    /// What is compared of the model.
    pub units: Units,
    /// The format that its activations are rounded to.
    pub format: ActivationFormat,
    /// Number of layers of the whole model.
    all_layers: usize,
    /// SHA-256 of `config.json`; empty for recorded activations.
    pub config_digest: String,
    /// The seed of an untrained network, whose weights are drawn rather than read.
    pub untrained: Option<u64>,
    /// SHA-256 of the files of weights, or of recorded activations; of an untrained network, of its
    /// config and seed.
    pub weights_digest: String,
    /// SHA-256 of the files of the tokenizer; `None` if the folder has none.
    pub tokenizer_digest: Option<String>,
    /// The activations that were recorded in place of the model; `None` for a model.
    recording: Option<Arc<Recording>>,
    /// Stamps that identify the files of weights that were digested.
    weights_stamps: Vec<Stamp>,
    /// Names that the user gives its neurons or other units.
    pub names: UnitNames,
    /// The tensors that hold NaN or infinity, known once the model is loaded.
    pub non_finite: NonFiniteWeights,
}

impl PlannedModel {
    /// Reads the config of a model and digests its weights.
    ///
    /// # Errors
    /// Returns an error if the folder or one of its files is missing or malformed.
    pub fn find(name: &str, folder: &Path) -> Result<Self> {
        Self::find_in(name, folder, None)
    }

    /// Reads the config of a network whose weights are drawn from a seed.
    ///
    /// # Errors
    /// Returns an error if the folder or the config is missing or malformed.
    pub fn find_untrained(name: &str, folder: &Path, seed: u64) -> Result<Self> {
        Self::find_in(name, folder, Some(seed))
    }

    fn find_in(name: &str, folder: &Path, untrained: Option<u64>) -> Result<Self> {
        if folder.is_file() && !recording_files(folder).is_empty() {
            return Err(Recording::open(folder)?.needs_a_model());
        }
        if !folder.is_dir() {
            return Err(Error::new(
                Kind::Model,
                folder.display(),
                format_args!("the folder of model `{name}` does not exist"),
                "correct `models.family[].path`, or get the model with `fetch model`; relative paths start at the experiment file",
            ));
        }
        let folder = snapshot::resolve(folder)?;
        let (config, config_digest) = Config::load_digested(&folder.join("config.json"))?;
        let (weights_digest, weights_stamps) = match untrained {
            Some(seed) => {
                let drawn =
                    format!("untrained weights of seed {seed} for the config {config_digest}");
                (digest(drawn.as_bytes()), Vec::new())
            }
            None => {
                let mut source = Source::open(&folder)?;
                Weights::check(&source, &config)?;
                let digest = source.digest()?;
                source.unchanged()?;
                (digest, source.stamps())
            }
        };
        Ok(Self {
            name: name.to_string(),
            units: Units::default(),
            format: ActivationFormat::default(),
            all_layers: config.n_layers,
            config,
            config_digest,
            weights_digest,
            tokenizer_digest: TokenizerFiles::are_in(&folder)
                .then(|| TokenizerFiles::read(&folder).map(|files| files.digest().to_owned()))
                .transpose()?,
            untrained,
            recording: None,
            weights_stamps,
            names: UnitNames::default(),
            non_finite: NonFiniteWeights::default(),
            folder,
        })
    }

    /// Opens the recorded activations that take the place of a model, and digests them.
    ///
    /// # Errors
    /// Returns an error if a file is missing, malformed, or changes meanwhile.
    pub fn find_recording(name: &str, path: &Path) -> Result<Self> {
        let mut recording = Recording::open(path)?;
        let weights_digest = recording.digest()?;
        recording.unchanged()?;
        let config = recording.config().clone();
        Ok(Self {
            name: name.to_string(),
            folder: path.to_path_buf(),
            units: Units::default(),
            format: ActivationFormat::default(),
            all_layers: config.n_layers,
            config,
            config_digest: String::new(),
            untrained: None,
            weights_digest,
            tokenizer_digest: None,
            weights_stamps: recording.stamps(),
            recording: Some(Arc::new(recording)),
            names: UnitNames::default(),
            non_finite: NonFiniteWeights::default(),
        })
    }

    /// Returns the activations that were recorded in place of the model; `None` for a model.
    pub fn recording(&self) -> Option<&Recording> {
        self.recording.as_deref()
    }

    /// Compares the units that a spec names, in the format that it names.
    #[must_use]
    pub fn compared_as(self, spec: &Spec) -> Self {
        Self { units: spec.models.units, format: spec.models.activations, ..self }
    }

    /// Leaves out all layers but the first ones, if the spec names these.
    ///
    /// # Errors
    /// Returns an error if the model does not have so many layers.
    pub fn first_layers(mut self, spec: &Spec) -> Result<Self> {
        let Some(wanted) = spec.models.layers.as_ref().map(Vec::len) else { return Ok(self) };
        if wanted > self.all_layers {
            let (name, last) = (&self.name, self.all_layers - 1);
            let problem = format!(
                "layer {}, but model `{name}` has {} layers, 0 to {last}",
                wanted - 1,
                self.all_layers
            );
            let remedy = "list layers that every model of the family has, as in [0, 1]";
            return Err(Error::new(Kind::Spec, "models.layers", problem, remedy));
        }
        self.config.n_layers = wanted;
        if let Some(recording) = self.recording.as_mut().and_then(Arc::get_mut) {
            recording.truncate(wanted);
        }
        Ok(self)
    }

    /// Refuses recorded activations where the weights or the tokenizer of a model are needed.
    ///
    /// # Errors
    /// Returns an error if only activations were recorded.
    pub fn needs_a_model(&self) -> Result<()> {
        self.recording().map_or(Ok(()), |recording| Err(recording.needs_a_model()))
    }

    /// Returns the recorded activations, without the layers that are left out; `None` for a model.
    ///
    /// # Errors
    /// Returns an error if a file changed since it was digested.
    pub fn load_recording(&self) -> Result<Option<Arc<Recording>>> {
        self.recording().map_or(Ok(()), Recording::unchanged)?;
        Ok(self.recording.clone())
    }

    /// Loads the weights that were digested, or draws those of an untrained network, without the layers that are left out. Warns of those that hold NaN or infinity, and keeps
    /// their names.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, or is not the one that was digested.
    pub fn load(&self, progress: &Progress) -> Result<Transformer> {
        let mut whole = self.config.clone();
        whole.n_layers = self.all_layers;
        let (mut weights, non_finite) = match self.untrained {
            Some(seed) => (untrained(&whole, seed), Vec::new()),
            None => self.read(&whole)?,
        };
        weights.blocks.truncate(self.config.n_layers);
        for found in &non_finite {
            let name = &self.name;
            progress.warn(&format!("model `{name}`: {found}; what depends on it is empty"));
        }
        self.non_finite.keep(non_finite.iter().map(ToString::to_string).collect());
        Ok(Transformer { config: self.config.clone(), weights })
    }

    /// Reads the weights that were digested. Also returns the tensors that hold NaN or infinity.
    fn read(&self, whole: &Config) -> Result<(Weights, Vec<NonFinite>)> {
        let source = Source::open(&self.folder)?;
        if source.stamps() != self.weights_stamps {
            let problem = "the files of weights changed since the command began";
            let remedy = "run the command again when they are complete";
            return Err(Error::new(Kind::Model, self.folder.display(), problem, remedy));
        }
        Weights::read(&source, whole)
    }

    /// Returns whether loading the other model would give the same weights.
    pub fn has_weights_of(&self, other: &Self) -> bool {
        let of = |m: &Self| (m.config.clone(), m.weights_digest.clone(), m.weights_stamps.clone());
        of(self) == of(other)
    }

    /// Loads the model's tokenizer.
    ///
    /// # Errors
    /// Returns an error if a file is missing or malformed, or if its ids do not fit the model.
    pub fn tokenizer(&self) -> Result<BpeTokenizer> {
        self.needs_a_model()?;
        let model = TokenizerFor { model: &self.name, d_vocab: Some(self.config.d_vocab) };
        let files = TokenizerFiles::read(&self.folder)?;
        if self.tokenizer_digest.as_deref().is_some_and(|digest| digest != files.digest()) {
            let problem = "the files of its tokenizer changed since the command began";
            let remedy = "run the command again when they are complete";
            return Err(Error::new(Kind::Model, self.folder.display(), problem, remedy));
        }
        let tokenizer = files.tokenizer(model)?;
        self.check_bos(&tokenizer)?;
        Ok(tokenizer)
    }

    /// Refuses an unlikely token for the beginning of rows: versions of Transformers before 2.9
    /// wrote 0, which is an exclamation mark in GPT-2's vocabulary.
    fn check_bos(&self, tokenizer: &BpeTokenizer) -> Result<()> {
        let bos = self.config.bos_token_id;
        match tokenizer.id_of(END_OF_TEXT) {
            Some(end) if end != bos && !tokenizer.is_special(bos) => {
                let token = tokenizer.name_of(bos).unwrap_or_default();
                let problem = format!(
                    "`bos_token_id` is {bos}, which is `{token}` of the tokenizer; {END_OF_TEXT} is {end}"
                );
                let remedy =
                    "correct `bos_token_id`, or use the tokenizer that the model was trained with";
                let config = self.folder.join("config.json");
                Err(Error::new(Kind::Model, config.display(), problem, remedy))
            }
            _ => Ok(()),
        }
    }

    /// Returns the error for a checkpoint with another number of layers or neurons.
    pub fn another_shape(&self) -> Error {
        let problem = format!("this checkpoint of model `{}` has a different shape", self.name);
        Error::new(
            Kind::Model,
            self.folder.display(),
            problem,
            "give checkpoints of the same model",
        )
    }

    /// Returns the numbers of layers and of neurons, or other units, per layer.
    pub fn layout(&self) -> Layout {
        let d_mlp = self.units.per_layer(&self.config.shape());
        Layout { n_layers: self.config.n_layers, d_mlp }
    }
}
