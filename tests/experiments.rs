//! Experiments of other kinds than universality, on the bundled models.

mod repeated;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use universal_neurons::compare::Tolerance;
use universal_neurons::experiment::{self, Replacement, load_spec};
use universal_neurons::findings::{Figures, Universal};
use universal_neurons::model::capture::{Activations, Capture};
use universal_neurons::model::{Site, Transformer};
use universal_neurons::plan::Plan;
use universal_neurons::record::RunFolder;
use universal_neurons::report::files;
use universal_neurons::run::Control;
use universal_neurons::spec::Spec;
use universal_neurons::store::RunDirectory;
use universal_neurons::table::NeuronId;

use crate::support::{self, assert_close, expected, path, stderr};

/// An experiment of `experiments/`, changed; every tenth neuron counts as universal.
fn figures(spec: &str, change: impl FnOnce(&mut Spec)) -> Figures {
    let mut loaded = load_spec(&path("experiments").join(spec)).unwrap_or_else(|e| panic!("{e}"));
    change(&mut loaded.spec);
    let plan = Plan::make(loaded).unwrap_or_else(|e| panic!("{e}"));
    let neurons = plan.reference().layout().n_neurons();
    let universal = Universal((0..neurons).map(|i| i % 10 == 0).collect());
    let found = experiment::run(&plan, Some(universal), &mut Control::default());
    let found = found.unwrap_or_else(|e| panic!("{e}"));
    assert_drawn(&plan, &found);
    found
}

/// The outcome of an experiment on a few texts, with these neurons as universal ones.
fn with_universal(
    spec: &str,
    universal: impl Fn(usize) -> bool,
) -> universal_neurons::Result<Figures> {
    let mut loaded = load_spec(&path("experiments").join(spec)).unwrap_or_else(|e| panic!("{e}"));
    few(&mut loaded.spec);
    let plan = Plan::make(loaded).unwrap_or_else(|e| panic!("{e}"));
    let neurons = plan.reference().layout().n_neurons();
    let universal = Universal((0..neurons).map(universal).collect());
    let found = experiment::run(&plan, Some(universal), &mut Control::default())?;
    assert_drawn(&plan, &found);
    Ok(found)
}

/// Every kind has a figure, made of the files that it leaves.
fn assert_drawn(plan: &Plan, found: &Figures) {
    let root = TempDir::new().unwrap();
    let directory = RunDirectory::begin(&root.path().join("run")).unwrap();
    let folder = files::write_figures(plan, found, None, directory);
    let folder = folder
        .and_then(|written| RunFolder::read(&written.folder))
        .unwrap_or_else(|e| panic!("{e}"));
    let drawn = universal_neurons::report::charts(&folder).unwrap_or_else(|e| panic!("{e}"));
    assert!(!drawn.is_empty(), "{:?} has no figure", plan.spec.kind);
    for chart in drawn {
        assert!(chart.svg.starts_with("<svg") && !chart.data.rows.is_empty(), "{}", chart.name);
        let marks = ["<circle", "<polyline", "<rect"].map(|mark| chart.svg.matches(mark).count());
        assert!(marks.iter().sum::<usize>() > 1, "{} is empty", chart.name);
    }
}

/// A column of a table of figures.
fn column<'a>(figures: &'a Figures, table: &str, column: &str) -> Vec<&'a str> {
    let table = &figures.tables[table];
    assert!(table.header.iter().any(|h| h == column), "no column {column}");
    table.text(column)
}

/// Changes a setting of the experiment's kind.
fn set(spec: &mut Spec, key: &str, value: impl Serialize) {
    let settings = spec.settings.get_mut(&spec.kind).expect("settings");
    settings[key] = serde_yaml::to_value(value).expect("YAML");
}

