//! A warp of 32 lanes. The lanes that are furthest behind execute together, so that diverged lanes
//! meet again.

use super::copies::Copies;
use super::launch::{Block, Grid};
use super::ops::{LANES, Lanes, Op, Shuffle, lanes};
use super::parse::{From, Instruction, Program, Register};
use super::wide::{Both, widened};

/// Lanes that are at the same instruction.
#[derive(Debug, Clone, Copy)]
struct Path {
    pc: u32,
    lanes: u32,
}

#[derive(Debug)]
pub struct Warp {
    first_thread: u32,
    /// Lanes that have not returned, those that are furthest behind first.
    paths: Vec<Path>,
    /// Whether all of them wait at a barrier.
    waiting: bool,
    /// Values of slots, and of special registers.
    values: Vec<Lanes>,
    special: [Lanes; 9],
    /// Lanes that have written each register.
    written: Vec<u32>,
    pub copies: Copies,
}

impl Warp {
    pub fn new(first_thread: u32, program: &Program, block: &Block) -> Self {
        let mut special = [[0; LANES]; 9];
        special[0] = std::array::from_fn(|lane| u64::from(first_thread) + lane as u64);
        for axis in 0..3 {
            special[3 + axis] = [block.index[axis] as u64; LANES];
            special[6 + axis] = [block.blocks[axis] as u64; LANES];
        }
        Self {
            first_thread,
            paths: vec![Path { pc: 0, lanes: u32::MAX }],
            waiting: false,
            values: vec![[0; LANES]; program.slots],
            special,
            written: vec![0; program.registers],
            copies: Copies::default(),
        }
    }

    /// Returns the barrier that the warp waits at.
    pub fn barrier(&self) -> Option<u32> {
        self.paths.first().filter(|_| self.waiting).map(|path| path.pc)
    }

    /// Continues after a barrier.
    pub fn release(&mut self) {
        self.paths.iter_mut().for_each(|path| path.pc += 1);
        self.waiting = false;
    }

    /// Returns the lanes that have not returned.
    fn running(&self) -> u32 {
        self.paths.iter().fold(0, |mask, path| mask | path.lanes)
    }

    /// Runs until every lane has returned or waits at a barrier.
    pub fn run(&mut self, grid: &Grid, block: &mut Block) -> Result<(), String> {
        let mut result = [0; LANES];
        while !self.waiting && !self.paths.is_empty() {
            if let Err(e) = self.run_straight(grid, block, &mut result) {
                let Path { pc, lanes } = self.paths[0];
                let Some(instruction) = grid.program.code.get(pc as usize) else { return Err(e) };
                let thread = self.first_thread + lanes.trailing_zeros();
                return Err(format!(
                    "{} line {}, block {:?}, thread {thread}: {e}: {}",
                    grid.program.name, instruction.line, block.index, instruction.text
                ));
            }
        }
        Ok(())
    }

    /// Runs the lanes furthest behind up to a branch, a return or a barrier, or to where others are.
    fn run_straight(
        &mut self,
        grid: &Grid,
        block: &mut Block,
        result: &mut Lanes,
    ) -> Result<(), String> {
        let Path { pc, lanes: active } = self.paths[0];
        let code = &grid.program.code;
        let end = self.paths.get(1).map_or(code.len(), |next| next.pc as usize);
        for (pc, i) in code.iter().enumerate().take(end).skip(pc as usize) {
            self.paths[0].pc = pc as u32;
            block.counts.instructions += 1;
            let mask = self.taking_part(i, active)?;
            if matches!(i.op, Op::Branch | Op::Return | Op::Barrier) {
                return self.branch(i, active, mask);
            }
            if mask != 0 {
                i.checked.iter().try_for_each(|register| self.check_written(*register, mask))?;
                self.execute(i, mask, (grid, block), result)?;
            }
        }
        self.paths[0].pc = end as u32;
        let Some(next) = self.paths.get_mut(1) else {
            return Err("runs beyond the end of the kernel".to_owned());
        };
        next.lanes |= active;
        self.paths.remove(0);
        Ok(())
    }

