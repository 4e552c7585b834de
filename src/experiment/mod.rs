//! The kinds of experiment, one file each.
//!
//! A kind implements [`Experiment`]: its settings, the figures that claims may be about, an
//! example, its checks, its run and its charts. [`KINDS`] lists all kinds; the loader of
//! specs, the schema, `new`, the claims and the charts read it. A new kind is a file here, a
//! line in [`KINDS`], and a spec in `experiments/`.

mod ablation;
mod attention;
mod convergence;
mod cost;
mod dynamics;
mod entropy;
mod families;
mod intervention;
mod kind;
mod matching;
mod means;
mod named;
pub mod new;
mod perturbed;
mod prediction;
mod reading;
mod sets;
mod split_half;
mod universality;

use std::path::Path;

use schemars::SchemaGenerator;

pub use self::ablation::{AblationSettings, Replacement};
pub use self::cost::KindCost;
pub use self::dynamics::{DynamicsSettings, Step};
pub use self::kind::{ByLayer, Desk, Experiment, FigureName};
use crate::charts::Chart;
use crate::error::{Error, Kind, Result};
use crate::findings::{Figures, Universal};
use crate::plan::{Plan, Workload};
use crate::record::Tables;
use crate::run::{Control, Session, open_card};
use crate::spec::load::Loaded;
use crate::spec::{KindRules, Spec, finding, rules};
pub use matching::cluster_models;

/// A registered kind of experiment: the constants and functions of an [`Experiment`].
#[derive(Debug, Clone, Copy)]
pub struct RegisteredKind {
    /// What the loader of specs knows about the kind.
    pub rules: KindRules,
    /// The figures that the kind reports.
    pub figures: &'static [FigureName],
    /// A commented spec to start from.
    pub example: &'static str,
    /// How claims get the kind's figures for the bundled models.
    pub desk: Desk,
    /// Checks the files that the settings name.
    pub check_files: fn(&Plan) -> Result<()>,
    /// Returns what the experiment costs.
    pub cost: fn(&Workload) -> Result<KindCost>,
    /// Runs the experiment.
    pub run: fn(&mut Session) -> Result<Figures>,
    /// Draws the figures of a finished run.
    pub charts: fn(&Tables) -> Result<Vec<Chart>>,
}

/// The name of the kind that is the study of universality itself.
pub const STUDY: &str = <universality::Universality as Experiment>::KIND;

/// The name of the kind that reads checkpoints in place of the family.
pub const DYNAMICS: &str = <dynamics::Dynamics as Experiment>::KIND;

/// All kinds of experiment, the study of universality first.
pub const KINDS: [RegisteredKind; 13] = [
    registered::<universality::Universality>(),
    registered::<families::Families>(),
    registered::<prediction::Prediction>(),
    registered::<entropy::Entropy>(),
    registered::<attention::Attention>(),
    registered::<ablation::Ablation>(),
    registered::<intervention::InterventionKind>(),
    registered::<reading::Reading>(),
    registered::<matching::MatchingKind>(),
    registered::<split_half::SplitHalf>(),
    registered::<perturbed::Perturbed>(),
    registered::<dynamics::Dynamics>(),
    registered::<convergence::Convergence>(),
];

const fn registered<E: Experiment>() -> RegisteredKind {
    RegisteredKind {
        rules: KindRules {
            name: E::KIND,
            purpose: E::PURPOSE,
            section: E::SECTION,
            needs_whole_models: E::NEEDS_WHOLE_MODELS,
            reads_recorded: E::READS_RECORDED,
            paths: E::PATHS,
            schema: SchemaGenerator::subschema_for::<E::Settings>,
            complete: rules::complete::<E::Settings>,
            check: |spec| match spec.settings() {
                Ok(settings) => E::check(&settings, spec),
                Err(error) => finding(E::KIND, error.problem, error.remedy),
            },
            keeps_texts: |spec| spec.settings().is_ok_and(|settings| E::keeps_texts(&settings)),
        },
        figures: E::FIGURES,
        example: E::EXAMPLE,
        desk: E::DESK,
        check_files: |plan| E::check_files(&plan.spec.settings()?, plan),
        cost: |work| Ok(E::cost(&work.spec.settings()?, work)),
        run: |session| E::run(&session.plan.spec.settings()?, session),
        charts: E::charts,
    }
}

