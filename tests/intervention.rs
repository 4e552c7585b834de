//! Interventions: every action, hook and choice of tokens against a plain forward pass in f64, and
//! mistakes in the settings.

use serde_json::json;
use universal_neurons::Transformer;
use universal_neurons::compare::Tolerance;
use universal_neurons::experiment::{self, load_spec};
use universal_neurons::findings::{Figures, Universal};
use universal_neurons::model::Site;
use universal_neurons::plan::Plan;
use universal_neurons::run::Control;

use crate::support::{Bench, assert_close, path, run, stderr, varied_corpus};

/// f32 forward passes of two small layers, against f64.
const FORWARD: Tolerance = Tolerance { absolute: 2e-5, relative: 1e-4 };

/// A folder with the settings of an intervention, and `tests.yaml`, whose test `vowel` holds for
/// tokens with a vowel.
fn bench(settings: &str, documents: usize) -> Bench {
    let bench = Bench::new();
    bench.write("corpus.jsonl", varied_corpus(documents));
    bench.write("tests.yaml", "tests: [{ name: vowel, family: x, matches: '[aeiou]' }]\n");
    let settings = format!("kind: intervention\nintervention: {{ {settings} }}");
    bench.edit("spec.yaml", "kind: universality", &settings);
    bench
}

fn plan(bench: &Bench) -> Plan {
    let loaded = load_spec(&bench.path().join("spec.yaml")).unwrap_or_else(|e| panic!("{e}"));
    Plan::make(loaded).unwrap_or_else(|e| panic!("{e}"))
}

fn figures(plan: &Plan) -> Figures {
    let universal = Universal(vec![true; plan.reference().layout().n_neurons()]);
    experiment::run(plan, Some(universal), &mut Control::default())
        .unwrap_or_else(|e| panic!("{e}"))
}

/// A change of one activation in the twin: site, layer, neuron, token and value.
type Change<'a> = dyn Fn(Site, usize, usize, usize, f64) -> f64 + 'a;

/// What is done to the activation of one of [`NEURONS`].
type Action<'a> = dyn Fn(usize, f64) -> f64 + 'a;

/// The forward pass of one row by its definition, in f64.
struct Twin {
    /// Residual stream after the last block, `[token][d_model]`.
    resid: Vec<Vec<f64>>,
    /// Attention to the first token and output norm, `[layer][head][token]`.
    heads: Vec<Vec<Vec<[f64; 2]>>>,
}

fn norm(x: &[f64], gain: &[f32], bias: &[f32], eps: f32) -> Vec<f64> {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let scale = (x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n + f64::from(eps)).sqrt();
    let of = |i: usize| (x[i] - mean) / scale * f64::from(gain[i]) + f64::from(bias[i]);
    (0..x.len()).map(of).collect()
}

fn linear(x: &[f64], weight: &[f32], bias: &[f32]) -> Vec<f64> {
    let out = bias.len();
    let of = |c: usize| {
        let sum: f64 = x.iter().enumerate().map(|(r, v)| v * f64::from(weight[r * out + c])).sum();
        sum + f64::from(bias[c])
    };
    (0..out).map(of).collect()
}

