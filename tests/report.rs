//! What a run leaves for people and other programs: the page, its figures, cards, and files
//! that data frames read.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use universal_neurons::experiment::load_spec;
use universal_neurons::model::{HookPoint, Site, Transformer};
use universal_neurons::plan::Plan;
use universal_neurons::record::CardFile;
use universal_neurons::record::{RunFolder, RunResults};
use universal_neurons::report::page;
use universal_neurons::store::read_json;

use crate::desk;
use crate::support::{path, program, run, stderr};

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn stdout(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[test]
fn every_figure_is_drawn_and_its_data_lie_beside_it() {
    let folder = RunFolder::read(desk::folder()).unwrap_or_else(|e| panic!("{e}"));
    let drawn = universal_neurons::report::charts(&folder).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(drawn.len(), 9);
    let page = read(&desk::folder().join("report.html"));
    for chart in drawn {
        let beside =
            |ending: &str| read(&desk::folder().join(format!("figures/{}.{ending}", chart.name)));
        assert_eq!(beside("svg"), chart.svg);
        assert_eq!(beside("csv").lines().count(), 1 + chart.data.rows.len());
        assert!(!chart.data.rows.is_empty() && page.contains(&chart.svg), "{}", chart.name);
    }
    // Figures add up to what they are drawn from.
    let correlations = read(&desk::folder().join("figures/correlations.csv"));
    let excess: f64 = correlations
        .lines()
        .skip(1)
        .filter_map(|line| line.rsplit(',').next()?.parse::<f64>().ok())
        .sum();
    assert!((3000.0..=3072.0).contains(&excess), "{excess} of 3072 neurons, some below zero");
}

/// Returns the largest post-activation of a neuron over tokens that count, computed independently
/// with the forward pass.
fn largest(plan: &Plan, layer: usize, neuron: usize) -> f32 {
    let model = Transformer::load(&plan.reference().folder).unwrap_or_else(|e| panic!("{e}"));
    let mut largest = f32::NEG_INFINITY;
    for row in &plan.tokens.rows {
        let mut hooks = |point: HookPoint, values: &mut [f32], width: usize| {
            if point == (HookPoint { layer, site: Site::MlpPost }) {
                let column = values.iter().skip(neuron).step_by(width);
                let counted = column.zip(&row.ids).filter(|(_, id)| plan.tokens.counts(**id));
                largest = counted.fold(largest, |largest, (v, _)| largest.max(*v));
            }
        };
        model.forward(&[&row.ids], &mut hooks);
    }
    largest
}

#[test]
fn a_card_tells_what_the_model_does() {
    let cards: CardFile = read_json(&desk::folder().join("cards.json")).expect("cards");
    let plan = Plan::make(load_spec(&path("experiments/desk-universality.yaml")).expect("valid"));
    let plan = plan.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(cards.tokens, plan.tokens.count().used, "all of a text that is small");
    let card = cards.cards.iter().find(|c| c.neuron == "L1.N507").expect("it is universal");
    let first = &card.contexts[0];
    let shown = first.values[first.at].expect("a token that counts");
    assert!((shown - f64::from(largest(&plan, 1, 507))).abs() <= 5e-4 + 1e-6, "{shown}");
    let values: Vec<f64> = card.contexts.iter().filter_map(|c| c.values[c.at]).collect();
    assert!(values.len() == 8 && values.is_sorted_by(|a, b| a >= b), "{values:?}");
    for card in &cards.cards {
        let all = card.histogram.yes.iter().chain(&card.histogram.no).sum::<u32>();
        assert_eq!(all as usize, cards.tokens, "{}", card.neuron);
        let yes = card.histogram.yes.iter().sum::<u32>();
        let support = card.explanations.first().map_or(0.0, |e| e.support);
        assert_eq!(f64::from(yes), support, "{}", card.neuron);
        assert!(card.contexts.iter().all(|c| c.tokens.len() == c.values.len()));
    }
}

#[test]
fn experiments_of_other_kinds_come_onto_the_page() {
    let root = TempDir::new().expect("folder");
    let families = root.path().join("families");
    let arguments = [
        "run",
        "experiments/families.yaml",
        "--quiet",
        "--universal",
        &desk::folder().display().to_string(),
        "--out",
        &families.display().to_string(),
    ];
    let done = run(&path(""), &arguments);
    assert!(done.status.success(), "{}", stderr(&done));
    // The same neuron is explained by the same question, whoever asks.
    let cards: CardFile = read_json(&desk::folder().join("cards.json")).expect("cards");
    let RunResults::Figures(found) = RunFolder::read(&families).expect("a run").results else {
        panic!("no experiment of another kind")
    };
    let table = &found.tables["families"];
    for card in &cards.cards {
        let row = (0..table.rows.len()).find(|&row| {
            format!("L{}.N{}", table.cell(row, "layer"), table.cell(row, "neuron")) == card.neuron
        });
        let best = table.cell(row.expect("a row"), "test");
        assert_eq!(card.explanations[0].test, best, "{}", card.neuron);
    }
    let out = root.path().join("page.html");
    let (page, with) = (out.display().to_string(), families.display().to_string());
    let desk = desk::folder().display().to_string();
    stdout(&run(root.path(), &["report", &desk, "--with", &with, "--out", &page]));
    let (alone, together) = (read(&desk::folder().join("report.html")), read(&out));
    assert!(!alone.contains("Families by depth") && together.contains("Families by depth"));
    let waiting = |page: &str| page.matches("no run of the `families` experiment").count();
    assert!(waiting(&alone) > 0 && waiting(&together) == 0);
    // A page of its own, too.
    assert!(read(&families.join("report.html")).contains("Families by depth"));
    let refused = run(root.path(), &["report", &desk, "--with", &desk]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("is a universality study"), "{}", stderr(&refused));
}

#[test]
fn text_from_outside_stays_text() {
    let root = TempDir::new().expect("folder");
    let hostile = "</script><img src=x onerror=alert(1)>";
    for entry in std::fs::read_dir(desk::folder()).expect("folder") {
        let from = entry.expect("entry").path();
        if from.is_file() {
            std::fs::copy(&from, root.path().join(from.file_name().expect("name"))).expect("copy");
        }
    }
    let edit = |name: &str, change: &dyn Fn(&mut Value)| {
        let file = root.path().join(name);
        let mut value: Value = read_json(&file).expect("JSON");
        change(&mut value);
        std::fs::write(&file, value.to_string()).expect("write");
    };
    edit("provenance.json", &|v| v["spec"]["question"] = hostile.into());
    edit("cards.json", &|v| v["cards"][0]["promoted"][0][0] = hostile.into());
    let folder = RunFolder::read(root.path()).expect("a run");
    let page = page::report(&folder, &[], &[]).expect("a page").html;
    assert!(
        page.contains("onerror") && !page.contains("<img"),
        "it is there, and it is not an element"
    );
}

#[test]
fn activations_are_those_of_the_forward_pass() {
    let root = TempDir::new().expect("folder");
    let out = root.path().join("a.safetensors");
    let name = out.display().to_string();
    stdout(&run(&path(""), &["activations", "L1.N507", "L0.N3", "--out", &name]));
    let bytes = std::fs::read(&out).expect("written");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let post = tensors.tensor("post").expect("a tensor");
    assert_eq!(post.shape(), [2, 40818]);
    let (first, _) = post.data().split_at(4 * 40818);
    let values = first.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
    let plan = Plan::make(load_spec(&path("experiments/desk-universality.yaml")).expect("valid"));
    let want = largest(&plan.unwrap_or_else(|e| panic!("{e}")), 1, 507);
    let got = values.fold(f32::NEG_INFINITY, f32::max);
    assert!((got - want).abs() < 1e-5, "{got}, {want}");
    let refused = run(&path(""), &["activations", "L9.N1", "--out", &name]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn new_experiments_are_valid_wherever_they_are_written() {
    let root = TempDir::new().expect("folder");
    let kinds = [
        "universality",
        "families",
        "prediction",
        "entropy",
        "attention",
        "ablation",
        "split-half",
        "perturbed",
        "dynamics",
        "convergence",
    ];
    for kind in kinds {
        let file = root.path().join(format!("mine-{kind}.yaml"));
        let name = file.display().to_string();
        stdout(&run(&path(""), &["new", kind, &name]));
        let text = read(&file);
        assert!(text.starts_with('#') && text.contains(&format!("name: mine-{kind}\n")), "{text}");
        stdout(&run(&path(""), &["validate", &name]));
        let again = run(&path(""), &["new", kind, &name]);
        assert_eq!(again.status.code(), Some(2), "a file of the user is kept");
    }
    let unknown = run(&path(""), &["new", "alchemy"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("possible values"), "{}", stderr(&unknown));
}

#[test]
fn shells_and_manuals_know_every_command() {
    let root = TempDir::new().expect("folder");
    for shell in ["bash", "zsh", "fish"] {
        let text = stdout(&run(root.path(), &["completions", shell]));
        assert!(text.contains("bench-host") && text.contains("compare"), "{shell}");
    }
    assert!(stdout(&run(root.path(), &["man"])).contains(".SH SUBCOMMANDS"));
}

#[test]
fn nothing_is_coloured_that_is_no_terminal() {
    let mut command = program(&path(""), &["validate", "nowhere.yaml"]);
    let output = command.env("NO_COLOR", "1").output().expect("the program starts");
    let all = [output.stdout, output.stderr].concat();
    assert!(!all.is_empty() && !all.contains(&0x1B));
}
