//! The tables that figures of the paper are drawn from, against their definitions in f64.

use serde_yaml::Value;
use universal_neurons::Transformer;
use universal_neurons::experiment::{self, load_spec};
use universal_neurons::findings::{Figures, Universal};
use universal_neurons::model::fold::preprocess;
use universal_neurons::model::weights::Weights;
use universal_neurons::model::{HookPoint, Site};
use universal_neurons::plan::Plan;
use universal_neurons::record::{BestMatch, TextTable};
use universal_neurons::run::{Control, ModelMatches, Session};
use universal_neurons::table::NeuronId;

use crate::support::path;

/// Numbers that are computed in another order may differ by this much.
const ROUNDING: f64 = 1e-9;

fn plan(kind: &str, changes: &[(&str, Value)]) -> Plan {
    let spec = path("experiments").join(format!("{kind}.yaml"));
    let mut loaded = load_spec(&spec).unwrap_or_else(|e| panic!("{e}"));
    (loaded.spec.corpus.limit, loaded.spec.corpus.sample) = (Some(4), None);
    let settings = loaded.spec.settings.get_mut(kind).expect("settings");
    changes.iter().for_each(|(key, value)| settings[*key] = value.clone());
    Plan::make(loaded).unwrap_or_else(|e| panic!("{e}"))
}

/// Runs an experiment without a study: no neuron is universal.
fn figures(plan: &Plan, matches: Vec<ModelMatches>) -> Figures {
    let none = Universal(vec![false; plan.reference().layout().n_neurons()]);
    let mut control = Control::default();
    let session = Session::new(plan, &mut control).with_universal(Some(none));
    experiment::run_in(&mut session.with_matches(matches)).unwrap_or_else(|e| panic!("{e}"))
}

