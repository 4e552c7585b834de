//! Places of tensors in the files of a checkpoint.

use safetensors::Dtype;

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
