//! The specs of the papers' experiments: every one is validated, costed without its models, and run
//! by `run FOLDER` at toy size, on random models of its architecture with two layers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;
use universal_neurons::claims::{Tier, registry};
use universal_neurons::experiment::{self, Desk, STUDY, load_spec};
use universal_neurons::hub::{manifest, model_families};
use universal_neurons::model::Architecture;
use universal_neurons::record::{FigureFile, Provenance};

use crate::specs::yaml_files;
use crate::support::{path, program, stderr, varied_corpus};

/// The folders of specs that are not about the bundled models.
const FOLDERS: [&str; 5] = [
    "experiments/paper/stanford-gpt2-small",
    "experiments/paper/stanford-gpt2-medium",
    "experiments/paper/pythia-160m",
    "experiments/paper-2",
    "experiments/polypythia",
];

fn spec_files() -> Vec<PathBuf> {
    FOLDERS.into_iter().flat_map(yaml_files).collect()
}

/// The project's specs in a folder of their own, with random models of two layers in the place of
/// theirs, and what `run FOLDER` made of each folder.
struct Toys {
    root: TempDir,
    /// The exit code, standard output and standard error of each folder.
    ran: BTreeMap<&'static str, (Option<i32>, String, String)>,
}

static TOYS: LazyLock<Toys> = LazyLock::new(|| {
    let root = tempfile::tempdir().expect("folder");
    write_specs(root.path());
    write_models(root.path());
    write_texts(&root.path().join("models"));
    let ran = FOLDERS.map(|folder| (folder, run(root.path(), &["run", folder, "--quiet"])));
    Toys { root, ran: BTreeMap::from(ran) }
});

fn run(root: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = program(root, arguments).output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text, stderr(&output))
}

/// Copies the specs. Neurons, contexts and thresholds become those of small models.
fn write_specs(root: &Path) {
    let others = ["experiments/families/token-tests.yaml"].map(path);
    for file in spec_files().into_iter().chain(others) {
        let inside = file.strip_prefix(path("")).expect("a file of the project");
        let target = root.join(inside);
        std::fs::create_dir_all(target.parent().expect("a folder")).expect("folder");
        let text = std::fs::read_to_string(&file).expect("a spec");
        std::fs::write(target, at_toy_size(&text)).expect("write");
    }
}

fn at_toy_size(text: &str) -> String {
    let mut small = with_small_neurons(text);
    for (from, to) in [
        ("context: 512", "context: 12"),
        ("threshold: 0.5", "threshold: 0.02"),
        ("pile.test.jsonl.zst", "pile.test.jsonl"),
        ("\"The\", \"world\", \"Python\"", "\"the\", \"world\", \"python\""),
        ("neurons: 300", "neurons: 3"),
        ("neurons: 100", "neurons: 3"),
        // One of several neurons turns the head off rather than on.
        ("[[L0.N0, L5.H0]]", "[[L0.N0, L5.H0], [L0.N1, L5.H0], [L0.N2, L5.H0], [L0.N3, L5.H0]]"),
        ("L5.H0", "L1.H0"),
        ("controls: 20", "controls: 2"),
        ("controls: 17", "controls: 2"),
        ("directions: 1000", "directions: 20"),
        ("resamples: 1000", "resamples: 20"),
    ] {
        small = small.replace(from, to);
    }
    small
}

