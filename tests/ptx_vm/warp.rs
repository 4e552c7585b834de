//! A warp of 32 lanes. The lanes that are furthest behind execute together, so that diverged lanes
//! meet again.

use std::collections::VecDeque;

use super::launch::{Block, Grid};
use super::memory::Access;
use super::ops::{Op, Shuffle, Space};
use super::parse::{From, Instruction, Special};

pub const LANES: usize = 32;

/// One value per lane.
type Lanes = [u64; LANES];

/// An asynchronous copy to shared memory that has not arrived.
#[derive(Debug, Clone, Copy)]
struct Copy {
    lane: usize,
    to: u64,
    from: u64,
    /// Bytes copied, of 16; the rest becomes zero.
    bytes: usize,
}

#[derive(Debug)]
pub struct Warp {
    first_thread: usize,
    pc: [u32; LANES],
    registers: Vec<Lanes>,
    /// Lanes that have written each register.
    written: Vec<u32>,
    /// Lanes that are running, and those of them that wait at a barrier.
    pub running: u32,
    pub waiting: u32,
    copies: Vec<Copy>,
    groups: VecDeque<Vec<Copy>>,
}

/// Returns the lanes of a mask.
fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    (0..LANES).filter(move |lane| mask >> lane & 1 == 1)
}

impl Warp {
    pub fn new(first_thread: usize, registers: usize) -> Self {
        Self {
            first_thread,
            pc: [0; LANES],
            registers: vec![[0; LANES]; registers],
            written: vec![0; registers],
            running: u32::MAX,
            waiting: 0,
            copies: Vec::new(),
            groups: VecDeque::new(),
        }
    }

    /// Returns the barrier that all waiting lanes wait at, if it is the same one.
    pub fn barrier(&self) -> Option<u32> {
        let mut places = lanes(self.waiting).map(|lane| self.pc[lane]);
        let first = places.next()?;
        places.all(|place| place == first).then_some(first)
    }

    /// Continues after a barrier.
    pub fn release(&mut self) {
        lanes(self.waiting).for_each(|lane| self.pc[lane] += 1);
        self.waiting = 0;
    }

    /// Runs until every lane has returned or waits at a barrier.
    pub fn run(&mut self, grid: &Grid, block: &mut Block) -> Result<(), String> {
        loop {
            let ready = self.running & !self.waiting;
            if ready == 0 {
                return Ok(());
            }
            let pc = lanes(ready).map(|lane| self.pc[lane]).min().unwrap_or(0);
            let active = lanes(ready).filter(|&l| self.pc[l] == pc).fold(0, |m, l| m | 1 << l);
            let Some(instruction) = grid.program.code.get(pc as usize) else {
                return Err("runs beyond the end of the kernel".to_owned());
            };
            self.step(instruction, active, grid, block).map_err(|e| {
                let thread = self.first_thread + active.trailing_zeros() as usize;
                format!(
                    "{} line {}, block {:?}, thread {thread}: {e}: {}",
                    grid.program.name, instruction.line, block.index, instruction.text
                )
            })?;
        }
    }

    fn step(
        &mut self,
        i: &Instruction,
        active: u32,
        grid: &Grid,
        block: &mut Block,
    ) -> Result<(), String> {
        block.counts.instructions += 1;
        let mask = match i.guard {
            None => active,
            Some((predicate, negated)) => {
                let p = self.read(From::Register(predicate), active, block)?;
                lanes(active).filter(|&l| (p[l] & 1 == 1) != negated).fold(0, |m, l| m | 1 << l)
            }
        };
        match i.op {
            Op::Branch => {
                let From::Value(target) = i.from[0] else { return Err("no label".to_owned()) };
                lanes(active & !mask).for_each(|l| self.pc[l] += 1);
                lanes(mask).for_each(|l| self.pc[l] = target as u32);
                return Ok(());
            }
            Op::Return => self.running &= !mask,
            Op::Barrier => {
                if mask != self.running {
                    return Err("not every lane of the warp comes to this barrier".to_owned());
                }
                self.waiting = mask;
                return Ok(());
            }
            _ if mask != 0 => self.execute(i, mask, grid, block)?,
            _ => {}
        }
        lanes(active).for_each(|l| self.pc[l] += 1);
        Ok(())
    }

    fn read(&self, from: From, mask: u32, block: &Block) -> Result<Lanes, String> {
        Ok(match from {
            From::Value(value) => [value; LANES],
            From::Register(register) => {
                if self.written[register] & mask != mask {
                    return Err(format!("register {register} is read before it is written"));
                }
                self.registers[register]
            }
            From::Special(Special::Block(axis)) => [block.index[axis] as u64; LANES],
            From::Special(Special::Blocks(axis)) => [block.blocks[axis] as u64; LANES],
            From::Special(Special::Thread(0)) => {
                std::array::from_fn(|l| (self.first_thread + l) as u64)
            }
            From::Special(Special::Thread(_)) => [0; LANES],
        })
    }

    fn write(&mut self, register: usize, mask: u32, value: impl Fn(usize) -> u64) {
        lanes(mask).for_each(|lane| self.registers[register][lane] = value(lane));
        self.written[register] |= mask;
    }

