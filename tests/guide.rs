//! README and guide: what they show is what the program prints, and the files, commands and
//! examples that they name exist. `UPDATE_GUIDE=1` rewrites what is shown.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use tempfile::TempDir;
use universal_neurons::cli::Cli;
use universal_neurons::experiment::load_spec;
use universal_neurons::report::terminal;

use crate::desk;
use crate::support::{path, run, stderr};

const README: &str = "README.md";
const GUIDE: &str = "src/guide";
const BEGIN_RUN: &str = "<!-- run: ";
const END_RUN: &str = "<!-- end of run -->";
/// The README is read by people who decide whether to go on.
const README_LINES: usize = 190;
/// Languages of code blocks. A block without one would be compiled as Rust by rustdoc.
const LANGUAGES: [&str; 5] = ["sh", "text", "yaml", "python", "rust"];
/// Where files of the repository are.
const FOLDERS: [&str; 8] =
    [".ci/", ".github/", "benches/", "expected/", "experiments/", "kernels/", "src/", "tests/"];

fn read(relative: &str) -> String {
    std::fs::read_to_string(path(relative)).unwrap_or_else(|e| panic!("{relative}: {e}"))
}

fn stdout(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// The chapters of the guide, as paths in the repository.
fn chapters() -> Vec<String> {
    let files = std::fs::read_dir(path(GUIDE)).expect("the guide");
    let names = files.map(|f| f.expect("entry").file_name().into_string().expect("UTF-8"));
    let mut chapters: Vec<String> =
        names.filter(|n| n.ends_with(".md")).map(|n| format!("{GUIDE}/{n}")).collect();
    chapters.sort();
    assert!(chapters.len() > 10, "{chapters:?}");
    chapters
}

/// README, guide and ledger, each with its text.
fn documents() -> Vec<(String, String)> {
    let others = [README.to_owned(), "expected/LEDGER.md".to_owned()];
    let all = others.into_iter().chain(chapters());
    all.map(|name| (name.clone(), read(&name))).collect()
}

/// A code block.
struct CodeBlock {
    document: String,
    language: String,
    text: String,
}

/// The code blocks of a text.
fn code_blocks(document: &str, text: &str) -> Vec<CodeBlock> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else { continue };
        let inside: Vec<&str> = lines.by_ref().take_while(|l| l.trim() != "```").collect();
        blocks.push(CodeBlock {
            document: document.to_owned(),
            language: language.trim().to_owned(),
            text: inside.join("\n"),
        });
    }
    blocks
}

/// The code blocks in a language of all documents.
fn blocks(language: &str) -> Vec<CodeBlock> {
    let all = documents().into_iter().flat_map(|(name, text)| code_blocks(&name, &text));
    all.filter(|block| block.language == language).collect()
}

/// A text without its code blocks.
fn prose(text: &str) -> String {
    let text = format!("\n{text}");
    text.split("\n```").step_by(2).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_readme_is_short() {
    let lines = read(README).lines().count();
    assert!(lines <= README_LINES, "{lines} lines, at most {README_LINES}: move text to the guide");
}

#[test]
fn every_chapter_is_in_the_documentation_and_linked_from_the_readme() {
    let (modules, readme) = (read("src/guide/mod.rs"), read(README));
    for chapter in chapters() {
        let file = chapter.rsplit('/').next().expect("a name");
        assert!(modules.contains(&format!("{file:?}")), "{chapter} is missing in src/guide/mod.rs");
        assert!(readme.contains(&format!("({chapter})")), "{chapter} is not linked from {README}");
        assert!(read(&chapter).starts_with("# "), "{chapter} has no title");
    }
}

/// Targets of links and images, without those of the web and of the same page.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let inline = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let definitions = prose.lines().filter_map(|line| {
        let (name, target) = line.strip_prefix('[')?.split_once("]: ")?;
        (!name.contains(']')).then_some(target)
    });
    let images = prose.split("src=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let all = inline.chain(definitions).chain(images);
    let here = all.filter(|target| !target.contains("://") && !target.starts_with('#'));
    here.map(|target| target.split('#').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut seen = 0;
    for (document, text) in documents() {
        let file = path(&document);
        for target in links(&text) {
            let there = file.parent().expect("a folder").join(&target);
            assert!(there.exists(), "{document}: there is no {target}");
            seen += 1;
        }
        // `[text][name]` needs a definition of the name.
        for reference in prose(&text).split("][").skip(1) {
            let name = reference.split(']').next().unwrap_or_default();
            assert!(text.contains(&format!("\n[{name}]: ")), "{document}: no definition of {name}");
        }
    }
    assert!(seen > 20, "{seen} links");
}

/// Whether a path of the repository exists; `*` stands for any name.
fn exists(name: &str) -> bool {
    let Some((before, after)) = name.split_once('*') else { return path(name).exists() };
    let (folder, start) = before.rsplit_once('/').unwrap_or(("", before));
    let Ok(entries) = std::fs::read_dir(path(folder)) else { return false };
    let mut names = entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned());
    names.any(|n| n.starts_with(start) && n.ends_with(after))
}

