//! A launch: runs blocks in parallel, each with its shared memory and its warps.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::memory::{Buffer, HALF, aligned, steps};
use super::ops::{LANES, Lanes, Space, lanes};
use super::parse::Program;
use super::shared::Shared;
use super::warp::Warp;

/// Counts of a launch, for a roofline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Instructions, counted once per warp.
    pub instructions: u64,
    pub mma: u64,
    pub global_read: u64,
    pub global_written: u64,
    /// Accesses of a warp to shared memory, and the cycles they took: more than one cycle if lanes
    /// met in a bank.
    pub shared: u64,
    pub shared_turns: u64,
}

impl Counts {
    pub fn access(&mut self, space: Space, mask: u32, bytes: usize, at: &Lanes, write: bool) {
        let total = u64::from(mask.count_ones()) * bytes as u64;
        match (space, write) {
            (Space::Param, _) => {}
            (Space::Global, false) => self.global_read += total,
            (Space::Global, true) => self.global_written += total,
            (Space::Shared, _) => {
                self.shared += 1;
                self.shared_turns += turns(mask, at);
            }
        }
    }

    pub fn merge(self, other: Self) -> Self {
        Self {
            instructions: self.instructions + other.instructions,
            mma: self.mma + other.mma,
            global_read: self.global_read + other.global_read,
            global_written: self.global_written + other.global_written,
            shared: self.shared + other.shared,
            shared_turns: self.shared_turns + other.shared_turns,
        }
    }
}

/// Returns the cycles of an access to shared memory: the number of different words in the bank that
/// has most of them.
fn turns(mask: u32, at: &Lanes) -> u64 {
    let first = at[mask.trailing_zeros() as usize];
    // Nearly always, lanes read the same word or one after the other.
    if steps(at, first, 0) || mask == u32::MAX && steps(at, first, 4) {
        return 1;
    }
    let mut first = [u64::MAX; LANES];
    for lane in lanes(mask) {
        let word = at[lane] / 4;
        let bank = &mut first[(word % 32) as usize];
        if *bank != u64::MAX && *bank != word {
            return turns_with_conflicts(mask, at);
        }
        *bank = word;
    }
    1
}

fn turns_with_conflicts(mask: u32, at: &Lanes) -> u64 {
    let mut words: Vec<u64> = lanes(mask).map(|lane| at[lane] / 4).collect();
    words.sort_unstable();
    words.dedup();
    let mut banks = [0; LANES];
    words.iter().for_each(|word| banks[(word % 32) as usize] += 1);
    banks.into_iter().max().unwrap_or(0)
}

/// Memory passed to a kernel: argument `i` is mapped at address `(i + 1) << 40`.
pub struct Window<'a> {
    pub buffer: &'a Buffer,
    pub writable: bool,
}

/// State shared by all blocks of a launch.
pub struct Grid<'a> {
    pub program: &'a Program,
    pub params: Vec<u64>,
    pub windows: Vec<Option<Window<'a>>>,
    /// Held during an atomic addition.
    pub turn: Mutex<()>,
}

/// Returns the address of byte `at` of the memory passed as argument `arg`.
pub fn address(arg: usize, at: usize) -> u64 {
    (arg as u64 + 1) << 40 | at as u64
}

