//! Positions of tensors in the files of a checkpoint.

use safetensors::Dtype;

/// The type, shape and position of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Type of the values.
    pub dtype: Dtype,
    /// Shape of the tensor, which is row-major.
    pub shape: Vec<usize>,
    /// Index of the file.
    pub(in crate::model) file: usize,
    /// Range of bytes in the file.
    pub(in crate::model) bytes: std::ops::Range<usize>,
}
