//! How far kernels prefetch.

/// Cache lines that a kernel prefetches for every eight words.
pub const LINES_AHEAD: usize = 2;
