//! Buffers of 4-byte words aligned to a cache line, so that no load of a whole register crosses two
//! lines.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Words of a cache line.
const LINE: usize = 16;

/// Number of buffers that a thread keeps for later products. Allocating anew would need a system
/// call, which interrupts every other core.
const KEPT: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u32>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of words aligned to a cache line.
pub struct AlignedBuffer {
    words: Vec<u32>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// Returns a buffer of `len` words of unspecified content.
    pub fn new(len: usize) -> Self {
        let mut words = SPARE.with_borrow_mut(|spare| take_fitting(spare, len + LINE - 1));
        words.resize(len + LINE - 1, 0);
        let start = words.as_ptr().align_offset(LINE * size_of::<u32>());
        Self { words, start, len }
    }
}

/// Takes the smallest spare buffer that is large enough, otherwise the largest one.
fn take_fitting(spare: &mut Vec<Vec<u32>>, len: usize) -> Vec<u32> {
    spare.sort_by_key(Vec::capacity);
    let fitting = spare.iter().position(|words| words.capacity() >= len);
    match fitting.or(spare.len().checked_sub(1)) {
        Some(i) => spare.swap_remove(i),
        None => Vec::new(),
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        let words = std::mem::take(&mut self.words);
        // The thread-local list is gone if the thread is ending.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < KEPT {
                spare.push(words);
            }
        });
    }
}

impl Deref for AlignedBuffer {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.words[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u32] {
        &mut self.words[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_begin_at_a_cache_line() {
        for len in [0, 1, 16, 17, 1000] {
            let mut words = AlignedBuffer::new(len);
            assert_eq!((words.len(), words.as_ptr().align_offset(64)), (len, 0));
            words.fill(1);
            assert!(words.iter().all(|&v| v == 1));
        }
    }
}
