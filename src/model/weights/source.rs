//! The tensors of a checkpoint, wherever they lie: one file of safetensors, several with an
//! index, or the zip archive that `torch.save` writes. Files are mapped, and nothing of
//! them is trusted: every length is checked before it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::archive;
use crate::backend::map::map_file;
use crate::error::{Error, Kind, Result};
use crate::store::{digest, digest_file};

/// One file of safetensors.
const WHOLE: &str = "model.safetensors";
/// The index of several.
const INDEX: &str = "model.safetensors.index.json";
/// What `torch.save` writes.
const BIN: &str = "pytorch_model.bin";

/// The tensors of a checkpoint.
pub struct Source {
    /// The file that names them.
    path: PathBuf,
    maps: Vec<Mmap>,
    tensors: BTreeMap<String, Tensor>,
}

/// Where a tensor lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Type of its values.
    pub dtype: Dtype,
    /// Its shape, row-major.
    pub shape: Vec<usize>,
    /// Which file.
    pub(super) file: usize,
    /// Bytes in it.
    pub(super) bytes: std::ops::Range<usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Source {
    /// Files of weights in a folder, the one that names the tensors first.
    ///
    /// # Errors
    /// If there is none, or an index is malformed.
    pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
        let present = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        if let Some(one) = present(WHOLE) {
            return Ok(vec![one]);
        }
        if let Some(index) = present(INDEX) {
            let shards: BTreeSet<String> = read_index(&index)?.weight_map.into_values().collect();
            let shards = shards.into_iter().map(|name| folder.join(name));
            return Ok(std::iter::once(index.clone()).chain(shards).collect());
        }
        present(BIN).map(|bin| vec![bin]).ok_or_else(|| {
            let problem = format!("is missing, and so are {INDEX} and {BIN}");
            let remedy = "copy or download the model again";
            Error::new(Kind::Model, folder.join(WHOLE).display(), problem, remedy)
        })
    }

    /// SHA-256 of the files of weights.
    ///
    /// # Errors
    /// If there are none, or one cannot be read.
    pub fn digest(folder: &Path) -> Result<String> {
        let files = Self::files(folder)?;
        let digests =
            files.iter().map(|f| digest_file(Kind::Model, f)).collect::<Result<Vec<_>>>()?;
        match &digests[..] {
            [one] => Ok(one.clone()),
            several => Ok(digest(several.concat().as_bytes())),
        }
    }

    /// Finds the tensors in a folder.
    ///
    /// # Errors
    /// Naming the file: one that is missing, cut short or malformed.
    pub fn open(folder: &Path) -> Result<Self> {
        let files = Self::files(folder)?;
        if files[0].ends_with(INDEX) {
            return Self::open_shards(&files);
        }
        let map = map_file(&files[0])?;
        let tensors = if files[0].ends_with(BIN) {
            archive::tensors(&map).map_err(|problem| {
                let remedy = "convert the model to safetensors where it was made";
                Error::new(Kind::Model, files[0].display(), problem, remedy)
            })?
        } else {
            safetensors_of(&files[0], &map, 0)?
        };
        Ok(Self { path: files[0].clone(), maps: vec![map], tensors })
    }

    fn open_shards(files: &[PathBuf]) -> Result<Self> {
        let path = files[0].clone();
        let named = read_index(&path)?.weight_map;
        let (mut maps, mut tensors) = (Vec::new(), BTreeMap::new());
        for (i, file) in files[1..].iter().enumerate() {
            let map = map_file(file)?;
            tensors.extend(safetensors_of(file, &map, i)?);
            maps.push(map);
        }
        let source = Self { path, maps, tensors };
        let missing = named.keys().find(|name| !source.tensors.contains_key(*name));
        match missing {
            Some(name) => Err(source.error(format!("names tensor `{name}`, which no shard holds"))),
            None => Ok(source),
        }
    }

    /// Names and places of all tensors.
    pub fn tensors(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.tensors.iter()
    }

    /// Bytes of a tensor, little-endian.
    pub fn bytes(&self, tensor: &Tensor) -> &[u8] {
        &self.maps[tensor.file][tensor.bytes.clone()]
    }

    fn error(&self, problem: String) -> Error {
        let remedy = "check that config.json and the weights belong to the same model";
        Error::new(Kind::Model, self.path.display(), problem, remedy)
    }
}

