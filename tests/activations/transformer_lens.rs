//! What TransformerLens itself exports.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{CHEAP, Desk, TWO_DRAWS, assert_same, members, run_in, spec, table};
use crate::support::{path, stderr};

#[test]
fn what_transformer_lens_exported_gives_the_table_of_the_models() {
    let folder = TempDir::new().expect("folder");
    let golden = path("expected/golden");
    let corpus = golden.join("tl/corpus.jsonl");
    let corpus = format!("corpus: {{ path: '{}', context: 12 }}\n", corpus.display());
    let [models, files] = ["", "tl/"].map(|below| {
        let place = |name: &str| match below {
            "" => golden.join(name),
            _ => golden.join(below).join(name).with_extension("safetensors"),
        };
        members(&[("a", &place("tiny")), ("b", &place("tiny-prefixed"))])
    });
    let settings = format!("{TWO_DRAWS}cards: {{ neurons: 0 }}\n");
    let own = run_in(folder.path(), "own", &spec(&models, &(corpus + &settings)));
    let exported = run_in(folder.path(), "exported", &spec(&files, TWO_DRAWS));
    assert_same(&exported, &own);
}

/// Returns a Python with TransformerLens, if there is one: `TL_PYTHON`, or `python3`.
fn transformer_lens() -> Option<PathBuf> {
    let python = std::env::var_os("TL_PYTHON").unwrap_or_else(|| "python3".into());
    let probe = Command::new(&python).args(["-c", "import transformer_lens"]).output();
    if probe.is_ok_and(|output| output.status.success()) {
        return Some(python.into());
    }
    println!("skipped: neither TL_PYTHON nor python3 has transformer_lens");
    None
}

#[test]
fn the_desk_models_in_transformer_lens_give_their_table() {
    let Some(python) = transformer_lens() else { return };
    let desk = Desk::new(4, CHEAP);
    let text = std::fs::read_to_string(path("experiments/desk/corpus.jsonl")).expect("a text");
    let documents: Vec<&str> = text.lines().take(4).collect();
    std::fs::write(desk.path("corpus.jsonl"), documents.join("\n") + "\n").expect("write");
    let script = path("expected/golden/tl_activations.py");
    let mut listed = Vec::new();
    for model in &desk.plan.models {
        let out = desk.path(&format!("{}.safetensors", model.name));
        let mut command = Command::new(&python);
        command.arg(&script).arg(&model.folder).arg(desk.path("corpus.jsonl"));
        let done = command.arg("256").arg(&out).output().expect("Python starts");
        assert!(done.status.success(), "{}", stderr(&done));
        listed.push((model.name.clone(), out));
    }
    let listed: Vec<(&str, &Path)> =
        listed.iter().map(|(name, path)| (name.as_str(), path.as_path())).collect();
    let exported = run_in(desk.folder.path(), "exported", &spec(&members(&listed), CHEAP));
    assert_same(&exported, &desk.run("models.yaml"));
}

#[test]
fn the_readme_exports_from_transformer_lens() {
    let Some(python) = transformer_lens() else { return };
    let readme = std::fs::read_to_string(path("README.md")).expect("a README");
    let mut blocks = readme.split("```python\n").skip(1).filter_map(|b| b.split_once("```"));
    let (export, _) = blocks.find(|(text, _)| text.contains("of_mlp")).expect("the example");
    let folder = TempDir::new().expect("folder");
    for (model, name) in [("tiny", "first"), ("tiny-prefixed", "second")] {
        let given = format!(
            "import sys, torch\nsys.path.insert(0, {:?})\nfrom tl_activations import load\n\
             model = load({:?})\ntokens = torch.arange(60).reshape(6, 10) % 31\n",
            path("expected/golden"),
            path("expected/golden").join(model),
        );
        let script = given + &export.replace("first.safetensors", &format!("{name}.safetensors"));
        let mut command = Command::new(&python);
        let done = command.current_dir(folder.path()).args(["-c", &script]).output();
        let done = done.expect("Python starts");
        assert!(done.status.success(), "{}", stderr(&done));
    }
    let [first, second] = ["first.safetensors", "second.safetensors"].map(Path::new);
    let both = members(&[("a", first), ("b", second)]);
    let made = run_in(folder.path(), "made", &spec(&both, TWO_DRAWS));
    let columns = table(&made, "neurons.csv");
    assert!(columns["mean_corr"].iter().all(|rho| rho.parse::<f64>().is_ok_and(|rho| rho > 0.0)));
    let summary = std::fs::read_to_string(made.join("summary.json")).expect("a summary");
    let summary: serde_json::Value = serde_json::from_str(&summary).expect("JSON");
    assert_eq!(
        (&summary["tokens"]["used"], &summary["documents"]["documents"]),
        (&60.into(), &6.into())
    );
}
