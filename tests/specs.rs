//! Experiment files: every broken one is refused with an error that helps, and
//! every one that the project ships is accepted.

use std::path::PathBuf;

use universal_neurons::error::Error;
use universal_neurons::experiment::{load_spec, schema};
use universal_neurons::plan::Plan;

use crate::support::{assert_snapshot, path, program, stderr};

pub fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path(folder)).expect("folder");
    let files = entries.map(|e| e.expect("entry").path());
    let mut files: Vec<_> = files.filter(|f| f.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    files
}

fn refusal(file: &std::path::Path) -> Error {
    let loaded = load_spec(file);
    loaded.and_then(Plan::make).err().unwrap_or_else(|| panic!("{} is accepted", file.display()))
}

#[test]
fn each_mistake_gets_an_error_that_names_place_problem_and_remedy() {
    let files = yaml_files("tests/broken");
    assert!(files.len() >= 25, "only {} broken specs", files.len());
    let folder = format!("{}/", path("tests/broken").display());
    for file in files {
        let name = file.file_stem().and_then(|s| s.to_str()).expect("name");
        assert_snapshot(
            &format!("broken-{name}"),
            &refusal(&file).to_string().replace(&folder, ""),
        );
    }
}

#[test]
fn the_program_refuses_them_all_with_exit_code_2() {
    let files = yaml_files("tests/broken");
    let names = files.iter().map(|f| f.file_name().and_then(|n| n.to_str()).expect("name"));
    let arguments: Vec<&str> = ["validate"].into_iter().chain(names).collect();
    let output = program(&path("tests/broken"), &arguments).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output).matches("error: ").count(), files.len());
}

/// A key counts where it is given last: in the file itself, then in the last file of a list, and in
/// any file before those that it includes, however often these are included.
#[test]
fn included_files_include_others() {
    let root = tempfile::tempdir().expect("folder");
    let write = |name: &str, text: &str| {
        std::fs::write(root.path().join(name), text).expect("write");
    };
    std::fs::create_dir(root.path().join("deep")).expect("folder");
    let desk = path("experiments/desk-universality.yaml");
    let base = format!("include: {}\nname: base\ncorpus: {{ limit: 5 }}\n", desk.display());
    write(
        "base.yaml",
        &format!("{base}correlation: {{ threshold: 0.4, baseline: {{ draws: 5 }} }}\n"),
    );
    write("left.yaml", "include: base.yaml\ncorrelation: { threshold: 0.3 }\n");
    write("right.yaml", "include: [base.yaml]\ncorpus: { limit: 7 }\nname: right\n");
    write("deep/mine.yaml", "include: [../left.yaml, ../right.yaml]\nquestion: Mine?\n");
    let load = || load_spec(&root.path().join("deep/mine.yaml")).unwrap_or_else(|e| panic!("{e}"));
    let loaded = load();
    let spec = &loaded.spec;
    assert_eq!((spec.name.as_str(), spec.question.as_str()), ("right", "Mine?"));
    assert_eq!((spec.correlation.threshold, spec.correlation.baseline.draws), (0.3, 5));
    assert_eq!(spec.corpus.limit, Some(7));
    assert!(spec.corpus.path.exists() && spec.models.family[4].path.is_dir(), "paths resolve");
    write("base.yaml", &format!("{base}# changed\n"));
    assert_ne!(load().digest, loaded.digest, "every file counts");
}

#[test]
fn too_many_included_files_are_refused() {
    let root = tempfile::tempdir().expect("folder");
    for i in 0..70 {
        let text = format!("include: {}.yaml\n", i + 1);
        std::fs::write(root.path().join(format!("{i}.yaml")), text).expect("write");
    }
    let error = load_spec(&root.path().join("0.yaml")).expect_err("refused");
    assert!(error.problem.contains("more than 64 files"), "{error}");
    assert!(error.subject.contains("63.yaml:1:1"), "{error}");
}

#[test]
fn shipped_experiments_are_valid() {
    for file in yaml_files("experiments") {
        let plan = load_spec(&file).and_then(Plan::make).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(Some(plan.spec.name.as_str()), file.file_stem().and_then(|s| s.to_str()));
    }
}

#[test]
fn an_included_base_is_overridden_key_by_key() {
    let load = |name| load_spec(&path("experiments").join(name)).expect("valid").spec;
    let (base, over) = (load("desk-universality.yaml"), load("desk-permutation.yaml"));
    assert_eq!((over.models.reference.as_str(), over.correlation.baseline.draws), ("b", 1));
    assert_eq!(over.correlation.baseline.seed, base.correlation.baseline.seed);
    assert_eq!(over.models.family, base.models.family);
}

#[test]
fn the_schema_lists_every_key_of_a_spec() {
    let loaded = load_spec(&path("experiments/desk-universality.yaml")).expect("valid");
    let spec = serde_json::to_value(loaded.spec).expect("JSON");
    let schema = schema();
    for key in spec.as_object().expect("object").keys() {
        assert!(schema["properties"].get(key).is_some(), "`{key}` is not in the schema");
    }
}