/// Returns the kind with the given name.
pub fn kind(name: &str) -> Option<&'static RegisteredKind> {
    const ALL: &[RegisteredKind] = &KINDS;
    ALL.iter().find(|kind| kind.rules.name == name)
}

/// Returns the rules of all kinds.
pub fn rules() -> [KindRules; KINDS.len()] {
    KINDS.map(|kind| kind.rules)
}

/// Loads an experiment file of any kind.
///
/// # Errors
/// Returns an error as [`Spec::load`] does.
pub fn load_spec(path: &Path) -> Result<Loaded> {
    Spec::load(path, &rules())
}

/// Returns the JSON Schema of experiment files.
pub fn schema() -> serde_json::Value {
    crate::spec::schema::schema(&rules())
}

/// Reads the files that the settings of a plan's kind name, to find mistakes in them.
///
/// # Errors
/// Returns an error if such a file is missing or malformed, or does not fit the plan.
pub fn check_files(plan: &Plan) -> Result<()> {
    kind(&plan.spec.kind).map_or(Ok(()), |kind| (kind.check_files)(plan))
}

/// Returns what an experiment costs.
///
/// # Errors
/// Returns an error if the spec was not loaded with the rules of its kind.
pub fn cost(work: &Workload) -> Result<KindCost> {
    kind(&work.spec.kind).map_or_else(|| Ok(KindCost::default()), |kind| (kind.cost)(work))
}

/// Runs an experiment of a kind that reports figures. The universal neurons are those in
/// `universal`; if it is `None` and the kind needs them, the study that the spec describes
/// finds them first.
///
/// # Errors
/// Returns an error if the model cannot be loaded, a file that the settings name is malformed,
/// or the run was stopped.
pub fn run(plan: &Plan, universal: Option<Universal>, control: &mut Control) -> Result<Figures> {
    let card = open_card(plan, control)?;
    let session = Session::new(plan, control).on(card.as_deref());
    run_in(&mut session.with_universal(universal))
}

/// Runs the experiment of a session's plan, as [`run`] does.
///
/// # Errors
/// Returns an error as [`run`] does.
pub fn run_in(session: &mut Session) -> Result<Figures> {
    let plan = session.plan;
    let name = &plan.spec.kind;
    let kind = kind(name).ok_or_else(|| {
        let remedy = "load the spec with `experiment::load_spec`";
        Error::new(Kind::Spec, plan.spec_path.display(), format!("unknown kind `{name}`"), remedy)
    })?;
    let figures = (kind.run)(session)?;
    session.control.progress.finish();
    Ok(Figures { device: session.device(), ..figures })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_of_kinds_and_figures_are_unique() {
        let kinds: HashSet<_> = KINDS.iter().map(|kind| kind.rules.name).collect();
        assert_eq!(kinds.len(), KINDS.len());
        let names = KINDS.iter().flat_map(|kind| kind.figures).map(|figure| figure.name);
        let (all, unique): (Vec<_>, HashSet<_>) = (names.clone().collect(), names.collect());
        assert_eq!(all.len(), unique.len(), "{all:?}");
    }

    #[test]
    fn every_example_is_a_spec_of_its_kind() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for kind in KINDS {
            let text = new::template(&kind, "mine", Path::new("desk-universality.yaml"));
            let file =
                tempfile::Builder::new().suffix(".yaml").tempfile_in(root.join("experiments"));
            let file = file.expect("a file beside the specs");
            std::fs::write(file.path(), text).expect("write");
            let loaded = load_spec(file.path()).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(loaded.spec.kind, kind.rules.name);
        }
    }
}
