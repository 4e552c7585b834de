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

impl Tensor {
    /// Returns whether the values are floating-point numbers that can be read as f32.
    pub(in crate::model) fn is_float(&self) -> bool {
        matches!(self.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
    }
}
