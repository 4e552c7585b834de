//! Converts weights of any supported format to one safetensors file.

use std::path::Path;

use safetensors::tensor::TensorView;

use super::Source;
use crate::error::{Error, Kind, Result};
use crate::input::InputFile;
use crate::model::{Config, snapshot};
use crate::store::write_whole;

/// Files that a model needs in addition to the weights. They are copied if they exist.
const BESIDE: [&str; 4] = ["config.json", "tokenizer.json", "vocab.json", "merges.txt"];

/// Maximum length of a copied file, in bytes.
const MAX_BESIDE: u64 = 1 << 28;

/// Reads the model in `from` and writes it to `to`: the same tensors in the same types, with config
/// and tokenizer.
///
/// # Errors
/// Returns an error if the model cannot be read, its config is not that of a known architecture, or
/// `to` cannot be written.
pub fn convert(from: &Path, to: &Path) -> Result<()> {
    let from = &snapshot::resolve(from)?;
    // Checked as a model first, because converting a model that cannot be run is useless.
    let source = Source::open(from)?;
    super::Weights::check(&source, &Config::load(&from.join("config.json"))?)?;
    let stored: Vec<_> = source
        .tensors()
        .map(|(name, tensor)| Ok((name, tensor, source.bytes(tensor)?)))
        .collect::<Result<_>>()?;
    source.unchanged()?;
    let views = stored.iter().map(|(name, tensor, bytes)| {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), bytes);
        view.map(|view| (name.as_str(), view))
    });
    let unwritten = |e| Error::new(Kind::Model, from.display(), e, "check the files of weights");
    let views = views.collect::<std::result::Result<Vec<_>, _>>().map_err(unwritten)?;
    let metadata = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(unwritten)?;
    let io = |e: std::io::Error| Error::io(Kind::Store, to, "make the folder", &e);
    std::fs::create_dir_all(to).map_err(io)?;
    for name in BESIDE.iter().filter(|name| from.join(name).exists()) {
        let path = from.join(name);
        let content = InputFile::open(Kind::Model, &path)?.read(MAX_BESIDE)?;
        write_whole(&to.join(name), |out| out.write_all(&content))?;
    }
    write_whole(&to.join("model.safetensors"), |out| out.write_all(&bytes))
}
