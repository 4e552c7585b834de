//! Neurons and heads that specs name: they give what the automatic choice gives for them, and
//! those that a model does not have are refused.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_yaml::Value;
use tempfile::TempDir;
use universal_neurons::Transformer;
use universal_neurons::compare::Tolerance;
use universal_neurons::corpus::Row;
use universal_neurons::experiment::{self, load_spec};
use universal_neurons::families::parse_token_tests;
use universal_neurons::findings::{Figures, Universal};
use universal_neurons::model::fold::preprocess;
use universal_neurons::model::weights::Weights;
use universal_neurons::plan::Plan;
use universal_neurons::run::Control;
use universal_neurons::spec::WeightOptions;

use crate::support::{Bench, assert_close, path, run, stderr, varied_corpus};

/// Runs an experiment of `experiments/` on a little text with changed settings; every tenth
/// neuron counts as universal.
fn figures(kind: &str, changes: &[(&str, Value)]) -> Figures {
    let mut loaded = load_spec(&path("experiments").join(format!("{kind}.yaml")))
        .unwrap_or_else(|e| panic!("{e}"));
    (loaded.spec.corpus.limit, loaded.spec.corpus.sample) = (Some(4), None);
    let settings = loaded.spec.settings.get_mut(kind).expect("settings");
    changes.iter().for_each(|(key, value)| settings[*key] = value.clone());
    let plan = Plan::make(loaded).unwrap_or_else(|e| panic!("{e}"));
    let neurons = plan.reference().layout().n_neurons();
    let universal = Universal((0..neurons).map(|i| i % 10 == 0).collect());
    experiment::run(&plan, Some(universal), &mut Control::default())
        .unwrap_or_else(|e| panic!("{e}"))
}

fn yaml(value: impl Serialize) -> Value {
    serde_yaml::to_value(value).expect("YAML")
}

/// The rows of a table in which all columns before `from` have these values.
fn rows(found: &Figures, table: &str, wanted: &[&str]) -> Vec<Vec<String>> {
    let rows = found.tables[table].rows.iter();
    rows.filter(|row| row.iter().zip(wanted).all(|(cell, want)| cell == want)).cloned().collect()
}

#[test]
fn a_named_neuron_is_fixed_as_a_chosen_one() {
    let few = [("values", yaml([0, 4])), ("controls", yaml(2))];
    let chosen = figures("entropy", &few);
    let [values, controls] = few;
    let named = figures("entropy", &[values, controls, ("neurons", yaml(["L0.N3", "L2.N970"]))]);
    let of = |found: &Figures| rows(found, "entropy", &["2", "970"]);
    assert_eq!(of(&named).len(), 2);
    assert_eq!(of(&named), of(&chosen));
    let early = rows(&named, "entropy", &["0", "3"]);
    assert_eq!(early[0][3..5], ["", ""], "it is not among the neurons that are ranked");
}

/// The preprocessed weights of the reference model of the bundled models.
fn folded() -> (Transformer, Weights) {
    let model = Transformer::load(&path("experiments/desk/a")).unwrap_or_else(|e| panic!("{e}"));
    let folded = preprocess(&model.weights, &model.config, &WeightOptions::default());
    (model, folded)
}

