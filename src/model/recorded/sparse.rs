//! Sparse activations in compressed rows (CSR): for each token, the units that are not zero and
//! their values, as features of sparse autoencoders are exported.

use std::collections::BTreeMap;

use safetensors::Dtype;

use super::super::weights::Tensor;
use super::files::{RecordedFiles, integers};
use super::limits::{MAX_UNITS, check_layers, missing};
use super::names::{self, DOCUMENTS, MASK, layer_part};
use crate::error::{Error, Result};

/// Names of the tensors of a layer, after the name of the layer.
const INDPTR: &str = "indptr";
const INDICES: &str = "indices";
const VALUES: &str = "values";
const SHAPE: &str = "shape";

/// A matrix `[tokens, units]` of which the entries that are not zero are stored.
#[derive(Debug, Clone)]
pub struct SparseTensor {
    /// Number of tokens.
    pub tokens: usize,
    /// Number of units.
    pub units: usize,
    /// Number of stored entries.
    pub entries: usize,
    /// Name of the layer with a dot, which the names of its tensors begin with; may be empty.
    prefix: String,
    /// For each token, where its entries begin; one value more for the end.
    indptr: Tensor,
    indices: Tensor,
    values: Tensor,
}

/// The stored entries of one token: units in ascending order, each with its value.
pub type Entries = Vec<(u32, f32)>;

/// Finds the layers that are stored in compressed rows; none if no tensor is called `indptr`.
///
/// # Errors
/// Returns an error naming file and tensor if a layer or one of its tensors is missing, has an
/// unexpected type or shape, or a tensor belongs to no layer.
pub fn sparse_layers(files: &RecordedFiles) -> Result<Vec<SparseTensor>> {
    let prefixes: Vec<&str> = files.tensors().filter_map(|(n, _)| n.strip_suffix(INDPTR)).collect();
    if prefixes.is_empty() {
        return Ok(Vec::new());
    }
    let mut found: BTreeMap<usize, SparseTensor> = BTreeMap::new();
    for prefix in &prefixes {
        let layer = match layer_part(prefix.strip_suffix('.').unwrap_or(prefix)) {
            Some((layer, _)) => layer,
            // The only layer needs no name.
            None if prefixes.len() == 1 => 0,
            None => {
                let problem = "is not the name of a layer's activations";
                let name = format!("{prefix}{INDPTR}");
                return Err(files.error(Some(&name), problem, "name it `layers.0.indptr`"));
            }
        };
        found.insert(layer, SparseTensor::find(files, prefix)?);
    }
    let of_layer = |name: &str| {
        let parts = [INDPTR, INDICES, VALUES, SHAPE];
        parts.iter().any(|part| name.strip_suffix(part).is_some_and(|p| prefixes.contains(&p)))
    };
    let known = |name: &str| of_layer(name) || name == MASK || name == DOCUMENTS;
    if let Some((name, _)) = files.tensors().find(|(name, _)| !known(name)) {
        let problem = "belongs to no layer in compressed rows";
        return Err(files.error(Some(name), problem, names::REMEDY));
    }
    let n = found.keys().max().map_or(0, |last| last + 1);
    check_layers(files, n)?;
    if let Some(layer) = (0..n).find(|layer| !found.contains_key(layer)) {
        return Err(missing(files, n, layer));
    }
    let layers: Vec<SparseTensor> = found.into_values().collect();
    let shape = |layer: &SparseTensor| (layer.tokens, layer.units);
    match layers.iter().find(|layer| shape(layer) != shape(&layers[0])) {
        None => Ok(layers),
        Some(other) => {
            let (expected, found) = (shape(&layers[0]), shape(other));
            let problem = format!("has shape {found:?}, expected {expected:?} as layer 0");
            let remedy = "export layers of one width over the same tokens";
            Err(files.error(Some(&format!("{}{SHAPE}", other.prefix)), problem, remedy))
        }
    }
}

