//! The kernels of `kernels/` as embedded in the program.

/// A compiled source file of `kernels/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PtxModule {
    /// Bias, GELU, captured activations and their sums.
    Activation,
    /// Sums of products for candidate pairs of screening.
    Candidates,
    /// Changes of activations.
    Change,
    /// Products on tensor cores.
    Correlate,
    /// The rest of the forward pass.
    Forward,
    /// Chosen rows and columns of a matrix.
    Gather,
    /// Symmetric products.
    Gram,
    /// Best partners from stored sums.
    Reduce,
}

impl PtxModule {
    /// All modules.
    pub const ALL: [Self; 8] = [
        Self::Activation,
        Self::Candidates,
        Self::Change,
        Self::Correlate,
        Self::Forward,
        Self::Gather,
        Self::Gram,
        Self::Reduce,
    ];

    /// Returns the name of the source file in `kernels/`, without `.cu`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Activation => "activation",
            Self::Candidates => "candidates",
            Self::Change => "change",
            Self::Correlate => "correlate",
            Self::Forward => "forward",
            Self::Gather => "gather",
            Self::Gram => "gram",
            Self::Reduce => "reduce",
        }
    }

    /// Returns the PTX, for compute capability 8.0 and newer.
    pub fn ptx(self) -> &'static str {
        match self {
            Self::Activation => include_str!("../../../kernels/ptx/activation.ptx"),
            Self::Candidates => include_str!("../../../kernels/ptx/candidates.ptx"),
            Self::Change => include_str!("../../../kernels/ptx/change.ptx"),
            Self::Correlate => include_str!("../../../kernels/ptx/correlate.ptx"),
            Self::Forward => include_str!("../../../kernels/ptx/forward.ptx"),
            Self::Gather => include_str!("../../../kernels/ptx/gather.ptx"),
            Self::Gram => include_str!("../../../kernels/ptx/gram.ptx"),
            Self::Reduce => include_str!("../../../kernels/ptx/reduce.ptx"),
        }
    }
}

/// Sixteen-bit floating-point types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HalfType {
    /// IEEE binary16.
    F16,
    /// bfloat16.
    Bf16,
}

/// A kernel, by its entry point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceKernel {
    /// `activation` in `kernels/activation.cu`.
    Activation(HalfType),
    /// `histogram` in `kernels/activation.cu`.
    Histogram,
    /// `candidates` in `kernels/candidates.cu`.
    Candidates(HalfType),
    /// `change_values` in `kernels/change.cu`.
    ChangeValues,
    /// `change_operand` in `kernels/change.cu`.
    ChangeOperand(HalfType),
    /// `product` in `kernels/correlate.cu`: writes the product.
    Product(HalfType),
    /// `fused` in `kernels/correlate.cu`: finds the best partners without writing the product.
    Fused(HalfType),
    /// `gather` in `kernels/gather.cu`.
    Gather,
    /// `gram` in `kernels/gram.cu`.
    Gram(HalfType),
    /// `judge_sums` in `kernels/reduce.cu`: finds the best partners from stored sums.
    JudgeSums,
    /// `merge_best` in `kernels/reduce.cu`: merges the best partners of all tiles.
    MergeBest,
    /// `scale_sums` in `kernels/reduce.cu`: turns sums into an operand for the rotation baseline.
    ScaleSums(HalfType),
    /// `embed` in `kernels/forward.cu`.
    Embed,
    /// `layer_norm` in `kernels/forward.cu`.
    LayerNorm(HalfType),
    /// `attention` in `kernels/forward.cu`.
    Attention(HalfType),
    /// `rotate` in `kernels/forward.cu`.
    Rotate,
}

impl DeviceKernel {
    /// Returns the module that contains the kernel.
    pub fn module(self) -> PtxModule {
        match self {
            Self::Activation(_) | Self::Histogram => PtxModule::Activation,
            Self::Candidates(_) => PtxModule::Candidates,
            Self::ChangeValues | Self::ChangeOperand(_) => PtxModule::Change,
            Self::Product(_) | Self::Fused(_) => PtxModule::Correlate,
            Self::Gather => PtxModule::Gather,
            Self::Gram(_) => PtxModule::Gram,
            Self::JudgeSums | Self::MergeBest | Self::ScaleSums(_) => PtxModule::Reduce,
            Self::Embed | Self::LayerNorm(_) | Self::Attention(_) | Self::Rotate => {
                PtxModule::Forward
            }
        }
    }

    /// Returns the name of the entry point.
    pub fn entry(self) -> &'static str {
        use HalfType::{Bf16, F16};
        match self {
            Self::Activation(F16) => "activation_f16",
            Self::Activation(Bf16) => "activation_bf16",
            Self::Histogram => "histogram",
            Self::Candidates(F16) => "candidates_f16",
            Self::Candidates(Bf16) => "candidates_bf16",
            Self::ChangeValues => "change_values",
            Self::ChangeOperand(F16) => "change_operand_f16",
            Self::ChangeOperand(Bf16) => "change_operand_bf16",
            Self::Product(F16) => "product_f16",
            Self::Product(Bf16) => "product_bf16",
            Self::Fused(F16) => "fused_f16",
            Self::Fused(Bf16) => "fused_bf16",
            Self::Gather => "gather",
            Self::Gram(F16) => "gram_f16",
            Self::Gram(Bf16) => "gram_bf16",
            Self::JudgeSums => "judge_sums",
            Self::MergeBest => "merge_best",
            Self::ScaleSums(F16) => "scale_sums_f16",
            Self::ScaleSums(Bf16) => "scale_sums_bf16",
            Self::Embed => "embed",
            Self::LayerNorm(F16) => "layer_norm_f16",
            Self::LayerNorm(Bf16) => "layer_norm_bf16",
            Self::Attention(F16) => "attention_f16",
            Self::Attention(Bf16) => "attention_bf16",
            Self::Rotate => "rotate",
        }
    }
}