/// w_in and w_out of a neuron.
fn weights_of(folded: &Weights, d: usize, layer: usize, neuron: usize) -> [Vec<f64>; 2] {
    let block = &folded.blocks[layer];
    let d_mlp = block.mlp_in.bias.len();
    let w_in = (0..d).map(|i| f64::from(block.mlp_in.weight[i * d_mlp + neuron])).collect();
    let w_out = block.mlp_out.weight[neuron * d..][..d].iter().map(|&w| f64::from(w)).collect();
    [w_in, w_out]
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// ‖w_in‖² + ‖w_out‖² and the variance over the vocabulary of cos(W_U, w_out), for every neuron.
fn norms_and_variances(model: &Transformer, folded: &Weights) -> Vec<[f64; 2]> {
    let (d, d_mlp) = (model.config.d_model, folded.blocks[0].mlp_in.bias.len());
    let row = |row: &[f32]| row.iter().map(|&w| f64::from(w)).collect::<Vec<f64>>();
    let unembed: Vec<Vec<f64>> = folded.unembedding().chunks_exact(d).map(row).collect();
    let lengths: Vec<f64> = unembed.iter().map(|u| dot(u, u).sqrt()).collect();
    let of = |i: usize| {
        let [w_in, w_out] = weights_of(folded, d, i / d_mlp, i % d_mlp);
        let length = dot(&w_out, &w_out).sqrt();
        let effects: Vec<f64> =
            unembed.iter().zip(&lengths).map(|(u, l)| dot(u, &w_out) / l / length).collect();
        let mean = effects.iter().sum::<f64>() / effects.len() as f64;
        let var = effects.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / effects.len() as f64;
        [dot(&w_in, &w_in) + length * length, var]
    };
    (0..model.config.n_layers * d_mlp).map(of).collect()
}

/// A named pair has its cosine, and the first neuron its places by norm and by variance.
#[test]
fn a_named_pair_of_entropy_neurons_has_a_cosine_and_ranks() {
    let few = [("values", yaml([0, 4])), ("controls", yaml(1))];
    let [values, controls] = few.clone();
    let found = figures("entropy", &[values, controls, ("neurons", yaml(["L2.N970", "L2.N992"]))]);
    let (model, folded) = folded();
    let d = model.config.d_model;
    let [a, b] = [970, 992].map(|neuron| weights_of(&folded, d, 2, neuron)[1].clone());
    let want = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
    assert_close(
        "cosine",
        found.named["entropy-cosine"].clone(),
        &[want],
        Tolerance::absolute(1e-9),
    );
    let all = norms_and_variances(&model, &folded);
    let own = all[2 * 1024 + 970];
    let larger = all.iter().filter(|other| other[0] > own[0]).count();
    let smaller = all.iter().filter(|other| other[1] < own[1]).count();
    assert_eq!(found.named["entropy-ranks"], [larger as f64 + 1.0, smaller as f64 + 1.0]);
    let chosen = figures("entropy", &few);
    let named = ["entropy-cosine", "entropy-ranks"].map(|name| chosen.named.contains_key(name));
    assert_eq!(named, [false; 2], "they are about named neurons");
}

/// Controls as the authors choose them: of the last two layers, with deciles of the whole model.
#[test]
fn controls_can_be_chosen_as_the_authors_do() {
    let found = figures(
        "entropy",
        &[
            ("values", yaml([0, 1])),
            ("controls", yaml(60)),
            ("choice", yaml("all_layers")),
            ("candidates", yaml(1)),
        ],
    );
    let (model, folded) = folded();
    let all = norms_and_variances(&model, &folded);
    // The quantile of pandas: linear between the two nearest values.
    let quantile = |which: usize, share: f64| {
        let mut sorted: Vec<f64> = all.iter().map(|v| v[which]).collect();
        sorted.sort_by(f64::total_cmp);
        let place = share * (sorted.len() - 1) as f64;
        let below = place as usize;
        sorted[below] + (sorted[below + 1] - sorted[below]) * (place - below as f64)
    };
    let (most, least) = (quantile(0, 0.9), quantile(1, 0.1));
    let wanted = (1024..3072).filter(|&i| all[i][0] <= most && all[i][1] >= least);
    let wanted: BTreeSet<usize> = wanted.collect();
    let controls: BTreeSet<usize> = found.tables["entropy-neurons"]
        .rows
        .iter()
        .filter(|row| row[2] == "true")
        .map(|row| {
            row[0].parse::<usize>().expect("layer") * 1024
                + row[1].parse::<usize>().expect("neuron")
        })
        .collect();
    assert_eq!(controls.len(), 60);
    assert!(controls.is_subset(&wanted) && wanted.len() < 1950, "{} neurons", wanted.len());
}

/// Leaving out predictions at BOS gives what the intervention that leaves them out gives.
#[test]
fn predictions_at_bos_are_left_out_if_asked() {
    let common = ("count_bos", yaml(false));
    let fixed = figures(
        "entropy",
        &[
            common.clone(),
            ("values", yaml([0, 4])),
            ("controls", yaml(1)),
            ("neurons", yaml(["L2.N970"])),
        ],
    );
    let sets = serde_json::json!([{ "name": "x", "neurons": ["L2.N970"] }]);
    let changes = serde_json::json!([{ "action": "set", "values": [4] }]);
    let other = figures(
        "intervention",
        &[common, ("sets", yaml(sets)), ("changes", yaml(changes)), ("resamples", yaml(1))],
    );
    let row = &rows(&fixed, "entropy", &["2", "970"])[1];
    let changed = rows(&other, "intervention", &["x", "1", "set", "4", "all"]);
    let mean = |measure: &str| {
        let row = changed.iter().find(|row| row[5] == measure).expect("a measure");
        row[6].clone()
    };
    let of = ["entropy", "loss", "reciprocal_rank", "scale"].map(mean);
    assert_eq!(row[6..10], of);
}

#[test]
fn a_named_pair_is_ablated_as_a_chosen_one() {
    let chosen = figures("attention", &[]);
    let named = figures("attention", &[("pairs", yaml([["L0.N942", "L1.H0"]]))]);
    let of = |found: &Figures| rows(found, "attention", &["L0.N942", "L1.H0"]);
    assert_eq!(named.tables["attention"].rows.len(), 1);
    assert_eq!(of(&named), of(&chosen));
}

/// The heuristics of the pairs that are chosen by number, by the sign that is asked for.
#[test]
fn pairs_are_chosen_by_the_sign_of_their_heuristic() {
    let of = |sign: &str| {
        let found = figures("attention", &[("sign", yaml(sign)), ("pairs", yaml(4))]);
        let named = ["deactivation", "activation"].map(|name| found.named.contains_key(name));
        (found.tables["attention"].numbers("heuristic"), named)
    };
    let ((up, named_up), (down, named_down), (both, _)) =
        (of("positive"), of("negative"), of("both"));
    assert!(up.iter().all(|h| *h > 0.0) && down.iter().all(|h| *h < 0.0), "{up:?} {down:?}");
    assert_eq!((named_up, named_down), ([true, false], [false, true]));
    let mut largest: Vec<f64> = up.iter().chain(&down).copied().collect();
    largest.sort_by(|a, b| b.abs().total_cmp(&a.abs()));
    assert_eq!(both, largest[..4]);
}

/// A model with rotary positions has heads and pairs as others do, and BOS tokens within rows can
/// be left out.
#[test]
fn heads_of_a_rotary_model_are_ablated() {
    let bench = Bench::new();
    for model in ["a", "b"] {
        for file in ["config.json", "model.safetensors", "tokenizer.json"] {
            let from = path("expected/golden/neox").join(file);
            std::fs::copy(from, bench.path().join(model).join(file)).expect("copy");
        }
    }
    bench.write("corpus.jsonl", varied_corpus(12));
    let settings =
        "kind: attention\nattention: { pairs: 4, sign: both, attends: 0.0, count_bos: true }";
    bench.edit("spec.yaml", "kind: universality", settings);
    bench.edit("spec.yaml", "reference: a", "reference: a\n  same_weights: true");
    bench.edit("spec.yaml", "context: 12", "context: 12, tokenisation: packed");
    let found = || {
        let loaded = load_spec(&bench.path().join("spec.yaml")).unwrap_or_else(|e| panic!("{e}"));
        let plan = Plan::make(loaded).unwrap_or_else(|e| panic!("{e}"));
        let bos = plan.reference().config.bos_token_id;
        let within = |row: &Row| {
            let half = &row.ids[row.ids.len() / 2..];
            half.iter().filter(|id| **id == bos).count()
        };
        let bos: usize = plan.tokens.rows.iter().map(within).sum();
        let found = experiment::run(&plan, None, &mut Control::default());
        (found.unwrap_or_else(|e| panic!("{e}")), bos as f64)
    };
    let (all, bos) = found();
    assert!(bos > 0.0);
    let pairs = &all.tables["attention"];
    assert_eq!(pairs.rows.len(), 4);
    let changes = pairs.numbers("bos_attention_change");
    assert!(changes.iter().all(|change| change.is_finite()) && changes.iter().any(|c| *c != 0.0));
    bench.edit("spec.yaml", "count_bos: true", "count_bos: false");
    let (fewer, _) = found();
    let tokens = |found: &Figures| found.tables["attention"].numbers("tokens")[0];
    assert_eq!(tokens(&all) - tokens(&fewer), bos);
}

#[test]
fn a_named_prediction_neuron_has_the_row_of_a_found_one() {
    let found = figures("prediction", &[]);
    let row = &found.tables["prediction"].rows[0];
    let name = format!("L{}.N{}", row[0], row[1]);
    let named = figures("prediction", &[("neurons", yaml([&name, "L0.N0"]))]);
    assert_eq!(rows(&named, "prediction", &[&row[0], &row[1]]), std::slice::from_ref(row));
    assert_eq!(named.tables["prediction"].rows.len(), 2);
}

#[test]
fn named_sets_are_ablated() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("mine.csv");
    std::fs::write(&file, "neuron,note,layer\n970,x,2\n1,y,0\n").expect("write");
    let sets = serde_json::json!([
        { "name": "universal", "universal": true },
        { "name": "listed", "neurons": ["L0.N1", "L2.N970"] },
        { "name": "of a file", "path": file },
        { "name": "random", "like": "listed" },
    ]);
    let named = figures("ablation", &[("sets", yaml(sets)), ("controls", yaml(2))]);
    let automatic = figures("ablation", &[("controls", yaml(1))]);
    let of = |found: &Figures, name: &str| rows(found, "ablation", &[name])[0][1..].to_vec();
    assert_eq!(of(&named, "universal"), of(&automatic, "universal"));
    assert_eq!(of(&named, "listed"), of(&named, "of a file"));
    assert_eq!(of(&named, "random 1")[0], "2");
    assert!(of(&named, "random 1") != of(&named, "random 2"));
    assert!(named.named.is_empty(), "no claim is about named sets");
}

