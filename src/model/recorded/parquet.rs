//! Activations in Parquet, one column for each unit. Parquet stores columns, and activations are
//! read token by token, so a table is written once to a temporary file of rows.

use std::io::{BufWriter, Write};

use safetensors::Dtype;
use tempfile::NamedTempFile;

use super::super::weights::Tensor;
use crate::corpus::ParquetTable;
use crate::error::{Error, Kind, Result};
use crate::input::InputFile;

/// Maximum number of bytes that a page may unpack to.
const MAX_PAGE: usize = 256 << 20;
/// Number of bytes that every table may unpack to, and larger ones for each byte of their file.
const MAX_SMALL: u64 = 1 << 30;
const EXPANSION: u64 = 64;

/// A table as rows of f32, in a temporary file that is removed with this value.
#[derive(Debug)]
pub struct UnpackedTable {
    /// The rows.
    pub rows: InputFile,
    _temporary: NamedTempFile,
}

/// Unpacks the table in a file, which becomes the n-th file of a recording.
///
/// # Errors
/// Returns an error naming the file if it is damaged, or a column holds anything but floating-point
/// numbers, or if the temporary file cannot be written.
pub fn unpack(input: &InputFile, file: usize) -> Result<(UnpackedTable, Tensor)> {
    let path = input.path();
    let refused = |(problem, remedy): (String, String)| {
        Error::new(Kind::Model, path.display(), problem, remedy)
    };
    let io = |e: &std::io::Error| Error::io(Kind::Model, path, "unpack it to a temporary file", e);
    let source = input.file().try_clone().map_err(|e| io(&e))?;
    let table = ParquetTable::of(source, MAX_PAGE).map_err(refused)?;
    let shape = table.float_shape().map_err(refused)?;
    let bytes = (shape[0] as u64).saturating_mul(shape[1] as u64).saturating_mul(4);
    if bytes > MAX_SMALL.max(input.len().saturating_mul(EXPANSION)) {
        let problem = format!("unpacks to {bytes} bytes, over {EXPANSION} times its size");
        return Err(refused((problem, "save the activations as NumPy or safetensors".into())));
    }
    let temporary = NamedTempFile::new().map_err(|e| io(&e))?;
    let mut out = BufWriter::new(temporary.as_file());
    let mut left = bytes;
    let mut write = |rows: &[f32]| {
        let written = 4 * rows.len() as u64;
        left = left
            .checked_sub(written)
            .ok_or_else(|| std::io::Error::other("is damaged: it holds more rows than it says"))?;
        rows.iter().try_for_each(|v| out.write_all(&v.to_le_bytes()))
    };
    table.visit_floats(&mut write).map_err(refused)?;
    out.flush().map_err(|e| io(&e))?;
    drop(out);
    let rows = InputFile::open(Kind::Model, temporary.path())?;
    if bytes != rows.len() {
        let problem = format!("has {} bytes of values, and {shape:?} rows and columns", rows.len());
        return Err(refused((problem, "write the file again".into())));
    }
    let bytes = 0..rows.len() as usize;
    let tensor = Tensor { dtype: Dtype::F32, shape: shape.to_vec(), file, bytes };
    Ok((UnpackedTable { rows, _temporary: temporary }, tensor))
}
