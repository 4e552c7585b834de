//! What a kind of experiment is.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::charts::Chart;
use crate::error::Result;
use crate::findings::Figures;
use crate::plan::Plan;
use crate::record::{Tables, TextTable};
use crate::run::Session;
use crate::spec::{Finding, Section, Spec};

/// A figure that an experiment reports, under the name that claims use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FigureName {
    /// Its name.
    pub name: &'static str,
    /// What it is, with its unit.
    pub meaning: &'static str,
}

/// Returns the declaration of a figure.
pub(super) const fn figure(name: &'static str, meaning: &'static str) -> FigureName {
    FigureName { name, meaning }
}

/// How claims get the figures of a kind for the bundled models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Desk {
    /// By running this spec.
    Spec(&'static str),
    /// Not at all, for this reason.
    Nothing(&'static str),
}

/// A kind of experiment.
pub trait Experiment {
    /// What its section of a spec says.
    type Settings: Serialize + DeserializeOwned + JsonSchema;
    /// What `kind:` calls it.
    const KIND: &'static str;
    /// The question that it asks, in a few words.
    const PURPOSE: &'static str;
    /// Whether a spec has a section of settings.
    const SECTION: Section = Section::Optional;
    /// Keys of the settings whose values are paths.
    const PATHS: &'static [&'static str] = &[];
    /// The figures that it reports. A figure that depends on the data may be missing.
    const FIGURES: &'static [FigureName];
    /// A spec to begin with.
    const EXAMPLE: &'static str;
    /// Its evidence about the bundled models.
    const DESK: Desk;

    /// Checks what the schema cannot say.
    ///
    /// # Errors
    /// Returns the key path of the mistake within the spec, the problem and the remedy.
    fn check(_settings: &Self::Settings, _spec: &Spec) -> Result<(), Finding> {
        Ok(())
    }

    /// Returns whether the texts of documents are read, not only their tokens.
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

    /// Runs the experiment.
    ///
    /// # Errors
    /// Returns an error if a file that the settings name is wrong, or the run was stopped.
    fn run(settings: &Self::Settings, session: &mut Session) -> Result<Figures>;

    /// Draws the figures of a finished run from its tables.
    ///
    /// # Errors
    /// Returns an error if a figure cannot be drawn.
    fn charts(tables: &Tables) -> Result<Vec<Chart>>;
}

/// Draws a figure of a table, if the run has the table and it has rows.
pub(super) fn drawn(
    tables: &Tables,
    name: &str,
    draw: fn(&TextTable) -> Result<Chart>,
) -> Result<Vec<Chart>> {
    let table = tables.get(name).filter(|table| !table.rows.is_empty());
    table.map(draw).into_iter().collect()
}