fn read_index(path: &Path) -> Result<Index> {
    let malformed = |problem: String| {
        Error::new(Kind::Model, path.display(), problem, "copy or download the file again")
    };
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::io(Kind::Model, path, "read the index of the weights", &e))?;
    let index: Index = serde_json::from_str(&text).map_err(|e| malformed(e.to_string()))?;
    let plain = |name: &str| Path::new(name).file_name().is_some_and(|n| n == name);
    match index.weight_map.values().find(|name| !plain(name)) {
        Some(name) => Err(malformed(format!("names the file `{name}`, expected one beside it"))),
        None if index.weight_map.is_empty() => Err(malformed("names no tensor".into())),
        None => Ok(index),
    }
}

fn safetensors_of(path: &Path, map: &Mmap, file: usize) -> Result<BTreeMap<String, Tensor>> {
    let damaged = |e: safetensors::SafeTensorError| {
        let problem = format!("is not a whole safetensors file ({e})");
        Error::new(Kind::Model, path.display(), problem, "copy or download the file again")
    };
    // The lengths are checked by the library: offsets lie in the file and fit the shapes.
    let parsed = SafeTensors::deserialize(map).map_err(damaged)?;
    let place = |(name, view): (&str, safetensors::tensor::TensorView)| {
        let start = view.data().as_ptr() as usize - map.as_ptr() as usize;
        let bytes = start..start + view.data().len();
        let tensor = Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), file, bytes };
        (name.to_owned(), tensor)
    };
    Ok(parsed.iter().map(place).collect())
}

/// Takes tensors by name, and knows which are left.
pub(super) struct Taker<'a> {
    source: &'a Source,
    /// What all names but the head's begin with, if they do.
    prefix: &'static str,
    left: BTreeSet<String>,
}

impl<'a> Taker<'a> {
    pub fn new(source: &'a Source, prefix: &'static str) -> Self {
        let left: BTreeSet<String> = source.tensors.keys().cloned().collect();
        let prefixed = left.iter().any(|name| name.starts_with(prefix));
        Self { source, prefix: if prefixed { prefix } else { "" }, left }
    }

    pub fn error(&self, problem: String) -> Error {
        self.source.error(problem)
    }

    /// A tensor in f32.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let name = format!("{}{name}", self.prefix);
        let taken = self.take_unprefixed(&name, shape)?;
        taken.ok_or_else(|| self.error(format!("tensor `{name}` is missing")))
    }

    /// A tensor in f32 by its whole name, if there is one.
    pub fn take_unprefixed(&mut self, name: &str, shape: &[usize]) -> Result<Option<Vec<f32>>> {
        let Some(tensor) = self.source.tensors.get(name) else { return Ok(None) };
        if tensor.shape != shape {
            let got = &tensor.shape;
            return Err(
                self.error(format!("tensor `{name}` has shape {got:?}, expected {shape:?}"))
            );
        }
        self.left.remove(name);
        let values = to_f32(tensor.dtype, self.source.bytes(tensor)).ok_or_else(|| {
            let dtype = tensor.dtype;
            self.error(format!("tensor `{name}` is of type {dtype:?}, expected F32, F16 or BF16"))
        })?;
        Ok(Some(values))
    }

    /// Refuses tensors that are left, but for those that are no weights.
    pub fn refuse_others(&self, harmless: impl Fn(&str) -> bool) -> Result<()> {
        let inner = |name: &str| name.strip_prefix(self.prefix).unwrap_or(name).to_owned();
        match self.left.iter().find(|name| !harmless(&inner(name))) {
            Some(name) => Err(self.error(format!("tensor `{name}` is not part of this model"))),
            None => Ok(()),
        }
    }
}

fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let pairs = bytes.as_chunks::<2>().0.iter();
    Some(match dtype {
        Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => pairs.map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::BF16 => pairs.map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        _ => return None,
    })
}
