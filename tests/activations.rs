//! Recorded activations in place of models: the same study, whichever program computed them.

mod refused;
mod sparse;
mod text;
mod transformer_lens;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use half::f16;
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};
use tempfile::TempDir;
use universal_neurons::Transformer;
use universal_neurons::experiment::load_spec;
use universal_neurons::model::Site;
use universal_neurons::model::capture::{Activations, Capture};
use universal_neurons::plan::Plan;

use crate::support::{path, run, stderr};

/// Columns of `neurons.csv` that need weights.
const OF_WEIGHTS: [&str; 9] = [
    "w_in_norm",
    "input_bias",
    "w_out_norm",
    "in_out_sim",
    "l2_penalty",
    "vocab_mean",
    "vocab_var",
    "vocab_skew",
    "vocab_kurt",
];

/// A tensor of a file: name, type, shape, bytes.
type Exported = (String, Dtype, Vec<usize>, Vec<u8>);

fn floats(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

fn write(file: &Path, tensors: &[Exported]) {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        (name.as_str(), view.unwrap_or_else(|e| panic!("{name}: {e}")))
    });
    serialize_to_file(views, None, file).expect("write");
}

/// The models of the desk, the first documents of their text, and what they compute on them.
struct Desk {
    plan: Plan,
    folder: TempDir,
}

