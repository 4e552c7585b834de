//! The plan: a spec made real. Paths are resolved, files are digested, the
//! corpus is tokenised, and everything that can be found wrong before the
//! first forward pass has been.

mod notes;

use std::path::{Path, PathBuf};

use crate::backend::kernel::CpuKernel;
use crate::corpus::cache::{Cache, Read};
use crate::corpus::documents::{self, DocumentCount};
use crate::corpus::tokenizer::{BpeTokenizer, END_OF_TEXT, TokenizerFiles, TokenizerFor};
use crate::corpus::{Sample, Tokens, tokens};
use crate::correlation::{ComparisonPlan, Keep, Layout, TOKENS_AT_ONCE};
use crate::error::{Error, Kind, Result};
use crate::input::{InputFile, Stamp};
use crate::model::weights::{Source, Weights};
use crate::model::{Config, Transformer, snapshot};
use crate::progress::Progress;
use crate::spec::Spec;
use crate::spec::load::Loaded;
use crate::store::digest;
pub use notes::{NonFiniteWeights, ReadFiles};

/// A spec with everything it refers to found and checked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The spec as loaded.
    pub spec: Spec,
    /// Where it was loaded from.
    pub spec_path: PathBuf,
    /// SHA-256 of the spec, its base included.
    pub spec_digest: String,
    /// The family, in the order of the spec.
    pub models: Vec<PlannedModel>,
    /// Indices of the models judged in the family, the reference first.
    pub judged: Vec<usize>,
    /// SHA-256 of the corpus file.
    pub corpus_digest: String,
    /// The samples used; their texts where syntax labels are asked for alone.
    pub samples: Vec<Sample>,
    /// How many documents were read, and skipped.
    pub documents: DocumentCount,
    /// Their tokens.
    pub tokens: Tokens,
    /// What the run keeps of them.
    pub keep: Keep,
    /// The files that the settings name and that were read.
    pub files: ReadFiles,
}

/// A model whose config was read and whose files are there.
#[derive(Debug, Clone)]
pub struct PlannedModel {
    /// Its name in the spec.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its shape.
    pub config: Config,
    /// SHA-256 of its `config.json`.
    pub config_digest: String,
    /// SHA-256 of its files of weights.
    pub weights_digest: String,
    /// SHA-256 of the files of its tokenizer, if it has one.
    pub tokenizer_digest: Option<String>,
    /// What tells the files of weights that were digested from others.
    weights_stamps: Vec<Stamp>,
    /// The tensors that hold NaN or infinity, known once the model is loaded.
    pub non_finite: NonFiniteWeights,
}

impl PlannedModel {
    /// Reads the config of a model and digests its weights.
    ///
    /// # Errors
    /// If the folder or one of its files is missing or malformed.
    pub fn find(name: &str, folder: &Path) -> Result<Self> {
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
        let mut source = Source::open(&folder)?;
        Weights::check(&source, &config)?;
        let weights_digest = source.digest()?;
        source.unchanged()?;
        Ok(Self {
            name: name.to_string(),
            config,
            config_digest,
            weights_digest,
            tokenizer_digest: TokenizerFiles::are_in(&folder)
                .then(|| TokenizerFiles::read(&folder).map(|files| files.digest().to_owned()))
                .transpose()?,
            weights_stamps: source.stamps(),
            non_finite: NonFiniteWeights::default(),
            folder,
        })
    }

    /// Loads the weights that were digested. Warns of those that hold NaN or infinity, and keeps
    /// their names.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, or is not the one that was digested.
    pub fn load(&self, progress: &Progress) -> Result<Transformer> {
        let source = Source::open(&self.folder)?;
        if source.stamps() != self.weights_stamps {
            let problem = "the files of weights changed since the command began";
            let remedy = "run the command again when they are complete";
            return Err(Error::new(Kind::Model, self.folder.display(), problem, remedy));
        }
        let (weights, non_finite) = Weights::read(&source, &self.config)?;
        for found in &non_finite {
            let name = &self.name;
            progress.warn(&format!("model `{name}`: {found}; what depends on it is empty"));
        }
        self.non_finite.keep(non_finite.iter().map(ToString::to_string).collect());
        Ok(Transformer { config: self.config.clone(), weights })
    }

