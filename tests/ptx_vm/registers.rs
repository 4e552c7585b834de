//! Assigns the registers of a kernel, of which the compiler uses each once, to slots that are used
//! again and again: thousands of registers would not fit in a processor's cache.

use super::ops::Op;
use super::parse::{From, Instruction, Register};

/// Registers as bits.
type Set = Vec<u64>;

/// Assigns slots to all registers of a kernel, so that no two share one while both are live in any
/// lane. Returns the number of slots.
pub fn assign(code: &mut [Instruction], registers: usize) -> usize {
    let live = live(code, registers);
    let mut last = vec![0; registers];
    for (pc, live) in live.iter().enumerate() {
        members(live).for_each(|register| last[register] = pc);
        written(&code[pc]).for_each(|register| last[register] = pc);
    }
    let (mut slots, mut free, mut count) = (vec![None; registers], Vec::new(), 0);
    let mut ends: Vec<Vec<usize>> = vec![Vec::new(); code.len()];
    for (pc, live) in live.iter().enumerate() {
        for register in members(live).chain(written(&code[pc])) {
            if slots[register].is_none() {
                let slot = free.pop().unwrap_or(count);
                count = count.max(slot + 1);
                slots[register] = Some(slot);
                ends[last[register]].push(slot);
            }
        }
        free.append(&mut ends[pc]);
    }
    let set = |register: &mut Register| register.slot = slots[register.name].unwrap_or(0);
    code.iter_mut().for_each(|instruction| instruction.registers().for_each(set));
    count
}

/// Finds the registers that each path to a read has written, whose lanes need not be recorded.
pub fn prove_written(code: &mut [Instruction], registers: usize) {
    let before = written_before(code, registers);
    let mut recorded = vec![false; registers];
    for (instruction, before) in code.iter().zip(&before) {
        let unproven = read(instruction).filter(|r| before[r / 64] >> (r % 64) & 1 == 0);
        unproven.for_each(|register| recorded[register] = true);
    }
    for instruction in code {
        instruction.registers().for_each(|register| register.recorded = recorded[register.name]);
        let read = instruction.from.iter().filter_map(From::register);
        instruction.checked = read.filter(|register| register.recorded).collect();
    }
}

/// Returns, for each instruction, the registers that every path to it writes.
fn written_before(code: &[Instruction], registers: usize) -> Vec<Set> {
    let words = registers.div_ceil(64);
    let mut before = vec![vec![u64::MAX; words]; code.len()];
    before.iter_mut().take(1).for_each(|first| first.fill(0));
    let mut changed = true;
    while changed {
        changed = false;
        for (pc, instruction) in code.iter().enumerate() {
            let mut after = before[pc].clone();
            // A guarded instruction may write nothing.
            if instruction.guard.is_none() {
                written(instruction).for_each(|r| after[r / 64] |= 1 << (r % 64));
            }
            for next in followers(instruction, pc).filter(|next| *next < code.len()) {
                for (known, after) in before[next].iter_mut().zip(&after) {
                    changed |= *known & !after != 0;
                    *known &= after;
                }
            }
        }
    }
    before
}

fn read(instruction: &Instruction) -> impl Iterator<Item = usize> {
    let guard = instruction.guard.iter().map(|(register, _)| register.name);
    guard.chain(instruction.from.iter().filter_map(From::register).map(|register| register.name))
}

fn written(instruction: &Instruction) -> impl Iterator<Item = usize> {
    instruction.to.iter().map(|register| register.name)
}

fn members(set: &Set) -> impl Iterator<Item = usize> {
    let words = set.iter().enumerate().filter(|(_, word)| **word != 0);
    words.flat_map(|(i, word)| {
        (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |b| i * 64 + b)
    })
}

/// Returns, for each instruction, the registers whose value may be read by it or after it.
fn live(code: &[Instruction], registers: usize) -> Vec<Set> {
    let mut live = vec![vec![0; registers.div_ceil(64)]; code.len()];
    let mut changed = true;
    while changed {
        changed = false;
        for (pc, instruction) in code.iter().enumerate().rev() {
            let mut set = vec![0; registers.div_ceil(64)];
            for next in followers(instruction, pc).filter(|next| *next < code.len()) {
                set.iter_mut().zip(&live[next]).for_each(|(to, from)| *to |= from);
            }
            // A guarded instruction may leave the earlier value.
            if instruction.guard.is_none() {
                written(instruction).for_each(|r| set[r / 64] &= !(1 << (r % 64)));
            }
            read(instruction).for_each(|r| set[r / 64] |= 1 << (r % 64));
            changed |= set != live[pc];
            live[pc] = set;
        }
    }
    live
}

/// Returns the instructions that may come after one.
fn followers(instruction: &Instruction, pc: usize) -> impl Iterator<Item = usize> {
    let target = match (instruction.op, instruction.from.first()) {
        (Op::Branch, Some(From::Value(target))) => Some(target[0] as usize),
        _ => None,
    };
    let ends = matches!(instruction.op, Op::Branch | Op::Return) && instruction.guard.is_none();
    target.into_iter().chain((!ends).then_some(pc + 1))
}
