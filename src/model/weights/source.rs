//! The tensors of a checkpoint in any supported form: safetensors files or archives that
//! `torch.save` writes, one file or several with an index. The files are not trusted: every length
//! is checked before it is used. They are read, not mapped, so that truncating a file during a run
//! is an error and does not crash the program.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;

use super::archive;
use super::tensor::Tensor;
use crate::error::{Error, Kind, Result};
use crate::input::{InputFile, Stamp};

/// Names of the files of a checkpoint, in the order of preference. An index names the tensors of
/// several files.
const NAMES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];
/// The suffix that identifies an index.
const INDEX: &str = ".index.json";
/// Maximum length of an index, in bytes; real ones have a few hundred kilobytes.
const MAX_INDEX: u64 = 1 << 26;
/// Maximum length of a safetensors header, in bytes.
const MAX_HEADER: u64 = 100_000_000;
/// Number of bytes read at once; a multiple of the size of every type.
pub const AT_ONCE: usize = 1 << 20;

/// The tensors of a checkpoint.
#[derive(Debug)]
pub struct Source {
    /// The file that names the tensors.
    path: PathBuf,
    /// The index, if there is one.
    index: Option<InputFile>,
    files: Vec<InputFile>,
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Source {
    /// Returns the files of weights in a folder, first the one that names the tensors.
    ///
    /// # Errors
    /// Returns an error if there is none, or an index is malformed.
    pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
        let first = named_first(folder)?;
        if !is_index(&first) {
            return Ok(vec![first]);
        }
        let index = read_index(&mut InputFile::open(Kind::Model, &first)?)?;
        let shards: BTreeSet<String> = index.weight_map.into_values().collect();
        let shards = shards.into_iter().map(|name| folder.join(name));
        Ok(std::iter::once(first).chain(shards).collect())
    }

