//! What a run leaves for people and other programs: the page, its figures, cards, and files
//! that data frames read; and the words of the README about them.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use serde_json::Value;
use tempfile::TempDir;
use universal_neurons::cards::CardFile;
use universal_neurons::cli::Cli;
use universal_neurons::experiment::load_spec;
use universal_neurons::model::{HookPoint, Site, Transformer};
use universal_neurons::plan::Plan;
use universal_neurons::report::folder::{Folder, Found};
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
    let folder = Folder::read(desk::folder()).unwrap_or_else(|e| panic!("{e}"));
    let drawn = folder.charts().unwrap_or_else(|e| panic!("{e}"));
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

/// Largest post-activation of a neuron over tokens that count, by the forward pass alone.
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
    let Found::Other(found) = Folder::read(&families).expect("a run").found else {
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
    let folder = Folder::read(root.path()).expect("a run");
    let page = page::report(&folder, &[], &[]).expect("a page").html;
    assert!(
        page.contains("onerror") && !page.contains("<img"),
        "it is there, and it is no element"
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

/// Interpreter with pandas, pyarrow and safetensors, where `.ci/run` has put them or the
/// user has.
fn python() -> Option<Command> {
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", path("target/python"));
    let mut probe = Command::new("python3");
    probe.env("PYTHONPATH", path("target/python"));
    let found = probe.args(["-c", "import pandas, pyarrow, safetensors.numpy"]).output();
    match found {
        Ok(output) if output.status.success() => Some(python),
        _ => {
            println!("skipped: python3 has no pandas, pyarrow and safetensors");
            None
        }
    }
}

/// The code blocks of the README of a language.
fn blocks(language: &str) -> Vec<String> {
    let readme = read(&path("README.md"));
    let opening = format!("```{language}\n");
    let blocks = readme.split(&opening).skip(1);
    blocks.filter_map(|rest| Some(rest.split_once("\n```")?.0.to_owned())).collect()
}

/// A folder as a checkout: experiments that can be added to, and the default run.
fn checkout() -> TempDir {
    let root = TempDir::new().expect("folder");
    let link = |from: PathBuf, to: PathBuf| {
        std::os::unix::fs::symlink(&from, &to).unwrap_or_else(|e| panic!("{}: {e}", to.display()));
    };
    for folder in ["experiments", "runs", "runs/desk-universality"] {
        std::fs::create_dir(root.path().join(folder)).expect("folder");
    }
    for entry in std::fs::read_dir(path("experiments")).expect("folder") {
        let entry = entry.expect("entry");
        link(entry.path(), root.path().join("experiments").join(entry.file_name()));
    }
    for entry in std::fs::read_dir(desk::folder()).expect("folder") {
        let entry = entry.expect("entry");
        link(entry.path(), root.path().join("runs/desk-universality").join(entry.file_name()));
    }
    root
}

#[test]
fn the_python_of_the_readme_reads_a_run() {
    let snippets = blocks("python");
    assert_eq!(snippets.len(), 1);
    let Some(mut python) = python() else { return };
    let root = checkout();
    let output = python.current_dir(root.path()).arg("-c").arg(&snippets[0]).output();
    let text = stdout(&output.expect("python3 starts"));
    assert!(text.contains("85") && text.contains("3072"), "{text}");
}

/// The commands of the README, as arguments of the program.
fn commands() -> Vec<Vec<String>> {
    let lines: Vec<String> =
        blocks("sh").iter().flat_map(|b| b.lines()).map(String::from).collect();
    let argument = |line: &str| -> Option<Vec<String>> {
        let line = line.split(" # ").next()?.trim();
        let (_, rest) = line.split_once("cargo run --release")?;
        let rest = rest.trim().strip_prefix("--").unwrap_or(rest);
        Some(rest.split_whitespace().take_while(|w| *w != ">").map(String::from).collect())
    };
    lines.iter().filter_map(|line| argument(line)).collect()
}

#[test]
fn the_commands_of_the_readme_are_what_the_program_knows() {
    let root = checkout();
    for (i, block) in blocks("yaml").iter().filter(|b| b.contains("include:")).enumerate() {
        let name = if i == 0 { "my-experiment".to_owned() } else { format!("example-{i}") };
        let file = format!("experiments/{name}.yaml");
        std::fs::write(root.path().join(&file), block).expect("write");
        stdout(&run(root.path(), &["validate", &file]));
    }
    let commands = commands();
    assert!(commands.len() > 15, "{commands:?}");
    let quick = ["inspect", "validate", "schema", "new", "report", "completions", "man"];
    let mut done = 0;
    for command in &commands {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let parsed = Cli::try_parse_from(std::iter::once("x").chain(words.iter().copied()));
        // SPEC and such stand for what a reader has.
        let stands = words.iter().any(|w| *w == "SPEC" || w.starts_with("runs/NAME"));
        if let Err(error) = parsed {
            panic!("{words:?}: {error}");
        }
        let files =
            words.iter().filter(|w| w.starts_with("experiments/") || w.starts_with("benches/"));
        for file in files.filter(|f| !f.contains("my-")) {
            assert!(path(file).exists(), "{words:?}: there is no {file}");
        }
        let mentioned = |w: &&&str| w.starts_with("runs/") && !w.contains("desk-universality");
        if words.first().is_some_and(|w| quick.contains(w))
            && !stands
            && !words.iter().any(|w| mentioned(&w))
        {
            stdout(&run(root.path(), &words));
            done += 1;
        }
    }
    assert!(done >= 5, "{done} commands were run");
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

#[test]
fn the_run_in_the_readme_is_the_run() {
    let shown = blocks("text").into_iter().find(|b| b.starts_with("desk-universality:"));
    let shown = shown.expect("the run's output");
    let summary = universal_neurons::report::terminal::summary(desk::outcome());
    // How long it took is of one machine.
    let words = |text: &str| -> Vec<String> {
        let lines = text.lines().take_while(|line| !line.contains(" s in all"));
        lines.flat_map(str::split_whitespace).map(String::from).collect()
    };
    let (shown, now) = (words(&shown), words(&summary));
    assert_eq!(shown.len(), now.len());
    for (shown, now) in shown.iter().zip(&now) {
        let number = |w: &str| w.trim_matches(['(', ')']).parse::<f64>();
        match (number(shown), number(now)) {
            // Another processor rounds otherwise; a last digit may differ.
            (Ok(a), Ok(b)) => {
                assert!((a - b).abs() <= 0.011_f64.max(1e-3 * b.abs()), "{shown}, now {now}")
            }
            _ => assert_eq!(shown, now),
        }
    }
}

#[test]
fn the_figure_of_the_readme_is_of_the_run() {
    let committed = read(&path("experiments/desk/signatures.svg"));
    let now = read(&desk::folder().join("figures/signatures.svg"));
    // Everything but places, which rounding may move by a pixel.
    let words = |svg: &str| -> Vec<String> {
        svg.split(['<', '>']).filter(|t| !t.contains('=')).map(String::from).collect()
    };
    assert_eq!(words(&committed), words(&now));
    assert_eq!(committed.matches("<circle").count(), 24);
}