    fn execute(
        &mut self,
        i: &Instruction,
        mask: u32,
        grid: &Grid,
        block: &mut Block,
    ) -> Result<(), String> {
        let mut read = [[0; LANES]; 10];
        for (values, &from) in read.iter_mut().zip(&i.from) {
            *values = self.read(from, mask, block)?;
        }
        let [a, b, c, d, ..] = &read;
        match i.op {
            Op::One(f) => self.write(i.to[0], mask, |l| f(a[l])),
            Op::Two(f) => self.write(i.to[0], mask, |l| f(a[l], b[l])),
            Op::Three(f) => self.write(i.to[0], mask, |l| f(a[l], b[l], c[l])),
            Op::Four(f) => self.write(i.to[0], mask, |l| f(a[l], b[l], c[l], d[l])),
            Op::Pack => match (i.to.len(), i.from.len()) {
                (2, 1) => {
                    self.write(i.to[0], mask, |l| a[l] & 0xffff_ffff);
                    self.write(i.to[1], mask, |l| a[l] >> 32);
                }
                (1, 2) => self.write(i.to[0], mask, |l| a[l] & 0xffff_ffff | b[l] << 32),
                _ => self.write(i.to[0], mask, |l| a[l]),
            },
            Op::Load { space, bytes } => {
                self.load(i.to[0], mask, (space, bytes), (a, b), grid, block)?
            }
            Op::Store { space, bytes } => {
                self.store(mask, (space, bytes), (a, b), c, grid, block)?
            }
            Op::Add { space, bytes } => self.add(mask, (space, bytes), (a, b), c, grid, block)?,
            Op::Shuffle(how) => self.shuffle(i, mask, how, (a, b, d))?,
            Op::CopyAsync => self.copy_async(mask, &read, block)?,
            Op::Commit => self.groups.push_back(std::mem::take(&mut self.copies)),
            Op::Wait => self.wait(a[0] as usize, grid, block)?,
            Op::LoadMatrix => self.load_matrix(i, mask, (a, b), block)?,
            Op::Mma(value) => self.mma(i, mask, value, &read, block)?,
            Op::Branch | Op::Return | Op::Barrier => {}
        }
        Ok(())
    }

    fn load(
        &mut self,
        to: usize,
        mask: u32,
        (space, bytes): (Space, usize),
        (base, offset): (&Lanes, &Lanes),
        grid: &Grid,
        block: &mut Block,
    ) -> Result<(), String> {
        let mut values = [0; LANES];
        let address = |lane: usize| base[lane].wrapping_add(offset[lane]);
        for lane in lanes(mask) {
            let at = address(lane);
            values[lane] = match space {
                Space::Param => grid.params[at as usize],
                Space::Global => grid.load(at, bytes)?,
                Space::Shared => {
                    aligned(at, bytes)?;
                    block.shared.load(at, bytes, self.thread(lane), Access::Read)?
                }
            };
        }
        block.counts.access(space, mask, bytes, address, false);
        self.write(to, mask, |lane| values[lane]);
        Ok(())
    }

    fn store(
        &mut self,
        mask: u32,
        (space, bytes): (Space, usize),
        (base, offset): (&Lanes, &Lanes),
        value: &Lanes,
        grid: &Grid,
        block: &mut Block,
    ) -> Result<(), String> {
        let address = |lane: usize| base[lane].wrapping_add(offset[lane]);
        for lane in lanes(mask) {
            let at = address(lane);
            match space {
                Space::Param => return Err("parameters cannot be written".to_owned()),
                Space::Global => grid.store(at, bytes, value[lane])?,
                Space::Shared => {
                    aligned(at, bytes)?;
                    block.shared.store(at, bytes, self.thread(lane), Access::Write, value[lane])?;
                }
            }
        }
        block.counts.access(space, mask, bytes, address, true);
        Ok(())
    }

    fn add(
        &mut self,
        mask: u32,
        (space, bytes): (Space, usize),
        (base, offset): (&Lanes, &Lanes),
        value: &Lanes,
        grid: &Grid,
        block: &mut Block,
    ) -> Result<(), String> {
        for lane in lanes(mask) {
            let at = base[lane].wrapping_add(offset[lane]);
            if space == Space::Global {
                grid.add(at, bytes, value[lane])?;
                continue;
            }
            aligned(at, bytes)?;
            let (thread, how) = (self.thread(lane), Access::Atomic);
            let sum = block.shared.load(at, bytes, thread, how)?.wrapping_add(value[lane]);
            block.shared.store(at, bytes, thread, how, sum)?;
        }
        Ok(())
    }