    /// Loads its tokenizer.
    ///
    /// # Errors
    /// Returns an error if a file is missing or malformed, or if its ids are not the model's.
    pub fn tokenizer(&self) -> Result<BpeTokenizer> {
        let model = TokenizerFor { model: &self.name, d_vocab: self.config.d_vocab };
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

    /// Refuses a token for the beginning of rows that cannot be meant: versions of
    /// Transformers before 2.9 wrote 0, which is an exclamation mark of GPT-2.
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

    /// The error of a checkpoint that is another model's.
    pub fn another_shape(&self) -> Error {
        let problem =
            format!("model `{}` has another number of layers or neurons there", self.name);
        Error::new(
            Kind::Model,
            self.folder.display(),
            problem,
            "give checkpoints of the same model",
        )
    }

    /// How its neurons are arranged.
    pub fn layout(&self) -> Layout {
        Layout { n_layers: self.config.n_layers, d_mlp: self.config.d_mlp() }
    }
}

impl Plan {
    /// Resolves a spec.
    ///
    /// # Errors
    /// If a model, tokenizer or corpus is missing or malformed, or they do not
    /// fit each other: another vocabulary, a context longer than the models'.
    pub fn make(loaded: Loaded) -> Result<Self> {
        let Loaded { spec, path, digest: spec_digest, kind } = loaded;
        let models = spec.models.family.iter();
        let models: Vec<_> =
            models.map(|m| PlannedModel::find(&m.name, &m.path)).collect::<Result<_>>()?;
        let judged = positions(&spec)?;
        check_context(&spec, &path, &models)?;
        check_one_vocabulary(&models)?;
        let mut corpus = InputFile::open(Kind::Corpus, &spec.corpus.path)?;
        let corpus_digest = corpus.digest()?;
        let model = &models[judged[0]];
        let tokenizer = model.tokenizer()?;
        let keeps_texts = (kind.keeps_texts)(&spec);
        let read = read_corpus(
            &mut corpus,
            &spec,
            &tokenizer,
            &model.config,
            &corpus_digest,
            keeps_texts,
        )?;
        let Read { samples, count, rows } = read;
        let tokens = Tokens::new(rows, &spec.corpus, &tokenizer, model.config.bos_token_id)?;
        let tokens = spec.corpus.sample.map(|used| tokens.sample(used)).unwrap_or(tokens);
        let mut plan = Self {
            corpus_digest,
            spec,
            spec_path: path,
            spec_digest,
            models,
            judged,
            samples,
            documents: count,
            tokens,
            keep: Keep::Tokens,
            files: ReadFiles::default(),
        };
        plan.keep = plan.choose_keep()?;
        Ok(plan)
    }

    /// The reference model.
    pub fn reference(&self) -> &PlannedModel {
        &self.models[self.judged[0]]
    }

    /// Labels of the samples, in the order in which they first come.
    pub fn labels(&self) -> Vec<String> {
        let mut labels: Vec<String> = Vec::new();
        for sample in &self.samples {
            if !labels.contains(&sample.domain) {
                labels.push(sample.domain.clone());
            }
        }
        labels
    }

    /// The text of every token of the reference's vocabulary, leading space included.
    ///
    /// # Errors
    /// If the tokenizer cannot be read.
    pub fn vocabulary(&self) -> Result<Vec<String>> {
        Ok(self.reference().tokenizer()?.texts())
    }

    /// The same for the eye: tokens that are no whole characters as their bytes, `⟨E2 80⟩`.
    ///
    /// # Errors
    /// If the tokenizer cannot be read.
    pub fn shown_vocabulary(&self) -> Result<Vec<String>> {
        Ok(self.reference().tokenizer()?.shown_texts())
    }

