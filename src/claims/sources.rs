//! Where evidence is found: the authors' tables, runs of this program, and the bundled models.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::claim::Claim;
use super::evidence::Evidence;
use super::prediction_table::{PredictionLabel, read_labels};
use super::published::{published_bytes, read_published};
use super::tier::Tier;
use crate::correlation::Layout;
use crate::error::{Error, Kind, Result};
use crate::experiment::{self, Desk, KINDS, RegisteredKind};
use crate::hub::{ModelFamily, RemoteFile, manifest, model_families};
use crate::input::InputFile;
use crate::record::{MAX_TABLE_BYTES, Sheet, StudyRecord, neurons, population_columns};
use crate::table::NeuronId;

/// The environment variable with the path of the folder that contains the authors' tables.
pub const DATA: &str = "UNIVERSAL_NEURONS_DATA";

/// Returns the kinds of experiment whose figures are needed to judge claims on the bundled models,
/// each with its spec for these models.
pub fn desk_specs(claims: &[Claim]) -> Vec<(&'static str, &'static str)> {
    let asked = |name: &str| {
        let about = |claim: &&Claim| claim.measure.experiment.as_deref() == Some(name);
        claims.iter().filter(about).any(|claim| claim.judged.iter().any(|j| j.tier == Tier::Desk))
    };
    let spec = |kind: &RegisteredKind| match kind.desk {
        Desk::Spec(spec) if asked(kind.rules.name) => Some((kind.rules.name, spec)),
        _ => None,
    };
    KINDS.iter().filter_map(spec).collect()
}

/// Header of the authors' older table, of GPT-2 small a.
const OLDER: [&str; 21] = [
    "layer",
    "neuron",
    "max_corr",
    "min_corr",
    "max_baseline",
    "min_baseline",
    "excess_corr",
    "input_weight_norm",
    "input_bias",
    "output_weight_norm",
    "in_out_sim",
    "weight_norm_penalty",
    "mean",
    "var",
    "skew",
    "kurt",
    "vocab_mean",
    "vocab_var",
    "vocab_skew",
    "vocab_kurt",
    "sparsity",
];

/// Name in `expected/models.yaml` of the bundled reference model.
const DESK: &str = "desk-a";

/// Maximum number of neurons with missing values that are named in a line.
const NAMED: usize = 20;

/// Runs the study and the other experiments on the bundled models, whose reference model has the
/// given layout.
pub type DeskRun = Box<dyn Fn(Layout) -> Result<Evidence> + Send + Sync>;

/// Evidence, or the reason why there is none.
pub type FoundEvidence = Result<Arc<Evidence>, String>;

/// Finds evidence, and keeps the evidence that it has found.
pub struct Evidences {
    data: Option<PathBuf>,
    desk: Option<DeskRun>,
    shapes: HashMap<String, Layout>,
    /// The models whose weights claims may be about.
    families: Vec<ModelFamily>,
    /// Tables whose digests are known, by their paths in the authors' repository.
    published: Vec<RemoteFile>,
    found: Mutex<HashMap<(Tier, String), FoundEvidence>>,
}

impl Evidences {
    /// Creates a finder of evidence in `data`, a folder with the authors' tables, and from `desk`, a
    /// run of the bundled models. Either may be missing.
    ///
    /// # Errors
    /// Returns an error if the folder does not exist.
    pub fn new(data: Option<PathBuf>, desk: Option<DeskRun>) -> Result<Self> {
        if let Some(folder) = data.as_ref().filter(|folder| !folder.is_dir()) {
            let problem = format!("is not a folder; {DATA} names it");
            let remedy = "name the folder with the authors' tables, or unset the variable";
            return Err(Error::new(Kind::Evidence, folder.display(), problem, remedy));
        }
        let mut families = model_families()?;
        families.retain(|family| !family.partners.is_empty());
        let shape = |f: &ModelFamily| {
            let layout = Layout { n_layers: f.shape.n_layers, d_mlp: f.shape.d_mlp };
            (f.reference.clone(), layout)
        };
        let shapes = families.iter().map(shape).collect();
        let published = manifest()?.files;
        Ok(Self { data, desk, shapes, families, published, found: Mutex::default() })
    }

    /// Replaces the list of tables whose digests are known, for tables that are not from the
    /// authors' repository.
    #[must_use]
    pub fn with_published(self, published: Vec<RemoteFile>) -> Self {
        Self { published, ..self }
    }

    /// Returns a finder that only knows the evidence of one run, with the kind of this evidence:
    /// that of the model whose weights the run's reference has. If these are not known, the claims
    /// are those about the model of that name, or else about the bundled models, and
    /// [`Self::unknown_origin`] says why the run is not evidence about it. Returns `None` if the
    /// reference does not have the layout of this model.
    ///
    /// # Errors
    /// Returns an error if the list of models is malformed.
    pub fn of_run(run: Evidence, reference: &str) -> Result<Option<(Self, Tier)>> {
        let known = Self::new(None, None)?;
        let digest = run.weights.reference.as_deref();
        let model = known.model_with(digest).or_else(|| known.shape(reference).map(|_| reference));
        let model = model.unwrap_or(DESK).to_owned();
        let tier = if model == DESK { Tier::Desk } else { Tier::Weights };
        if known.shape(&model) != Some(run.shape) {
            return Ok(None);
        }
        let found = HashMap::from([((tier, model), Ok(Arc::new(run)))]);
        Ok(Some((Self { found: Mutex::new(found), ..known }, tier)))
    }

