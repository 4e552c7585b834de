//! Kinds that repeat the study: at steps of training, and over samples of the text.

use tempfile::TempDir;
use universal_neurons::experiment::{self, DynamicsSettings, STUDY, Step, load_spec};
use universal_neurons::findings::Universal;
use universal_neurons::plan::Plan;
use universal_neurons::record::Provenance;
use universal_neurons::run::{Control, Session, run};
use universal_neurons::spec::Spec;

use super::{column, figures, row_of, set};
use crate::desk;
use crate::support::path;

/// Leaves two models and few tokens, with a threshold that some neurons pass.
fn shorten(spec: &mut Spec) {
    spec.models.family.truncate(2);
    spec.corpus.sample = Some(3000);
    spec.correlation.threshold = 0.3;
}

#[test]
fn dynamics_is_the_study_at_every_step() {
    // Other seeds stand in for checkpoints: what is proved is the comparison of steps.
    let folder = TempDir::new().unwrap();
    let desk = path("experiments/desk");
    for (step, seeds) in [("early", ["c", "d"]), ("late", ["a", "b"])] {
        for (model, seed) in ["a", "b"].into_iter().zip(seeds) {
            let place = folder.path().join(step).join(model);
            std::fs::create_dir_all(&place).unwrap();
            for file in ["config.json", "model.safetensors", "tokenizer.json"] {
                std::fs::copy(desk.join(seed).join(file), place.join(file)).unwrap();
            }
        }
    }
    let step =
        |step: u64, name: &str| Step { step, path: folder.path().join(name).join("{model}") };
    let found = figures("desk-universality.yaml", |spec| {
        shorten(spec);
        spec.kind = "dynamics".into();
        let steps = DynamicsSettings { steps: vec![step(10, "early"), step(20, "late")] };
        spec.settings = [("dynamics".into(), serde_yaml::to_value(steps).unwrap())].into();
    });
    let mut loaded = load_spec(&path("experiments/desk-universality.yaml")).unwrap();
    shorten(&mut loaded.spec);
    let plan = Plan::make(loaded).unwrap_or_else(|e| panic!("{e}"));
    let alone = run(&plan, &mut Control::default()).unwrap_or_else(|e| panic!("{e}"));
    let late = &found.named["training-trend"][1];
    assert_eq!(
        *late, alone.reference.summary.shares[0].percent,
        "the late step is the study itself"
    );
    assert_eq!(found.named["training-last"], [*late]);
    let universal = Universal::of(&alone.reference, 0.3).0;
    let members = column(&found, "memberships", "universal_at");
    let at_late = members.iter().filter(|at| at.split(' ').any(|step| step == "20")).count();
    assert_eq!(at_late, universal.iter().filter(|u| **u).count());
    assert!(found.named["training-persistence"][0].is_finite());
}

/// A study that a run has made already is not made again: what it found is taken as it is.
#[test]
fn a_step_whose_study_is_known_is_not_studied_again() {
    let mut loaded = load_spec(&path("experiments/desk-universality.yaml")).unwrap();
    let spec = &mut loaded.spec;
    spec.models.family.truncate(2);
    spec.corpus.sample = Some(1000);
    spec.kind = "dynamics".into();
    spec.models.same_weights = true;
    let own = Step { step: 7, path: path("experiments/desk").join("{model}") };
    let steps = DynamicsSettings { steps: vec![own] };
    spec.settings = [("dynamics".into(), serde_yaml::to_value(steps).unwrap())].into();
    let plan = Plan::make(loaded).unwrap_or_else(|e| panic!("{e}"));
    // Half of the neurons, which no study finds.
    let known = Universal((0..plan.reference().layout().n_neurons()).map(|i| i % 2 == 0).collect());
    let share = |same_study: bool| {
        let mut control = Control::default();
        let session = Session::new(&plan, &mut control).with_universal(Some(known.clone()));
        let found = experiment::run_in(&mut session.of_same_study(same_study));
        found.unwrap_or_else(|e| panic!("{e}")).named["training-last"][0]
    };
    assert_eq!(share(true), 50.0);
    assert!(share(false) < 50.0, "a run with other text or settings is no such study");
}

#[test]
fn a_run_is_a_study_of_its_own_plan_alone() {
    let provenance = Provenance::read(desk::folder()).unwrap_or_else(|e| panic!("{e}"));
    let is_study = |change: &dyn Fn(&mut Spec)| {
        let mut loaded = load_spec(&path("experiments/desk-universality.yaml")).unwrap();
        change(&mut loaded.spec);
        provenance.is_study_of(&Plan::make(loaded).unwrap_or_else(|e| panic!("{e}")))
    };
    assert!(is_study(&|_| ()) && is_study(&|spec| spec.kind = "families".into()));
    assert!(!is_study(&|spec| spec.corpus.sample = Some(1000)));
    assert!(!is_study(&|spec| spec.correlation.threshold = 0.4));
    assert!(!is_study(&|spec| spec.models.reference = "b".into()));
    assert!(!is_study(&|spec| spec.models.family.truncate(4)));
    assert!(!is_study(&|spec| spec.models.layers = Some(vec![0])));
}

#[test]
fn convergence_ends_at_the_study_itself() {
    let found = figures("convergence.yaml", |spec| {
        shorten(spec);
        set(spec, "tokens", [1000]);
        set(spec, "resamples", 3);
    });
    let mut loaded = load_spec(&path("experiments/convergence.yaml")).unwrap();
    shorten(&mut loaded.spec);
    loaded.spec.kind = STUDY.into();
    let plan = Plan::make(loaded).unwrap_or_else(|e| panic!("{e}"));
    let alone = run(&plan, &mut Control::default()).unwrap_or_else(|e| panic!("{e}"));
    let shares = &found.named["convergence"];
    assert_eq!(shares.len(), 2);
    assert_eq!(shares[1], alone.reference.summary.shares[0].percent);
    assert!(shares[0] != shares[1], "fewer tokens say something else");
    let at = row_of(
        &found,
        "convergence",
        &[("tokens", &plan.tokens.count().used.to_string()), ("threshold", "0.30")],
    );
    let universal = column(&found, "convergence", "universal")[at];
    assert_eq!(universal, alone.reference.summary.shares[0].universal.to_string());
    let resampled = &found.named["resampled-share"];
    assert!(resampled[0] <= resampled[1] && resampled[1] <= resampled[2]);
    assert!(resampled[0] < resampled[2], "other sequences, another share");
}
