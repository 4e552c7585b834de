//! The trait that a kind of experiment implements.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cost::KindCost;
use crate::charts::Chart;
use crate::error::{Error, Kind, Result};
use crate::findings::Figures;
use crate::plan::{Plan, Workload};
use crate::record::{Tables, TextTable};
use crate::run::Session;
use crate::spec::{Finding, Section, Spec, finding};

/// A figure that an experiment reports, under the name that claims use.
#[derive(Debug, Clone, Copy)]
pub struct FigureName {
    /// Name of the figure.
    pub name: &'static str,
    /// What the figure measures, with its unit.
    pub meaning: &'static str,
    /// How the figure follows from values of the layers, if it does.
    pub by_layer: Option<ByLayer>,
}

/// A figure that follows from another one, which has a value for each layer.
#[derive(Debug, Clone, Copy)]
pub struct ByLayer {
    /// Name of the figure with a value for each layer.
    pub values: &'static str,
    /// Computes the figure from these values.
    pub compute: fn(&[f64]) -> Vec<f64>,
}

impl FigureName {
    /// Declares that the figure follows from another one with a value for each layer.
    pub(super) const fn with_layers(
        self,
        values: &'static str,
        compute: fn(&[f64]) -> Vec<f64>,
    ) -> Self {
        Self { by_layer: Some(ByLayer { values, compute }), ..self }
    }
}

/// Returns the declaration of a figure.
pub(super) const fn figure(name: &'static str, meaning: &'static str) -> FigureName {
    FigureName { name, meaning, by_layer: None }
}

/// How claims get the figures of a kind for the bundled models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Desk {
    /// Runs this spec.
    Spec(&'static str),
    /// There are no figures for the bundled models, for this reason.
    Nothing(&'static str),
}

/// A kind of experiment.
pub trait Experiment {
    /// The settings in the kind's section of a spec.
    type Settings: Serialize + DeserializeOwned + JsonSchema;
    /// Name of the kind, as in `kind: NAME`.
    const KIND: &'static str;
    /// What an experiment of this kind does, in one sentence.
    const PURPOSE: &'static str;
    /// Whether a spec has a section of settings.
    const SECTION: Section = Section::Optional;
    /// Whether it is about whole models, so that `models.layers` cannot leave layers out.
    const NEEDS_WHOLE_MODELS: bool = true;
    /// Whether members of the family may be recorded activations, which have no weights.
    const READS_RECORDED: bool = false;
    /// Keys of the settings whose values are paths.
    const PATHS: &'static [&'static str] = &[];
    /// The figures that the kind reports. A run may lack figures that its data do not allow.
    const FIGURES: &'static [FigureName];
    /// A commented spec to start from.
    const EXAMPLE: &'static str;
    /// How claims get the kind's figures for the bundled models.
    const DESK: Desk;

    /// Checks constraints on the settings that the schema cannot express.
    ///
    /// # Errors
    /// Returns an error with the key path of the mistake within the spec, the problem and the
    /// remedy.
    fn check(_settings: &Self::Settings, _spec: &Spec) -> Result<(), Finding> {
        Ok(())
    }

    /// Returns whether the experiment needs the texts of documents, not only their tokens.
    fn keeps_texts(_settings: &Self::Settings) -> bool {
        false
    }

    /// Reads the files that the settings name, as `validate` does to find mistakes in them
    /// without a run.
    ///
    /// # Errors
    /// Returns an error if such a file is missing or malformed, or does not fit the plan.
    fn check_files(_settings: &Self::Settings, _plan: &Plan) -> Result<()> {
        Ok(())
    }

    /// Returns what the experiment costs.
    fn cost(settings: &Self::Settings, work: &Workload) -> KindCost;

    /// Runs the experiment.
    ///
    /// # Errors
    /// Returns an error if a model cannot be loaded, a file that the settings name is malformed,
    /// or the run was stopped.
    fn run(settings: &Self::Settings, session: &mut Session) -> Result<Figures>;

    /// Draws the figures of a finished run from its tables.
    ///
    /// # Errors
    /// Returns an error if a figure cannot be drawn.
    fn charts(tables: &Tables) -> Result<Vec<Chart>>;
}

/// Refuses rows that do not begin with the beginning-of-sequence token, for what is about attention
/// to it.
///
/// # Errors
/// Returns the finding if `corpus.prepend_bos` is false.
pub(super) fn needs_bos(spec: &Spec) -> Result<(), Finding> {
    if spec.corpus.prepend_bos {
        return Ok(());
    }
    let problem =
        format!("`kind: {}` measures attention to the beginning-of-sequence token", spec.kind);
    finding("corpus.prepend_bos", problem, "leave it out")
}

/// Refuses to go on without universal neurons, for an experiment that is about nothing else.
///
/// # Errors
/// Returns an error if no neuron is universal.
pub(super) fn refuse_none(plan: &Plan, universal: &[bool]) -> Result<()> {
    if universal.contains(&true) {
        return Ok(());
    }
    let problem = format!(
        "no neuron has an excess correlation above {}, so there are no universal neurons",
        plan.spec.correlation.threshold
    );
    let remedy = "lower `correlation.threshold`, give more text, or check the models";
    Err(Error::new(Kind::Evidence, plan.spec_path.display(), problem, remedy))
}

/// Adds a line to the figures of an experiment that has other results too, if no neuron is
/// universal.
pub(super) fn say_none(figures: &mut Figures, plan: &Plan, universal: &[bool]) {
    if let Err(error) = refuse_none(plan, universal) {
        figures.lines.push(error.problem);
    }
}

/// Draws the figure of a table. Returns no figure if the run lacks the table or the table has
/// no rows.
pub(super) fn drawn(
    tables: &Tables,
    name: &str,
    draw: fn(&TextTable) -> Result<Chart>,
) -> Result<Vec<Chart>> {
    let table = tables.get(name).filter(|table| !table.rows.is_empty());
    table.map(draw).into_iter().collect()
}
