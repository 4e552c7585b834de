//! Shared memory of a block, which records which thread accessed which bytes, and when.

use super::memory::{HALF, aligned, steps, unwritten};
use super::ops::{Lanes, lanes};
use super::wide::Both;

/// The kind of an access to shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
    Atomic,
}

/// Who accessed something when: a number of barriers passed, above [`THREAD_BITS`] bits for a thread.
type Stamp = u32;
const THREAD_BITS: u32 = 11;
/// In place of a thread: several.
const SEVERAL: Stamp = (1 << THREAD_BITS) - 1;

/// Whether an access was one of another thread since the last barrier.
#[inline(always)]
fn other(stamp: Stamp, mine: Stamp) -> bool {
    let difference = stamp ^ mine;
    difference != 0 && difference <= SEVERAL
}

/// [`HALF`] bytes of shared memory.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    value: u16,
    written: bool,
    /// The last write, and whether it was atomic.
    atomic: bool,
    write: Stamp,
    /// The last read.
    read: Stamp,
}

impl Cell {
    /// Records an access, unless it is a race.
    #[inline(always)]
    fn touch(&mut self, mine: Stamp, how: Access) -> Result<(), Race> {
        let both_atomic = self.atomic && how == Access::Atomic;
        if other(self.write, mine) && !both_atomic {
            return Err(Race { what: "wrote", who: self.write });
        }
        let read_by_others = other(self.read, mine);
        if how == Access::Read {
            self.read = if read_by_others { mine | SEVERAL } else { mine };
            return Ok(());
        }
        if read_by_others {
            return Err(Race { what: "read", who: self.read });
        }
        (self.write, self.atomic) = (mine, how == Access::Atomic);
        Ok(())
    }
}

/// Reads the number in some cells, whose first byte is at `at`.
#[inline(always)]
fn load(cells: &mut [Cell], mine: Stamp, how: Access, at: usize) -> Result<u64, String> {
    let mut value = 0;
    for (i, cell) in cells.iter_mut().enumerate() {
        let byte = at + HALF * i;
        cell.touch(mine, how).map_err(|race| race.at(byte))?;
        if !cell.written {
            return Err(unwritten("shared byte", byte));
        }
        value |= u64::from(cell.value) << (16 * i);
    }
    Ok(value)
}

/// An access of another thread since the last barrier.
struct Race {
    what: &'static str,
    who: Stamp,
}

impl Race {
    #[cold]
    fn at(&self, byte: usize) -> String {
        let Self { what, who } = self;
        let who = match who & SEVERAL {
            SEVERAL => "several threads".to_owned(),
            thread => format!("thread {thread}"),
        };
        format!("race at shared byte {byte}: {who} {what} it since the last barrier")
    }
}

/// Shared memory of a block. It detects races: two threads that access the same bytes without a
/// barrier in between, at least one of them writing.
#[derive(Debug)]
pub struct Shared {
    cells: Vec<Cell>,
    /// Number of barriers passed, from 1.
    epoch: u32,
}

impl Shared {
    pub fn new(bytes: usize) -> Self {
        Self { cells: vec![Cell::default(); bytes.div_ceil(HALF)], epoch: 1 }
    }

    /// Counts a barrier that all threads have passed.
    ///
    /// # Panics
    /// Panics if there were too many barriers for a stamp.
    pub fn pass_barrier(&mut self) {
        self.epoch += 1;
        assert!(self.epoch >> (u32::BITS - THREAD_BITS) == 0, "{} barriers", self.epoch);
    }