fn write_tests(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("tests.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    layer: usize,
    neuron: usize,
    test: String,
    reduction: f64,
    difference: f64,
    support: usize,
}

#[test]
fn explanations_are_those_recomputed_elsewhere() {
    let golden: Golden = expected("golden/families.json");
    let folder = TempDir::new().unwrap();
    // Only the tests of the cases, so that each is the best explanation.
    let tests = write_tests(
        folder.path(),
        "tests:\n\
         - { name: letter m, family: alphabet, matches: '(?i)^ ?m$' }\n\
         - { name: contains ., family: symbol, matches: '\\.' }\n\
         - { name: 'contains ,', family: symbol, matches: ',' }\n\
         - { name: a digit, family: number, matches: '[0-9]' }\n\
         - { name: beyond ASCII, family: shape, matches: '[^\\x00-\\x7F]' }\n",
    );
    let found = figures("families.yaml", |spec| {
        set(spec, "path", &tests);
        set(spec, "frequent", usize::MAX);
    });
    let tolerance = Tolerance::absolute(1e-5);
    for case in &golden.cases {
        let row = case.layer * 1024 + case.neuron;
        let cell = |name: &str| column(&found, "families", name)[row].to_owned();
        assert_eq!(cell("test"), case.test);
        let number = |name: &str| cell(name).parse::<f64>().unwrap();
        let (got, want) =
            ([number("reduction"), number("mean_difference")], [case.reduction, case.difference]);
        assert_close(&case.test, got, &want, tolerance);
        assert_eq!(cell("support"), case.support.to_string());
    }
    assert_eq!(found.named["alphabet-letters"], [1.0]);
}

#[test]
fn a_new_token_test_needs_no_rust() {
    let folder = TempDir::new().unwrap();
    write_tests(folder.path(), "tests: [{ name: mine, family: mine, matches: '^ ?[fF]$' }]\n");
    let text = std::fs::read_to_string(path("experiments/desk-universality.yaml")).unwrap();
    let text = text
        .replace("tests: families/token-tests.yaml", "tokens: 1000")
        .replace("desk/", &format!("{}/desk/", path("experiments").display()))
        .replace("kind: universality", "kind: families")
        + "\nfamilies: { path: tests.yaml, frequent: 1000000 }\n";
    std::fs::write(folder.path().join("mine.yaml"), text).unwrap();
    let valid = support::run(folder.path(), &["validate", "mine.yaml"]);
    assert!(valid.status.success(), "{}", stderr(&valid));
    std::fs::write(
        folder.path().join("tests.yaml"),
        "tests: [{ name: x, family: y, matches: '(' }]",
    )
    .unwrap();
    let broken = support::run(folder.path(), &["run", "mine.yaml", "--quiet", "--device", "cpu"]);
    assert_eq!(broken.status.code(), Some(2));
    assert!(stderr(&broken).contains("tests.yaml: `x`"), "{}", stderr(&broken));
    assert!(!folder.path().join("runs/desk-universality").exists());
}

#[derive(Deserialize)]
struct Roles {
    ablation: serde_json::Value,
    entropy: serde_json::Value,
    attention: serde_json::Value,
    heads: serde_json::Value,
}

/// The row of a table in which some columns have these values.
fn row_of(found: &Figures, table: &str, wanted: &[(&str, &str)]) -> usize {
    let rows = found.tables[table].rows.len();
    let fits = |row: &usize| wanted.iter().all(|(c, v)| column(found, table, c)[*row] == *v);
    (0..rows).find(fits).unwrap_or_else(|| panic!("no row with {wanted:?} in {table}"))
}

fn assert_row(found: &Figures, table: &str, wanted: &[(&str, &str)], golden: &serde_json::Value) {
    let row = row_of(found, table, wanted);
    for (name, want) in golden.as_object().unwrap().iter().filter(|(name, _)| *name != "what") {
        let got: f64 = column(found, table, name)[row].parse().unwrap();
        let tolerance = Tolerance { absolute: 2e-5, relative: 2e-4 };
        assert_close(&format!("{table} {name}"), [got], &[want.as_f64().unwrap()], tolerance);
    }
}

fn few(spec: &mut Spec) {
    (spec.corpus.limit, spec.corpus.sample) = (Some(8), None);
}

#[test]
fn interventions_do_what_they_do_elsewhere() {
    let golden: Roles = expected("golden/roles.json");
    let ablation = figures("ablation.yaml", |spec| {
        few(spec);
        set(spec, "controls", 1);
    });
    assert_row(&ablation, "ablation", &[("set", "universal")], &golden.ablation);
    let entropy = figures("entropy.yaml", |spec| {
        few(spec);
        set(spec, "controls", 1);
    });
    let fixed = [("layer", "2"), ("neuron", "970"), ("value", "4")];
    assert_row(&entropy, "entropy", &fixed, &golden.entropy);
    let attention = figures("attention.yaml", few);
    let pair = [("neuron", "L0.N942"), ("head", "L1.H0")];
    assert_row(&attention, "attention", &pair, &golden.attention);
    assert_row(&attention, "heads", &[("head", "L1.H0")], &golden.heads);
    let changed = figures("intervention.yaml", few);
    let mean = |wanted: &[(&str, &str)]| {
        let row = row_of(&changed, "intervention", wanted);
        column(&changed, "intervention", "mean")[row].parse::<f64>().unwrap()
    };
    let fixed = [("set", "entropy neuron"), ("action", "set"), ("value", "4")];
    let measures = ["entropy", "loss", "reciprocal_rank", "scale"];
    let got = measures.map(|m| mean(&[fixed[0], fixed[1], fixed[2], ("measure", m)]));
    let want = measures.map(|m| golden.entropy[m].as_f64().unwrap());
    let tolerance = Tolerance { absolute: 2e-5, relative: 2e-4 };
    assert_close("intervention", got, &want, tolerance);
    let head = mean(&[("action", "none"), ("measure", "bos_attention L1.H0")]);
    let want = golden.heads["bos_attention"].as_f64().unwrap();
    assert_close("intervention", [head], &[want], tolerance);
}

#[test]
fn random_sets_have_as_many_neurons_in_each_layer() {
    let found = figures("ablation.yaml", |spec| {
        few(spec);
        set(spec, "controls", 2);
        set(spec, "replacement", Replacement::Mean);
    });
    let neurons = column(&found, "ablation", "neurons");
    assert_eq!(neurons, ["308", "308", "308", "103", "102", "103"]);
    let loss = |row: usize| column(&found, "ablation", "loss")[row].parse::<f64>().unwrap();
    assert!(loss(1) != loss(2), "two draws");
}

#[test]
fn experiments_say_that_no_neuron_is_universal() {
    let none = "no neuron has an excess correlation above 0.5";
    let error = with_universal("ablation.yaml", |_| false).expect_err("nothing to ablate");
    assert!(error.problem.contains(none), "{error}");
    for spec in ["families.yaml", "prediction.yaml"] {
        let said = |found: &Figures| found.lines.iter().any(|line| line.contains(none));
        let found = with_universal(spec, |_| false).unwrap_or_else(|e| panic!("{e}"));
        assert!(said(&found), "{spec}: {:?}", found.lines);
        let found = with_universal(spec, |i| i == 7).unwrap_or_else(|e| panic!("{e}"));
        assert!(!said(&found), "{spec}: {:?}", found.lines);
    }
    let bench = support::Bench::new();
    bench.edit("spec.yaml", "kind: universality", "kind: ablation");
    bench.edit("spec.yaml", "correlation: {", "correlation: { threshold: 1.0,");
    bench.refuses(&["so there are no universal neurons", "`correlation.threshold`"]);
}

#[test]
fn an_ablation_of_an_empty_set_is_no_result() {
    let first = with_universal("ablation.yaml", |i| i < 1024 && i % 100 == 0);
    let first = first.unwrap_or_else(|e| panic!("{e}"));
    let row = row_of(&first, "ablation", &[("set", "universal of layer 1")]);
    let cells = ["neurons", "loss", "loss_low", "kl"].map(|c| column(&first, "ablation", c)[row]);
    assert_eq!(cells, ["0", "", "", ""]);
    let said = first.lines.iter().any(|line| {
        line.contains("universal of layer 1") && line.contains("no neurons: nothing is ablated")
    });
    assert!(said, "{:?}", first.lines);
    assert!(first.named["ablation-first-layer"][0].is_nan(), "no other layer to compare with");
    assert!(first.named["ablation-effect"][0].is_finite());
    let two = with_universal("ablation.yaml", |i| i / 1024 != 1 && i % 100 == 0);
    let two = two.unwrap_or_else(|e| panic!("{e}"));
    assert!(two.named["ablation-first-layer"][0].is_finite());
}

#[test]
fn a_model_beside_itself_and_beside_noise() {
    let found = figures("perturbed.yaml", |spec| {
        spec.corpus.sample = Some(1000);
        set(spec, "noise", 0.0);
        set(spec, "rotation", 0.0);
        set(spec, "copies", 1);
    });
    // Nothing disturbed: every neuron finds itself.
    assert!((found.named["perturbed-match"][0] - 1.0).abs() < 1e-6);
    let noisy = figures("perturbed.yaml", |spec| {
        spec.corpus.sample = Some(1000);
        set(spec, "noise", 0.75);
        set(spec, "rotation", 0.0);
        set(spec, "copies", 1);
    });
    // ρ of v with v + 0.75 sd ε is 1 / √(1 + 0.75²) = 0.8.
    assert!((noisy.named["perturbed-match"][0] - 0.8).abs() < 0.02);
}

#[test]
fn neurons_fire_before_what_they_promote() {
    let found = figures("prediction.yaml", |spec| spec.corpus.sample = Some(4000));
    let kinds = column(&found, "prediction", "kind");
    assert!(kinds.contains(&"prediction") && kinds.contains(&"suppression"));
    let shown = column(&found, "prediction", "tokens");
    assert!(shown.iter().all(|tokens| tokens.matches('"').count() >= 10), "{shown:?}");
    assert!(found.named["prediction-fires"][0].is_finite());
}

#[test]
fn a_section_belongs_to_its_kind() {
    let folder = TempDir::new().unwrap();
    let base = std::fs::read_to_string(path("experiments/desk-universality.yaml")).unwrap();
    let base = base.replace("desk/", &format!("{}/desk/", path("experiments").display()));
    for (change, wanted) in [
        ("\nentropy: { controls: 0 }\n", "belongs to `kind: entropy`"),
        ("\nperturbed: { noise: 1 }\n", "belongs to `kind: perturbed`"),
    ] {
        std::fs::write(folder.path().join("x.yaml"), format!("{base}{change}")).unwrap();
        let done = support::run(folder.path(), &["validate", "x.yaml"]);
        assert_eq!(done.status.code(), Some(2));
        assert!(stderr(&done).contains(wanted), "{}", stderr(&done));
    }
    let families = base.replace("kind: universality", "kind: families");
    std::fs::write(folder.path().join("x.yaml"), families).unwrap();
    let done = support::run(folder.path(), &["validate", "x.yaml"]);
    assert!(stderr(&done).contains("needs a section `families`"), "{}", stderr(&done));
}

#[test]
fn syntax_labels_come_from_a_file() {
    const SAMPLES: usize = 6;
    let text = std::fs::read_to_string(path("experiments/desk/corpus.jsonl")).unwrap();
    let tokenizer =
        tokenizers::Tokenizer::from_file(path("experiments/desk/a/tokenizer.json")).unwrap();
    let (mut conllu, mut labelled) = (String::new(), 0);
    for line in text.lines().take(SAMPLES) {
        let sample: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = sample["text"].as_str().unwrap();
        conllu += &format!("# newdoc id = {}\n", sample["id"].as_str().unwrap());
        let long = |word: &str| word.chars().count() > 6;
        for (i, word) in text.split_whitespace().enumerate() {
            let upos = if long(word) { "LONG" } else { "SHORT" };
            conllu += &format!("{}\t{word}\t_\t{upos}\t_\t_\t0\tdep\t_\t_\n", i + 1);
        }
        // The twin goes by the tokenizer's own offsets.
        let encoding = tokenizer.encode(text, false).unwrap();
        for &(start, end) in encoding.get_offsets() {
            let piece = &text[start..end];
            let first =
                start + (piece.len() - piece.trim_start().len()).min(piece.len().max(1) - 1);
            let begins = text[..first].rfind(char::is_whitespace).map_or(0, |at| at + 1);
            let word = text[begins..].split_whitespace().next().unwrap_or("");
            let in_word = text[first..].chars().next().is_some_and(|c| !c.is_whitespace());
            labelled += usize::from(in_word && long(word));
        }
    }
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("x.conllu"), conllu).unwrap();
    let tests = write_tests(
        folder.path(),
        "tests: [{ name: none, family: none, matches: '^there is no such token$' }]\n",
    );
    let found = figures("families.yaml", |spec| {
        (spec.corpus.limit, spec.corpus.exclude) = (Some(SAMPLES), Vec::new());
        set(spec, "path", &tests);
        set(spec, "frequent", usize::MAX);
        set(spec, "explained", 0.0);
        set(spec, "syntax", folder.path().join("x.conllu"));
    });
    let named = column(&found, "families", "test");
    let row = named.iter().position(|test| *test == "upos LONG").expect("it explains some neuron");
    assert_eq!(column(&found, "families", "support")[row], labelled.to_string());
    assert!(found.named.contains_key("syntax-depth"));
}

