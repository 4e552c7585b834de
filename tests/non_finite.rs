//! Weights that are NaN or infinite, in every kind of experiment: a run names the tensor, and no
//! table or chart holds NaN or an infinity.

use std::path::Path;

use universal_neurons::experiment::KINDS;

use crate::support::{Bench, path, run, set_f32, settings_of, stderr, varied_corpus};

/// A model, a tensor of it, the index of a value, and the value.
const FAULTS: [(&str, &str, usize, f32); 6] = [
    ("a", "h.1.mlp.c_fc.weight", 3, f32::NAN),
    ("a", "h.1.mlp.c_proj.weight", 100, f32::NAN),
    ("a", "h.1.attn.c_attn.weight", 7, f32::INFINITY),
    ("a", "wte.weight", 16 * 5 + 5, f32::NAN),
    ("a", "ln_f.weight", 2, f32::NEG_INFINITY),
    ("b", "h.0.mlp.c_fc.bias", 3, f32::NAN),
];

/// Adds the cells of all tables and charts of a folder that are NaN or infinite to `found`, each
/// with its place. Returns the number of all cells.
fn unfit_cells(folder: &Path, found: &mut Vec<String>) -> usize {
    let mut cells = 0;
    for entry in std::fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            cells += unfit_cells(&path, found);
        } else if path.extension().is_some_and(|e| e == "csv" || e == "svg") {
            let text = std::fs::read_to_string(&path).expect("text");
            for (line, row) in text.lines().enumerate() {
                for cell in row.split([',', ' ', '"', '>', '<']) {
                    cells += 1;
                    if ["nan", "inf", "-inf", "infinity"].contains(&cell.to_lowercase().as_str()) {
                        found.push(format!("{}:{}: {row}", path.display(), line + 1));
                    }
                }
            }
        }
    }
    cells
}

#[test]
fn no_kind_writes_nan_or_infinity() {
    for kind in KINDS.map(|kind| kind.rules.name) {
        for (model, tensor, index, value) in FAULTS {
            let bench = Bench::new();
            bench.write("corpus.jsonl", varied_corpus(50));
            bench.set_kind(kind, &settings_of(kind));
            let weights = bench.path().join(model).join("model.safetensors");
            std::fs::copy(path("expected/golden/tiny/model.safetensors"), &weights).expect("copy");
            set_f32(&weights, tensor, &[index], value);
            let what = format!("{kind}, {model}/{tensor}[{index}] = {value}");
            let output = run(bench.path(), &["run", "spec.yaml", "--quiet"]);
            let says = stderr(&output);
            let code = output.status.code();
            assert!(matches!(code, Some(0 | 2)), "{what}: exit code {code:?}: {says}");
            // Some kinds do not load the partner.
            let warned = says.contains("warning") && says.contains(tensor);
            assert!(warned || model == "b" && says.is_empty(), "{what}: {says}");
            // A study of a model without any correlation keeps its tables and ends with 2.
            let (runs, mut unfit) = (bench.path().join("runs"), Vec::new());
            let cells = if runs.exists() { unfit_cells(&runs, &mut unfit) } else { 0 };
            assert!(unfit.is_empty(), "{what}: {unfit:#?}");
            assert!(code == Some(2) || cells > 0, "{what}: no table");
        }
    }
}