    #[inline(always)]
    fn stamp(&self, thread: u32) -> Stamp {
        debug_assert!(thread < SEVERAL, "thread {thread}");
        self.epoch << THREAD_BITS | thread
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
    #[inline(always)]
    pub fn load(&mut self, at: u64, bytes: usize, thread: u32, how: Access) -> Result<u64, String> {
        let mine = self.stamp(thread);
        load(self.inside(at, bytes)?, mine, how, at as usize)
    }

    /// Writes numbers of two bytes, one after the other.
    #[inline(always)]
    pub fn store(
        &mut self,
        at: u64,
        halves: &[u16],
        thread: u32,
        how: Access,
    ) -> Result<(), String> {
        let mine = self.stamp(thread);
        let cells = self.inside(at, halves.len() * HALF)?;
        for (i, (cell, &half)) in Both(cells.iter_mut(), halves.iter()).enumerate() {
            cell.touch(mine, how).map_err(|race| race.at(at as usize + HALF * i))?;
            (cell.value, cell.written) = (half, true);
        }
        Ok(())
    }

    /// Reads a number of 2 or 4 bytes in each lane of a mask.
    pub fn load_lanes(
        &mut self,
        mask: u32,
        at: &Lanes,
        bytes: usize,
        first_thread: u32,
        values: &mut Lanes,
    ) -> Result<(), String> {
        match bytes {
            4 => self.load_numbers::<4>(mask, at, first_thread, values),
            _ => self.load_numbers::<2>(mask, at, first_thread, values),
        }
    }

    fn load_numbers<const BYTES: usize>(
        &mut self,
        mask: u32,
        at: &Lanes,
        first_thread: u32,
        values: &mut Lanes,
    ) -> Result<(), String> {
        let (first, last) = (mask.trailing_zeros(), 31 - mask.leading_zeros());
        let same = at[first as usize];
        if steps(at, same, 0) {
            // A race with any of several threads is one with the first or the last of them.
            aligned(same, BYTES)?;
            values.fill(self.load(same, BYTES, first_thread + first, Access::Read)?);
            return self.load(same, BYTES, first_thread + last, Access::Read).map(|_| ());
        }
        if BYTES == 4 && mask == u32::MAX && steps(at, same, 4) {
            aligned(same, BYTES)?;
            return self.load_words(same, first_thread, values);
        }
        for lane in lanes(mask) {
            aligned(at[lane], BYTES)?;
            values[lane] = self.load(at[lane], BYTES, first_thread + lane as u32, Access::Read)?;
        }
        Ok(())
    }

    /// Reads numbers of 4 bytes, one after the other, each by the next thread.
    #[inline]
    pub fn load_words(&mut self, at: u64, thread: u32, values: &mut [u64]) -> Result<(), String> {
        let first = self.stamp(thread);
        let cells = self.inside(at, values.len() * 4)?.as_chunks_mut::<2>().0;
        for (i, (value, cells)) in Both(0.., Both(values.iter_mut(), cells.iter_mut())) {
            *value = load(cells, first + i, Access::Read, at as usize + 4 * i as usize)?;
        }
        Ok(())
    }

    /// Writes a number of 2 or 4 bytes in each lane of a mask.
    pub fn store_lanes(
        &mut self,
        mask: u32,
        at: &Lanes,
        bytes: usize,
        first_thread: u32,
        values: &Lanes,
    ) -> Result<(), String> {
        for lane in lanes(mask) {
            let (at, thread) = (at[lane], first_thread + lane as u32);
            let halves = [values[lane] as u16, (values[lane] >> 16) as u16];
            aligned(at, bytes)?;
            match bytes {
                4 => self.store(at, &halves, thread, Access::Write)?,
                _ => self.store(at, &halves[..1], thread, Access::Write)?,
            }
        }
        Ok(())
    }

    /// Adds to a number of 4 bytes, in one step.
    pub fn add(&mut self, at: u64, thread: u32, value: u64) -> Result<(), String> {
        aligned(at, 4)?;
        let sum = self.load(at, 4, thread, Access::Atomic)?.wrapping_add(value);
        self.store(at, &[sum as u16, (sum >> 16) as u16], thread, Access::Atomic)
    }

    /// Marks the destination of an asynchronous copy, which nobody may read until the copy has
    /// arrived.
    pub fn expect(&mut self, at: u64, bytes: usize, thread: u32) -> Result<(), String> {
        let mine = self.stamp(thread);
        for (i, cell) in self.inside(at, bytes)?.iter_mut().enumerate() {
            let race = |race: Race| race.at(at as usize + HALF * i);
            cell.touch(mine, Access::Write).map_err(race)?;
            cell.written = false;
        }
        Ok(())
    }
}

#[cold]
fn beyond(at: u64, len: usize) -> String {
    format!("shared address {at} of {len} bytes is out of bounds")
}