impl Desk {
    /// Writes a spec of the models over a few documents.
    fn new(documents: usize, baseline: &str) -> Self {
        let folder = TempDir::new().expect("folder");
        let models: String = ["a", "b", "c", "d", "e"]
            .map(|name| {
                let model = path("experiments/desk").join(name);
                format!("    - {{ name: {name}, path: '{}' }}\n", model.display())
            })
            .concat();
        let corpus = path("experiments/desk/corpus.jsonl");
        let corpus = format!(
            "corpus: {{ path: '{}', context: 256, limit: {documents} }}\n",
            corpus.display()
        );
        let spec = spec(&models, &format!("{corpus}{baseline}"));
        let file = folder.path().join("models.yaml");
        std::fs::write(&file, spec).expect("write");
        let plan = Plan::make(load_spec(&file).expect("valid")).unwrap_or_else(|e| panic!("{e}"));
        Self { plan, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Computes what TransformerLens caches of a model, on the tokens of all rows.
    fn cache(&self, model: usize, dtype: Dtype) -> Vec<Exported> {
        let model = Transformer::load(&self.plan.models[model].folder).expect("a model");
        let (layers, width) = (model.config.n_layers, model.config.d_mlp());
        let rows: Vec<&[u32]> = self.plan.tokens.rows.iter().map(|r| r.ids.as_slice()).collect();
        let tokens: usize = rows.iter().map(|row| row.len()).sum();
        let mut both = [Activations::new(layers * width), Activations::new(layers * width)];
        let [pre, post] = &mut both;
        let targets = vec![(Site::MlpPre, pre), (Site::MlpPost, post)];
        model.forward(&rows, &mut Capture::new(&vec![true; tokens], targets));
        let mut exported = Vec::new();
        for (site, of) in ["hook_pre", "hook_post"].iter().zip(&both) {
            for layer in 0..layers {
                let rows = of.values.chunks(layers * width);
                let own: Vec<f32> =
                    rows.flat_map(|row| row[layer * width..][..width].to_vec()).collect();
                let name = format!("blocks.{layer}.mlp.{site}");
                exported.push((name, dtype, vec![tokens, width], floats(&own, dtype)));
            }
        }
        exported
    }

    /// Returns the ids of the tokens, which of them take part, and their documents, as tensors.
    fn tokens(&self) -> [Exported; 3] {
        let rows = &self.plan.tokens.rows;
        let ids = rows.iter().flat_map(|row| row.ids.iter());
        let mask: Vec<u8> = ids.map(|&id| u8::from(self.plan.tokens.counts(id))).collect();
        let documents = rows.iter().flat_map(|row| vec![row.sample() as i32; row.ids.len()]);
        let documents: Vec<u8> = documents.flat_map(i32::to_le_bytes).collect();
        let ids = rows.iter().flat_map(|row| row.ids.iter());
        let ids: Vec<u8> = ids.flat_map(|&id| i64::from(id).to_le_bytes()).collect();
        let n = mask.len();
        [
            ("tokens".into(), Dtype::I64, vec![n], ids),
            ("mask".into(), Dtype::U8, vec![n], mask),
            ("documents".into(), Dtype::I32, vec![n], documents),
        ]
    }

    /// Runs a spec of the folder. Returns the folder of the run.
    fn run(&self, spec: &str) -> PathBuf {
        let out = self.path(&format!("{spec}-run"));
        let arguments = ["run", spec, "--quiet", "--out", out.to_str().expect("UTF-8")];
        let done = run(self.folder.path(), &arguments);
        assert!(done.status.success(), "{}", stderr(&done));
        out
    }

    /// Exports all models and runs the study of what was exported.
    fn run_exported(&self, dtype: Dtype, name: &str, settings: &str) -> PathBuf {
        self.run_exported_of(dtype, name, settings, None)
    }

    /// The same with the tokenizer of a folder.
    fn run_exported_of(
        &self,
        dtype: Dtype,
        name: &str,
        settings: &str,
        tokenizer: Option<&Path>,
    ) -> PathBuf {
        let mut members = String::new();
        for (i, model) in self.plan.models.iter().enumerate() {
            let file = format!("{}-{name}.safetensors", model.name);
            let tensors: Vec<Exported> =
                self.cache(i, dtype).into_iter().chain(self.tokens()).collect();
            write(&self.path(&file), &tensors);
            writeln!(members, "    - {{ name: {}, path: {file} }}", model.name).expect("memory");
        }
        let file = format!("{name}.yaml");
        let mut text = spec(&members, settings);
        if let Some(folder) = tokenizer {
            text = with_tokenizer(&text, folder);
        }
        std::fs::write(self.path(&file), text).expect("write");
        self.run(&file)
    }
}

/// A spec with a list of members and further settings.
fn spec(members: &str, settings: &str) -> String {
    format!(
        "version: 1\nname: recorded\nkind: universality\nquestion: Is it the same?\nsource: test\n\
         models:\n  reference: a\n  family:\n{members}{settings}"
    )
}

/// Adds the tokenizer of a folder to a spec.
fn with_tokenizer(spec: &str, folder: &Path) -> String {
    spec.replacen("models:\n", &format!("models:\n  tokenizer: '{}'\n", folder.display()), 1)
}

/// Reads a table as columns of text.
fn table(run: &Path, file: &str) -> BTreeMap<String, Vec<String>> {
    let mut csv = csv::Reader::from_path(run.join(file)).expect("a table");
    let names: Vec<String> = csv.headers().expect("names").iter().map(str::to_owned).collect();
    let mut columns: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in csv.records() {
        for (name, value) in names.iter().zip(row.expect("a row").iter()) {
            columns.entry(name.clone()).or_default().push(value.to_owned());
        }
    }
    columns
}

/// Returns the rows of the universal neurons.
fn universal(table: &BTreeMap<String, Vec<String>>) -> BTreeSet<usize> {
    let excess = table["excess_corr"].iter().enumerate();
    excess.filter(|(_, v)| v.parse::<f64>().is_ok_and(|v| v > 0.5)).map(|(i, _)| i).collect()
}

const TWO_DRAWS: &str = "correlation: { baseline: { kind: rotation, draws: 2, seed: 5 } }\n";
const PERMUTED: &str =
    "correlation: { baseline: { kind: permutation, draws: 2, seed: 5 }, top_partners: 2 }\n";
const NO_CARDS: &str = "cards: { neurons: 0 }\n";
const NO_INTERVALS: &str = "statistics: { intervals: { blocks: 0 } }\n";
/// A baseline that costs little.
const CHEAP: &str = "correlation: { baseline: { kind: fast_rotation, draws: 2, seed: 5 } }\n";

#[test]
fn exported_models_give_the_table_of_the_models() {
    let desk = Desk::new(4, &format!("{CHEAP}{NO_CARDS}"));
    let own = desk.run("models.yaml");
    let exact = desk.run_exported(Dtype::F32, "exact", CHEAP);
    let (models, recorded) = (table(&own, "neurons.csv"), table(&exact, "neurons.csv"));
    assert_eq!(models.len(), recorded.len(), "the same columns");
    assert!(!universal(&models).is_empty());
    for (column, values) in &recorded {
        match OF_WEIGHTS.contains(&column.as_str()) {
            true => assert!(values.iter().all(String::is_empty), "{column} needs weights"),
            false => assert_eq!(*values, models[column], "{column}, bit by bit"),
        }
    }
    let summary = |run: &Path| -> serde_json::Value {
        let text = std::fs::read_to_string(run.join("summary.json")).expect("a summary");
        serde_json::from_str(&text).expect("JSON")
    };
    let (models, recorded) = (summary(&own), summary(&exact));
    for key in ["shares", "by_layer", "depth", "resampling", "top", "models"] {
        assert_eq!(models[key], recorded[key], "{key}, intervals included");
    }
    let quick = format!("{CHEAP}{NO_INTERVALS}");
    let rounded = table(&desk.run_exported(Dtype::F16, "rounded", &quick), "neurons.csv");
    let whole = table(&own, "neurons.csv");
    // The models themselves, of which activations are rounded as they are read.
    let spec = std::fs::read_to_string(desk.path("models.yaml")).expect("the spec");
    let halves = spec.replacen("  family:", "  activations: f16\n  family:", 1) + NO_INTERVALS;
    std::fs::write(desk.path("halves.yaml"), halves).expect("write");
    let halves = table(&desk.run("halves.yaml"), "neurons.csv");
    for column in rounded.keys().filter(|column| !OF_WEIGHTS.contains(&column.as_str())) {
        assert_eq!(halves[column], rounded[column], "{column}, bit by bit");
    }
    assert_eq!(halves["w_in_norm"], whole["w_in_norm"]);
    assert_eq!(universal(&rounded), universal(&whole));
    for column in ["mean_corr", "excess_corr", "mean", "sparsity"] {
        for (f16, f32) in rounded[column].iter().zip(&whole[column]) {
            let [f16, f32] = [f16, f32].map(|v| v.parse::<f64>().expect("a number"));
            // Eleven bits of each of the values; a mean of them rounds less.
            assert!((f16 - f32).abs() <= 2e-3 * (1.0 + f32.abs()), "{column}: {f16} {f32}");
        }
    }
}

/// Runs a spec in a folder. Returns the run.
fn run_in(folder: &Path, name: &str, spec: &str) -> PathBuf {
    std::fs::write(folder.join(format!("{name}.yaml")), spec).expect("write");
    let file = format!("{name}.yaml");
    let done = run(folder, &["run", &file, "--quiet", "--device", "cpu", "--out", name]);
    assert!(done.status.success(), "{}", stderr(&done));
    folder.join(name)
}

/// Runs a spec that is refused. Returns the message.
fn refused_in(folder: &Path, spec: &str) -> String {
    std::fs::write(folder.join("refused.yaml"), spec).expect("write");
    let done = run(folder, &["validate", "refused.yaml"]);
    assert_eq!(done.status.code(), Some(2), "{}", stderr(&done));
    stderr(&done)
}

fn members(of: &[(&str, &Path)]) -> String {
    let line = |(name, path): &(&str, &Path)| {
        format!("    - {{ name: {name}, path: '{}' }}\n", path.display())
    };
    of.iter().map(line).collect()
}

/// Asserts that the correlations of two tables differ by no more than rounding to f32.
fn assert_same(own: &Path, other: &Path) {
    let [own, other] = [own, other].map(|run| table(run, "neurons.csv"));
    assert_eq!(universal(&own), universal(&other));
    for column in ["mean_corr", "mean_baseline", "excess_corr", "mean", "var", "sparsity"] {
        for (a, b) in own[column].iter().zip(&other[column]) {
            let [a, b] = [a, b].map(|v| v.parse::<f64>().expect("a number"));
            assert!((a - b).abs() <= 2e-5 * (1.0 + b.abs()), "{column}: {a} {b}");
        }
    }
}

/// Returns a NumPy file of values `[tokens, units]`.
fn npy(values: &[f32], units: usize) -> Vec<u8> {
    let shape = format!("({}, {units})", values.len() / units);
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = (header.len() as u16).to_le_bytes();
    let start = [&b"\x93NUMPY\x01\x00"[..], &length, header.as_bytes()].concat();
    [start, floats(values, Dtype::F32)].concat()
}

/// Activations that depend on the token, the unit and a seed, and share a cause for some units.
fn made_up(tokens: usize, units: usize, seed: usize) -> Vec<f32> {
    let value = |at: usize| {
        let (token, unit) = (at / units, at % units);
        let noise = ((at * 7919 + seed * 104_729) % 1009) as f32 / 1009.0;
        let cause = ((token * 31 + 7) % 97) as f32 / 97.0;
        if unit.is_multiple_of(3) { 4.0 * cause * (1.0 + unit as f32) + noise } else { noise }
    };
    (0..tokens * units).map(value).collect()
}

#[test]
fn folders_of_numpy_files_are_layers_and_members_may_differ_in_depth_and_width() {
    let folder = TempDir::new().expect("folder");
    for (name, layers, units) in [("a", 2, 9), ("b", 3, 6)] {
        let member = folder.path().join(name);
        std::fs::create_dir(&member).expect("folder");
        let mut tensors = Vec::new();
        for layer in 0..layers {
            let values = made_up(500, units, layer * 10 + units);
            std::fs::write(member.join(format!("layer_{layer}.npy")), npy(&values, units))
                .expect("write");
            let name = format!("layers.{layer}");
            tensors.push((name, Dtype::F32, vec![500, units], floats(&values, Dtype::F32)));
        }
        write(&folder.path().join(format!("{name}.safetensors")), &tensors);
    }
    let study = |suffix: &str| {
        let [a, b] = ["a", "b"].map(|name| PathBuf::from(format!("{name}{suffix}")));
        spec(&members(&[("a", &a), ("b", &b)]), PERMUTED)
    };
    let one = run_in(folder.path(), "numpy-run", &study(""));
    let other = run_in(folder.path(), "safetensors-run", &study(".safetensors"));
    let [one, other] = [one, other].map(|run| table(&run, "neurons.csv"));
    assert_eq!(one, other, "the same values in another format");
    assert_eq!((one["layer"].len(), universal(&one).len()), (18, 6));
    let layers = study("").replace("models:\n", "models:\n  layers: [0]\n");
    let few = table(&run_in(folder.path(), "first-run", &layers), "neurons.csv");
    assert_eq!(few["layer"].len(), 9);
}

/// A file with one layer of made-up activations and further tensors.
fn layer(file: &Path, tokens: usize, further: Vec<Exported>) {
    let values = floats(&made_up(tokens, 4, tokens), Dtype::F32);
    let own = ("layers.0".to_owned(), Dtype::F32, vec![tokens, 4], values);
    write(file, &[vec![own], further].concat());
}
