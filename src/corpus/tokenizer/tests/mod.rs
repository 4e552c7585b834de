//! Tokenizers: what their files may say, and the ids that they give.

mod ids;
mod members;

use serde_json::{Value, json};

use super::*;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The tokenizer of the bundled models, of 2,048 tokens.
fn base() -> Value {
    let text = std::fs::read_to_string(root("experiments/desk/a/tokenizer.json")).expect("read");
    serde_json::from_str(&text).expect("JSON")
}

fn model(d_vocab: usize) -> TokenizerFor<'static> {
    TokenizerFor { model: "small", d_vocab: Some(d_vocab) }
}

fn loaded_of(file: &str, d_vocab: usize) -> Result<BpeTokenizer> {
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("tokenizer.json"), file).expect("write");
    load(folder.path(), model(d_vocab))
}

const PROBE: &str = "The dog<|endoftext|>  didn't é\u{301} 日本, \u{1F469}\u{200d} x1 \n\n\ty ";

/// A file with the value at a path replaced, or removed where there is none.
fn with(path: &str, value: Option<Value>) -> String {
    let mut file = base();
    let (parent, name) = path.rsplit_once('/').expect("a path");
    let parent = file.pointer_mut(parent).expect("a parent");
    match (parent, value) {
        (Value::Object(members), Some(value)) => drop(members.insert(name.into(), value)),
        (Value::Object(members), None) => drop(members.remove(name)),
        (Value::Array(items), Some(value)) if name == "-" => items.push(value),
        (parent, _) => panic!("{parent}"),
    }
    file.to_string()
}
