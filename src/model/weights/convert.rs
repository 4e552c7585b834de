//! Weights of any format as one file of safetensors.

use std::path::Path;

use safetensors::tensor::TensorView;

use super::Source;
use crate::error::{Error, Kind, Result};
use crate::input::InputFile;
use crate::model::{Config, snapshot};
use crate::store::write_whole;

/// Files beside the weights that a model needs, if they are there.
const BESIDE: [&str; 4] = ["config.json", "tokenizer.json", "vocab.json", "merges.txt"];

/// Longest of these that is copied, in bytes.
const MAX_BESIDE: u64 = 1 << 28;

/// Reads the model in `from` and writes it to `to`: the same tensors in the same types,
/// config and tokenizer beside them.
///
/// # Errors
/// If the model cannot be read or its config is none of a known architecture, or `to`
/// cannot be written.
pub fn convert(from: &Path, to: &Path) -> Result<()> {
    let from = &snapshot::resolve(from)?;
    // Checked as a model first: what cannot be run is not worth converting.
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