    /// Returns those of some lanes in which the guard of an instruction holds.
    #[inline]
    fn taking_part(&self, i: &Instruction, active: u32) -> Result<u32, String> {
        let Some((predicate, negated)) = i.guard else { return Ok(active) };
        let mut holds = 0;
        self.check_written(predicate, active)?;
        lowest_bits(&self.values[predicate.slot], &mut holds);
        Ok(active & if negated { !holds } else { holds })
    }

    fn branch(&mut self, i: &Instruction, active: u32, mask: u32) -> Result<(), String> {
        match (i.op, i.from.first()) {
            (Op::Branch, Some(From::Value(target))) => {
                self.go_on(active & !mask, mask, target[0] as u32);
            }
            (Op::Branch, _) => return Err("no label".to_owned()),
            (Op::Barrier, _) if mask == self.running() => self.waiting = true,
            (Op::Barrier, _) => {
                return Err("not every lane of the warp comes to this barrier".to_owned());
            }
            _ => self.go_on(active & !mask, 0, 0),
        }
        Ok(())
    }

    /// Of the lanes furthest behind, some go on to the next instruction and some to a target; others
    /// have returned.
    fn go_on(&mut self, next: u32, jump: u32, target: u32) {
        let pc = self.paths[0].pc + 1;
        if self.paths.len() == 1 && (next == 0) != (jump == 0) {
            self.paths[0] = Path { pc: if jump == 0 { pc } else { target }, lanes: next | jump };
            return;
        }
        self.paths.remove(0);
        for path in [Path { pc, lanes: next }, Path { pc: target, lanes: jump }] {
            if path.lanes == 0 {
                continue;
            }
            match self.paths.binary_search_by_key(&path.pc, |path| path.pc) {
                Ok(at) => self.paths[at].lanes |= path.lanes,
                Err(at) => self.paths.insert(at, path),
            }
        }
    }

    /// Checks that some lanes have written a register that they read.
    #[inline]
    fn check_written(&self, register: Register, mask: u32) -> Result<(), String> {
        match !register.recorded || self.written[register.name] & mask == mask {
            true => Ok(()),
            false => Err(format!("register {} is read before it is written", register.name)),
        }
    }

    #[inline(always)]
    fn read<'a>(&'a self, from: &'a From) -> &'a Lanes {
        match from {
            From::Value(value) => value,
            From::Register(register) => &self.values[register.slot],
            From::Special(register) => &self.special[*register],
        }
    }