impl SparseTensor {
    fn find(files: &RecordedFiles, prefix: &str) -> Result<Self> {
        let tensor = |part: &str| {
            let name = format!("{prefix}{part}");
            files.tensor(&name).cloned().ok_or_else(|| {
                let problem = format!("holds `{prefix}{INDPTR}`, and no tensor `{name}`");
                files.error(None, problem, "export `indptr`, `indices`, `values` and `shape`")
            })
        };
        let [indptr, indices, values] = [tensor(INDPTR)?, tensor(INDICES)?, tensor(VALUES)?];
        let shape = tensor(SHAPE)?;
        let refused = |part: &str, problem: String| {
            files.error(Some(&format!("{prefix}{part}")), problem, "export a CSR matrix of floats")
        };
        let lengths = (shape.shape == [2]).then(|| files.bytes(&shape)).transpose()?;
        let lengths = lengths.and_then(|bytes| integers(shape.dtype, &bytes));
        let size = |i: usize, most: usize| {
            let length = lengths.as_ref().and_then(|l| usize::try_from(l[i]).ok());
            length.filter(|length| (1..=most).contains(length)).ok_or_else(|| {
                let expected = format!("expected two integers: tokens, and 1 to {MAX_UNITS} units");
                refused(SHAPE, expected)
            })
        };
        let (tokens, units) = (size(0, u32::MAX as usize)?, size(1, MAX_UNITS)?);
        if indptr.shape != [tokens + 1] {
            let found = &indptr.shape;
            return Err(refused(INDPTR, format!("has shape {found:?}, expected [{}]", tokens + 1)));
        }
        let [entries] = values.shape[..] else {
            return Err(refused(
                VALUES,
                format!("has shape {:?}, expected one dimension", values.shape),
            ));
        };
        if indices.shape != values.shape {
            let found = &indices.shape;
            return Err(refused(INDICES, format!("has shape {found:?}, expected [{entries}]")));
        }
        for (part, dtype) in [(INDPTR, indptr.dtype), (INDICES, indices.dtype)] {
            if !matches!(dtype, Dtype::I64 | Dtype::I32 | Dtype::U32) {
                return Err(refused(
                    part,
                    format!("is of type {dtype:?}, expected I64, I32 or U32"),
                ));
            }
        }
        if !values.is_float() {
            let found = values.dtype;
            return Err(refused(
                VALUES,
                format!("is of type {found:?}, expected F32, F16 or BF16"),
            ));
        }
        Ok(Self { tokens, units, entries, prefix: prefix.to_owned(), indptr, indices, values })
    }

    /// Reads the entries of some consecutive tokens.
    ///
    /// # Errors
    /// Returns an error naming the tensor if entries lie outside the matrix or a unit has two at
    /// one token, or if a file cannot be read.
    pub fn read(
        &self,
        files: &RecordedFiles,
        tokens: std::ops::Range<usize>,
    ) -> Result<Vec<Entries>> {
        let ends = files.part(&self.indptr, tokens.start..tokens.end + 1)?;
        let ends = integers(self.indptr.dtype, &ends).unwrap_or_default();
        let ordered = ends.windows(2).all(|pair| pair[0] <= pair[1]);
        let within = |&end: &i64| usize::try_from(end).is_ok_and(|end| end <= self.entries);
        if !ordered || !ends.iter().all(within) {
            let problem = format!(
                "does not ascend from 0 to the number of entries, {}, at tokens {} to {}",
                self.entries, tokens.start, tokens.end
            );
            return Err(self.damaged(files, INDPTR, problem));
        }
        let ends: Vec<usize> = ends.iter().map(|&end| end as usize).collect();
        let all = ends[0]..ends[ends.len() - 1];
        let indices = files.part(&self.indices, all.clone())?;
        let indices = integers(self.indices.dtype, &indices).unwrap_or_default();
        let mut values = Vec::with_capacity(all.len());
        files.append(&self.values, all.clone(), &mut values)?;
        let entries = |(i, pair): (usize, &[usize])| {
            let own = pair[0] - all.start..pair[1] - all.start;
            self.entries_of(&indices[own.clone()], &values[own]).map_err(|problem| {
                self.damaged(files, INDICES, format!("{problem} at token {}", tokens.start + i))
            })
        };
        ends.windows(2).enumerate().map(entries).collect()
    }

    /// Sorts the entries of one token by their units.
    fn entries_of(&self, indices: &[i64], values: &[f32]) -> Result<Entries, String> {
        let mut entries = Vec::with_capacity(indices.len());
        for (&index, &value) in indices.iter().zip(values) {
            match u32::try_from(index).ok().filter(|&unit| (unit as usize) < self.units) {
                Some(unit) => entries.push((unit, value)),
                None => return Err(format!("has {index}, expected a unit below {}", self.units)),
            }
        }
        entries.sort_unstable_by_key(|&(unit, _)| unit);
        match entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(format!("has unit {} twice", pair[0].0)),
            None => Ok(entries),
        }
    }

    fn damaged(&self, files: &RecordedFiles, part: &str, problem: String) -> Error {
        let name = format!("{}{part}", self.prefix);
        files.error(Some(&name), problem, "export the matrix again, without repeated entries")
    }
}
