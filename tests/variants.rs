//! Variants of a plan, and the session that runs them.

use std::path::Path;

use tempfile::TempDir;
use universal_neurons::cards;
use universal_neurons::correlation::Keep;
use universal_neurons::error::{Error, Kind};
use universal_neurons::experiment::load_spec;
use universal_neurons::findings::{Findings, Universal};
use universal_neurons::plan::Plan;
use universal_neurons::run::{Control, Session};
use universal_neurons::spec::{BaselineKind, Spec};
use universal_neurons::table::Column;

use crate::device::{self, Shape};
use crate::support::path;

/// Plans the study of some bundled models.
fn plan(models: usize, change: impl FnOnce(&mut Spec)) -> Plan {
    let mut loaded = load_spec(&path("experiments/desk-universality.yaml")).expect("valid");
    loaded.spec.models.family.truncate(models);
    change(&mut loaded.spec);
    Plan::make(loaded).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn other_tokens_have_their_own_memory_and_identity() {
    let whole = plan(3, |_| ());
    assert_eq!(whole.keep, Keep::Sums { passes: 1 });
    let few = whole.with_tokens(whole.tokens.sample(1000)).expect("it fits");
    assert_eq!(few.keep, Keep::Tokens, "few tokens are smaller than their sums");
    assert!(few.bytes() < whole.bytes());
    assert_ne!(few.identity(), whole.identity());
    let same = whole.with_tokens(whole.tokens.clone()).expect("it fits");
    assert_eq!(same.identity(), whole.identity());
    let limit = few.bytes() as f64 / f64::from(1 << 30) + 0.01;
    let mut tight = few.clone();
    tight.spec.batch.memory_gib = Some(limit);
    let error = tight.with_tokens(whole.tokens.clone()).expect_err("more than the limit");
    assert!(error.problem.contains("memory_gib"), "{error}");
}

#[test]
fn other_draws_have_their_own_identity() {
    let plan = plan(2, |spec| spec.corpus.limit = Some(2));
    let draws = plan.spec.correlation.baseline.draws;
    let [one, two] = [1, 2].map(|draws| plan.with_draws(draws).expect("it fits"));
    assert_eq!(one.comparison_plan().baseline.draws, 1);
    assert_eq!(plan.comparison_plan().baseline.draws, draws);
    assert!(one.identity() != two.identity() && one.identity() != plan.identity());
}

#[test]
fn models_of_another_vocabulary_or_context_cannot_take_a_place() {
    let plan = plan(2, |spec| spec.corpus.limit = Some(2));
    let same = plan.with_models(plan.models.clone()).expect("the same models");
    assert_eq!(same.identity(), plan.identity());
    let swapped = plan.models.iter().rev().cloned().collect();
    let swapped = plan.with_models(swapped).expect("models of one vocabulary");
    assert_ne!(swapped.identity(), plan.identity());
    let refused = |change: fn(&mut universal_neurons::model::Config)| -> Error {
        let mut models = plan.models.clone();
        change(&mut models[1].config);
        plan.with_models(models).expect_err("another model")
    };
    for error in [refused(|c| c.d_vocab += 1), refused(|c| c.bos_token_id += 1)] {
        assert!(error.kind == Kind::Model && error.problem.contains("vocabulary"), "{error}");
    }
    let error = refused(|c| c.n_ctx = 16);
    assert!(error.problem.contains("corpus.context"), "{error}");
    let mut models = plan.models.clone();
    let folder = TempDir::new().expect("folder");
    copy(&models[1].folder, folder.path());
    let tokenizer = folder.path().join("tokenizer.json");
    let text = std::fs::read_to_string(&tokenizer).expect("a tokenizer");
    // The same tokens from a file with other bytes are one vocabulary.
    std::fs::write(&tokenizer, text.clone() + "\n").expect("write");
    let find = || universal_neurons::plan::PlannedModel::find("b", folder.path());
    models[1] = find().unwrap_or_else(|e| panic!("{e}"));
    assert!(plan.with_models(models.clone()).is_ok(), "the same tokens");
    let merges = text.replacen("\"Ġthe\"", "\"Ġthx\"", 1);
    assert_ne!(merges, text, "the vocabulary has ` the`");
    std::fs::write(&tokenizer, merges).expect("write");
    models[1] = find().unwrap_or_else(|e| panic!("{e}"));
    assert!(plan.with_models(models).is_err(), "other tokens");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("folder");
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(from.join(file), to.join(file)).expect("copy");
    }
}

