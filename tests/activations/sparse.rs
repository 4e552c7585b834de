//! Sparse activations against SciPy.

use std::collections::{BTreeMap, BTreeSet};

use tempfile::TempDir;

use super::{PERMUTED, members, run_in, spec, table, universal};
use crate::support::path;

/// The golden matrices of SciPy.
#[derive(serde::Deserialize)]
struct Golden {
    best: Vec<usize>,
    rho: Vec<f64>,
    mean: f64,
    var: f64,
    shared: Vec<usize>,
    statistics: BTreeMap<String, Vec<f64>>,
}

#[test]
fn sparse_features_have_the_correlations_of_numpy() {
    let folder = TempDir::new().expect("folder");
    let golden: Golden = crate::support::expected("golden/sparse/expected.json");
    let [a, b] = ["a", "b"]
        .map(|name| path("expected/golden/sparse").join(name).with_extension("safetensors"));
    let run = run_in(folder.path(), "sparse", &spec(&members(&[("a", &a), ("b", &b)]), PERMUTED));
    let (neurons, extra) = (table(&run, "neurons.csv"), table(&run, "neurons-extra.csv"));
    assert_eq!(neurons["mean_corr"].len(), golden.rho.len() + 1);
    assert!(neurons["mean_corr"].last().expect("a row").is_empty(), "it is never active");
    for (i, (rho, best)) in golden.rho.iter().zip(&golden.best).enumerate() {
        let own: f64 = neurons["mean_corr"][i].parse().expect("a number");
        assert!((own - rho).abs() < 1e-9, "feature {i}: {own} {rho}");
        assert_eq!(extra["best_b"][i], format!("L0.N{best}"), "feature {i}");
    }
    for (column, values) in &golden.statistics {
        for (own, value) in neurons[column].iter().zip(values) {
            let own: f64 = own.parse().expect("a number");
            assert!((own - value).abs() < 1e-9, "{column}: {own} {value}");
        }
    }
    let planted: BTreeSet<usize> = (0..golden.shared.len()).collect();
    assert!(universal(&neurons).is_superset(&planted), "{:?}", universal(&neurons));
    let text = std::fs::read_to_string(run.join("correlations.json")).expect("correlations");
    let found: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for (name, value) in [("mean", golden.mean), ("var", golden.var)] {
        let own = found[0]["rho"][name].as_f64().expect("a number");
        assert!((own - value).abs() < 1e-9, "{name}: {own} {value}");
    }
    let summary = std::fs::read_to_string(run.join("summary.json")).expect("a summary");
    assert!(summary.contains("sparse activations are not computed"), "{summary}");
}