/// A token that counts, with the activations of all neurons.
struct SeenToken {
    position: usize,
    text: String,
    post: Vec<f32>,
}

/// The figures of single neurons are means of their activations over tokens, recomputed token by token.
#[test]
fn activations_by_position_and_by_form_are_means_over_tokens() {
    let mut loaded =
        load_spec(&path("experiments/families.yaml")).unwrap_or_else(|e| panic!("{e}"));
    (loaded.spec.corpus.limit, loaded.spec.corpus.sample) = (Some(6), None);
    for (key, value) in [("explained", 0.2), ("frequent", 5.0), ("support", 3.0)] {
        let whole = serde_yaml::to_value(value as usize).expect("YAML");
        let value = if value < 1.0 { serde_yaml::to_value(value).expect("YAML") } else { whole };
        loaded.spec.settings.get_mut("families").expect("settings")[key] = value;
    }
    let plan = Plan::make(loaded).unwrap_or_else(|e| panic!("{e}"));
    let n = plan.reference().layout().n_neurons();
    let universal = Universal((0..n).map(|i| i % 10 == 0).collect());
    let found = experiment::run(&plan, Some(universal), &mut Control::default());
    let found = found.unwrap_or_else(|e| panic!("{e}"));
    assert_drawn(&plan, &found);

    let model = Transformer::load(&path("experiments/desk/a")).unwrap_or_else(|e| panic!("{e}"));
    let texts = plan.vocabulary().unwrap_or_else(|e| panic!("{e}"));
    let mut tokens: Vec<SeenToken> = Vec::new();
    for row in &plan.tokens.rows {
        let mut post = Activations::new(n);
        let keep: Vec<bool> = row.ids.iter().map(|&id| plan.tokens.counts(id)).collect();
        model.forward(&[&row.ids], &mut Capture::new(&keep, vec![(Site::MlpPost, &mut post)]));
        let kept = (0..row.ids.len()).filter(|&p| keep[p]);
        let values = post.values.chunks_exact(n).map(<[f32]>::to_vec);
        tokens.extend(kept.zip(values).map(|(position, post)| {
            let text = format!("{:?}", texts[row.ids[position] as usize]);
            SeenToken { position, text, post }
        }));
    }
    let d_mlp = model.config.d_mlp();
    let index = |id: &str| id.parse::<NeuronId>().expect("a neuron").index(d_mlp);
    let check = |row: &[String], column: usize, wanted: &dyn Fn(&SeenToken) -> bool| {
        let neuron = index(&row[0]);
        let of: Vec<f64> =
            tokens.iter().filter(|t| wanted(t)).map(|t| f64::from(t.post[neuron])).collect();
        assert_eq!(row[column - 1], (of.len() as f64).to_string(), "{row:?}");
        if of.is_empty() {
            assert_eq!(row[column], "", "a mean of nothing");
            return;
        }
        let want = of.iter().sum::<f64>() / of.len() as f64;
        assert!(
            (row[column].parse::<f64>().expect("a mean") - want).abs() < 1e-5,
            "{row:?} {want}"
        );
    };
    let positions = &found.tables["position-activations"].rows;
    assert!(positions.len() > 100);
    for row in positions {
        let position: usize = row[1].parse().expect("a position");
        check(row, 3, &|token| token.position == position);
    }
    let forms = &found.tables["unigram-forms"].rows;
    assert!(forms.iter().any(|row| row[1] != "other tokens"));
    for row in forms {
        let own: Vec<&String> =
            forms.iter().filter(|r| r[0] == row[0] && !r[2].is_empty()).map(|r| &r[2]).collect();
        check(row, 4, &|token| match row[2].as_str() {
            "" => !own.contains(&&token.text),
            text => token.text == text,
        });
    }
}
