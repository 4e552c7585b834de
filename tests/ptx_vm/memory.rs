//! Global memory, which records which bytes were written and how often. Nothing smaller than [`HALF`]
//! bytes is ever accessed, so that the record is kept for each [`HALF`] bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

use super::ops::{LANES, Lanes};
use super::wide::Both;

/// Bytes of the smallest number in any kernel, the unit of the record.
pub const HALF: usize = 2;
/// Write counts saturate at this value.
pub const MANY: u8 = 3;

/// In a cell of global memory, above the 16 bits of its value: whether it was ever written.
const WRITTEN: u32 = 1 << 16;
/// Above it: how often it was written in the last launch.
const COUNT_AT: u32 = 17;

/// Global memory: its values, and for each [`HALF`] bytes whether they were ever written and how
/// often in the last launch.
#[derive(Debug)]
pub struct Buffer {
    cells: Vec<AtomicU32>,
    /// Bytes of all buffers of a machine, this one included.
    allocated: Arc<AtomicUsize>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.allocated.fetch_sub(self.len(), Relaxed);
    }
}

impl Buffer {
    pub fn new(bytes: usize) -> Self {
        Self::counted(bytes, Arc::default())
    }

    /// Adds the size of the buffer to `allocated` for as long as it exists.
    ///
    /// # Panics
    /// Panics if `bytes` is odd.
    pub fn counted(bytes: usize, allocated: Arc<AtomicUsize>) -> Self {
        assert!(bytes.is_multiple_of(HALF), "{bytes} bytes");
        allocated.fetch_add(bytes, Relaxed);
        // A bit pattern that is NaN in every width.
        let cells = (0..bytes / HALF).map(|_| AtomicU32::new(0xffff)).collect();
        Self { cells, allocated }
    }

    pub fn len(&self) -> usize {
        self.cells.len() * HALF
    }

    pub fn begin_launch(&self) {
        for cell in &self.cells {
            let (now, none) = (cell.load(Relaxed), (1 << COUNT_AT) - 1);
            if now > none {
                cell.store(now & none, Relaxed);
            }
        }
    }

    /// Writes zeros wherever nothing was ever written.
    pub fn settle(&self) {
        for cell in self.cells.iter().filter(|cell| cell.load(Relaxed) & WRITTEN == 0) {
            cell.store(WRITTEN, Relaxed);
        }
    }

    /// Returns how often each byte was written in the last launch, at most [`MANY`].
    pub fn writes(&self) -> Vec<u8> {
        let counts = self.cells.iter().map(|cell| (cell.load(Relaxed) >> COUNT_AT) as u8);
        counts.flat_map(|count| [count; HALF]).collect()
    }

    /// Reads a number of 2, 4 or 8 bytes.
    #[inline]
    pub fn load(&self, at: usize, bytes: usize) -> Result<u64, String> {
        let cells = &self.cells[at / HALF..(at + bytes) / HALF];
        if let [low, high] = cells {
            // Most numbers have four bytes.
            let (low, high) = (low.load(Relaxed), high.load(Relaxed));
            if low & high & WRITTEN != 0 {
                return Ok(u64::from(low & 0xffff | high << 16));
            }
        }
        let mut value = 0;
        for (i, cell) in cells.iter().enumerate() {
            let cell = cell.load(Relaxed);
            if cell & WRITTEN == 0 {
                return Err(unwritten("byte", at + HALF * i));
            }
            value |= u64::from(cell as u16) << (16 * i);
        }
        Ok(value)
    }

    /// Reads numbers of two bytes, one after the other.
    #[inline]
    pub fn load_halves(&self, at: usize, halves: &mut [u16]) -> Result<(), String> {
        let cells = &self.cells[at / HALF..][..halves.len()];
        let mut all = WRITTEN;
        for (half, cell) in Both(halves.iter_mut(), cells.iter()) {
            let cell = cell.load(Relaxed);
            (*half, all) = (cell as u16, all & cell);
        }
        if all & WRITTEN == 0 {
            let missing = cells.iter().position(|cell| cell.load(Relaxed) & WRITTEN == 0);
            return Err(unwritten("byte", at + HALF * missing.unwrap_or(0)));
        }
        Ok(())
    }

    /// Writes a number of 2, 4 or 8 bytes.
    #[inline(always)]
    pub fn store(&self, at: usize, bytes: usize, value: u64) {
        for (i, cell) in self.cells[at / HALF..(at + bytes) / HALF].iter().enumerate() {
            let count = (cell.load(Relaxed) >> COUNT_AT).saturating_add(1).min(MANY.into());
            let value = (value >> (16 * i)) as u16;
            cell.store(count << COUNT_AT | WRITTEN | u32::from(value), Relaxed);
        }
    }

    /// Writes from the host.
    pub fn fill(&self, at: usize, bytes: &[u8]) {
        assert!(at.is_multiple_of(HALF), "byte {at}");
        let (halves, []) = bytes.as_chunks::<HALF>() else { panic!("{} bytes", bytes.len()) };
        for (cell, &half) in self.cells[at / HALF..][..halves.len()].iter().zip(halves) {
            cell.store(WRITTEN | u32::from(u16::from_le_bytes(half)), Relaxed);
        }
    }

    pub fn copy_to(&self, at: usize, bytes: &mut [u8]) -> Result<(), String> {
        assert!(at.is_multiple_of(HALF), "byte {at}");
        let len = bytes.len();
        let (halves, []) = bytes.as_chunks_mut::<HALF>() else { panic!("{len} bytes") };
        for (i, half) in halves.iter_mut().enumerate() {
            *half = (self.load(at + HALF * i, HALF)? as u16).to_le_bytes();
        }
        Ok(())
    }
}

#[cold]
pub fn unwritten(what: &str, at: usize) -> String {
    format!("reads {what} {at} before anything was written there")
}

/// Whether each lane's address is `step` bytes after that of the lane before, from `first` on.
#[inline(always)]
pub fn steps(at: &Lanes, first: u64, step: u64) -> bool {
    let off = |lane: usize| at[lane] ^ first.wrapping_add(step * lane as u64);
    (0..LANES).fold(0, |any, lane| any | off(lane)) == 0
}

#[inline]
pub fn aligned(at: u64, bytes: usize) -> Result<(), String> {
    match at.is_multiple_of(bytes as u64) {
        true => Ok(()),
        false => Err(misaligned(at, bytes)),
    }
}

#[cold]
fn misaligned(at: u64, bytes: usize) -> String {
    format!("address {at:#x} is not a multiple of {bytes}")
}