    /// Returns the first operands of an instruction, which were checked.
    ///
    /// # Panics
    /// Panics if the instruction has fewer.
    #[inline(always)]
    pub fn operands<'a, const N: usize>(&'a self, i: &'a Instruction) -> [&'a Lanes; N] {
        let mut operands = [&self.special[0]; N];
        for (operand, from) in Both(operands.iter_mut(), i.from[..N].iter()) {
            *operand = self.read(from);
        }
        operands
    }

    #[inline(always)]
    pub fn write(&mut self, register: Register, mask: u32, values: &Lanes) {
        let slot = &mut self.values[register.slot];
        match mask {
            u32::MAX => *slot = *values,
            _ => copy_lanes(mask, values, slot),
        }
        if register.recorded {
            self.written[register.name] |= mask;
        }
    }

    /// Executes an instruction that is no branch. `out` is where it may put what it computes, which is
    /// not cleared for each instruction because that takes as long as most of them.
    #[inline(always)]
    fn execute(
        &mut self,
        i: &Instruction,
        mask: u32,
        (grid, block): (&Grid, &mut Block),
        out: &mut Lanes,
    ) -> Result<(), String> {
        match i.op {
            Op::One(f) => {
                let [a] = self.operands(i);
                f(a, out);
            }
            Op::Two(f) => {
                let [a, b] = self.operands(i);
                f(a, b, out);
            }
            Op::Three(f) => {
                let [a, b, c] = self.operands(i);
                f(a, b, c, out);
            }
            Op::Four(f) => {
                let [a, b, c, d] = self.operands(i);
                f(a, b, c, d, out);
            }
            Op::Divide(f) => self.divide(i, mask, f, out)?,
            Op::Pack => return self.pack(i, mask),
            Op::Load { space, bytes } => self.load(i, mask, (space, bytes), (grid, block), out)?,
            Op::Store { space, bytes } => {
                return self.store(i, mask, (space, bytes), grid, block);
            }
            Op::Add { space, bytes } => return self.add(i, mask, (space, bytes), grid, block),
            Op::Shuffle(how) => return self.shuffle(i, mask, how),
            Op::CopyAsync => return self.copy_async(i, mask, block),
            Op::Commit => {
                self.copies.commit();
                return Ok(());
            }
            Op::Wait => {
                let [left] = self.operands(i);
                return self.wait(left[0] as usize, grid, block);
            }
            Op::LoadMatrix => return self.load_matrix(i, mask, block),
            Op::Mma(number) => return self.mma(i, mask, number, block),
            Op::Branch | Op::Return | Op::Barrier => return Ok(()),
        }
        self.write(i.to[0], mask, out);
        Ok(())
    }

    fn divide(
        &self,
        i: &Instruction,
        mask: u32,
        f: fn(i32, i32) -> i32,
        values: &mut Lanes,
    ) -> Result<(), String> {
        let [a, b] = self.operands(i);
        for lane in lanes(mask) {
            if b[lane] as i32 == 0 {
                return Err("divides by zero".to_owned());
            }
            values[lane] = u64::from(f(a[lane] as i32, b[lane] as i32) as u32);
        }
        Ok(())
    }

    fn pack(&mut self, i: &Instruction, mask: u32) -> Result<(), String> {
        match (i.to.len(), i.from.len()) {
            (2, 1) => {
                let [a] = self.operands(i);
                let (mut low, mut high) = (*a, *a);
                low.iter_mut().for_each(|a| *a &= 0xffff_ffff);
                high.iter_mut().for_each(|a| *a >>= 32);
                self.write(i.to[0], mask, &low);
                self.write(i.to[1], mask, &high);
            }
            (1, 2) => {
                let [a, b] = self.operands(i);
                let mut joined = *a;
                for (a, b) in Both(joined.iter_mut(), b.iter()) {
                    *a = *a & 0xffff_ffff | b << 32;
                }
                self.write(i.to[0], mask, &joined);
            }
            _ => {
                let [a] = self.operands(i);
                let a = *a;
                self.write(i.to[0], mask, &a);
            }
        }
        Ok(())
    }

    fn shuffle(&mut self, i: &Instruction, mask: u32, how: Shuffle) -> Result<(), String> {
        let [a, b, _, members] = self.operands(i);
        let first = mask.trailing_zeros() as usize;
        if members[first] as u32 & self.running() != mask {
            return Err("the lanes that shuffle are not those it names".to_owned());
        }
        let from = |lane: usize| match how {
            Shuffle::Xor => lane ^ b[lane] as usize & 31,
            Shuffle::Index => b[lane] as usize & 31,
        };
        let mut values = [0; LANES];
        for lane in lanes(mask) {
            let from = from(lane);
            if mask >> from & 1 == 0 {
                return Err(format!(
                    "lane {lane} shuffles from lane {from}, which does not take part"
                ));
            }
            values[lane] = a[from] & 0xffff_ffff;
        }
        self.write(i.to[0], mask, &values);
        if let Some(&in_range) = i.to.get(1) {
            self.write(in_range, mask, &[1; LANES]);
        }
        Ok(())
    }

    pub fn thread(&self, lane: usize) -> u32 {
        self.first_thread + lane as u32
    }
}

widened! {
    fn copy_lanes(mask: u32, from: &Lanes, to: &mut Lanes) {
        for lane in 0..LANES {
            // All bits are set where the lane takes part.
            let part = u64::from(mask >> lane & 1).wrapping_neg();
            to[lane] = from[lane] & part | to[lane] & !part;
        }
    }
}

widened! {
    /// Gives the lowest bit of each lane.
    fn lowest_bits(lanes: &Lanes, mask: &mut u32) {
        *mask = (0..LANES).fold(0, |mask, lane| mask | ((lanes[lane] & 1) as u32) << lane);
    }
}