impl Grid<'_> {
    #[inline(always)]
    fn inside(&self, address: u64, bytes: usize) -> Result<(&Window<'_>, usize), String> {
        let window =
            (address >> 40).checked_sub(1).and_then(|arg| self.windows.get(arg as usize)?.as_ref());
        let Some(window) = window else {
            return Err(format!("address {address:#x} is in no memory that was given"));
        };
        let at = (address & ((1 << 40) - 1)) as usize;
        if at + bytes > window.buffer.len() {
            return Err(format!("byte {at} of {} is out of bounds", window.buffer.len()));
        }
        Ok((window, at))
    }

    #[inline(always)]
    fn at(&self, address: u64, bytes: usize, write: bool) -> Result<(&Buffer, usize), String> {
        let (window, at) = self.inside(address, bytes)?;
        aligned(address, bytes)?;
        if write && !window.writable {
            return Err("writes to memory that is only read".to_owned());
        }
        Ok((window.buffer, at))
    }

    #[inline]
    fn load(&self, address: u64, bytes: usize) -> Result<u64, String> {
        let (buffer, at) = self.at(address, bytes, false)?;
        buffer.load(at, bytes)
    }

    /// Reads a number in each lane of a mask that is not empty.
    pub fn load_lanes(
        &self,
        mask: u32,
        at: &Lanes,
        bytes: usize,
        values: &mut Lanes,
    ) -> Result<(), String> {
        // Nearly always, all lanes read the same memory, which is looked up once.
        let first = at[mask.trailing_zeros() as usize];
        let (buffer, offset) = self.at(first, bytes, false)?;
        let (start, last) = (first - offset as u64, buffer.len().saturating_sub(bytes) as u64);
        for lane in lanes(mask) {
            let place = at[lane].wrapping_sub(start);
            // The number of bytes is a power of two.
            let is_near = place <= last && at[lane] & (bytes as u64 - 1) == 0;
            values[lane] = match is_near {
                true => buffer.load(place as usize, bytes)?,
                false => self.load(at[lane], bytes)?,
            };
        }
        Ok(())
    }

    /// Reads the beginning of 16 bytes; the rest is zero.
    pub fn load_part(&self, address: u64, bytes: usize) -> Result<[u16; 8], String> {
        let mut halves = [0; 8];
        if bytes > 0 {
            let (window, at) = self.inside(address, bytes)?;
            window.buffer.load_halves(at, &mut halves[..bytes / HALF])?;
        }
        Ok(halves)
    }

    #[inline]
    pub fn store(&self, address: u64, bytes: usize, value: u64) -> Result<(), String> {
        let (buffer, at) = self.at(address, bytes, true)?;
        buffer.store(at, bytes, value);
        Ok(())
    }

    pub fn add(&self, address: u64, bytes: usize, value: u64) -> Result<(), String> {
        let (buffer, at) = self.at(address, bytes, true)?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = buffer.load(at, bytes)?.wrapping_add(value);
        buffer.store(at, bytes, sum);
        Ok(())
    }

    /// Executes all blocks. Returns the first fault in block order.
    pub fn run(&self, blocks: [usize; 3], threads: usize) -> Result<Counts, String> {
        let [x, y, z] = blocks;
        let one = |i: usize| self.block([i % x, i / x % y, i / x / y], blocks, threads);
        let all: Vec<Result<Counts, String>> = (0..x * y * z).into_par_iter().map(one).collect();
        all.into_iter().try_fold(Counts::default(), |sum, counts| Ok(sum.merge(counts?)))
    }

    fn block(
        &self,
        index: [usize; 3],
        blocks: [usize; 3],
        threads: usize,
    ) -> Result<Counts, String> {
        let shared = Shared::new(self.program.shared);
        let mut block = Block { index, blocks, shared, counts: Counts::default() };
        let mut warps: Vec<Warp> = (0..threads as u32)
            .step_by(LANES)
            .map(|t| Warp::new(t, self.program, &block))
            .collect();
        loop {
            for warp in &mut warps {
                warp.run(self, &mut block)?;
            }
            let mut places = warps.iter().filter_map(Warp::barrier);
            let Some(first) = places.next() else {
                return Ok(block.counts);
            };
            if places.any(|place| place != first) {
                return Err(format!(
                    "{}: threads of a block wait at different barriers",
                    self.program.name
                ));
            }
            warps.iter_mut().for_each(Warp::release);
            block.shared.pass_barrier();
        }
    }
}

/// A running block.
pub struct Block {
    pub index: [usize; 3],
    pub blocks: [usize; 3],
    pub shared: Shared,
    pub counts: Counts,
}
