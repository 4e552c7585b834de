//! `kind: universality`: the study itself (paper §4.1). It reports a neuron table and its own
//! summary instead of figures; the pipeline in [`crate::run`] runs it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cost::KindCost;
use super::kind::{Desk, Experiment, FigureName};
use crate::charts::Chart;
use crate::error::{Error, Kind, Result};
use crate::findings::Figures;
use crate::plan::Workload;
use crate::record::Tables;
use crate::run::Session;
use crate::spec::Section;

/// The settings of a kind without settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

/// The study of universality.
pub struct Universality;

impl Experiment for Universality {
    type Settings = NoSettings;
    const KIND: &'static str = "universality";
    const PURPOSE: &'static str =
        "Correlates every neuron of a reference model with every neuron of its partners.";
    const SECTION: Section = Section::None;
    const NEEDS_WHOLE_MODELS: bool = false;
    const READS_RECORDED: bool = true;
    const FIGURES: &'static [FigureName] = &[];
    const EXAMPLE: &'static str = include_str!("universality.yaml");
    const DESK: Desk = Desk::Spec("experiments/desk-universality.yaml");

    fn cost(_: &NoSettings, _: &Workload) -> KindCost {
        KindCost::of_studies(vec![1.0])
    }

    fn run(_: &NoSettings, session: &mut Session) -> Result<Figures> {
        let problem = "a universality study reports a neuron table, not figures";
        let subject = session.plan.spec_path.display();
        Err(Error::new(Kind::Spec, subject, problem, "run it with `run::run`"))
    }

    fn charts(_: &Tables) -> Result<Vec<Chart>> {
        Ok(Vec::new())
    }
}
