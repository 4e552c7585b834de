//! Neurons and heads that specs name: they give what the automatic choice gives for them, and
//! those that a model does not have are refused.

use serde::Serialize;
use serde_yaml::Value;
use tempfile::TempDir;
use universal_neurons::experiment::{self, load_spec};
use universal_neurons::findings::{Figures, Universal};
use universal_neurons::plan::Plan;
use universal_neurons::run::Control;

use crate::support::{path, run, stderr};

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

#[test]
fn a_named_pair_is_ablated_as_a_chosen_one() {
    let chosen = figures("attention", &[]);
    let named = figures("attention", &[("pairs", yaml([["L0.N942", "L1.H0"]]))]);
    let of = |found: &Figures| rows(found, "attention", &["L0.N942", "L1.H0"]);
    assert_eq!(named.tables["attention"].rows.len(), 1);
    assert_eq!(of(&named), of(&chosen));
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
const REFUSED: [(&str, &str, &[&str]); 14] = [
    ("entropy", "neurons: [L2.N348, L3.N0]", &["entropy.neurons[1]", "3 layers of 1024 neurons"]),
    ("entropy", "neurons: [L2.N1, L2.1]", &["entropy.neurons[1]", "L2.N1 is listed twice"]),
    ("entropy", "neurons: [L2.H0]", &["entropy.neurons[0]", "is not a neuron"]),
    ("prediction", "neurons: [L0.N1024]", &["prediction.neurons[0]", "from 0 to 1023"]),
    ("attention", "pairs: [[L0.N1, L1.H99]]", &["attention.pairs[0]", "heads"]),
    ("attention", "pairs: [[L1.N1, L1.H0]]", &["attention.pairs[0]", "layer 2 or later"]),
    ("attention", "pairs: []", &["attention.pairs", "names no pair"]),
    ("attention", "pairs: 0", &["attention.pairs", "1 to 1000"]),
    ("attention", "pairs: many", &["attention.pairs", "or a list of pairs"]),
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
