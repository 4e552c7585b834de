//! Loads, stores and atomic additions of a warp.

use super::launch::{Block, Grid};
use super::ops::{LANES, Lanes, Space, lanes};
use super::parse::Instruction;
use super::warp::Warp;
use super::wide::Both;

impl Warp {
    /// Returns the addresses that the first two operands make, a base and an offset.
    #[inline(always)]
    pub fn addresses(&self, i: &Instruction) -> Lanes {
        let ([base, offset], mut at) = (self.operands(i), [0; LANES]);
        for (at, (base, offset)) in Both(at.iter_mut(), Both(base.iter(), offset.iter())) {
            *at = base.wrapping_add(*offset);
        }
        at
    }

    pub fn load(
        &self,
        i: &Instruction,
        mask: u32,
        (space, bytes): (Space, usize),
        (grid, block): (&Grid, &mut Block),
        values: &mut Lanes,
    ) -> Result<(), String> {
        let at = self.addresses(i);
        match space {
            // Every lane names the same one.
            Space::Param => values.fill(grid.params[at[mask.trailing_zeros() as usize] as usize]),
            Space::Global => grid.load_lanes(mask, &at, bytes, values)?,
            Space::Shared => {
                block.shared.load_lanes(mask, &at, bytes, self.thread(0), values)?;
            }
        }
        block.counts.access(space, mask, bytes, &at, false);
        Ok(())
    }

    pub fn store(
        &self,
        i: &Instruction,
        mask: u32,
        (space, bytes): (Space, usize),
        grid: &Grid,
        block: &mut Block,
    ) -> Result<(), String> {
        let at = self.addresses(i);
        let [_, _, value] = self.operands(i);
        match space {
            Space::Param => return Err("parameters cannot be written".to_owned()),
            Space::Global => {
                lanes(mask).try_for_each(|lane| grid.store(at[lane], bytes, value[lane]))?;
            }
            Space::Shared => {
                block.shared.store_lanes(mask, &at, bytes, self.thread(0), value)?;
            }
        }
        block.counts.access(space, mask, bytes, &at, true);
        Ok(())
    }

    pub fn add(
        &self,
        i: &Instruction,
        mask: u32,
        (space, bytes): (Space, usize),
        grid: &Grid,
        block: &mut Block,
    ) -> Result<(), String> {
        let at = self.addresses(i);
        let [_, _, value] = self.operands(i);
        for lane in lanes(mask) {
            let (at, value) = (at[lane], value[lane]);
            if space == Space::Global {
                grid.add(at, bytes, value)?;
                continue;
            }
            block.shared.add(at, self.thread(lane), value)?;
        }
        Ok(())
    }
}