/// Gives each neuron that a text names the name of another one, of a model of two layers.
fn with_small_neurons(text: &str) -> String {
    let mut seen: Vec<String> = Vec::new();
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("L") {
        out += &rest[..start];
        let name: String =
            rest[start..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
        let neuron: Option<universal_neurons::table::NeuronId> = name.parse().ok();
        out += &match neuron {
            None => name.clone(),
            Some(id) => {
                let known = seen.iter().position(|other| *other == name);
                let place = known.unwrap_or_else(|| {
                    seen.push(name.clone());
                    seen.len() - 1
                });
                format!("L{}.N{}", id.layer % 2, place % 40)
            }
        };
        rest = &rest[start + name.len()..];
    }
    out + rest
}

/// Writes a random model for every model and checkpoint that the specs name.
fn write_models(root: &Path) {
    let families = model_families().expect("models");
    let mut folders: BTreeSet<(PathBuf, String)> = BTreeSet::new();
    for file in spec_files() {
        let copy = root.join(file.strip_prefix(path("")).expect("a file of the project"));
        let spec = load_spec(&copy).unwrap_or_else(|e| panic!("{e}")).spec;
        for model in &spec.models.family {
            folders.insert((model.path.clone(), model.name.clone()));
            if let Ok(settings) = spec.settings::<experiment::DynamicsSettings>() {
                for step in settings.steps {
                    let folder = step.path.to_string_lossy().replace("{model}", &model.name);
                    folders.insert((folder.into(), model.name.clone()));
                }
            }
        }
    }
    for (seed, (folder, name)) in folders.iter().enumerate() {
        let family = families.iter().find(|f| f.names().any(|known| known == name));
        let golden = match family.expect("a known model").shape.architecture {
            Architecture::Gpt2 => "tiny",
            Architecture::Neox => "neox",
        };
        write_model(folder, &path("expected/golden").join(golden), seed as u64);
    }
}

/// Writes a model like another one, with other weights.
fn write_model(folder: &Path, like: &Path, seed: u64) {
    std::fs::create_dir_all(folder).expect("folder");
    for file in ["config.json", "tokenizer.json"] {
        std::fs::copy(like.join(file), folder.join(file)).expect("copy");
    }
    let mut bytes = std::fs::read(like.join("model.safetensors")).expect("read");
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let tensors: Value = serde_json::from_slice(&bytes[8..8 + header]).expect("JSON");
    let mut random = crate::kernels::Random::new(seed);
    for (name, tensor) in tensors.as_object().expect("tensors") {
        let Some(offsets) = tensor["data_offsets"].as_array() else { continue };
        let [start, end] = [0, 1].map(|i| 8 + header + offsets[i].as_u64().expect("n") as usize);
        let factor = |random: &mut crate::kernels::Random| 1.0 + 0.2 * random.value();
        match tensor["dtype"].as_str() {
            Some("F32") => bytes[start..end].as_chunks_mut::<4>().0.iter_mut().for_each(|b| {
                *b = (f32::from_le_bytes(*b) * factor(&mut random)).to_le_bytes();
            }),
            Some("F16") => bytes[start..end].as_chunks_mut::<2>().0.iter_mut().for_each(|b| {
                let value = half::f16::from_le_bytes(*b).to_f32() * factor(&mut random);
                *b = half::f16::from_f32(value).to_le_bytes();
            }),
            other => panic!("{name}: {other:?}"),
        }
    }
    std::fs::write(folder.join("model.safetensors"), bytes).expect("write");
}

/// Writes the text of the studies, and a text with syntax labels.
fn write_texts(models: &Path) {
    let pile = varied_corpus(30).replace("\"domain\":", "\"meta\":{},\"domain\":");
    let pile: String = pile
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).expect("JSON");
            line["meta"] = serde_json::json!({ "pile_set_name": line["domain"] });
            format!("{line}\n")
        })
        .collect();
    std::fs::write(models.join("pile.test.jsonl"), pile).expect("write");
    let (mut text, mut labels) = (String::new(), String::new());
    for i in 0..20 {
        text +=
            &format!("{{\"id\": \"d{i}\", \"domain\": \"news\", \"text\": \"the dog jumps.\"}}\n");
        labels += &format!("# newdoc id = d{i}\n");
        for (n, (word, pos)) in
            [("the", "DET"), ("dog", "NOUN"), ("jumps", "VERB"), (".", "PUNCT")].iter().enumerate()
        {
            labels += &format!("{}\t{word}\t_\t{pos}\t_\t_\t0\tdep\t_\t_\n", n + 1);
        }
        labels += "\n";
    }
    std::fs::write(models.join("treebank.jsonl"), text).expect("write");
    std::fs::write(models.join("treebank.conllu"), labels).expect("write");
}

/// The folder of the results of a study of the toys.
fn results(name: &str) -> PathBuf {
    TOYS.root.path().join("runs").join(name)
}

/// The figures of all runs of the toys, each with the reference model of its run; the tables of the
/// studies count as figure "".
fn reported() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let mut folders = vec![TOYS.root.path().join("runs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("results") {
            let entry = entry.expect("entry").path();
            if entry.is_dir() && !entry.ends_with("charts") {
                folders.push(entry);
            }
        }
        let Ok(provenance) = Provenance::read(&folder) else { continue };
        let model = provenance.spec.models.reference;
        if provenance.spec.kind == STUDY {
            found.insert((model.clone(), String::new()));
        }
        for name in FigureFile::read_figures(&folder).expect("figures").into_keys() {
            found.insert((model.clone(), name));
        }
    }
    found
}

