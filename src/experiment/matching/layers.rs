//! How similar layers of two models are: by linear CKA, and by where best matches lie.

use super::matches::{Matches, place_among_partners};
use crate::correlation::excess::add_depth;
use crate::findings::{Figures, Findings};
use crate::plan::Plan;
use crate::stats::percentile::mean;
use crate::table::fixed_cell;

/// Columns of `layer-similarity.csv`.
const HEADER: [&str; 6] = ["model", "partner", "layer", "partner_layer", "cka", "best_matches"];

/// Adds the table of every pair of layers of every two models, and the figures about CKA if there is
/// one.
pub fn add(figures: &mut Figures, plan: &Plan, matches: &Matches, findings: &[&Findings]) {
    let pairs: Vec<ComparedLayers> = (0..matches.models())
        .flat_map(|x| matches.others(x).map(move |y| [x, y]))
        .flat_map(|pair| pairs_of(plan, matches, findings, pair))
        .collect();
    let cka = |same: bool| {
        mean(pairs.iter().filter(|p| (p.layers[0] == p.layers[1]) == same).map(|p| p.cka))
    };
    let [same, other] = [true, false].map(cka);
    if same.is_finite() {
        figures.add("layer-cka", [same, other]);
        figures.add("layer-cka-gap", [same - other]);
        figures.lines.push(format!(
            "linear CKA of layers at the same depth: {same:.3} on average; of other pairs: {other:.3}"
        ));
    } else {
        let needs = "a rotation baseline and no screening";
        figures.lines.push(format!("linear CKA of layers: not computed, which needs {needs}"));
    }
    let row = |pair: &ComparedLayers| {
        let names = pair.models.map(|model| plan.models[model].name.clone());
        let layers = pair.layers.map(|layer| layer.to_string());
        let values = [pair.cka, pair.best].map(|value| fixed_cell(value, 6));
        names.into_iter().chain(layers).chain(values).collect()
    };
    figures.add_table("layer-similarity", &HEADER, pairs.iter().map(row));
}

/// A layer of one model and a layer of another.
struct ComparedLayers {
    models: [usize; 2],
    layers: [usize; 2],
    /// Linear CKA; NaN if it was not computed.
    cka: f64,
    /// Share of the first layer's neurons whose best match lies in the second.
    best: f64,
}

fn pairs_of(
    plan: &Plan,
    matches: &Matches,
    findings: &[&Findings],
    [x, y]: [usize; 2],
) -> Vec<ComparedLayers> {
    let [of_x, of_y] = [x, y].map(|model| plan.models[model].layout());
    let cka = &findings[x].partners[place_among_partners([x, y])].cka;
    let mut best = vec![vec![0.0; of_y.n_layers]; of_x.n_layers];
    let found = (0..matches.neurons(x)).map(|i| matches.best([x, y], i));
    add_depth(&mut best, 1.0 / of_x.d_mlp as f64, [of_x, of_y], found);
    let all = (0..of_x.n_layers).flat_map(|a| (0..of_y.n_layers).map(move |b| [a, b]));
    let pair = |[a, b]: [usize; 2]| ComparedLayers {
        models: [x, y],
        layers: [a, b],
        cka: cka.get(a).map_or(f64::NAN, |row| row[b]),
        best: best[a][b],
    };
    all.map(pair).collect()
}