    fn shuffle(
        &mut self,
        i: &Instruction,
        mask: u32,
        how: Shuffle,
        (a, b, members): (&Lanes, &Lanes, &Lanes),
    ) -> Result<(), String> {
        let first = mask.trailing_zeros() as usize;
        if members[first] as u32 & self.running != mask {
            return Err("the lanes that shuffle are not those it names".to_owned());
        }
        let from = |lane: usize| match how {
            Shuffle::Xor => lane ^ b[lane] as usize & 31,
            Shuffle::Index => b[lane] as usize & 31,
        };
        if let Some(lane) = lanes(mask).find(|&lane| mask >> from(lane) & 1 == 0) {
            return Err(format!(
                "lane {lane} shuffles from lane {}, which does not take part",
                from(lane)
            ));
        }
        self.write(i.to[0], mask, |lane| a[from(lane)] & 0xffff_ffff);
        if let Some(&in_range) = i.to.get(1) {
            self.write(in_range, mask, |_| 1);
        }
        Ok(())
    }

    /// Operands: shared address and offset, global address and offset, 16, bytes to read.
    fn copy_async(&mut self, mask: u32, read: &[Lanes], block: &mut Block) -> Result<(), String> {
        for lane in lanes(mask) {
            let (to, from) = (read[0][lane] + read[1][lane], read[2][lane] + read[3][lane]);
            let bytes = read[5][lane] as usize;
            aligned(to, 16)?;
            aligned(from, 16)?;
            if bytes > 16 {
                return Err(format!("copies {bytes} bytes of 16"));
            }
            block.shared.expect(to, 16, self.thread(lane))?;
            self.copies.push(Copy { lane, to, from, bytes });
            block.counts.global_read += bytes as u64;
        }
        Ok(())
    }

    fn wait(&mut self, left: usize, grid: &Grid, block: &mut Block) -> Result<(), String> {
        while self.groups.len() > left {
            for Copy { lane, to, from, bytes } in self.groups.pop_front().unwrap_or_default() {
                for at in 0..16 {
                    let value = if at < bytes { grid.load(from + at as u64, 1)? } else { 0 };
                    block.shared.store(
                        to + at as u64,
                        1,
                        self.thread(lane),
                        Access::Write,
                        value,
                    )?;
                }
            }
        }
        Ok(())
    }

    /// The rows of matrix m are at the addresses in lanes 8 m to 8 m + 7; lane l receives two
    /// values of row l / 4 of each matrix.
    fn load_matrix(
        &mut self,
        i: &Instruction,
        mask: u32,
        (base, offset): (&Lanes, &Lanes),
        block: &mut Block,
    ) -> Result<(), String> {
        whole(mask)?;
        for (matrix, &to) in i.to.iter().enumerate() {
            let row_at = |row: usize| base[matrix * 8 + row] + offset[matrix * 8 + row];
            let mut values = [0; LANES];
            for (lane, value) in values.iter_mut().enumerate() {
                let row = row_at(lane / 4);
                aligned(row, 16)?;
                let at = row + (lane % 4) as u64 * 4;
                *value = block.shared.load(at, 4, self.thread(lane), Access::Read)?;
            }
            block.counts.access(
                Space::Shared,
                mask,
                4,
                |l| row_at(l / 4) + (l % 4) as u64 * 4,
                false,
            );
            self.write(to, mask, |lane| values[lane]);
        }
        Ok(())
    }

    /// D[16, 8] = A[16, 16] B[16, 8] + C, with exact products and a sum rounded once.
    fn mma(
        &mut self,
        i: &Instruction,
        mask: u32,
        value: fn(u16) -> f32,
        read: &[Lanes],
        block: &mut Block,
    ) -> Result<(), String> {
        whole(mask)?;
        block.counts.mma += 1;
        let half = |bits: u64, odd: usize| f64::from(value((bits >> (16 * odd)) as u16));
        // Register r of A holds rows l / 4 + 8 (r mod 2), columns 2 (l mod 4) + 8 (r / 2).
        let a: [[f64; 16]; 16] = std::array::from_fn(|row| {
            std::array::from_fn(|k| half(read[row / 8 + k / 8 * 2][row % 8 * 4 + k % 8 / 2], k % 2))
        });
        let b: [[f64; 16]; 8] = std::array::from_fn(|col| {
            std::array::from_fn(|k| half(read[4 + k / 8][col * 4 + k % 8 / 2], k % 2))
        });
        for (v, &to) in i.to.iter().enumerate() {
            let mut sums = [0; LANES];
            for (lane, sum) in sums.iter_mut().enumerate() {
                let (row, col) = (lane / 4 + v / 2 * 8, lane % 4 * 2 + v % 2);
                let c = f64::from(f32::from_bits(read[6 + v][lane] as u32));
                let products = a[row].iter().zip(&b[col]).map(|(a, b)| a * b).sum::<f64>();
                *sum = ((c + products) as f32).to_bits().into();
            }
            self.write(to, mask, |lane| sums[lane]);
        }
        Ok(())
    }

    fn thread(&self, lane: usize) -> u16 {
        (self.first_thread + lane) as u16
    }
}

fn aligned(at: u64, bytes: usize) -> Result<(), String> {
    match at.is_multiple_of(bytes as u64) {
        true => Ok(()),
        false => Err(format!("address {at:#x} is not a multiple of {bytes}")),
    }
}

fn whole(mask: u32) -> Result<(), String> {
    match mask {
        u32::MAX => Ok(()),
        _ => Err("not every lane of the warp takes part".to_owned()),
    }
}
