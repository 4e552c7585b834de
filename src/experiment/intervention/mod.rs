//! `kind: intervention`: what the model does when activations of chosen neurons are changed (§5).

mod effects;
mod figures;
mod settings;
mod variations;

use self::effects::Effects;
use self::figures::{chart, figures};
use self::settings::{ActionGrid, ActionKind, InterventionSettings};
use self::variations::variations;
use super::cost::KindCost;
use super::kind::{Desk, Experiment, FigureName, drawn, figure, needs_bos};
use super::sets::of_sets;
use crate::charts::Chart;
use crate::error::Result;
use crate::findings::Figures;
use crate::plan::{Plan, Workload};
use crate::record::Tables;
use crate::run::Session;
use crate::spec::{Finding, Section, Spec};

/// The intervention experiment.
pub struct InterventionKind;

impl Experiment for InterventionKind {
    type Settings = InterventionSettings;
    const KIND: &'static str = "intervention";
    const PURPOSE: &'static str =
        "Changes activations of chosen neurons and measures predictions and attention heads.";
    const SECTION: Section = Section::Required;
    const PATHS: &'static [&'static str] = &["path", "tests"];
    const FIGURES: &'static [FigureName] = &[
        figure("intervention-loss", "rise of the loss with each change of activations, in nats"),
        figure(
            "intervention-entropy",
            "rise of the next-token entropy with each change of activations, in nats",
        ),
        figure(
            "intervention-kl",
            "KL divergence of the predictions from those of the unchanged model, in nats",
        ),
    ];
    const EXAMPLE: &'static str = include_str!("../../../experiments/intervention.yaml");
    const DESK: Desk = Desk::Spec("experiments/intervention.yaml");

    fn check(settings: &Self::Settings, spec: &Spec) -> Result<(), Finding> {
        if !settings.heads.is_empty() {
            needs_bos(spec)?;
        }
        settings.check()
    }

    fn check_files(settings: &Self::Settings, plan: &Plan) -> Result<()> {
        settings.check_files(plan)
    }

    fn cost(settings: &Self::Settings, work: &Workload) -> KindCost {
        let grid = |grid: &ActionGrid| (grid.values.len() + grid.ranges.len()).max(1) as f64;
        let values: f64 = settings.changes.iter().map(grid).sum();
        let mean = settings.changes.iter().any(|grid| grid.action == ActionKind::Mean);
        let shares = of_sets(work, &settings.sets, settings.each, settings.controls);
        let passes = 1.0 + f64::from(u8::from(mean)) + values * shares.iter().sum::<f64>();
        KindCost {
            universal: settings.sets.iter().any(|set| set.universal),
            predictions: 1.0 + values * shares.len() as f64,
            ..KindCost::of_passes(passes)
        }
    }

    fn run(settings: &Self::Settings, session: &mut Session) -> Result<Figures> {
        Self::check_files(settings, session.plan)?;
        let host = session.reference()?;
        let variations = variations(settings, session)?;
        let mut effects = Effects::new(settings, session.plan, &host, variations.len())?;
        session
            .read("changing activations", |model, batch| effects.read(model, batch, &variations))?;
        Ok(figures(&effects.finish(), &variations))
    }

    fn charts(tables: &Tables) -> Result<Vec<Chart>> {
        drawn(tables, "intervention", chart)
    }
}
