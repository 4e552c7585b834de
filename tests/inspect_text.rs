//! `inspect --text`: activations and predictions on a text that a user gives.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;
use universal_neurons::Transformer;
use universal_neurons::compare::Tolerance;
use universal_neurons::model::Site;
use universal_neurons::model::capture::{Activations, Capture};

use crate::support::{Bench, assert_close, path, program, run, stderr};

/// f32 forward passes of a small model.
const FORWARD: Tolerance = Tolerance { absolute: 1e-5, relative: 1e-4 };
const TEXT: &str = "the quick brown fox, jumps";

fn inspect(bench: &Bench, arguments: &[&str]) -> String {
    let all = [&["inspect", "L1.N5", "--spec", "spec.yaml"], arguments].concat();
    let output = run(bench.path(), &all);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn json(bench: &Bench, arguments: &[&str]) -> Value {
    let all = [arguments, &["--json"]].concat();
    serde_json::from_str(&inspect(bench, &all)).expect("JSON")
}

/// The rows of the text: at most 11 tokens each, since the context of the spec is 12.
fn rows(model: &Transformer) -> Vec<Vec<u32>> {
    let file = path("expected/golden/tiny/tokenizer.json");
    let tokenizer = tokenizers::Tokenizer::from_file(file).expect("a tokenizer");
    let ids = tokenizer.encode(TEXT, false).expect("tokens").get_ids().to_vec();
    let bos = model.config.bos_token_id;
    ids.chunks(11).map(|part| [&[bos], part].concat()).collect()
}

/// log p of every token after each token of a row.
fn log_p(model: &Transformer, row: &[u32]) -> Vec<Vec<f64>> {
    let logits = model.logits(&model.forward(&[row], &mut ()));
    let of = |logits: &[f32]| {
        let total = logits.iter().map(|l| f64::from(*l).exp()).sum::<f64>().ln();
        logits.iter().map(|l| f64::from(*l) - total).collect()
    };
    logits.chunks_exact(model.config.d_vocab).map(of).collect()
}

#[test]
fn a_text_has_the_activations_of_the_forward_pass() {
    let bench = Bench::new();
    let found = json(&bench, &["--text", TEXT]);
    let model = Transformer::load(&bench.path().join("a")).unwrap_or_else(|e| panic!("{e}"));
    let (mut pre, mut post) = (Vec::new(), Vec::new());
    for row in rows(&model) {
        let n = 2 * model.config.d_mlp();
        let (mut all_pre, mut all_post) = (Activations::new(n), Activations::new(n));
        let keep = vec![true; row.len()];
        let targets = vec![(Site::MlpPre, &mut all_pre), (Site::MlpPost, &mut all_post)];
        model.forward(&[&row], &mut Capture::new(&keep, targets));
        let column = |all: Activations| {
            let tokens = all.values.chunks_exact(n).skip(1);
            tokens.map(|token| f64::from(token[n / 2 + 5])).collect::<Vec<f64>>()
        };
        pre.extend(column(all_pre));
        post.extend(column(all_post));
    }
    let tokens = found["tokens"].as_array().expect("tokens");
    let values =
        |name: &str| tokens.iter().map(|t| t[name].as_f64().expect("a number")).collect::<Vec<_>>();
    assert_close("pre", values("pre"), &pre, FORWARD);
    assert_close("post", values("post"), &post, FORWARD);
    let text: String = tokens.iter().map(|t| t["token"].as_str().expect("text")).collect();
    assert_eq!(text, TEXT);
    assert_eq!((&found["neuron"], &found["model"]), (&"L1.N5".into(), &"a".into()));
    assert!(found.get("without").is_none());
}

/// A model without neurons is the model whose output weights of these neurons are 0.
#[test]
fn a_prediction_without_neurons_is_that_of_a_model_that_lacks_them() {
    let bench = Bench::new();
    let found = json(&bench, &["--text", TEXT, "--without", "L0.N3", "L1.N7"]);
    let model = Transformer::load(&bench.path().join("a")).unwrap_or_else(|e| panic!("{e}"));
    let mut less = model.clone();
    let d = model.config.d_model;
    for (layer, neuron) in [(0, 3), (1, 7)] {
        less.weights.blocks[layer].mlp_out.weight[neuron * d..][..d].fill(0.0);
    }
    let (mut sums, mut n, mut last) = ([0.0; 3], 0.0, Vec::new());
    for row in rows(&model) {
        let (p, q) = (log_p(&model, &row), log_p(&less, &row));
        for (t, &next) in row.iter().enumerate().skip(1) {
            let (p, q) = (&p[t - 1], &q[t - 1]);
            sums[0] -= p[next as usize];
            sums[1] -= q[next as usize];
            sums[2] += p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
            n += 1.0;
        }
        last = p[row.len() - 1]
            .iter()
            .zip(&q[row.len() - 1])
            .map(|(p, q)| [p.exp(), q.exp()])
            .collect();
    }
    let without = &found["without"];
    let got = ["loss", "loss_without", "kl"].map(|name| without[name].as_f64().expect("a number"));
    assert_close("means", got, &sums.map(|sum| sum / n), FORWARD);
    assert!(sums[2] > 0.0);
    let next = without["next"].as_array().expect("a list");
    let mut order = last.clone();
    order.sort_by(|a: &[f64; 2], b| b[0].total_cmp(&a[0]));
    let first = ["probability", "probability_without"]
        .map(|name| next[0][name].as_f64().expect("a number"));
    assert_close("the most probable token", first, &order[0], FORWARD);
    assert!(next.len() >= 5);
}

#[test]
fn a_file_and_standard_input_are_read_as_a_text() {
    let bench = Bench::new();
    bench.write("mine.txt", TEXT);
    let plain = inspect(&bench, &["--text", TEXT]);
    assert_eq!(inspect(&bench, &["--file", "mine.txt"]), plain);
    let arguments = ["inspect", "L1.N5", "--spec", "spec.yaml", "--file", "-"];
    let mut child = program(bench.path(), &arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("a pipe").write_all(TEXT.as_bytes()).expect("write");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8(output.stdout).expect("UTF-8"), plain);
}

/// Tokens are shaded if colours are wanted, never for a pipe, and the text is the same.
#[test]
fn colours_are_for_terminals() {
    let bench = Bench::new();
    let plain = inspect(&bench, &["--text", TEXT]);
    assert!(!plain.contains('\u{1b}') && plain.contains("L1.N5 of model a"), "{plain}");
    assert_eq!(inspect(&bench, &["--text", TEXT, "--color", "never"]), plain);
    let coloured = inspect(&bench, &["--text", TEXT, "--color", "always"]);
    assert!(coloured.contains("\u{1b}[30;48;5;202m"), "the largest activation has the last shade");
    let mut stripped = coloured.replace("\u{1b}[0m", "");
    for shade in ["230", "223", "216", "209", "202"] {
        stripped = stripped.replace(&format!("\u{1b}[30;48;5;{shade}m"), "");
    }
    assert_eq!(stripped, plain);
}

/// What the neuron does elsewhere comes from the card of a run on the same weights.
#[test]
fn a_run_says_what_the_neuron_does_elsewhere() {
    let bench = Bench::new();
    let done = run(bench.path(), &["run", "spec.yaml", "--quiet", "--out", "out"]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let cards = std::fs::read_to_string(bench.path().join("out/cards.json")).expect("cards");
    let cards: Value = serde_json::from_str(&cards).expect("JSON");
    let neuron = cards["cards"][0]["neuron"].as_str().expect("a neuron");
    let said = |arguments: &[&str]| {
        let output = run(bench.path(), &[&["inspect", neuron, "--text", TEXT], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert!(said(&["--run", "out"]).contains("elsewhere (out)\n"));
    bench.edit("spec.yaml", "reference: a", "reference: b");
    assert!(!said(&["--run", "out", "--spec", "spec.yaml"]).contains("elsewhere"));
}

#[test]
fn mistakes_are_refused() {
    let bench = Bench::new();
    bench.write("latin.txt", b"caf\xe9");
    let refused: [(&[&str], &str); 7] = [
        (&["--text", ""], "--text: has no tokens"),
        (&["--file", "none.txt"], "none.txt"),
        (&["--file", "latin.txt"], "invalid UTF-8 after byte 3"),
        (&["--without", "L0.N1"], "add --text or --file"),
        (&["--text", "fox", "--without", "L0.N40"], "2 layers of 40 neurons"),
        (&["--text", "fox", "--without", "L0.H1"], "is not a neuron"),
        (&["--text", "fox", "--file", "latin.txt"], "cannot be used with"),
    ];
    for (arguments, wanted) in refused {
        let all = [&["inspect", "L1.N5", "--spec", "spec.yaml"], arguments].concat();
        let output = run(bench.path(), &all);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(wanted), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

/// `kind: reading` reports the activations that `inspect --text` shows.
#[test]
fn given_texts_have_the_activations_that_inspect_shows() {
    let bench = Bench::new();
    let settings =
        "reading: { neurons: [L1.N5, L0.N3], active: [' jumps', 'the dog'], quiet: [q] }";
    bench.set_kind("reading", settings);
    let output = run(bench.path(), &["run", "spec.yaml", "--quiet", "--out", "out"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let last = |text: &str| {
        let found = json(&bench, &["--text", text]);
        let tokens = found["tokens"].as_array().expect("tokens");
        tokens.last().expect("a token")["post"].as_f64().expect("a number")
    };
    let gap = (last(" jumps") + last("the dog")) / 2.0 - last("q");
    let figures = std::fs::read_to_string(bench.path().join("out/figures.json")).expect("figures");
    let figures: Value = serde_json::from_str(&figures).expect("JSON");
    let found = figures["figures"]["reading-gap"][0].as_f64();
    assert_close("the gap", found, &[gap], FORWARD);
    let table = std::fs::read_to_string(bench.path().join("out/reading.csv")).expect("a table");
    let tokens = [" jumps", "the dog", "q"].map(str::len).iter().sum::<usize>();
    assert_eq!(table.lines().count(), 1 + 2 * tokens, "a row for each neuron and letter: {table}");
}

#[test]
fn texts_that_cannot_be_read_are_refused() {
    for (settings, parts) in [
        (
            "reading: { neurons: [L1.N5], active: [], quiet: [q] }",
            &["reading.active", "0 items"][..],
        ),
        ("reading: { neurons: [], active: [q], quiet: [x] }", &["reading.neurons", "0 items"]),
        (
            "reading: { neurons: [L1.N5], active: [''], quiet: [q] }",
            &["reading.active[0]", "empty"],
        ),
        ("reading: { neurons: [L1.N5], active: [q], quiet: [q] }", &["reading.quiet[0]", "too"]),
        (
            "reading: { neurons: [L9.N5], active: [q], quiet: [x] }",
            &["reading.neurons[0]", "L9.N5"],
        ),
        (
            "reading: { neurons: [L1.N5], active: [the quick brown fox], quiet: [x] }",
            &["the quick brown fox", "19 tokens, expected 1 to 11"],
        ),
    ] {
        let bench = Bench::new();
        bench.set_kind("reading", settings);
        bench.refuses(parts);
    }
}