/// The settings of a spec, and what must be said about them.
const REFUSED: [(&str, &str, &[&str]); 17] = [
    ("entropy", "neurons: [L2.N348, L3.N0]", &["entropy.neurons[1]", "3 layers of 1024 neurons"]),
    ("entropy", "neurons: [L2.N1, L2.1]", &["entropy.neurons[1]", "L2.N1 is listed twice"]),
    ("entropy", "neurons: [L2.H0]", &["entropy.neurons[0]", "is not a neuron"]),
    ("prediction", "neurons: [L0.N1024]", &["prediction.neurons[0]", "from 0 to 1023"]),
    ("attention", "pairs: [[L0.N1, L1.H99]]", &["attention.pairs[0]", "heads"]),
    ("attention", "pairs: [[L1.N1, L1.H0]]", &["attention.pairs[0]", "layer 2 or later"]),
    ("attention", "pairs: []", &["attention.pairs", "names no pair"]),
    ("attention", "pairs: 0", &["attention.pairs", "1 to 1000"]),
    ("attention", "pairs: many", &["attention.pairs", "or a list of pairs"]),
    ("families", "path: t, neurons: [L3.N0]", &["families.neurons[0]", "3 layers of 1024"]),
    ("families", "path: t, neurons: []", &["families.neurons", "names no neuron"]),
    ("families", "path: t, neurons: some", &["families.neurons", "`universal`"]),
    ("ablation", "sets: [{ name: x }]", &["ablation.sets[0]", "exactly one key"]),
    ("ablation", "sets: [{ name: x, like: x }]", &["ablation.sets[0].like", "earlier"]),
    ("ablation", "sets: [{ name: x, neurons: [L9.N1] }]", &["ablation.sets[0].neurons[0]"]),
    ("ablation", "sets: [{ name: x, path: none.csv }]", &["none.csv"]),
    ("ablation", "sets: [{ name: x, path: twice.csv }]", &["row 3: L0.N1 is listed twice"]),
];