    /// Indices of a judged model's partners in the family, in its order.
    pub fn partners(&self, judged: usize) -> impl Iterator<Item = usize> + Clone {
        (0..self.models.len()).filter(move |&i| i != judged)
    }

    /// The threshold of the excess, and those reported beside it.
    pub fn thresholds(&self) -> impl Iterator<Item = f64> {
        let correlation = &self.spec.correlation;
        std::iter::once(correlation.threshold).chain(correlation.also_report.iter().copied())
    }

    /// What is compared with what, and how.
    pub fn comparison_plan(&self) -> ComparisonPlan {
        let correlation = &self.spec.correlation;
        ComparisonPlan {
            models: self.models.iter().map(PlannedModel::layout).collect(),
            activations: self.models.iter().map(|m| m.config.activation.function()).collect(),
            references: self.judged.clone(),
            baseline: correlation.baseline.clone(),
            precision: correlation.precision,
            top: correlation.top_partners,
        }
    }

    /// What is kept of the tokens: whatever is smaller, and within the memory
    /// that the spec allows.
    fn choose_keep(&self) -> Result<Keep> {
        let bytes = |keep: &Keep| self.bytes_with(*keep);
        let once = [Keep::Tokens, Keep::Sums { passes: 1 }];
        let smaller = match self.spec.correlation.screen {
            // Of a sample, the tokens themselves are kept.
            Some(_) => Keep::Tokens,
            None => once.into_iter().min_by_key(bytes).unwrap_or(Keep::Tokens),
        };
        let Some(gib) = self.spec.batch.memory_gib else {
            return Ok(smaller);
        };
        let limit = (gib * f64::from(1 << 30)) as usize;
        let most = match smaller {
            Keep::Tokens if self.spec.correlation.screen.is_some() => 0,
            _ => self.comparison_plan().max_passes(),
        };
        let repeated = (2..=most).map(|passes| Keep::Sums { passes });
        let fits = |keep: &Keep| bytes(keep) <= limit;
        std::iter::once(smaller).chain(repeated.clone()).find(fits).ok_or_else(|| {
            let least = std::iter::once(smaller).chain(repeated).map(|keep| bytes(&keep)).min();
            let least = least.unwrap_or(0) as f64 / f64::from(1 << 30);
            Error::new(
                Kind::Spec,
                self.spec_path.display(),
                format_args!("`batch.memory_gib` is {gib}, the run needs {least:.2}"),
                "raise the limit, compare fewer models, or use the rotation baseline",
            )
        })
    }

    /// SHA-256 of all token ids, row by row.
    pub fn tokens_digest(&self) -> String {
        let ids =
            self.tokens.rows.iter().flat_map(|row| row.ids.iter().flat_map(|id| id.to_le_bytes()));
        digest(&ids.collect::<Vec<u8>>())
    }

    /// SHA-256 of all that the sums of the run depend on, bit by bit.
    pub fn identity(&self) -> String {
        let (tokens, keep) = (self.tokens_digest(), format!("{:?}", self.keep));
        let mut parts: Vec<&str> = vec![&self.spec_digest, &self.corpus_digest, &tokens];
        for model in &self.models {
            let tokenizer = model.tokenizer_digest.as_deref().unwrap_or("none");
            parts.extend([&model.config_digest, &model.weights_digest, tokenizer]);
        }
        parts.extend([CpuKernel::best(self.spec.correlation.precision).name, &keep]);
        digest(parts.join(" ").as_bytes())
    }

    /// Bytes that weights, activations and whatever is kept of them take.
    pub fn bytes(&self) -> usize {
        self.bytes_with(self.keep)
    }

    /// Bytes that a screened run may take for neurons it compares exactly: what the
    /// spec leaves, or as much as the rest of the run.
    pub fn room(&self) -> usize {
        let limit = self.spec.batch.memory_gib.map(|gib| (gib * f64::from(1 << 30)) as usize);
        limit.map_or(self.bytes(), |limit| limit.saturating_sub(self.bytes()))
    }