    /// Opens the files in a folder and reads the positions of their tensors.
    ///
    /// # Errors
    /// Returns an error naming the file if one is missing, truncated or malformed.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = named_first(folder)?;
        let mut first = InputFile::open(Kind::Model, &path)?;
        if !is_index(&path) {
            let tensors = tensors_of(&first, 0)?;
            return Ok(Self { path, index: None, files: vec![first], tensors });
        }
        let named = read_index(&mut first)?.weight_map;
        let names: Vec<&String> = named.values().collect::<BTreeSet<_>>().into_iter().collect();
        let mut source =
            Self { path, index: Some(first), files: Vec::new(), tensors: BTreeMap::new() };
        for name in &names {
            source.add_shard(&folder.join(name))?;
        }
        for (tensor, shard) in &named {
            let problem = match source.tensors.get(tensor) {
                None => format!("names tensor `{tensor}`, which no shard holds"),
                Some(found) if names[found.file] != shard => {
                    format!("looks for `{tensor}` in {shard}, but {} holds it", names[found.file])
                }
                Some(_) => continue,
            };
            return Err(source.error(problem));
        }
        Ok(source)
    }

    fn add_shard(&mut self, path: &Path) -> Result<()> {
        let file = InputFile::open(Kind::Model, path)?;
        for (name, tensor) in tensors_of(&file, self.files.len())? {
            if self.tensors.insert(name.clone(), tensor).is_some() {
                let problem = format!("holds tensor `{name}`, which another shard holds too");
                let remedy = "remove shards that are not of this model";
                return Err(Error::new(Kind::Model, path.display(), problem, remedy));
            }
        }
        self.files.push(file);
        Ok(())
    }

    /// Returns the SHA-256 of the only file, or if there are several, the SHA-256 of the concatenated
    /// digests of the index and of its shards.
    ///
    /// # Errors
    /// Returns an error if one cannot be read.
    pub fn digest(&mut self) -> Result<String> {
        InputFile::digest_of_all(self.index.iter_mut().chain(&mut self.files))
    }

    /// Returns stamps that identify the files, so that others at the same paths are noticed.
    pub fn stamps(&self) -> Vec<Stamp> {
        self.index.iter().chain(&self.files).map(InputFile::stamp).collect()
    }

    /// Checks that no file was changed since it was opened.
    ///
    /// # Errors
    /// Returns an error naming the file that changed.
    pub fn unchanged(&self) -> Result<()> {
        self.index.iter().chain(&self.files).try_for_each(InputFile::unchanged)
    }

    /// Returns the names and positions of all tensors.
    pub fn tensors(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.tensors.iter()
    }

    /// Returns the position of a tensor.
    pub(super) fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Reads the bytes of a tensor, little-endian.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or was truncated.
    pub fn bytes(&self, tensor: &Tensor) -> Result<Vec<u8>> {
        let mut bytes = vec![0; tensor.bytes.len()];
        self.files[tensor.file].read_at(tensor.bytes.start as u64, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads a tensor of floating-point numbers, rounded to f32.
    pub(super) fn values(&self, tensor: &Tensor) -> Result<Vec<f32>> {
        let std::ops::Range { start, end } = tensor.bytes.clone();
        let mut values = Vec::with_capacity(8 * (end - start) / tensor.dtype.bitsize().max(8));
        let mut buffer = vec![0; AT_ONCE.min(end - start)];
        for at in (start..end).step_by(AT_ONCE) {
            let part = &mut buffer[..AT_ONCE.min(end - at)];
            self.files[tensor.file].read_at(at as u64, part)?;
            append_f32(tensor.dtype, part, &mut values);
        }
        Ok(values)
    }

    pub(super) fn error(&self, problem: String) -> Error {
        let remedy = "check that config.json and the weights belong to the same model";
        Error::new(Kind::Model, self.path.display(), problem, remedy)
    }
}

fn is_index(path: &Path) -> bool {
    path.to_string_lossy().ends_with(INDEX)
}

/// Returns the file that names the tensors of a folder.
fn named_first(folder: &Path) -> Result<PathBuf> {
    // A broken link counts as a file here; opening it then returns an error that names it.
    let present = |path: &PathBuf| path.symlink_metadata().is_ok();
    NAMES.iter().map(|name| folder.join(name)).find(present).ok_or_else(|| {
        let problem = format!("is missing, and so are {}", NAMES[1..].join(", "));
        let remedy = "copy or download the model again";
        Error::new(Kind::Model, folder.join(NAMES[0]).display(), problem, remedy)
    })
}

fn read_index(file: &mut InputFile) -> Result<Index> {
    let text = file.text(MAX_INDEX)?;
    let malformed = |problem: String| {
        Error::new(Kind::Model, file.path().display(), problem, "copy or download the file again")
    };
    let index: Index = serde_json::from_str(&text).map_err(|e| malformed(e.to_string()))?;
    let plain = |name: &str| Path::new(name).file_name().is_some_and(|n| n == name);
    match index.weight_map.values().find(|name| !plain(name)) {
        Some(name) => Err(malformed(format!("names the file `{name}`, expected one beside it"))),
        None if index.weight_map.is_empty() => Err(malformed("names no tensor".into())),
        None => Ok(index),
    }
}

/// Returns the tensors of the n-th file.
fn tensors_of(input: &InputFile, n: usize) -> Result<BTreeMap<String, Tensor>> {
    if input.path().extension().is_none_or(|e| e != "bin") {
        return safetensors_of(input, n);
    }
    let tensors = archive::tensors(BufReader::new(input.file()), input.len());
    let tensors = tensors.map_err(|problem| {
        let remedy = "convert the model to safetensors where it was made";
        Error::new(Kind::Model, input.path().display(), problem, remedy)
    })?;
    Ok(tensors.into_iter().map(|(name, tensor)| (name, Tensor { file: n, ..tensor })).collect())
}

/// Returns the tensors of a safetensors file, which becomes the n-th file of a checkpoint.
///
/// # Errors
/// Returns an error naming the file if it is truncated or malformed.
pub fn safetensors_of(input: &InputFile, file: usize) -> Result<BTreeMap<String, Tensor>> {
    let damaged = |problem: String| {
        let problem = format!("is not a whole safetensors file ({problem})");
        let remedy = "copy or download the file again";
        Error::new(Kind::Model, input.path().display(), problem, remedy)
    };
    let mut length = [0; 8];
    if input.len() < 8 {
        return Err(damaged(format!("it has {} bytes", input.len())));
    }
    input.read_at(0, &mut length)?;
    let header = u64::from_le_bytes(length);
    if header > MAX_HEADER || header > input.len() - 8 {
        return Err(damaged(format!("a header of {header} bytes in {}", input.len())));
    }
    let mut bytes = vec![0; header as usize];
    input.read_at(8, &mut bytes)?;
    // The library checks that the tensors follow each other and fit their shapes.
    let metadata: Metadata = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    let data = 8 + header as usize;
    let expected = (data as u64).saturating_add(metadata.data_len() as u64);
    if expected != input.len() {
        let length = input.len();
        return Err(damaged(format!("it has {length} bytes, its header describes {expected}")));
    }
    let place = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
        let (start, end) = info.data_offsets;
        let bytes = data + start..data + end;
        (name, Tensor { dtype: info.dtype, shape: info.shape.clone(), file, bytes })
    };
    Ok(metadata.tensors().into_iter().map(place).collect())
}

/// Appends floating-point numbers in little-endian bytes, rounded to f32.
///
/// # Panics
/// Panics if the type is not one of floating-point numbers.
pub fn append_f32(dtype: Dtype, bytes: &[u8], values: &mut Vec<f32>) {
    let pairs = bytes.as_chunks::<2>().0.iter();
    match dtype {
        Dtype::F32 => {
            values.extend(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)));
        }
        Dtype::F16 => values.extend(pairs.map(|b| f16::from_le_bytes(*b).to_f32())),
        Dtype::BF16 => values.extend(pairs.map(|b| bf16::from_le_bytes(*b).to_f32())),
        Dtype::F64 => {
            values.extend(bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32));
        }
        _ => unreachable!("types are checked before values are read"),
    }
}