#[test]
fn names_that_a_model_lacks_are_refused() {
    let folder = TempDir::new().expect("a folder");
    std::fs::write(folder.path().join("twice.csv"), "layer,neuron\n0,1\n0,1\n").expect("write");
    let base = path("experiments/desk-universality.yaml");
    for (kind, settings, wanted) in REFUSED {
        let spec = format!(
            "include: {}\nname: x\nkind: {kind}\n{kind}: {{ {settings} }}\ncorpus: {{ limit: 2 }}\n",
            base.display()
        );
        std::fs::write(folder.path().join("x.yaml"), spec).expect("write");
        for command in
            [&["validate", "x.yaml"][..], &["run", "x.yaml", "--dry-run"], &["run", "x.yaml"]]
        {
            let done = run(folder.path(), command);
            let said = stderr(&done);
            assert_eq!(done.status.code(), Some(2), "{command:?} {settings}: {said}");
            assert!(wanted.iter().all(|w| said.contains(w)), "{command:?} {settings}: {said}");
        }
        assert!(!folder.path().join("runs").exists(), "{settings} left a folder");
    }
}

/// The choice of neurons and the passes that memory allows change nothing about a neuron: universal
/// and listed ones have the rows and the figures that they have among all neurons.
#[test]
fn families_of_chosen_neurons_are_those_among_all() {
    // Low bounds, so that a little text explains neurons of every family.
    let with = |choice: Option<Value>| {
        let bounds = [("support", yaml(3)), ("frequent", yaml(5)), ("explained", yaml(0.2))];
        let choice = choice.map(|choice| ("neurons", choice));
        figures("families", &bounds.into_iter().chain(choice).collect::<Vec<_>>())
    };
    let all = with(None);
    let of = |wanted: &dyn Fn(&[String]) -> bool| {
        let rows = all.tables["families"].rows.iter();
        rows.filter(|row| wanted(row)).cloned().collect::<Vec<_>>()
    };
    let universal = with(Some(yaml("universal")));
    assert_eq!(universal.tables["families"].rows, of(&|row| row[2] == "true"));
    assert_eq!(universal.tables["families"].rows.len(), 308, "every tenth of 3,072");
    for name in ["unigram-by-layer", "alphabet-letters", "position-by-layer", "unigram-lead"] {
        let of_universal = &all.named[&format!("universal-{name}")];
        assert_eq!(&universal.named[name], of_universal, "{name}");
        assert_eq!(&universal.named[&format!("universal-{name}")], of_universal, "{name}");
        assert_ne!(&all.named[name], of_universal, "{name} tells the groups apart");
    }
    let listed = with(Some(yaml(["L2.N348", "L0.N3"])));
    let wanted = [["0", "3"], ["2", "348"]];
    assert_eq!(
        listed.tables["families"].rows,
        of(&|row| wanted.contains(&[row[0].as_str(), row[1].as_str()]))
    );
}