    fn bytes_with(&self, keep: Keep) -> usize {
        let study = self.comparison_plan();
        let n = |model: &PlannedModel| model.layout().n_neurons();
        let pre: usize = self.judged.iter().map(|&i| n(&self.models[i])).sum();
        let post: usize = self.models.iter().map(n).sum();
        let tokens = TOKENS_AT_ONCE + self.spec.batch.tokens.max(self.tokens.context);
        let activations = 4 * tokens * (pre + post);
        let weights = |m: &PlannedModel| {
            let config = &m.config;
            4 * (config.block_weights() + (config.d_vocab + config.n_ctx) * config.d_model)
        };
        let weights: usize = self.models.iter().map(weights).sum();
        let used = self.tokens.count().used;
        let tokens = self.spec.correlation.screen.as_ref().map_or(used, |s| s.sample.min(used));
        let kept = study.kept_bytes(keep, tokens);
        weights + activations + kept + study.comparison_bytes()
    }
}

/// Places of the reference, and of those judged beside it, in the family.
fn positions(spec: &Spec) -> Result<Vec<usize>> {
    let wanted = std::iter::once(&spec.models.reference).chain(&spec.models.also_reference);
    let place = |wanted: &String| {
        spec.models.family.iter().position(|m| m.name == *wanted).ok_or_else(|| {
            let problem = format!("`{wanted}` is not among `models.family`");
            Error::new(Kind::Spec, "models.reference", problem, "name one of the family")
        })
    };
    wanted.map(place).collect()
}

fn check_context(spec: &Spec, path: &Path, models: &[PlannedModel]) -> Result<()> {
    let context = spec.corpus.context;
    match models.iter().find(|m| m.config.n_ctx < context) {
        None => Ok(()),
        Some(model) => Err(Error::new(
            Kind::Spec,
            path.display(),
            format_args!(
                "`corpus.context` is {context}, model `{}` reads at most {}",
                model.name, model.config.n_ctx
            ),
            "lower `corpus.context`",
        )),
    }
}

/// Neurons can be compared over the same tokens only if every model gives the
/// same ids the same meaning.
fn check_one_vocabulary(models: &[PlannedModel]) -> Result<()> {
    let first = models[0].tokenizer()?;
    for model in &models[1..] {
        if !model.tokenizer()?.same_tokens(&first)
            || model.config.bos_token_id != models[0].config.bos_token_id
        {
            return Err(Error::new(
                Kind::Model,
                model.folder.display(),
                format_args!(
                    "model `{}` has another vocabulary than `{}`",
                    model.name, models[0].name
                ),
                "compare models that were trained with one tokenizer",
            ));
        }
    }
    Ok(())
}

/// Reads the documents of the file whose digest was taken and cuts them into rows, or finds
/// both in a cache; texts are let go of, unless somebody asks for them again.
fn read_corpus(
    file: &mut InputFile,
    spec: &Spec,
    tokenizer: &BpeTokenizer,
    config: &Config,
    corpus_digest: &str,
    keep: bool,
) -> Result<Read> {
    let bos = config.bos_token_id;
    let cache = Cache::of(&spec.corpus, corpus_digest, tokenizer, bos);
    let cache = cache.filter(|_| !keep);
    if let Some(read) = cache.as_ref().map_or(Ok(None), |c| c.read(config.d_vocab))? {
        return Ok(read);
    }
    let mut cutter = tokens::Cutter::new(tokenizer, bos, &spec.corpus);
    let mut samples = Vec::new();
    let count = documents::read_input(file, &spec.corpus, &mut |mut sample: Sample| {
        cutter.push(&sample)?;
        if !keep {
            sample.text = String::new();
        }
        samples.push(sample);
        Ok(())
    })?;
    let read = Read { samples, count, rows: cutter.finish() };
    cache.map_or(Ok(()), |cache| cache.write(&read))?;
    Ok(read)
}
