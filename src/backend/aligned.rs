//! Room for f32 values that begins at a cache line, so that no load of a whole
//! register crosses two of them.

use std::ops::{Deref, DerefMut};

/// A cache line of values.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Values that begin at a cache line.
pub struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

impl Aligned {
    /// So many zeros.
    pub fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.0; 16]); len.div_ceil(16)], len }
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: a line is 16 f32 without padding, lines lie side by side, and
        // there are at least `len` values in them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_begin_at_a_cache_line() {
        for len in [0, 1, 16, 17, 1000] {
            let mut values = Aligned::zeros(len);
            assert_eq!((values.len(), values.as_ptr().align_offset(64)), (len, 0));
            values.iter_mut().for_each(|v| *v += 1.0);
            assert!(values.iter().all(|&v| v == 1.0));
        }
    }
}