/// A model of the plan and its preprocessed weights.
fn folded(plan: &Plan, model: usize) -> (Transformer, Weights) {
    let folder = &plan.models[model].folder;
    let model = Transformer::load(folder).unwrap_or_else(|e| panic!("{e}"));
    let folded = preprocess(&model.weights, &model.config, &plan.spec.weights);
    (model, folded)
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn w_out(folded: &Weights, d: usize, id: NeuronId) -> Vec<f64> {
    wide(&folded.blocks[id.layer].mlp_out.weight[id.neuron * d..][..d])
}

/// Checks that a column of counts is the histogram of some values: at each edge, the values below it
/// are counted before it, except for those that rounding moves over the edge.
fn assert_counts(table: &TextTable, column: &str, rows: &[usize], values: &[f64]) {
    let number =
        |row: &usize, column: &str| -> f64 { table.cell(*row, column).parse().expect("one") };
    let mut counted = 0.0;
    for row in rows {
        let edge = number(row, "from");
        let below = |edge: f64| values.iter().filter(|v| **v < edge).count() as f64;
        assert!((below(edge - ROUNDING)..=below(edge + ROUNDING)).contains(&counted), "{edge}");
        counted += number(row, column);
    }
    assert_eq!(counted, values.len() as f64, "all values are counted");
}

/// Fig. 5, 6: neurons of the reference model and their matches in two other models, one of which has
/// no match for one of them.
#[test]
fn effects_on_the_vocabulary_are_counted_as_they_are_defined() {
    let names = ["L0.N3", "L2.N970"].map(Value::from).to_vec();
    let plan = plan("prediction", &[("neurons", Value::from(names))]);
    let own = [NeuronId { layer: 0, neuron: 3 }, NeuronId { layer: 2, neuron: 970 }];
    let layout = plan.reference().layout();
    let matched = |model: usize, best: [Option<NeuronId>; 2]| {
        let mut all = vec![None; layout.n_neurons()];
        for (own, best) in own.iter().zip(best) {
            all[own.index(layout.d_mlp)] = best.map(|id| BestMatch { id, rho: 0.5, baseline: 0.1 });
        }
        ModelMatches { model, best: all }
    };
    let other = NeuronId { layer: 1, neuron: 17 };
    let matches = [matched(1, [Some(other), Some(own[0])]), matched(3, [None, Some(other)])];
    let found = figures(&plan, matches.to_vec());
    let table = &found.tables["vocabulary-effects"];
    let want = [(0, 0, own[0]), (0, 1, other), (1, 0, own[1]), (1, 1, own[0]), (1, 3, other)];
    let rows: Vec<usize> = (0..table.rows.len()).collect();
    let groups: Vec<&[usize]> = rows
        .chunk_by(|a, b| ["neuron", "model"].iter().all(|c| table.cell(*a, c) == table.cell(*b, c)))
        .collect();
    assert_eq!(groups.len(), want.len());
    for (rows, (neuron, model, id)) in groups.into_iter().zip(want) {
        let shown = ["neuron", "model", "match"].map(|c| table.cell(rows[0], c));
        let names = [own[neuron], id].map(|id| id.to_string());
        let [of, matched] = names.each_ref().map(String::as_str);
        assert_eq!(shown, [of, plan.models[model].name.as_str(), matched]);
        let (model, folded) = folded(&plan, model);
        let d = model.config.d_model;
        let w_out = w_out(&folded, d, id);
        let cosine = |u: &[f32]| {
            let u = wide(u);
            dot(&u, &w_out) / (dot(&u, &u) * dot(&w_out, &w_out)).sqrt()
        };
        let cosines: Vec<f64> = folded.unembedding().chunks_exact(d).map(cosine).collect();
        assert_counts(table, "tokens", rows, &cosines);
    }
}

/// Without matches, only the reference model is in the table.
#[test]
fn the_strongest_neuron_of_each_role_is_shown() {
    let found = figures(&plan("prediction", &[]), Vec::new());
    let effects = &found.tables["vocabulary-effects"];
    let all = &found.tables["prediction"];
    for (role, size) in
        [("prediction", "vocab_kurt"), ("suppression", "vocab_kurt"), ("partition", "vocab_var")]
    {
        let of_role = (0..all.rows.len()).filter(|&row| all.cell(row, "kind") == role);
        let sizes = all.numbers(size);
        let best = of_role.max_by(|&a, &b| sizes[a].total_cmp(&sizes[b])).expect(role);
        let name = format!("L{}.N{}", all.cell(best, "layer"), all.cell(best, "neuron"));
        let row = (0..effects.rows.len()).find(|&row| effects.cell(row, "role") == role);
        assert_eq!(effects.cell(row.expect(role), "neuron"), name, "{role}");
    }
    assert!(effects.text("model").iter().all(|model| *model == "a"));
}

/// The score of every neuron with every head of a later layer: `w_outᵀ W_Qᵀ k_BOS`, w_out of unit norm.
fn scores(model: &Transformer, folded: &Weights) -> Vec<f64> {
    let (d, d_mlp, heads) = (model.config.d_model, model.config.d_mlp(), model.config.n_heads);
    let mut first = Vec::new();
    let mut hooks = |point: HookPoint, values: &mut [f32], _: usize| {
        if point.site == Site::ResidPre {
            first.push(wide(&values[..d]));
        }
    };
    model.forward(&[&[model.config.bos_token_id]], &mut hooks);
    let mut scores = Vec::new();
    for (layer, x) in first.iter().enumerate().skip(1) {
        let block = &model.weights.blocks[layer];
        let (gain, bias) = (wide(&block.ln_1.gain), wide(&block.ln_1.bias));
        let centred = |x: &[f64]| -> Vec<f64> {
            let mean = x.iter().sum::<f64>() / d as f64;
            x.iter().zip(&gain).map(|(v, g)| (v - mean) * g).collect()
        };
        let column = |x: &[f64], c: usize| -> f64 {
            (0..d).map(|i| x[i] * f64::from(block.qkv.weight[i * 3 * d + c])).sum()
        };
        let mean = x.iter().sum::<f64>() / d as f64;
        let var = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / d as f64;
        let scale = (var + f64::from(model.config.layer_norm_eps)).sqrt();
        let normed: Vec<f64> = centred(x).iter().zip(&bias).map(|(v, b)| v / scale + b).collect();
        let key: Vec<f64> =
            (d..2 * d).map(|c| column(&normed, c) + f64::from(block.qkv.bias[c])).collect();
        for neuron in 0..layer * d_mlp {
            let w_out = w_out(folded, d, NeuronId::of(neuron, d_mlp));
            let moved = centred(&w_out);
            let query: Vec<f64> = (0..d).map(|c| column(&moved, c)).collect();
            let norm = dot(&w_out, &w_out).sqrt();
            let (queries, keys) = (query.chunks(d / heads), key.chunks(d / heads));
            scores.extend(queries.zip(keys).map(|(q, k)| dot(q, k) / norm));
        }
    }
    scores
}

/// Fig. 8, 26: the scores of all pairs, and single tokens of the ablations.
#[test]
fn scores_of_all_pairs_are_counted_and_tokens_add_up_to_ablations() {
    let plan = plan("attention", &[("pairs", Value::from(3)), ("directions", Value::from(50))]);
    let found = figures(&plan, Vec::new());
    let table = &found.tables["attention-scores"];
    let rows: Vec<usize> = (0..table.rows.len()).collect();
    let (model, folded) = folded(&plan, 0);
    assert_counts(table, "pairs", &rows, &scores(&model, &folded));
    let heads = (model.config.n_layers - 1) * model.config.n_heads;
    assert_eq!(table.numbers("directions").iter().sum::<f64>(), (50 * heads) as f64);

    let (tokens, ablations) = (&found.tables["attention-tokens"], &found.tables["attention"]);
    assert_eq!(ablations.rows.len(), 3);
    for row in 0..ablations.rows.len() {
        let number = |column: &str| -> f64 { ablations.cell(row, column).parse().expect("one") };
        let pair = [ablations.cell(row, "neuron"), ablations.cell(row, "head")].join(" ");
        let of: Vec<usize> =
            (0..tokens.rows.len()).filter(|&t| tokens.cell(t, "pair") == pair).collect();
        let column = |name: &str| -> Vec<f64> {
            of.iter().map(|&t| tokens.cell(t, name).parse().expect("one")).collect()
        };
        // So little text that every destination token is recorded.
        assert_eq!(of.len() as f64, number("tokens"), "{pair}");
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let [clean, without] = ["bos_attention", "bos_attention_without"].map(column);
        let [norm, norm_without] = ["output_norm", "output_norm_without"].map(column);
        let change = mean(&without) - mean(&clean);
        // Cells have six digits after the decimal point.
        assert!((change - number("bos_attention_change")).abs() < 2e-6, "{pair}: {change}");
        let change = mean(&norm_without) - mean(&norm);
        assert!((change - number("output_norm_change")).abs() < 2e-6, "{pair}: {change}");
        let activation = column("activation");
        let centred = |v: &[f64]| v.iter().map(|x| x - mean(v)).collect::<Vec<f64>>();
        let (x, y) = (centred(&activation), centred(&clean));
        let slope = dot(&x, &y) / dot(&x, &x);
        assert!((slope - number("slope_bos_attention")).abs() < 1e-4, "{pair}: {slope}");
    }
}