#[test]
fn a_session_loads_each_model_once_for_all_variants() {
    let folder = TempDir::new().expect("folder");
    let plan = plan(2, |spec| {
        spec.corpus.limit = Some(12);
        for model in &mut spec.models.family {
            let place = folder.path().join(&model.name);
            copy(&model.path, &place);
            model.path = place;
        }
    });
    let few = plan.with_tokens(plan.tokens.sample(500)).expect("it fits");
    let mut control = Control::default();
    let alone = Session::new(&few, &mut control).study().unwrap_or_else(|e| panic!("{e}"));
    let mut control = Control::default();
    let mut session = Session::new(&plan, &mut control);
    session.models().unwrap_or_else(|e| panic!("{e}"));
    // A model that is loaded again would be missing.
    for model in &plan.models {
        std::fs::remove_file(model.folder.join("model.safetensors")).expect("remove");
    }
    let shared = session.study_of(&few, "few tokens").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        serde_json::to_value(&shared.summary.shares).expect("JSON"),
        serde_json::to_value(&alone.reference.summary.shares).expect("JSON")
    );
    let again = session.study_of(&few, "the same").unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(Universal::of(&again, 0.3), Universal::of(&alone.reference, 0.3));
    let found = session.universal().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(found.len(), plan.reference().layout().n_neurons());
    let mut batches = 0;
    session
        .read("reading tokens", |_, _| {
            batches += 1;
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(batches > 0, "the reference is still loaded");
    assert!(session.models().is_err(), "its partners were dropped");
    let mut control = Control::default();
    assert!(Session::new(&few, &mut control).study().is_err(), "another session loads them again");
}

#[test]
fn every_pass_over_tokens_hears_a_stop() {
    let plan = plan(2, |spec| spec.corpus.limit = Some(4));
    let few = plan.with_tokens(plan.tokens.sample(200)).expect("it fits");
    let control = || {
        let control = Control::default();
        control.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        control
    };
    let mut stopped = [control(), control(), control()];
    let [study, variant, read] = &mut stopped;
    let errors = [
        Session::new(&plan, study).study().map(|_| ()),
        Session::new(&plan, variant).study_of(&few, "a variant").map(|_| ()),
        Session::new(&plan, read).read("reading tokens", |_, _| panic!("a batch was read")),
    ];
    for result in errors {
        let error = result.expect_err("it was stopped");
        assert_eq!(error.kind, Kind::Interrupted, "{error}");
    }
}

/// The first layer of a model with two has the weights of the same model with one.
#[test]
fn the_first_layers_alone_are_those_of_shorter_models() {
    let shape = |layers| Shape { layers, heads: 2, d_model: 32, d_mlp: 72, context: 48 };
    let [long, short] = [2, 1].map(|layers| {
        let folder = TempDir::new().expect("folder");
        device::family_of(folder.path(), shape(layers));
        folder
    });
    let first = device::plan(long.path(), |spec| spec.models.layers = Some(vec![0]));
    let whole = device::plan(short.path(), |_| ());
    assert!(first.models.iter().all(|model| model.config.n_layers == 1));
    let [got, want] = [&first, &whole].map(|plan| device::on_cpu(plan).reference);
    let bits = |findings: &Findings| -> Vec<Vec<u64>> {
        let column = |c: &Column| findings.table.column(*c).iter().map(|v| v.to_bits()).collect();
        Column::ALL.iter().map(column).collect()
    };
    assert_eq!(got.table.ids.len(), 72);
    assert!(bits(&got) == bits(&want), "another table");
    assert_eq!(got.extra, want.extra);
}

/// Untrained networks are found by their config alone, and each seed is a network of its own.
#[test]
fn an_untrained_network_needs_no_weights() {
    let folder = TempDir::new().expect("folder");
    for name in ["a", "b"] {
        let model = folder.path().join(name);
        std::fs::create_dir(&model).expect("folder of a model");
        for file in ["config.json", "tokenizer.json"] {
            let from = path(&format!("experiments/desk/{name}/{file}"));
            std::fs::copy(from, model.join(file)).expect("copy");
        }
    }
    let untrained = |seeds: [u64; 2]| {
        let mut loaded = load_spec(&path("experiments/untrained.yaml")).expect("valid");
        loaded.spec.models.family.truncate(2);
        loaded.spec.corpus.limit = Some(3);
        loaded.spec.statistics.intervals.blocks = 0;
        for (model, seed) in loaded.spec.models.family.iter_mut().zip(seeds) {
            model.path = folder.path().join(&model.name);
            model.untrained = Some(seed);
        }
        Plan::make(loaded)
    };
    let plan = untrained([1, 2]).unwrap_or_else(|e| panic!("{e}"));
    assert_ne!(plan.models[0].weights_digest, plan.models[1].weights_digest);
    let study = |plan: &Plan| {
        let mut control = Control::default();
        Session::new(plan, &mut control).study().expect("a study").reference
    };
    let found = study(&plan);
    assert_eq!(Universal::of(&found, 0.5).0, Universal::of(&study(&plan), 0.5).0);
    let other = study(&untrained([1, 3]).unwrap_or_else(|e| panic!("{e}")));
    let corr = |findings: &Findings| findings.table.column(Column::MeanCorr).to_vec();
    assert_ne!(corr(&found), corr(&other), "another seed is another network");
    let error = untrained([1, 1]).expect_err("the same network twice");
    assert!(error.to_string().contains("same weights"), "{error}");
}

/// Units other than neurons go through the same study: as many rows as units, and weights only for
/// pre-activations.
#[test]
fn other_units_are_compared_as_neurons_are() {
    use universal_neurons::spec::Units;
    let study = |units: Units| {
        let plan = plan(2, |spec| {
            spec.models.units = units;
            spec.corpus.limit = Some(3);
            spec.correlation.baseline.kind = BaselineKind::Permutation;
        });
        let mut control = Control::default();
        let mut session = Session::new(&plan, &mut control);
        let mut outcome = session.study().expect("a study");
        session.add_intervals(&mut outcome).expect("intervals");
        let cards = cards::of(&mut session, &outcome.reference).expect("cards");
        (outcome.reference, cards)
    };
    let config = plan(2, |_| ()).models[0].config.clone();
    let units = [
        (Units::MlpPre, config.d_mlp(), true),
        (Units::HeadOutputNorm, config.n_heads, false),
        (Units::AttentionToBos, config.n_heads, false),
        (Units::Residual, config.d_model, false),
    ];
    for (units, per_layer, have_weights) in units {
        let (found, cards) = study(units);
        assert!(!cards.cards.is_empty(), "{units:?}");
        for card in &cards.cards {
            assert_eq!(!card.promoted.is_empty(), have_weights, "{units:?} {}", card.neuron);
            assert!(!card.contexts.is_empty() && !card.explanations.is_empty(), "{units:?}");
        }
        assert_eq!(found.table.ids.len(), config.n_layers * per_layer, "{units:?}");
        let column = |column| found.table.column(column).iter();
        assert!(column(Column::ExcessCorr).all(|e| e.is_finite()), "{units:?}");
        assert!(column(Column::WInNorm).all(|w| w.is_finite() == have_weights), "{units:?}");
        assert!(found.summary.shares[0].interval.is_some(), "{units:?}");
    }
}