    /// Returns a finder that only knows one run, as evidence of [`Tier::Run`] about its reference
    /// model. A neuron is universal if its excess correlation is above the run's own threshold.
    ///
    /// # Errors
    /// Returns an error if the list of models is malformed.
    pub fn of_own_run(folder: &Path, study: &StudyRecord) -> Result<Self> {
        let mut known = Self::new(None, None)?;
        let model = study.summary.reference.clone();
        known.shapes.insert(model.clone(), study.layout);
        let threshold = study.threshold();
        let run = Evidence { threshold, ..Evidence::of_study(folder, study)? };
        let found = HashMap::from([((Tier::Run, model), Ok(Arc::new(run)))]);
        Ok(Self { found: Mutex::new(found), ..known })
    }

    /// Returns the reference whose weights have a digest.
    fn model_with(&self, digest: Option<&str>) -> Option<&str> {
        let is_it = |f: &&ModelFamily| f.weights.get(&f.reference).map(String::as_str) == digest;
        digest.and_then(|_| self.families.iter().find(is_it)).map(|f| f.reference.as_str())
    }

    /// Returns why the weights that a measure rests on are not known to be those of the model that
    /// a judgement is about, `None` if they are or the tier has no weights.
    pub fn unknown_origin(
        &self,
        tier: Tier,
        model: &str,
        evidence: &Evidence,
        figure: Option<&str>,
    ) -> Option<String> {
        if !matches!(tier, Tier::Desk | Tier::Weights) {
            return None;
        }
        let family = self.families.iter().find(|family| family.reference == model)?;
        evidence.weights_of(figure).unknown(family)
    }

    /// Returns the layout of a model of `expected/models.yaml` that claims are about.
    pub fn shape(&self, model: &str) -> Option<Layout> {
        self.shapes.get(model).copied()
    }

    /// Returns the reason why there is no evidence, or no run of `experiment` if it is given.
    /// Returns `None` if there is evidence. Reads no evidence.
    pub fn missing(&self, tier: Tier, model: &str, experiment: Option<&str>) -> Option<String> {
        let place = self.place(tier, model);
        let here = match tier {
            Tier::Desk => self.desk.is_some(),
            _ => place.is_some(),
        } || self.is_known(tier, model);
        let desk = experiment.and_then(experiment::kind).map(|kind| kind.desk);
        if let (Tier::Desk, Some(Desk::Nothing(why))) = (tier, desk) {
            return Some(format!("no run of the `{}` experiment: {why}", experiment?));
        }
        if here {
            // The experiments of the bundled models are run when they are needed.
            let folder = place.filter(|_| tier == Tier::Weights)?;
            let place = folder.join(experiment?);
            let problem =
                format!("no run of the `{}` experiment at {}", experiment?, place.display());
            return (!has_run_of(&folder, experiment?)).then_some(problem);
        }
        Some(match (tier, &self.data) {
            (Tier::Desk, _) => {
                "the bundled models are not here: run this command in a checkout of the repository"
                    .into()
            }
            (Tier::Run, _) => {
                format!("no run of {model}: name the folder of one, as in `verify --run FOLDER`")
            }
            (Tier::Weights, _) => {
                format!("no run of the original model: put its folder at ${DATA}/runs/{model}")
            }
            (_, None) => format!(
                "the authors' tables are not here: `universal-neurons fetch tables`, then set {DATA}"
            ),
            (_, Some(_)) => format!("no {} table of {model} in ${DATA}", tier.name()),
        })
    }

    /// Returns whether evidence was found before.
    fn is_known(&self, tier: Tier, model: &str) -> bool {
        let found = self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        found.contains_key(&(tier, model.to_owned()))
    }

    /// Returns the evidence of a kind about a model, or the reason why there is none.
    ///
    /// # Errors
    /// Returns an error if the evidence is damaged.
    pub fn find(&self, tier: Tier, model: &str) -> Result<FoundEvidence> {
        // The lock is held while evidence is made, so that it is made only once.
        let mut found = self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = (tier, model.to_string());
        if let Some(known) = found.get(&key) {
            return Ok(known.clone());
        }
        let made = self.make(tier, model)?.map(Arc::new);
        found.insert(key, made.clone());
        Ok(made)
    }