#[test]
fn files_that_are_named_exist() {
    let mut seen = 0;
    for (document, text) in documents() {
        for name in prose(&text).split('`').skip(1).step_by(2) {
            let is_path = FOLDERS.iter().any(|f| name.starts_with(f)) && !name.contains(' ');
            if is_path && !name.contains("my-") {
                assert!(exists(name), "{document}: there is no {name}");
                seen += 1;
            }
        }
    }
    assert!(seen > 80, "{seen} files");
}

#[test]
fn a_missing_file_is_noticed() {
    assert!(exists("kernels/*.cu") && exists("src/lib.rs") && exists("tests/"));
    assert!(!exists("kernels/*.ptx") && !exists("src/lob.rs") && !exists("nowhere/*.rs"));
    assert_eq!(links("see [a](b.md) and ![c](d.svg)\n[e]: f.md#g\n"), ["b.md", "d.svg", "f.md"]);
    assert!(links("```sh\n[a](b.md)\n```\n[w](https://x) [s](#y)").is_empty());
}

#[test]
fn code_blocks_name_a_language() {
    for (document, text) in documents() {
        for block in code_blocks(&document, &text) {
            assert!(LANGUAGES.contains(&&*block.language), "{document}: ```{}", block.language);
        }
    }
}

/// A folder like a checkout: experiments that can be added to, the default run, and two
/// models and a text of the reader's own.
fn checkout() -> TempDir {
    let root = TempDir::new().expect("folder");
    let link = |from: PathBuf, to: &str| {
        let to = root.path().join(to);
        std::os::unix::fs::symlink(&from, &to).unwrap_or_else(|e| panic!("{}: {e}", to.display()));
    };
    for folder in ["experiments", "models", "activations", "runs", "runs/desk-universality"] {
        std::fs::create_dir(root.path().join(folder)).expect("folder");
    }
    let link_all = |from: &Path, to: &str| {
        for entry in std::fs::read_dir(from).expect("folder") {
            let entry = entry.expect("entry");
            link(entry.path(), &format!("{to}/{}", entry.file_name().to_string_lossy()));
        }
    };
    link_all(&path("experiments"), "experiments");
    link_all(desk::folder(), "runs/desk-universality");
    link(path("experiments/desk/a"), "models/first");
    link(path("experiments/desk/b"), "models/second");
    link(path("experiments/desk/corpus.jsonl"), "models/text.jsonl");
    link(path("expected/golden/tl/tiny.safetensors"), "activations/first.safetensors");
    link(path("expected/golden/tl/tiny-prefixed.safetensors"), "activations/second.safetensors");
    root
}

/// Whether an interpreter has pandas, pyarrow and safetensors, where `.ci/run` or the user has
/// put them; prints why not.
fn python() -> Option<Command> {
    let with_packages = || {
        let mut python = Command::new("python3");
        python.env("PYTHONPATH", path("target/python"));
        python
    };
    let mut probe = with_packages();
    let found = probe.args(["-c", "import pandas, pyarrow, safetensors.numpy"]).output();
    if found.is_ok_and(|output| output.status.success()) {
        return Some(with_packages());
    }
    println!("skipped: python3 has no pandas, pyarrow and safetensors");
    None
}

