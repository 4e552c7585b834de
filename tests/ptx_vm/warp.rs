//! A warp of 32 lanes. The lanes that are furthest behind execute together, so that diverged lanes
//! meet again.

use super::copies::Copies;
use super::launch::{Block, Grid, aligned};
use super::memory::Access;
use super::ops::{LANES, Lanes, Op, Shuffle, Space, lanes};
use super::parse::{From, Instruction, Program, Register};

/// Lanes that are at the same instruction.
#[derive(Debug, Clone, Copy)]
struct Path {
    pc: u32,
    lanes: u32,
}

#[derive(Debug)]
pub struct Warp {
    first_thread: usize,
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
    pub fn new(first_thread: usize, program: &Program, block: &Block) -> Self {
        let mut special = [[0; LANES]; 9];
        special[0] = std::array::from_fn(|lane| (first_thread + lane) as u64);
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
        while !self.waiting && !self.paths.is_empty() {
            let Path { pc, lanes } = self.paths[0];
            let Some(instruction) = grid.program.code.get(pc as usize) else {
                return Err("runs beyond the end of the kernel".to_owned());
            };
            self.step(instruction, lanes, grid, block).map_err(|e| {
                let thread = self.first_thread + lanes.trailing_zeros() as usize;
                format!(
                    "{} line {}, block {:?}, thread {thread}: {e}: {}",
                    grid.program.name, instruction.line, block.index, instruction.text
                )
            })?;
        }
        Ok(())
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
                let p = self.value(predicate, active)?;
                let holds = p.iter().rev().fold(0, |mask, p| mask << 1 | (p & 1) as u32);
                active & if negated { !holds } else { holds }
            }
        };
        match i.op {
            Op::Branch => {
                let From::Value(target) = &i.from[0] else { return Err("no label".to_owned()) };
                self.go_on(active & !mask, mask, target[0] as u32);
            }
            Op::Return => self.go_on(active & !mask, 0, 0),
            Op::Barrier if mask == self.running() => self.waiting = true,
            Op::Barrier => {
                return Err("not every lane of the warp comes to this barrier".to_owned());
            }
            _ => {
                if mask != 0 {
                    self.execute(i, mask, grid, block)?;
                }
                self.go_on(active, 0, 0);
            }
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

    #[inline]
    fn value(&self, register: Register, mask: u32) -> Result<&Lanes, String> {
        match self.written[register.name] & mask == mask {
            true => Ok(&self.values[register.slot]),
            false => Err(format!("register {} is read before it is written", register.name)),
        }
    }

    #[inline]
    fn read<'a>(&'a self, from: &'a From, mask: u32) -> Result<&'a Lanes, String> {
        match from {
            From::Value(value) => Ok(value),
            From::Register(register) => self.value(*register, mask),
            From::Special(register) => Ok(&self.special[*register]),
        }
    }

    /// Reads the first operands of an instruction.
    #[inline]
    pub fn operands<'a, const N: usize>(
        &'a self,
        i: &'a Instruction,
        mask: u32,
    ) -> Result<[&'a Lanes; N], String> {
        let mut read = [&self.special[0]; N];
        for (value, from) in read.iter_mut().zip(&i.from) {
            *value = self.read(from, mask)?;
        }
        Ok(read)
    }

    #[inline]
    pub fn write(&mut self, register: Register, mask: u32, values: &Lanes) {
        let slot = &mut self.values[register.slot];
        if mask == u32::MAX {
            *slot = *values;
        } else {
            lanes(mask).for_each(|lane| slot[lane] = values[lane]);
        }
        self.written[register.name] |= mask;
    }

    fn execute(
        &mut self,
        i: &Instruction,
        mask: u32,
        grid: &Grid,
        block: &mut Block,
    ) -> Result<(), String> {
        // Computed in place: a copy of all lanes takes as long as most instructions.
        let mut values = [0; LANES];
        let out = &mut values;
        match i.op {
            Op::One(f) => {
                let [a] = self.operands(i, mask)?;
                f(a, out);
            }
            Op::Two(f) => {
                let [a, b] = self.operands(i, mask)?;
                f(a, b, out);
            }
            Op::Three(f) => {
                let [a, b, c] = self.operands(i, mask)?;
                f(a, b, c, out);
            }
            Op::Four(f) => {
                let [a, b, c, d] = self.operands(i, mask)?;
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
                let [left] = self.operands(i, mask)?;
                return self.wait(left[0] as usize, grid, block);
            }
            Op::LoadMatrix => return self.load_matrix(i, mask, block),
            Op::Mma(number) => return self.mma(i, mask, number, block),
            Op::Branch | Op::Return | Op::Barrier => return Ok(()),
        }
        self.write(i.to[0], mask, &values);
        Ok(())
    }

    fn divide(
        &self,
        i: &Instruction,
        mask: u32,
        f: fn(i32, i32) -> i32,
        values: &mut Lanes,
    ) -> Result<(), String> {
        let [a, b] = self.operands(i, mask)?;
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
                let [a] = self.operands(i, mask)?;
                let (low, high) = (a.map(|a| a & 0xffff_ffff), a.map(|a| a >> 32));
                self.write(i.to[0], mask, &low);
                self.write(i.to[1], mask, &high);
            }
            (1, 2) => {
                let [a, b] = self.operands(i, mask)?;
                let both = std::array::from_fn(|l| a[l] & 0xffff_ffff | b[l] << 32);
                self.write(i.to[0], mask, &both);
            }
            _ => {
                let [a] = self.operands(i, mask)?;
                let a = *a;
                self.write(i.to[0], mask, &a);
            }
        }
        Ok(())
    }

    /// Returns the addresses that the first two operands make, a base and an offset.
    fn addresses(&self, i: &Instruction, mask: u32) -> Result<Lanes, String> {
        let [base, offset] = self.operands(i, mask)?;
        Ok(std::array::from_fn(|lane| base[lane].wrapping_add(offset[lane])))
    }

    fn load(
        &self,
        i: &Instruction,
        mask: u32,
        (space, bytes): (Space, usize),
        (grid, block): (&Grid, &mut Block),
        values: &mut Lanes,
    ) -> Result<(), String> {
        let at = self.addresses(i, mask)?;
        match space {
            Space::Param => lanes(mask).for_each(|l| values[l] = grid.params[at[l] as usize]),
            Space::Global => grid.load_lanes(mask, &at, bytes, values)?,
            Space::Shared => {
                for lane in lanes(mask) {
                    aligned(at[lane], bytes)?;
                    let thread = self.thread(lane);
                    values[lane] = block.shared.load(at[lane], bytes, thread, Access::Read)?;
                }
            }
        }
        block.counts.access(space, mask, bytes, &at, false);
        Ok(())
    }

    fn store(
        &self,
        i: &Instruction,
        mask: u32,
        (space, bytes): (Space, usize),
        grid: &Grid,
        block: &mut Block,
    ) -> Result<(), String> {
        let at = self.addresses(i, mask)?;
        let [_, _, value] = self.operands(i, mask)?;
        for lane in lanes(mask) {
            let (at, value) = (at[lane], value[lane]);
            match space {
                Space::Param => return Err("parameters cannot be written".to_owned()),
                Space::Global => grid.store(at, bytes, value)?,
                Space::Shared => {
                    aligned(at, bytes)?;
                    block.shared.store(at, bytes, self.thread(lane), Access::Write, value)?;
                }
            }
        }
        block.counts.access(space, mask, bytes, &at, true);
        Ok(())
    }

    fn add(
        &self,
        i: &Instruction,
        mask: u32,
        (space, bytes): (Space, usize),
        grid: &Grid,
        block: &mut Block,
    ) -> Result<(), String> {
        let at = self.addresses(i, mask)?;
        let [_, _, value] = self.operands(i, mask)?;
        for lane in lanes(mask) {
            let (at, value) = (at[lane], value[lane]);
            if space == Space::Global {
                grid.add(at, bytes, value)?;
                continue;
            }
            aligned(at, bytes)?;
            let (thread, how) = (self.thread(lane), Access::Atomic);
            let sum = block.shared.load(at, bytes, thread, how)?.wrapping_add(value);
            block.shared.store(at, bytes, thread, how, sum)?;
        }
        Ok(())
    }

    fn shuffle(&mut self, i: &Instruction, mask: u32, how: Shuffle) -> Result<(), String> {
        let [a, b, _, members] = self.operands(i, mask)?;
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

    pub fn thread(&self, lane: usize) -> u16 {
        (self.first_thread + lane) as u16
    }
}