#[test]
fn every_spec_is_named_after_its_place_and_about_known_models() {
    let families = model_families().expect("models");
    let known: BTreeSet<&String> = families.iter().flat_map(|f| f.names()).collect();
    let files = spec_files();
    assert!(files.len() >= 28, "{} specs", files.len());
    for file in files {
        let spec = load_spec(&file).unwrap_or_else(|e| panic!("{e}")).spec;
        let part =
            |name: Option<&std::ffi::OsStr>| name.expect("a name").to_string_lossy().into_owned();
        let folder = part(file.parent().and_then(Path::file_name));
        let name = match part(file.file_stem()).as_str() {
            "universality" => folder,
            stem => format!("{folder}-{}", stem.strip_prefix("pythia-").unwrap_or(stem)),
        };
        assert_eq!(spec.name, name, "{}", file.display());
        for model in &spec.models.family {
            assert!(known.contains(&model.name), "{}: {}", file.display(), model.name);
            assert!(model.path.ends_with(&model.name), "{}", model.path.display());
        }
        assert!(spec.cards.tests.is_some_and(|tests| tests.exists()), "{}", file.display());
    }
}

#[test]
fn every_spec_is_valid_at_toy_size() {
    let files = spec_files();
    let inside = |file: &PathBuf| {
        file.strip_prefix(path("")).expect("a file of the project").display().to_string()
    };
    let names: Vec<String> = files.iter().map(inside).collect();
    let arguments: Vec<&str> =
        std::iter::once("validate").chain(names.iter().map(String::as_str)).collect();
    let (code, text, error) = run(TOYS.root.path(), &arguments);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(text.matches(": valid; ").count(), files.len(), "{text}");
}

/// The cost of every spec as it is shipped, without its models and its text.
#[test]
fn every_spec_has_a_cost_without_models_and_text() {
    for folder in FOLDERS {
        let (code, text, error) = run(&path(""), &["run", folder, "--dry-run", "--json"]);
        assert_eq!(code, Some(0), "{folder}: {error}");
        let costs: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        assert_eq!(costs.len(), yaml_files(folder).len(), "{folder}");
        for cost in costs {
            let tokens = cost["tokens"].as_f64().expect("a number");
            let forward = cost["operations"]["forward"].as_f64().expect("a number");
            let read = cost["kind"] != "reading";
            assert_eq!(forward > tokens, read, "{folder}: {cost}");
            assert!(
                cost["bytes"].as_f64().expect("a number") > 1e8 || folder.ends_with("polypythia"),
                "{cost}"
            );
        }
    }
}

#[test]
fn every_spec_runs_at_toy_size() {
    for (folder, (code, text, error)) in &TOYS.ran {
        assert_eq!(*code, Some(0), "{folder}: {text}\n{error}");
        let files = yaml_files(folder);
        for (i, file) in files.iter().enumerate() {
            assert!(error.contains(&format!("[{}/{}] ", i + 1, files.len())), "{folder}: {error}");
            let name = file.file_name().expect("a name").to_string_lossy();
            assert!(error.contains(&*name), "{folder}: no progress of {name}: {error}");
        }
        assert!(text.contains("no claim is about its models"), "{folder}: {text}");
    }
    assert!(results("stanford-gpt2-small/families/figures.json").exists());
    assert!(results("polypythia-14m/summary.json").exists());
}

/// The universal neurons of the other experiments are those of the study.
#[test]
fn a_study_gives_its_universal_neurons_to_the_folder() {
    let folder = results("stanford-gpt2-small");
    let own = universal_neurons::store::digest_file(
        universal_neurons::error::Kind::Evidence,
        &folder.join("neurons.csv"),
    );
    let used = Provenance::read(&folder.join("families")).expect("a run").universal_sha256;
    assert_eq!(used, Some(own.expect("a table")));
}

/// Every judgement on runs of the original models is about a figure that some spec reports for that
/// model, and every other one about a table or a run that there is. The claims are those of
/// `expected/claim-ids.yaml`.
#[test]
fn every_claim_can_be_reached() {
    let ids: Vec<String> = serde_yaml::from_str(
        &std::fs::read_to_string(path("expected/claim-ids.yaml")).expect("ids"),
    )
    .expect("a list");
    let claims = registry().expect("claims");
    let tables = manifest().expect("tables").files;
    let has_table = |folder: &str, model: &String| {
        tables.iter().any(|file| file.path.contains(folder) && file.path.contains(model.as_str()))
    };
    let reported = reported();
    let mut unreached = Vec::new();
    for id in &ids {
        let claim =
            claims.iter().find(|claim| claim.id == *id).unwrap_or_else(|| panic!("no {id}"));
        let measure = &claim.measure;
        let figure = measure.figure.clone().unwrap_or_default();
        let mut reached = 0;
        for judgement in &claim.judged {
            let is_reached = |model: &String| match judgement.tier {
                Tier::Published => has_table("interpretable_neurons", model),
                Tier::Population => has_table("neuron_dfs", model),
                Tier::Weights => reported.contains(&(model.clone(), figure.clone())),
                Tier::Desk => measure.experiment.as_ref().is_none_or(|kind| {
                    let kind = experiment::kind(kind).expect("a kind");
                    matches!(kind.desk, Desk::Spec(_))
                }),
                Tier::Run => false,
            };
            let all = judgement.models.iter().all(is_reached);
            reached += usize::from(all);
            // The bundled models have no checkpoints.
            let waits = judgement.tier == Tier::Desk && claim.id.starts_with("dynamics.");
            if !all && !waits {
                unreached.push(format!(
                    "{id} at {}: {:?}",
                    judgement.tier.name(),
                    judgement.models
                ));
            }
        }
        assert!(reached > 0, "{id} has no judgement that anything can reach");
    }
    assert!(unreached.is_empty(), "{unreached:#?}");
    assert!(claims.iter().all(|claim| claim.measure.awaits.is_none()));
}

