//! The files of a recording, and the positions of their tensors.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::Dtype;

use super::super::weights::{AT_ONCE, Tensor, append_f32, safetensors_of};
use super::names::{REMEDY, layer_part};
use super::npy::array_of;
use super::parquet::{UnpackedTable, unpack};
use crate::error::{Error, Kind, Result};
use crate::input::{InputFile, Stamp};
use crate::spec::recorded::recording_files;

/// Opened files, and the tensors in them by name.
#[derive(Debug)]
pub struct RecordedFiles {
    path: PathBuf,
    files: Vec<InputFile>,
    /// For each file, its rows of f32 if it is a table of columns.
    unpacked: Vec<Option<UnpackedTable>>,
    tensors: BTreeMap<String, Tensor>,
}

impl RecordedFiles {
    /// Opens a file, or all files in a folder.
    ///
    /// # Errors
    /// Returns an error naming the file if one is missing or damaged, or holds a tensor that another
    /// one holds too.
    pub fn open(path: &Path) -> Result<Self> {
        let mut all = Self {
            path: path.to_path_buf(),
            files: Vec::new(),
            unpacked: Vec::new(),
            tensors: BTreeMap::new(),
        };
        for path in recording_files(path) {
            all.add(&path)?;
        }
        match all.tensors.is_empty() {
            false => Ok(all),
            true => Err(all.error(None, "holds no activations", REMEDY)),
        }
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let (file, n) = (InputFile::open(Kind::Model, path)?, self.files.len());
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let of_format =
            |format: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(format));
        let mut unpacked = None;
        let mut tensors = if of_format("parquet") {
            let (table, tensor) = unpack(&file, n)?;
            unpacked = Some(table);
            BTreeMap::from([(stem.clone(), tensor)])
        } else if of_format("npy") {
            BTreeMap::from([(stem.clone(), array_of(&file, n)?)])
        } else {
            safetensors_of(&file, n)?
        };
        // A file of one tensor is the layer that the file is named after.
        if tensors.len() == 1 && layer_part(&stem).is_some() {
            let only = tensors.pop_first().map(|(_, tensor)| (stem, tensor));
            tensors.extend(only);
        }
        for (name, tensor) in tensors {
            if self.tensors.contains_key(&name) {
                let problem = format!("holds tensor `{name}`, which another file holds too");
                let remedy = "keep the files of one recording in a folder of their own";
                return Err(Error::new(Kind::Model, path.display(), problem, remedy));
            }
            self.tensors.insert(name, tensor);
        }
        self.files.push(file);
        self.unpacked.push(unpacked);
        Ok(())
    }

    /// Returns the file that holds the values of a tensor.
    fn data(&self, of: &Tensor) -> &InputFile {
        self.unpacked[of.file].as_ref().map_or(&self.files[of.file], |table| &table.rows)
    }

    /// Returns the names and positions of all tensors.
    pub fn tensors(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.tensors.iter()
    }

    /// Returns the position of a tensor.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Reads the bytes of a tensor.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or was truncated.
    pub fn bytes(&self, tensor: &Tensor) -> Result<Vec<u8>> {
        let mut bytes = vec![0; tensor.bytes.len()];
        self.data(tensor).read_at(tensor.bytes.start as u64, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads the bytes of some values of a tensor.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or was truncated.
    pub fn part(&self, of: &Tensor, values: Range<usize>) -> Result<Vec<u8>> {
        let size = of.dtype.bitsize() / 8;
        let mut bytes = vec![0; size * values.len()];
        self.data(of).read_at((of.bytes.start + size * values.start) as u64, &mut bytes)?;
        Ok(bytes)
    }

    /// Appends some values of a tensor of floating-point numbers, rounded to f32.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or was truncated.
    pub fn append(&self, of: &Tensor, values: Range<usize>, to: &mut Vec<f32>) -> Result<()> {
        let size = of.dtype.bitsize() / 8;
        let (start, end) =
            (of.bytes.start + size * values.start, of.bytes.start + size * values.end);
        let mut buffer = vec![0; AT_ONCE.min(end - start)];
        for at in (start..end).step_by(AT_ONCE) {
            let part = &mut buffer[..AT_ONCE.min(end - at)];
            self.data(of).read_at(at as u64, part)?;
            append_f32(of.dtype, part, to);
        }
        Ok(())
    }

    /// Returns the SHA-256 of the only file, or if there are several, the SHA-256 of their digests.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read.
    pub fn digest(&mut self) -> Result<String> {
        InputFile::digest_of_all(self.files.iter_mut())
    }

    /// Returns stamps that identify the files.
    pub fn stamps(&self) -> Vec<Stamp> {
        self.files.iter().map(InputFile::stamp).collect()
    }

    /// Checks that no file was changed since it was opened.
    ///
    /// # Errors
    /// Returns an error naming the file that changed.
    pub fn unchanged(&self) -> Result<()> {
        self.files.iter().try_for_each(InputFile::unchanged)
    }

    /// Returns an error about a tensor, or about all files if no name is given.
    pub fn error(&self, tensor: Option<&str>, problem: impl Display, remedy: &str) -> Error {
        let holder = tensor.and_then(|name| self.tensors.get(name));
        let path = holder.map_or(&*self.path, |tensor| self.files[tensor.file].path());
        let of = tensor.map_or_else(String::new, |name| format!(": tensor `{name}`"));
        Error::new(Kind::Model, format_args!("{}{of}", path.display()), problem, remedy)
    }
}

/// Returns the integers of a tensor, or `None` if it is of another type.
pub fn integers(dtype: Dtype, bytes: &[u8]) -> Option<Vec<i64>> {
    let fours = bytes.as_chunks::<4>().0.iter();
    Some(match dtype {
        Dtype::I64 => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
        Dtype::I32 => fours.map(|b| i32::from_le_bytes(*b).into()).collect(),
        Dtype::U32 => fours.map(|b| u32::from_le_bytes(*b).into()).collect(),
        Dtype::U8 => bytes.iter().map(|&b| b.into()).collect(),
        _ => return None,
    })
}
