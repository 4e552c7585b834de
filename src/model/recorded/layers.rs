//! Finds the tensors of the layers in the files of a recording, and checks their shapes.

use super::super::weights::Tensor;
use super::files::RecordedFiles;
use super::limits::{MAX_UNITS, check_layers, missing};
use super::names::{self, DOCUMENTS, LayerPart, MASK, TOKENS, layer_part};
use super::sparse::{SparseTensor, sparse_layers};
use crate::error::Result;

/// The tensors of one layer.
#[derive(Debug, Clone)]
pub enum RecordedLayer {
    /// Every value, `[tokens, units]`.
    Dense {
        /// Activations, which are compared.
        post: Tensor,
        /// Activations before the nonlinearity, if they were recorded.
        pre: Option<Tensor>,
    },
    /// The values that are not zero.
    Sparse(SparseTensor),
}

/// What the layers of a recording have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedShape {
    /// Number of tokens.
    pub tokens: usize,
    /// Number of units of each layer.
    pub units: usize,
    /// Length of a row of tokens, if the tensors are `[rows, positions, units]`.
    pub row: Option<usize>,
}

/// Finds the tensors of every layer.
///
/// # Errors
/// Returns an error naming file and tensor if a tensor is unknown, a layer is missing, or layers
/// differ in their numbers of tokens or units.
pub fn layers_of(files: &RecordedFiles) -> Result<(Vec<RecordedLayer>, RecordedShape)> {
    let sparse = sparse_layers(files)?;
    if let Some(first) = sparse.first() {
        let (tokens, units) = (first.tokens, first.units);
        let layers = sparse.into_iter().map(RecordedLayer::Sparse).collect();
        return Ok((layers, RecordedShape { tokens, units, row: None }));
    }
    let parts = parts_of(files)?;
    let of = |layer: usize, wanted: LayerPart| {
        let mut found = parts.iter();
        found.find(|p| (p.layer, p.part) == (layer, wanted)).map(|p| (p.name.as_str(), p.tensor))
    };
    let n = parts.iter().map(|p| p.layer + 1).max().unwrap_or(0);
    check_layers(files, n)?;
    let mut layers = Vec::new();
    let first = of(0, LayerPart::Post);
    for layer in 0..n {
        let Some((name, post)) = of(layer, LayerPart::Post) else {
            return Err(missing(files, n, layer));
        };
        check_activations(files, name, post, first)?;
        let pre = of(layer, LayerPart::Pre);
        pre.map_or(Ok(()), |(name, pre)| check_activations(files, name, pre, first))?;
        let pre = pre.map(|(_, pre)| pre.clone());
        layers.push(RecordedLayer::Dense { post: post.clone(), pre });
    }
    let shape = first.map_or(&[][..], |(_, tensor)| &tensor.shape);
    let [tokens @ .., units] = shape else { unreachable!("the shape was checked") };
    let row = (tokens.len() == 2).then(|| tokens[1]);
    Ok((layers, RecordedShape { tokens: tokens.iter().product(), units: *units, row }))
}

/// A tensor of activations.
struct NamedPart<'a> {
    name: String,
    layer: usize,
    part: LayerPart,
    tensor: &'a Tensor,
}

/// Returns the tensors that are activations.
fn parts_of(files: &RecordedFiles) -> Result<Vec<NamedPart<'_>>> {
    let mut parts: Vec<NamedPart> = Vec::new();
    let mut unknown = Vec::new();
    for (name, tensor) in files.tensors() {
        let named = |(layer, part)| NamedPart { name: name.clone(), layer, part, tensor };
        match layer_part(name) {
            Some(place) => parts.push(named(place)),
            None if [MASK, DOCUMENTS, TOKENS].contains(&name.as_str())
                || names::is_other_hook(name) => {}
            None => unknown.push(named((0, LayerPart::Post))),
        }
    }
    if let Some(first) = unknown.first() {
        // The only tensor needs no name.
        if !parts.is_empty() || unknown.len() > 1 {
            let problem = "is not the name of a layer's activations";
            return Err(files.error(Some(&first.name), problem, names::REMEDY));
        }
        parts = unknown;
    }
    let same = |a: &NamedPart, b: &NamedPart| (a.layer, a.part) == (b.layer, b.part);
    let repeated = |(i, part): &(usize, &NamedPart)| parts[..*i].iter().any(|p| same(p, part));
    if let Some((_, NamedPart { name, layer, .. })) = parts.iter().enumerate().find(repeated) {
        let problem = format!("is a second tensor of layer {layer}");
        return Err(files.error(Some(name), problem, "keep one tensor of activations per layer"));
    }
    Ok(parts)
}

/// Checks the type and shape of the activations of a layer, given the name and tensor of the first
/// layer.
fn check_activations(
    files: &RecordedFiles,
    name: &str,
    tensor: &Tensor,
    first: Option<(&str, &Tensor)>,
) -> Result<()> {
    let refused = |problem: String, remedy| Err(files.error(Some(name), problem, remedy));
    let (shape, dtype) = (&tensor.shape, tensor.dtype);
    if !tensor.is_float() {
        let problem = format!("is of type {dtype:?}, expected F64, F32, F16 or BF16");
        return refused(problem, "convert it where it was made");
    }
    if !matches!(shape.len(), 2 | 3) || shape.contains(&0) {
        let problem = format!("has shape {shape:?}, expected [tokens, units]");
        return refused(problem, "export one row of values for each token");
    }
    let units = shape[shape.len() - 1];
    let tokens: usize = shape[..shape.len() - 1].iter().product();
    if units > MAX_UNITS || u32::try_from(tokens).is_err() {
        let problem =
            format!("has shape {shape:?}, expected at most {MAX_UNITS} units and 2³² tokens");
        return refused(problem, "export a part of them");
    }
    match first {
        Some((of, expected)) if expected.shape != *shape => {
            let problem = format!("has shape {shape:?}, expected {:?} as `{of}`", expected.shape);
            let remedy = "export layers of one width over the same tokens";
            refused(problem, remedy)
        }
        _ => Ok(()),
    }
}