    /// Returns one line for each table found so far that has neurons with missing values.
    pub fn incomplete(&self) -> Vec<String> {
        let found = self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let line = |((tier, model), found): (&(Tier, String), &FoundEvidence)| {
            let missing = &found.as_ref().ok()?.incomplete;
            let names: Vec<String> = missing.iter().take(NAMED).map(NeuronId::to_string).collect();
            let more = if missing.len() > NAMED { " …" } else { "" };
            let (n, names) = (missing.len(), names.join(" "));
            let neurons = if n == 1 { "neuron" } else { "neurons" };
            let line = format!(
                "{} {model}: {n} {neurons} with missing values: {names}{more}",
                tier.name()
            );
            (n > 0).then_some(line)
        };
        let mut lines: Vec<String> = found.iter().filter_map(line).collect();
        lines.sort();
        lines
    }

    fn make(&self, tier: Tier, model: &str) -> Result<Result<Evidence, String>> {
        let Some(shape) = self.shape(model) else {
            return Ok(Err(format!("expected/models.yaml does not know {model}")));
        };
        if let Some(reason) = self.missing(tier, model, None) {
            return Ok(Err(reason));
        }
        let place = self.place(tier, model).unwrap_or_default();
        let read = |columns: &[&str], whole| {
            let upstream = upstream_path(tier, model, "universal");
            let table = self.read_table(&place, &upstream, columns, shape)?.into_table();
            Ok(Evidence::new(shape, table, whole))
        };
        Ok(Ok(match tier {
            Tier::Desk => match &self.desk {
                Some(run) => run(shape)?,
                None => return Ok(Err("the bundled models are not here".into())),
            },
            Tier::Run => return Ok(Err(format!("no run of {model}"))),
            Tier::Weights => Evidence::of_run(&place, shape)?,
            Tier::Population => read(&population_columns(), true)?,
            Tier::Published => Evidence {
                older: self.side_table(model, "high_excess_correlation", &OLDER, shape)?,
                subgaussian: self.side_table(
                    model,
                    "sub_gaussian_activation_kurtosis",
                    &population_columns(),
                    shape,
                )?,
                labels: self.labels(model, shape)?,
                ..read(&neurons::columns(), false)?
            },
        }))
    }

    fn side_table(
        &self,
        model: &str,
        name: &str,
        columns: &[&str],
        shape: Layout,
    ) -> Result<Option<Sheet>> {
        let path = self.existing(&table_paths(model, name));
        let upstream = upstream_path(Tier::Published, model, name);
        path.map(|path| self.read_table(&path, &upstream, columns, shape)).transpose()
    }

    /// Reads the authors' table of prediction neurons, if it is there.
    fn labels(&self, model: &str, shape: Layout) -> Result<Option<Vec<PredictionLabel>>> {
        const NAME: &str = "prediction_neurons";
        let Some(path) = self.existing(&table_paths(model, NAME)) else { return Ok(None) };
        let upstream = upstream_path(Tier::Published, model, NAME);
        let bytes = match self.published.iter().find(|file| file.path == upstream) {
            Some(published) => published_bytes(&path, published)?,
            None => InputFile::open(Kind::Evidence, &path)?.read(MAX_TABLE_BYTES)?,
        };
        read_labels(&path, &bytes, shape).map(Some)
    }

    /// Reads a table. If its digest is known, the file must have this digest.
    fn read_table(
        &self,
        path: &Path,
        upstream: &str,
        columns: &[&str],
        shape: Layout,
    ) -> Result<Sheet> {
        match self.published.iter().find(|file| file.path == upstream) {
            Some(published) => read_published(path, published, columns, shape),
            None => Sheet::read(path, columns, shape),
        }
    }

    /// Returns the file or folder of the evidence, if it exists.
    fn place(&self, tier: Tier, model: &str) -> Option<PathBuf> {
        self.existing(&match tier {
            Tier::Desk | Tier::Run => return None,
            Tier::Published => table_paths(model, "universal"),
            Tier::Population => vec![
                format!("{model}.neuron_dfs.csv"),
                upstream_path(tier, model, ""),
                format!("neuron_dfs/{model}.csv"),
            ],
            Tier::Weights => vec![format!("runs/{model}")],
        })
    }

    fn existing(&self, candidates: &[String]) -> Option<PathBuf> {
        let data = self.data.as_ref()?;
        candidates.iter().map(|name| data.join(name)).find(|path| path.exists())
    }
}

/// Returns whether a folder has one of a kind of experiment: `families`, or `families-syntax`.
fn has_run_of(folder: &Path, kind: &str) -> bool {
    let is_it =
        |name: &str| name.strip_prefix(kind).is_some_and(|r| r.is_empty() || r.starts_with('-'));
    let mut entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(is_it)))
}

/// Returns the path of a table in the authors' repository.
fn upstream_path(tier: Tier, model: &str, table: &str) -> String {
    match tier {
        Tier::Population => format!("dataframes/neuron_dfs/{model}.csv"),
        _ => format!("dataframes/interpretable_neurons/{model}/{table}.csv"),
    }
}

/// Returns the paths where a table of interpretable neurons may lie: flat, or as in the authors'
/// repository.
fn table_paths(model: &str, table: &str) -> Vec<String> {
    vec![
        format!("{model}.{table}.csv"),
        upstream_path(Tier::Published, model, table),
        format!("interpretable_neurons/{model}/{table}.csv"),
    ]
}
