//! Recorded activations in place of models: the same study, whichever program computed them.

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
    let view = |(name, dtype, shape, bytes): &Exported| {
        let bytes = bytes.as_slice();
        let view = TensorView::new(*dtype, shape.clone(), bytes);
        (name.clone(), view.unwrap_or_else(|e| panic!("{name}: {e}")).data().to_vec())
    };
    let owned: BTreeMap<String, Vec<u8>> = tensors.iter().map(view).collect();
    let views = tensors.iter().map(|(name, dtype, shape, _)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), &owned[name]).expect("fits"))
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

    /// Returns which tokens take part, and their documents, as tensors.
    fn tokens(&self) -> [Exported; 2] {
        let rows = &self.plan.tokens.rows;
        let ids = rows.iter().flat_map(|row| row.ids.iter());
        let mask: Vec<u8> = ids.map(|&id| u8::from(self.plan.tokens.counts(id))).collect();
        let documents = rows.iter().flat_map(|row| vec![row.sample() as i32; row.ids.len()]);
        let documents: Vec<u8> = documents.flat_map(i32::to_le_bytes).collect();
        let n = mask.len();
        [
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
        let mut members = String::new();
        for (i, model) in self.plan.models.iter().enumerate() {
            let file = format!("{}-{name}.safetensors", model.name);
            let tensors: Vec<Exported> =
                self.cache(i, dtype).into_iter().chain(self.tokens()).collect();
            write(&self.path(&file), &tensors);
            writeln!(members, "    - {{ name: {}, path: {file} }}", model.name).expect("memory");
        }
        let file = format!("{name}.yaml");
        std::fs::write(self.path(&file), spec(&members, settings)).expect("write");
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

/// A baseline that costs little.
const CHEAP: &str = "correlation: { baseline: { kind: fast_rotation, draws: 2, seed: 5 } }\n";

#[test]
fn exported_models_give_the_table_of_the_models() {
    let desk = Desk::new(30, CHEAP);
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
    let rounded = table(&desk.run_exported(Dtype::F16, "rounded", CHEAP), "neurons.csv");
    let whole = table(&own, "neurons.csv");
    assert_eq!(universal(&rounded), universal(&whole));
    for column in ["mean_corr", "excess_corr", "mean", "sparsity"] {
        for (f16, f32) in rounded[column].iter().zip(&whole[column]) {
            let [f16, f32] = [f16, f32].map(|v| v.parse::<f64>().expect("a number"));
            // Eleven bits of each of the values; a mean of them rounds less.
            assert!((f16 - f32).abs() <= 2e-3 * (1.0 + f32.abs()), "{column}: {f16} {f32}");
        }
    }
}