/// A folder of two studies of tiny models.
fn two_studies() -> crate::support::Bench {
    let bench = crate::support::Bench::new();
    std::fs::create_dir(bench.path().join("specs")).expect("folder");
    let spec = std::fs::read_to_string(bench.path().join("spec.yaml")).expect("the spec");
    let spec = spec.replace("path: a ", "path: ../a ").replace("path: b ", "path: ../b ");
    let spec = spec.replace("corpus.jsonl", "../corpus.jsonl");
    bench.write("specs/study.yaml", &spec);
    let other =
        "include: study.yaml\nname: prediction\nkind: prediction\nprediction: { kurtosis: 1 }\n";
    bench.write("specs/prediction.yaml", other);
    bench
}

fn folder_run(bench: &crate::support::Bench, more: &[&str]) -> (Option<i32>, String, String) {
    run(bench.path(), &[&["run", "specs", "--quiet"], more].concat())
}

#[test]
fn a_folder_is_resumed_and_a_failing_spec_loses_nothing() {
    let bench = two_studies();
    bench.write(
        "specs/lost.yaml",
        "include: study.yaml\nname: lost\ncorpus: { path: nowhere.jsonl }\nkind: split-half\n",
    );
    let (code, _, error) = folder_run(&bench, &["--checkpoint", "600"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains("nowhere.jsonl")
            && error.contains("1 of 3 could not be run: specs/lost.yaml"),
        "{error}"
    );
    let places = ["runs/bench/summary.json", "runs/bench/prediction/figures.json"];
    let when = || {
        places.map(|place| {
            bench.path().join(place).metadata().and_then(|m| m.modified()).expect("results")
        })
    };
    let before = when();
    bench.write("specs/nowhere.jsonl", crate::support::CORPUS);
    let (code, text, error) = folder_run(&bench, &["--resume"]);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(text.matches("has its results").count(), 2, "{text}");
    assert_eq!(when(), before, "what was there was not made again");
    assert!(bench.path().join("runs/bench/lost/figures.json").exists());
    // A spec that changed is run again.
    bench.edit("specs/prediction.yaml", "kurtosis: 1", "kurtosis: 2");
    let (code, text, error) = folder_run(&bench, &["--resume"]);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(text.matches("has its results").count(), 2, "{text}");
    assert_ne!(when()[1], before[1], "the changed experiment was made again");
}

#[test]
fn folders_that_cannot_be_run_are_refused() {
    let bench = two_studies();
    std::fs::create_dir(bench.path().join("empty")).expect("folder");
    for (arguments, says) in [
        (&["run", "empty"][..], "has no experiment files"),
        (&["run", "specs", "--shard", "1/2"], "--shard is about one experiment"),
        (&["run", "specs", "--json"], "--json is about one experiment"),
    ] {
        let (code, _, error) = run(bench.path(), arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {error}");
        assert!(error.contains(says) && error.contains("help: "), "{arguments:?}: {error}");
    }
    bench.write("specs/broken.yaml", "version: 1\nname: broken\n");
    let (code, _, error) = folder_run(&bench, &[]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("specs/broken.yaml"), "{error}");
    bench.assert_nothing_written();
}

#[test]
fn a_model_of_unknown_size_has_no_cost_before_it_is_here() {
    let bench = two_studies();
    std::fs::remove_dir_all(bench.path().join("b")).expect("removed");
    let (code, _, error) = run(bench.path(), &["run", "specs/study.yaml", "--dry-run"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains("the size of model `a` is not known") && error.contains("help: "),
        "{error}"
    );
}
