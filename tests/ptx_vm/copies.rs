//! Asynchronous copies from global to shared memory.

use std::collections::VecDeque;

use super::launch::{Block, Grid};
use super::memory::{HALF, aligned};
use super::ops::lanes;
use super::parse::Instruction;
use super::shared::Access;
use super::warp::Warp;

/// Copies of a warp that have not arrived.
#[derive(Debug, Default)]
pub struct Copies {
    /// Those that belong to no group yet.
    started: Vec<Copy>,
    groups: VecDeque<Vec<Copy>>,
}

impl Copies {
    /// Makes a group of all copies since the last one.
    pub fn commit(&mut self) {
        self.groups.push_back(std::mem::take(&mut self.started));
    }
}

/// An asynchronous copy to shared memory that has not arrived.
#[derive(Debug, Clone, Copy)]
struct Copy {
    lane: usize,
    to: u64,
    from: u64,
    /// Bytes copied, of 16; the rest becomes zero.
    bytes: usize,
}

impl Warp {
    /// Operands: shared address and offset, global address and offset, 16, bytes to read.
    pub fn copy_async(
        &mut self,
        i: &Instruction,
        mask: u32,
        block: &mut Block,
    ) -> Result<(), String> {
        let mut started = std::mem::take(&mut self.copies.started);
        let [to, to_offset, from, from_offset, _, bytes] = self.operands(i);
        for lane in lanes(mask) {
            let copy = Copy {
                lane,
                to: to[lane].wrapping_add(to_offset[lane]),
                from: from[lane].wrapping_add(from_offset[lane]),
                bytes: bytes[lane] as usize,
            };
            aligned(copy.to, 16)?;
            aligned(copy.from, 16)?;
            if copy.bytes > 16 || !copy.bytes.is_multiple_of(HALF) {
                return Err(format!("copies {} bytes of 16", copy.bytes));
            }
            block.shared.expect(copy.to, 16, self.thread(copy.lane))?;
            block.counts.global_read += copy.bytes as u64;
            started.push(copy);
        }
        self.copies.started = started;
        Ok(())
    }

    pub fn wait(&mut self, left: usize, grid: &Grid, block: &mut Block) -> Result<(), String> {
        while self.copies.groups.len() > left {
            for Copy { lane, to, from, bytes } in self.copies.groups.pop_front().unwrap_or_default()
            {
                let halves = grid.load_part(from, bytes)?;
                block.shared.store(to, &halves, self.thread(lane), Access::Write)?;
            }
        }
        Ok(())
    }
}