fn gelu_new(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

impl Twin {
    fn of(model: &Transformer, ids: &[u32], change: &Change) -> Self {
        let (c, w) = (&model.config, &model.weights);
        let (d, n) = (c.d_model, c.d_head());
        let start = |(p, &id): (usize, &u32)| {
            let at = |i: usize| w.embed[id as usize * d + i] + w.pos_embed[p * d + i];
            (0..d).map(|i| f64::from(at(i))).collect::<Vec<f64>>()
        };
        let mut resid: Vec<Vec<f64>> = ids.iter().enumerate().map(start).collect();
        let mut heads = Vec::new();
        for (layer, block) in w.blocks.iter().enumerate() {
            let normed =
                |x: &Vec<f64>| norm(x, &block.ln_1.gain, &block.ln_1.bias, c.layer_norm_eps);
            let read = |x: &Vec<f64>| linear(&normed(x), &block.qkv.weight, &block.qkv.bias);
            let qkv: Vec<Vec<f64>> = resid.iter().map(read).collect();
            let part = |t: usize, which: usize, h: usize| &qkv[t][which * d + h * n..][..n];
            let mut of_heads = vec![Vec::new(); c.n_heads];
            for (t, resid) in resid.iter_mut().enumerate() {
                let mut mixed = Vec::new();
                for (h, of_head) in of_heads.iter_mut().enumerate() {
                    let dot = |s: usize| -> f64 {
                        part(t, 0, h).iter().zip(part(s, 1, h)).map(|(q, k)| q * k).sum()
                    };
                    let scale = f64::from(c.attention_scale(layer));
                    let raw: Vec<f64> = (0..=t).map(|s| (dot(s) * scale).exp()).collect();
                    let total: f64 = raw.iter().sum();
                    let z =
                        |i: usize| (0..=t).map(|s| raw[s] * part(s, 2, h)[i]).sum::<f64>() / total;
                    let z: Vec<f64> = (0..n).map(z).collect();
                    let rows = &block.attn_out.weight[h * n * d..(h + 1) * n * d];
                    let out = linear(&z, rows, &vec![0.0; d]);
                    of_head.push([raw[0] / total, out.iter().map(|v| v * v).sum::<f64>().sqrt()]);
                    mixed.extend(z);
                }
                add(resid, &linear(&mixed, &block.attn_out.weight, &block.attn_out.bias));
            }
            heads.push(of_heads);
            for (t, x) in resid.iter_mut().enumerate() {
                let input = norm(x, &block.ln_2.gain, &block.ln_2.bias, c.layer_norm_eps);
                let mut act = linear(&input, &block.mlp_in.weight, &block.mlp_in.bias);
                for (i, a) in act.iter_mut().enumerate() {
                    *a = gelu_new(change(Site::MlpPre, layer, i, t, *a));
                    *a = change(Site::MlpPost, layer, i, t, *a);
                }
                add(x, &linear(&act, &block.mlp_out.weight, &block.mlp_out.bias));
            }
        }
        Self { resid, heads }
    }

    /// Loss, entropy, rank, reciprocal rank and final scale of the prediction after token `t`, and
    /// log p of every token.
    fn prediction(&self, model: &Transformer, t: usize, next: u32) -> ([f64; 5], Vec<f64>) {
        let (c, w, x) = (&model.config, &model.weights, &self.resid[t]);
        let normed = norm(x, &w.ln_final.gain, &w.ln_final.bias, c.layer_norm_eps);
        let logit =
            |row: &[f32]| -> f64 { row.iter().zip(&normed).map(|(u, v)| f64::from(*u) * v).sum() };
        let logits: Vec<f64> = w.unembedding().chunks_exact(c.d_model).map(logit).collect();
        let total = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
        let log_p: Vec<f64> = logits.iter().map(|l| l - total).collect();
        let own = log_p[next as usize];
        let rank = log_p.iter().filter(|p| **p > own).count() as f64 + 1.0;
        let entropy = -log_p.iter().map(|p| p.exp() * p).sum::<f64>();
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let var = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        ([-own, entropy, rank, 1.0 / rank, (var + f64::from(c.layer_norm_eps)).sqrt()], log_p)
    }
}

/// The means of the measures over all predictions and over those at vowels, KL last, and of the
/// attention to the first token and output norm of L1.H0 over the second half of rows.
fn means(plan: &Plan, model: &Transformer, vowels: &[bool], change: &Change) -> Vec<f64> {
    let mut sums = [[0.0; 6]; 2];
    let (mut n, mut heads, mut destinations) = ([0.0; 2], [0.0; 2], 0.0);
    for row in &plan.tokens.rows {
        let ids = &row.ids;
        let clean = Twin::of(model, ids, &|_, _, _, _, a| a);
        let tested = |t: usize| t > 0 && vowels[ids[t] as usize];
        let at_tested =
            |site, layer, i, t, a| if tested(t) { change(site, layer, i, t, a) } else { a };
        let changed = Twin::of(model, ids, &at_tested);
        for t in 0..ids.len() - 1 {
            let (measures, q) = changed.prediction(model, t, ids[t + 1]);
            let (_, p) = clean.prediction(model, t, ids[t + 1]);
            let kl: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
            for (of, counts) in [true, tested(t)].into_iter().enumerate() {
                if counts {
                    n[of] += 1.0;
                    add(&mut sums[of], &[&measures[..], &[kl]].concat());
                }
            }
        }
        for t in ids.len() / 2..ids.len() {
            add(&mut heads, &changed.heads[1][0][t]);
            destinations += 1.0;
        }
    }
    let predictions = (0..2).flat_map(|of| sums[of].map(|s| s / n[of]));
    predictions.chain(heads.map(|s| s / destinations)).collect()
}

const NEURONS: [(usize, usize); 3] = [(0, 3), (0, 17), (1, 5)];

/// Every action on three neurons together, before or after GELU, at tokens with a vowel.
#[test]
fn every_action_is_what_a_plain_forward_pass_gives() {
    for (hook, site) in [("pre", Site::MlpPre), ("post", Site::MlpPost)] {
        let bench = bench(
            &format!(
                "sets: [{{ name: some, neurons: [L0.N3, L0.N17, L1.N5] }}], hook: {hook}, \
                 heads: [L1.H0], resamples: 20, where: {{ tests: tests.yaml, test: vowel }}, \
                 changes: [{{ action: set, values: [3, -0.5] }}, {{ action: add, values: [2] }}, \
                 {{ action: scale, values: [-4] }}, {{ action: zero }}, {{ action: mean }}, \
                 {{ action: clamp, ranges: [[null, 0], [0, null], [-0.25, 0.125]] }}]"
            ),
            9,
        );
        let plan = plan(&bench);
        let found = figures(&plan);
        let model = Transformer::load(&bench.path().join("a")).unwrap_or_else(|e| panic!("{e}"));
        let vocabulary = plan.vocabulary().unwrap_or_else(|e| panic!("{e}"));
        let vowels: Vec<bool> =
            vocabulary.iter().map(|t| t.contains(['a', 'e', 'i', 'o', 'u'])).collect();
        let mean = mean_of(&plan, &model, site);
        let actions: [(&str, &str, &Action); 9] = [
            ("set", "3", &|_, _| 3.0),
            ("set", "-0.5", &|_, _| -0.5),
            ("add", "2", &|_, a| a + 2.0),
            ("scale", "-4", &|_, a| -4.0 * a),
            ("zero", "", &|_, _| 0.0),
            ("mean", "", &|i, _| mean[i]),
            ("clamp", "at most 0", &|_, a| a.min(0.0)),
            ("clamp", "at least 0", &|_, a| a.max(0.0)),
            ("clamp", "-0.25 to 0.125", &|_, a| a.clamp(-0.25, 0.125)),
        ];
        let table = &found.tables["intervention"];
        let unchanged = means(&plan, &model, &vowels, &|_, _, _, _, a| a);
        for (action, value, change) in
            [("none", "", (&|_, a| a) as &Action)].into_iter().chain(actions)
        {
            let own = |of: Site, layer, i, _, a| {
                let known = NEURONS.iter().position(|neuron| *neuron == (layer, i));
                known.filter(|_| of == site).map_or(a, |i| change(i, a))
            };
            let want = means(&plan, &model, &vowels, &own);
            let is = |row: &usize| {
                table.cell(*row, "action") == action && table.cell(*row, "value") == value
            };
            let rows: Vec<usize> = (0..table.rows.len()).filter(is).collect();
            let column =
                |name: &str| rows.iter().map(|&row| table.numbers(name)[row]).collect::<Vec<_>>();
            let what = format!("{hook} {action} {value}");
            assert_close(&what, column("mean"), &want, FORWARD);
            if action != "none" {
                let differences: Vec<f64> =
                    want.iter().zip(&unchanged).map(|(a, b)| a - b).collect();
                assert_close(&what, column("change"), &differences, FORWARD);
                assert!(differences[0].abs() > 1e-4, "{what} changes the loss");
            }
        }
    }
}

/// The mean activation of each of [`NEURONS`] over the tokens that count.
fn mean_of(plan: &Plan, model: &Transformer, site: Site) -> [f64; 3] {
    let sums = std::cell::RefCell::new([0.0; 3]);
    let mut tokens = 0.0;
    for row in &plan.tokens.rows {
        let counts = |t: usize| plan.tokens.counts(row.ids[t]);
        tokens += (0..row.ids.len()).filter(|&t| counts(t)).count() as f64;
        Twin::of(model, &row.ids, &|of, layer, i, t, a| {
            let known = NEURONS.iter().position(|neuron| *neuron == (layer, i));
            if let Some(i) = known.filter(|_| of == site && counts(t)) {
                sums.borrow_mut()[i] += a;
            }
            a
        });
    }
    sums.into_inner().map(|sum| sum / tokens)
}

/// Each neuron alone gives what a set of that neuron gives, and intervals are over documents.
#[test]
fn neurons_are_changed_alone_and_documents_resampled() {
    let changes = "changes: [{ action: zero }], resamples: 30";
    let figures_of = |settings: &str, documents: usize| {
        figures(&plan(&bench(&format!("{settings}, {changes}"), documents)))
    };
    let each = figures_of("sets: [{ name: both, neurons: [L0.N3, L1.N5] }], each: true", 8);
    let two = figures_of("sets: [{ name: x, neurons: [L0.N3] }, { name: y, neurons: [L1.N5] }]", 8);
    assert_eq!(each.named, two.named);
    let names = |found: &Figures| {
        let mut names: Vec<String> =
            found.tables["intervention"].text("set").into_iter().map(String::from).collect();
        names.dedup();
        names
    };
    assert_eq!(names(&each), ["", "both: L0.N3", "both: L1.N5"]);
    let spread = |found: &Figures| {
        let table = &found.tables["intervention"];
        let (low, high) = (table.numbers("change_low"), table.numbers("change_high"));
        let last = table.rows.len() - 6;
        high[last] - low[last]
    };
    assert!(spread(&each) > 0.0);
    // One document of several rows is resampled whole, so its mean never changes.
    let one = bench(&format!("sets: [{{ name: x, neurons: [L0.N3] }}], {changes}"), 1);
    one.edit("spec.yaml", "context: 12", "context: 4");
    let one = plan(&one);
    assert!(one.tokens.rows.len() > 1);
    assert_eq!(spread(&figures(&one)), 0.0);
}

/// Predictions made at the beginning-of-sequence token can be left out, as in the authors' code.
#[test]
fn predictions_at_the_beginning_of_a_sequence_are_left_out_if_asked() {
    let settings =
        "sets: [{ name: x, neurons: [L0.N3] }], changes: [{ action: zero }], resamples: 2";
    let (all, fewer) = (bench(settings, 8), bench(&format!("{settings}, count_bos: false"), 8));
    let (with, without) = (plan(&all), plan(&fewer));
    let tokens = |found: &Figures| found.tables["intervention"].numbers("tokens")[0];
    let rows = with.tokens.rows.len() as f64;
    assert_eq!(tokens(&figures(&with)) - tokens(&figures(&without)), rows);
}

/// Settings, and what must be said about them.
const REFUSED: [(&str, &[&str]); 15] = [
    ("changes: [{ action: zero }]", &["intervention", "missing field `sets`"]),
    ("sets: [], changes: [{ action: zero }]", &["intervention.sets", "has 0 items"]),
    ("sets: [{ name: x, neurons: [L2.N0] }], changes: [{ action: zero }]", &["2 layers of 40"]),
    ("sets: [{ name: x }], changes: [{ action: zero }]", &["intervention.sets[0]", "exactly one"]),
    ("{x}, changes: []", &["intervention.changes", "has 0 items"]),
    ("{x}, changes: [{ action: grow }]", &["intervention.changes[0].action", "unknown variant"]),
    ("{x}, changes: [{ action: set }]", &["intervention.changes[0]", "`set` has no values"]),
    ("{x}, changes: [{ action: zero, values: [1] }]", &["`zero` takes no values", "leave them"]),
    ("{x}, changes: [{ action: clamp, ranges: [[2, 1]] }]", &["ranges[0]", "2 is above 1"]),
    ("{x}, changes: [{ action: clamp, ranges: [[null, null]] }]", &["has no end"]),
    ("{x}, changes: [{ action: add, values: [.nan] }]", &["values[0]", "a finite number"]),
    ("{x}, {zero}, heads: [L1.H9]", &["intervention.heads[0]", "heads"]),
    ("{x}, {zero}, where: { tests: tests.yaml, test: consonant }", &["`consonant` is not a test"]),
    ("{x}, {zero}, where: { tests: none.yaml, test: vowel }", &["none.yaml"]),
    ("{x}, {zero}, where: { tests: tests.yaml, test: digit }", &["holds for no token of the text"]),
];

#[test]
fn mistakes_in_the_settings_are_refused() {
    for (settings, wanted) in REFUSED {
        let settings = settings
            .replace("{x}", "sets: [{ name: x, neurons: [L0.N3] }]")
            .replace("{zero}", "changes: [{ action: zero }]");
        let bench = bench(&settings, 3);
        bench.edit(
            "tests.yaml",
            "tests: [",
            "tests: [{ name: digit, family: x, matches: '^7$' }, ",
        );
        bench.refuses(wanted);
        let checked = run(bench.path(), &["validate", "spec.yaml"]);
        let said = stderr(&checked);
        assert_eq!(checked.status.code(), Some(2), "{settings}: {said}");
        assert!(wanted.iter().all(|part| said.contains(part)), "{settings}: {said}");
    }
}

/// The paper's interventions on 42 neurons are one spec: 42 neurons alone, three actions each.
#[test]
fn the_papers_interventions_are_one_spec() {
    let file = path("experiments/paper/stanford-gpt2-medium/intervention.yaml");
    let spec = load_spec(&file).unwrap_or_else(|e| panic!("{e}")).spec;
    let settings = serde_json::to_value(&spec.settings["intervention"]).expect("settings");
    let sets = settings["sets"].as_array().expect("sets");
    let neurons: usize = sets.iter().map(|s| s["neurons"].as_array().expect("neurons").len()).sum();
    assert_eq!((neurons, &settings["each"], &settings["hook"]), (42, &json!(true), &json!("pre")));
    let actions: Vec<&str> = settings["changes"]
        .as_array()
        .expect("changes")
        .iter()
        .map(|change| change["action"].as_str().expect("an action"))
        .collect();
    assert_eq!(actions, ["zero", "clamp"]);
    assert_eq!(settings["changes"][1]["ranges"], json!([[null, 0.0], [0.0, null]]));
}
