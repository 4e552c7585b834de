//! Memory that records which bytes were written, by which thread, and when. Nothing smaller than
//! [`HALF`] bytes is ever accessed, so that the record is kept for each [`HALF`] bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

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

    /// Writes a number of 2, 4 or 8 bytes.
    #[inline]
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
fn unwritten(what: &str, at: usize) -> String {
    format!("reads {what} {at} before anything was written there")
}

#[cold]
fn beyond(at: u64, len: usize) -> String {
    format!("shared address {at} of {len} bytes is out of bounds")
}

/// The kind of an access to shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    Atomic,
}

/// In a cell of shared memory, in place of a thread: several.
const SEVERAL: u16 = u16::MAX;

/// [`HALF`] bytes of shared memory.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    value: u16,
    written: bool,
    /// The epoch of the last write, its thread, and whether it was atomic. There is no epoch 0.
    write: u32,
    writer: u16,
    atomic: bool,
    /// The epoch of the last read and its thread, or [`SEVERAL`].
    read: u32,
    reader: u16,
}

impl Cell {
    /// Records an access, unless it is a race.
    #[inline(always)]
    fn touch(&mut self, epoch: u32, thread: u16, how: Access) -> Result<(), Race> {
        let both_atomic = self.atomic && how == Access::Atomic;
        if self.write == epoch && self.writer != thread && !both_atomic {
            return Err(Race { what: "wrote", who: self.writer });
        }
        if how == Access::Read {
            let shared = self.read == epoch && self.reader != thread;
            (self.read, self.reader) = (epoch, if shared { SEVERAL } else { thread });
            return Ok(());
        }
        if self.read == epoch && self.reader != thread {
            return Err(Race { what: "read", who: self.reader });
        }
        (self.write, self.writer, self.atomic) = (epoch, thread, how == Access::Atomic);
        Ok(())
    }
}

/// An access of another thread since the last barrier.
struct Race {
    what: &'static str,
    who: u16,
}

impl Race {
    #[cold]
    fn at(&self, byte: usize) -> String {
        let Self { what, who } = self;
        format!("race at shared byte {byte}: thread {who} {what} it since the last barrier")
    }
}

/// Shared memory of a block. It detects races: two threads that access the same bytes without a
/// barrier in between, at least one of them writing.
#[derive(Debug)]
pub struct Shared {
    cells: Vec<Cell>,
    /// Number of barriers passed, from 1.
    pub epoch: u32,
}

impl Shared {
    pub fn new(bytes: usize) -> Self {
        Self { cells: vec![Cell::default(); bytes.div_ceil(HALF)], epoch: 1 }
    }

    #[inline(always)]
    fn inside(&mut self, at: u64, bytes: usize) -> Result<&mut [Cell], String> {
        let (len, end) = (self.cells.len() * HALF, at.checked_add(bytes as u64));
        match end.is_some_and(|end| end <= len as u64) {
            true => Ok(&mut self.cells[at as usize / HALF..][..bytes / HALF]),
            false => Err(beyond(at, len)),
        }
    }

    /// Reads a number of 2 or 4 bytes.
    #[inline]
    pub fn load(&mut self, at: u64, bytes: usize, thread: u16, how: Access) -> Result<u64, String> {
        let epoch = self.epoch;
        let mut value = 0;
        for (i, cell) in self.inside(at, bytes)?.iter_mut().enumerate() {
            let byte = at as usize + HALF * i;
            cell.touch(epoch, thread, how).map_err(|race| race.at(byte))?;
            if !cell.written {
                return Err(format!("reads shared byte {byte} before anything was written there"));
            }
            value |= u64::from(cell.value) << (16 * i);
        }
        Ok(value)
    }

    /// Writes a number of 2 or 4 bytes.
    #[inline]
    pub fn store(
        &mut self,
        at: u64,
        bytes: usize,
        thread: u16,
        how: Access,
        value: u64,
    ) -> Result<(), String> {
        let epoch = self.epoch;
        for (i, cell) in self.inside(at, bytes)?.iter_mut().enumerate() {
            cell.touch(epoch, thread, how).map_err(|race| race.at(at as usize + HALF * i))?;
            (cell.value, cell.written) = ((value >> (16 * i)) as u16, true);
        }
        Ok(())
    }

    /// Marks the destination of an asynchronous copy, which nobody may read until the copy has
    /// arrived.
    pub fn expect(&mut self, at: u64, bytes: usize, thread: u16) -> Result<(), String> {
        let epoch = self.epoch;
        for (i, cell) in self.inside(at, bytes)?.iter_mut().enumerate() {
            let race = |race: Race| race.at(at as usize + HALF * i);
            cell.touch(epoch, thread, Access::Write).map_err(race)?;
            cell.written = false;
        }
        Ok(())
    }
}