/// Sums that do not fit into memory are made in passes over the tokens, with the same figures.
#[test]
fn families_in_passes_are_those_of_one_pass() {
    let mut loaded =
        load_spec(&path("experiments/families.yaml")).unwrap_or_else(|e| panic!("{e}"));
    (loaded.spec.corpus.limit, loaded.spec.corpus.sample) = (Some(4), None);
    let plan = Plan::make(loaded.clone()).unwrap_or_else(|e| panic!("{e}"));
    let others = plan.workload().bytes_without_sums() as f64;
    let n = plan.reference().layout().n_neurons();
    let run_within = |bytes: f64| {
        let mut loaded = loaded.clone();
        loaded.spec.batch.memory_gib = Some(bytes / f64::from(1 << 30));
        let plan = Plan::make(loaded).unwrap_or_else(|e| panic!("{e}"));
        let universal = Universal((0..n).map(|i| i % 10 == 0).collect());
        experiment::run(&plan, Some(universal), &mut Control::default())
            .unwrap_or_else(|e| panic!("{e}"))
    };
    let groups = 2 * plan.reference().config.d_vocab + plan.tokens.context + plan.labels().len();
    let each = (24 * groups) as f64;
    let one = run_within(others + n as f64 * each + 1e6);
    let two = run_within(others + 0.7 * n as f64 * each);
    // A share of no neurons is NaN, which is not equal to itself.
    assert_eq!(format!("{:?}", two.named), format!("{:?}", one.named));
    assert_eq!(two.tables, one.tables);
}

/// The classes of a named neuron are those of eq. 4 over the vocabulary, computed literally.
#[test]
fn token_classes_are_recomputed_from_the_weights() {
    let found = figures("prediction", &[("neurons", yaml(["L2.N970"]))]);
    let rows = &found.tables["prediction-classes"].rows;
    assert_eq!(rows.len(), 3);
    let (model, folded) = folded();
    let d = model.config.d_model;
    let [_, w_out] = weights_of(&folded, d, 2, 970);
    let wide = |row: &[f32]| row.iter().map(|&w| f64::from(w)).collect::<Vec<f64>>();
    let cosine = |row: &[f32]| {
        let row = wide(row);
        dot(&row, &w_out) / (dot(&row, &row) * dot(&w_out, &w_out)).sqrt()
    };
    let effects: Vec<f64> = folded.unembedding().chunks_exact(d).map(cosine).collect();
    let variance = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64
    };
    let tests = path("experiments/families/token-tests.yaml");
    let text = std::fs::read_to_string(&tests).expect("tests");
    let plan = Plan::make(
        load_spec(&path("experiments/prediction.yaml")).unwrap_or_else(|e| panic!("{e}")),
    )
    .unwrap_or_else(|e| panic!("{e}"));
    let vocabulary = plan.vocabulary().unwrap_or_else(|e| panic!("{e}"));
    let tests = parse_token_tests(&tests, &text, &vocabulary).unwrap_or_else(|e| panic!("{e}"));
    let mut reductions: Vec<(f64, &str)> = Vec::new();
    for test in tests.iter().filter(|test| test.ids.len() >= 2) {
        let of = |wanted: bool| -> Vec<f64> {
            let is_in = |id: &usize| test.ids.contains(id) == wanted;
            (0..effects.len()).filter(is_in).map(|id| effects[id]).collect()
        };
        let (yes, no) = (of(true), of(false));
        let share = yes.len() as f64 / effects.len() as f64;
        let within = share * variance(&yes) + (1.0 - share) * variance(&no);
        reductions.push((1.0 - within / variance(&effects), &test.name));
    }
    reductions.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (row, (reduction, name)) in rows.iter().zip(&reductions) {
        assert_eq!(row[3], *name);
        let got: f64 = row[6].parse().expect("a number");
        assert!((got - reduction).abs() < 1e-6, "{row:?} {reduction}");
    }
}