#[test]
fn the_python_of_the_guide_reads_a_run() {
    // Those of the README export activations with libraries that are large.
    let snippets: Vec<CodeBlock> =
        blocks("python").into_iter().filter(|block| block.document != README).collect();
    assert_eq!(snippets.len(), 1);
    let Some(mut python) = python() else { return };
    let root = checkout();
    let output = python.current_dir(root.path()).arg("-c").arg(&snippets[0].text).output();
    let text = stdout(&output.expect("python3 starts"));
    let share = &desk::outcome().reference.summary.shares[0];
    let counts = [share.universal, share.of].map(|n| n.to_string());
    assert!(counts.iter().all(|n| text.contains(n)), "{text}");
}

#[test]
fn the_examples_are_valid_experiments() {
    let root = checkout();
    let (claims, examples): (Vec<_>, Vec<_>) =
        blocks("yaml").into_iter().partition(|block| block.text.starts_with("# claims"));
    assert!(examples.len() >= 3 && claims.len() == 1);
    for example in claims {
        // The run of the checkout has another reference.
        let text = example.text.replace("models: [first]", "models: [a]");
        std::fs::write(root.path().join("my-claims.yaml"), text).expect("write");
        let judge = ["verify", "--claims", "my-claims.yaml", "--run", "runs/desk-universality"];
        let ledger = stdout(&run(root.path(), &judge));
        assert!(ledger.contains("2 hold, 0 contradicted, 0 fail"), "{ledger}");
    }
    for example in examples {
        let name = example.text.lines().find_map(|line| line.strip_prefix("name: "));
        let file = format!("experiments/{}.yaml", name.expect("a whole experiment"));
        std::fs::write(root.path().join(&file), &example.text).expect("write");
        stdout(&run(root.path(), &["validate", &file]));
    }
}

/// The commands of the documents, as arguments of the program.
fn commands() -> Vec<(String, Vec<String>)> {
    let arguments = |line: &str| -> Option<Vec<String>> {
        let line = line.split(" # ").next()?.trim();
        let program = ["cargo run --release", "universal-neurons "];
        let (before, rest) = program.iter().find_map(|program| line.split_once(program))?;
        // Loops and launchers are not parsed.
        if !before.split_whitespace().all(|word| word.contains('=')) {
            return None;
        }
        let rest = rest.trim().strip_prefix("--").unwrap_or(rest);
        Some(rest.split_whitespace().take_while(|w| *w != ">").map(String::from).collect())
    };
    let of_block = |block: CodeBlock| {
        let found: Vec<_> = block.text.lines().filter_map(arguments).collect();
        found.into_iter().map(move |arguments| (block.document.clone(), arguments))
    };
    blocks("sh").into_iter().flat_map(of_block).collect()
}

/// Whether a command takes a moment and needs only what [`checkout`] has.
fn is_quick(words: &[&str]) -> bool {
    let quick = ["inspect", "validate", "schema", "new", "report", "completions", "man"];
    let made_up = |w: &&str| *w == "SPEC" || w.starts_with("runs/") && !w.contains("desk-");
    words.first().is_some_and(|w| quick.contains(w)) && !words.iter().any(made_up)
}

#[test]
fn the_commands_are_what_the_program_knows() {
    let root = checkout();
    let example = blocks("yaml").into_iter().find(|b| b.document == README).expect("an example");
    std::fs::write(root.path().join("experiments/my-experiment.yaml"), example.text)
        .expect("write");
    let commands = commands();
    assert!(commands.len() > 30, "{commands:?}");
    let mut done = 0;
    for (document, command) in &commands {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let parsed = Cli::try_parse_from(std::iter::once("x").chain(words.iter().copied()));
        if let Err(error) = parsed {
            panic!("{document}: {words:?}: {error}");
        }
        let files = words.iter().filter(|w| FOLDERS.iter().any(|f| w.starts_with(f)));
        for file in files.filter(|f| !f.contains("my-")) {
            assert!(path(file).exists(), "{document}: {words:?}: there is no {file}");
        }
        if is_quick(&words) {
            stdout(&run(root.path(), &words));
            done += 1;
        }
    }
    assert!(done >= 5, "{done} commands were run");
}

/// The text between the marks of the printed run, and where it lies in the document.
fn shown_run(document: &str) -> (std::ops::Range<usize>, String) {
    let text = read(document);
    let begin = text.find(BEGIN_RUN).unwrap_or_else(|| panic!("{document} shows no run"));
    let begin = begin + text[begin..].find("```text\n").expect("a block") + "```text\n".len();
    let end = begin + text[begin..].find(END_RUN).expect("an end");
    let end = begin + text[begin..end].rfind("```").expect("the block ends");
    (begin..end, text[begin..end].to_owned())
}

/// Whether two words of a printed run agree: another processor rounds otherwise, and a last
/// digit may differ.
fn same_word(shown: &str, now: &str) -> bool {
    let number = |w: &str| w.trim_matches(['(', ')']).parse::<f64>();
    match (number(shown), number(now)) {
        (Ok(a), Ok(b)) => (a - b).abs() <= 0.011_f64.max(1e-3 * b.abs()),
        _ => shown == now,
    }
}

/// Whether two ends of an interval agree: within one percentile.
fn same_end(shown: &str, now: &str) -> bool {
    let number = |w: &str| w.trim_matches(['(', ')']).parse::<f64>().ok();
    number(shown).zip(number(now)).is_some_and(|(a, b)| (a - b).abs() <= 1.0)
}

/// Compares the lines of a run that a document shows with the first lines of the run.
fn check_run(document: &str, lines_shown: impl Fn(&str) -> Option<usize>) {
    let spec = load_spec(&path("experiments/desk-universality.yaml")).expect("valid").spec;
    let now = terminal::summary(&spec, desk::outcome());
    let (place, shown) = shown_run(document);
    let most = lines_shown(&now).unwrap_or_else(|| shown.lines().count());
    // How long it took is of one machine.
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().take(most).filter(|line| !line.contains(" s in all"));
        lines.map(String::from).collect()
    };
    let same = |(a, b): (&String, &String)| {
        let (a, b): (Vec<_>, Vec<_>) =
            (a.split_whitespace().collect(), b.split_whitespace().collect());
        // An end of an interval moves when a neuron crosses the threshold in a resample.
        let is_end = |i: usize| a.get(i + 1) == Some(&"to") || (i > 0 && a[i - 1] == "to");
        let close = |i: usize| same_word(a[i], b[i]) || (is_end(i) && same_end(a[i], b[i]));
        a.len() == b.len() && (0..a.len()).all(close)
    };
    let (shown, now) = (lines(&shown), lines(&now));
    if shown.len() == now.len() && shown.iter().zip(&now).all(same) {
        return;
    }
    if std::env::var_os("UPDATE_GUIDE").is_some() {
        let mut text = read(document);
        text.replace_range(place, &(now.join("\n") + "\n"));
        return std::fs::write(path(document), text).expect("write");
    }
    panic!("{document} shows\n{}\nnow\n{}", shown.join("\n"), now.join("\n"));
}

#[test]
fn the_run_in_the_guide_is_the_run() {
    check_run("src/guide/files-of-a-run.md", |now| Some(now.lines().count()));
}

#[test]
fn the_readme_shows_how_the_run_begins() {
    check_run(README, |_| None);
    assert!(shown_run(README).1.lines().count() >= 8);
}

#[test]
fn the_figure_of_the_readme_is_of_the_run() {
    let committed = read("experiments/desk/signatures.svg");
    let now = std::fs::read_to_string(desk::folder().join("figures/signatures.svg"));
    let now = now.expect("a figure of the run");
    // Everything but places, which rounding may move by a pixel.
    let words = |svg: &str| -> Vec<String> {
        svg.split(['<', '>']).filter(|t| !t.contains('=')).map(String::from).collect()
    };
    if words(&committed) != words(&now) && std::env::var_os("UPDATE_GUIDE").is_some() {
        std::fs::write(path("experiments/desk/signatures.svg"), &now).expect("write");
        return;
    }
    assert_eq!(words(&committed), words(&now));
    assert_eq!(committed.matches("<circle").count(), 24);
}
