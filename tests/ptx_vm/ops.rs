//! What each instruction computes in one lane, or how it is handled otherwise.

use half::{bf16, f16};

/// An instruction without its operands.
#[derive(Debug, Clone, Copy)]
pub enum Op {
    One(fn(u64) -> u64),
    Two(fn(u64, u64) -> u64),
    Three(fn(u64, u64, u64) -> u64),
    Four(fn(u64, u64, u64, u64) -> u64),
    /// Packs two 32-bit registers into one of 64 bits, or unpacks them.
    Pack,
    Load {
        space: Space,
        bytes: usize,
    },
    Store {
        space: Space,
        bytes: usize,
    },
    /// Atomic addition that returns nothing.
    Add {
        space: Space,
        bytes: usize,
    },
    Branch,
    Return,
    Barrier,
    Shuffle(Shuffle),
    CopyAsync,
    Commit,
    Wait,
    /// Loads four 8 × 8 matrices.
    LoadMatrix,
    Mma(fn(u16) -> f32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    Global,
    Shared,
    Param,
}

#[derive(Debug, Clone, Copy)]
pub enum Shuffle {
    Xor,
    Index,
}

impl Op {
    /// Returns how many of the first operands are written.
    pub fn writes(&self) -> usize {
        match self {
            Self::Store { .. } | Self::Add { .. } | Self::Branch | Self::Return => 0,
            Self::Barrier | Self::CopyAsync | Self::Commit | Self::Wait => 0,
            _ => 1,
        }
    }
}

fn f(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}
fn d(bits: u64) -> f64 {
    f64::from_bits(bits)
}
fn fb(x: f32) -> u64 {
    x.to_bits().into()
}
/// Returns a signed 32-bit result as stored in a register.
fn w(x: i32) -> u64 {
    u64::from(x as u32)
}
fn s(bits: u64) -> i32 {
    bits as u32 as i32
}
fn u(bits: u64) -> u64 {
    u64::from(bits as u32)
}

/// Returns 2^x with the relative error that the PTX manual allows, 2^-22, up or down depending on
/// the last bit of x. Results below the smallest normal number are flushed to zero.
fn ex2_approx(bits: u64) -> u64 {
    let x = f(bits);
    let off = if bits & 1 == 0 { 1.0 } else { -1.0 };
    let y = (f64::from(x).exp2() * (1.0 + off * 2f64.powi(-22))) as f32;
    fb(if y < f32::MIN_POSITIVE { 0.0 } else { y })
}

fn bfi(a: u64, b: u64, at: u64, len: u64) -> u64 {
    let (at, len) = (at & 0xff, len & 0xff);
    let mask = u(((1_u64 << len.min(32)) - 1) << at.min(32));
    u((b & !mask) | ((a << at.min(32)) & mask))
}

fn rzi(x: f32) -> u64 {
    w(x as i32)
}

pub fn f16_value(bits: u16) -> f32 {
    f16::from_bits(bits).to_f32()
}

pub fn bf16_value(bits: u16) -> f32 {
    bf16::from_bits(bits).to_f32()
}

/// Returns the operation of an opcode, or `None` if it is unknown.
pub fn op(opcode: &str) -> Option<Op> {
    memory(opcode)
        .or_else(|| control(opcode))
        .or_else(|| compare(opcode))
        .or_else(|| arithmetic(opcode))
}

fn memory(opcode: &str) -> Option<Op> {
    use Space::{Global, Param, Shared};
    let load = |space, bytes| Op::Load { space, bytes };
    Some(match opcode {
        "ld.param.u64" => load(Param, 8),
        "ld.param.u32" | "ld.param.f32" => load(Param, 4),
        "ld.global.u64" | "ld.global.f64" => load(Global, 8),
        "ld.global.u32" | "ld.global.s32" | "ld.global.f32" | "ld.global.nc.f32" => load(Global, 4),
        "ld.global.u16" => load(Global, 2),
        "ld.shared.u32" | "ld.shared.f32" => load(Shared, 4),
        "ld.shared.u16" => load(Shared, 2),
        "st.global.f64" => Op::Store { space: Global, bytes: 8 },
        "st.global.u32" | "st.global.f32" => Op::Store { space: Global, bytes: 4 },
        "st.global.u16" => Op::Store { space: Global, bytes: 2 },
        "st.shared.u32" | "st.shared.f32" => Op::Store { space: Shared, bytes: 4 },
        "st.shared.u16" => Op::Store { space: Shared, bytes: 2 },
        "red.shared.add.u32" => Op::Add { space: Shared, bytes: 4 },
        "red.global.add.u32" => Op::Add { space: Global, bytes: 4 },
        "red.global.add.u64" => Op::Add { space: Global, bytes: 8 },
        "cp.async.cg.shared.global" => Op::CopyAsync,
        "cp.async.commit_group" => Op::Commit,
        "cp.async.wait_group" => Op::Wait,
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16" => Op::LoadMatrix,
        _ => return None,
    })
}

fn control(opcode: &str) -> Option<Op> {
    Some(match opcode {
        "bra" | "bra.uni" => Op::Branch,
        "ret" => Op::Return,
        "bar.sync" => Op::Barrier,
        "shfl.sync.bfly.b32" => Op::Shuffle(Shuffle::Xor),
        "shfl.sync.idx.b32" => Op::Shuffle(Shuffle::Index),
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32" => Op::Mma(f16_value),
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" => Op::Mma(bf16_value),
        _ => return None,
    })
}

fn compare(opcode: &str) -> Option<Op> {
    let rest = opcode.strip_prefix("setp.")?;
    Some(Op::Two(match rest {
        "eq.f32" => |a, b| (f(a) == f(b)).into(),
        "neu.f32" => |a, b| (f(a) != f(b)).into(),
        "lt.f32" => |a, b| (f(a) < f(b)).into(),
        "gt.f32" => |a, b| (f(a) > f(b)).into(),
        "ge.f32" => |a, b| (f(a) >= f(b)).into(),
        "le.f32" => |a, b| (f(a) <= f(b)).into(),
        // Unordered comparisons are true if either operand is NaN.
        "leu.f32" => |a, b| u64::from(f(a) <= f(b) || f(a).is_nan() || f(b).is_nan()),
        "ltu.f32" => |a, b| u64::from(f(a) < f(b) || f(a).is_nan() || f(b).is_nan()),
        "geu.f32" => |a, b| u64::from(f(a) >= f(b) || f(a).is_nan() || f(b).is_nan()),
        "gtu.f32" => |a, b| u64::from(f(a) > f(b) || f(a).is_nan() || f(b).is_nan()),
        "num.f32" => |a, b| (!f(a).is_nan() && !f(b).is_nan()).into(),
        "nan.f32" => |a, b| (f(a).is_nan() || f(b).is_nan()).into(),
        "eq.s32" => |a, b| (s(a) == s(b)).into(),
        "ne.s32" => |a, b| (s(a) != s(b)).into(),
        "lt.s32" => |a, b| (s(a) < s(b)).into(),
        "le.s32" => |a, b| (s(a) <= s(b)).into(),
        "gt.s32" => |a, b| (s(a) > s(b)).into(),
        "ge.s32" => |a, b| (s(a) >= s(b)).into(),
        "lt.u32" => |a, b| (u(a) < u(b)).into(),
        "gt.u32" => |a, b| (u(a) > u(b)).into(),
        "ge.u32" => |a, b| (u(a) >= u(b)).into(),
        "eq.s64" => |a, b| (a == b).into(),
        "ne.s64" => |a, b| (a != b).into(),
        _ => return None,
    }))
}

fn arithmetic(opcode: &str) -> Option<Op> {
    integer(opcode).or_else(|| float(opcode)).or_else(|| conversion(opcode))
}

fn integer(opcode: &str) -> Option<Op> {
    Some(match opcode {
        "mov.u32" | "mov.b32" | "mov.f32" | "mov.u64" | "mov.f64" | "mov.u16" | "mov.pred" => {
            Op::One(|a| a)
        }
        "mov.b64" => Op::Pack,
        "cvta.to.global.u64" | "cvta.to.shared.u64" => Op::One(|a| a),
        "add.s32" => Op::Two(|a, b| w(s(a).wrapping_add(s(b)))),
        "sub.s32" => Op::Two(|a, b| w(s(a).wrapping_sub(s(b)))),
        "mul.lo.s32" => Op::Two(|a, b| w(s(a).wrapping_mul(s(b)))),
        "mad.lo.s32" => Op::Three(|a, b, c| w(s(a).wrapping_mul(s(b)).wrapping_add(s(c)))),
        "div.s32" => Op::Two(|a, b| w(s(a).wrapping_div(s(b)))),
        "rem.s32" => Op::Two(|a, b| w(s(a).wrapping_rem(s(b)))),
        "min.s32" => Op::Two(|a, b| w(s(a).min(s(b)))),
        "max.s32" => Op::Two(|a, b| w(s(a).max(s(b)))),
        "max.u32" => Op::Two(|a, b| u(a).max(u(b))),
        "min.u32" => Op::Two(|a, b| u(a).min(u(b))),
        "sub.s16" => Op::Two(|a, b| u64::from((a as u16).wrapping_sub(b as u16))),
        "mul.lo.s16" => Op::Two(|a, b| u64::from((a as u16).wrapping_mul(b as u16))),
        "and.b16" => Op::Two(|a, b| (a & b) & 0xffff),
        "mul.wide.u16" => Op::Two(|a, b| u64::from(a as u16) * u64::from(b as u16)),
        "mul.wide.s32" => Op::Two(|a, b| (i64::from(s(a)) * i64::from(s(b))) as u64),
        "mul.wide.u32" => Op::Two(|a, b| u(a).wrapping_mul(u(b))),
        "mul.lo.s64" => Op::Two(u64::wrapping_mul),
        "add.s64" => Op::Two(u64::wrapping_add),
        "sub.s64" => Op::Two(u64::wrapping_sub),
        "and.b32" | "and.b64" | "and.pred" => Op::Two(|a, b| a & b),
        "or.b32" | "or.b64" | "or.pred" => Op::Two(|a, b| a | b),
        "xor.b32" => Op::Two(|a, b| u(a ^ b)),
        "not.b32" => Op::One(|a| u(!a)),
        "not.b64" => Op::One(|a| !a),
        "not.pred" => Op::One(|a| a ^ 1),
        // Shifts beyond the width behave as in an infinitely wide register.
        "shl.b32" => Op::Two(|a, b| u(u(a) << u(b).min(32))),
        "shr.u32" => Op::Two(|a, b| u(a) >> u(b).min(32)),
        "shr.s32" => Op::Two(|a, b| w(s(a) >> u(b).min(31))),
        "shl.b64" => Op::Two(|a, b| a.checked_shl(b as u32).unwrap_or(0)),
        "shr.u64" => Op::Two(|a, b| a.checked_shr(b as u32).unwrap_or(0)),
        "bfi.b32" => Op::Four(bfi),
        "selp.b32" | "selp.b64" | "selp.f32" | "selp.u32" | "selp.s32" => {
            Op::Three(|a, b, p| if p & 1 == 1 { a } else { b })
        }
        _ => return None,
    })
}

fn float(opcode: &str) -> Option<Op> {
    Some(match opcode {
        "add.f32" => Op::Two(|a, b| fb(f(a) + f(b))),
        "sub.f32" => Op::Two(|a, b| fb(f(a) - f(b))),
        "mul.f32" => Op::Two(|a, b| fb(f(a) * f(b))),
        "div.rn.f32" => Op::Two(|a, b| fb(f(a) / f(b))),
        "rcp.rn.f32" => Op::One(|a| fb(1.0 / f(a))),
        "sqrt.rn.f32" => Op::One(|a| fb(f(a).sqrt())),
        "neg.f32" => Op::One(|a| fb(-f(a))),
        "abs.f32" => Op::One(|a| fb(f(a).abs())),
        // If one operand is NaN, the result is the other one.
        "max.f32" => Op::Two(|a, b| fb(f(a).max(f(b)))),
        "min.f32" => Op::Two(|a, b| fb(f(a).min(f(b)))),
        "fma.rn.f32" => Op::Three(|a, b, c| fb(f(a).mul_add(f(b), f(c)))),
        "ex2.approx.ftz.f32" => Op::One(ex2_approx),
        "add.f64" => Op::Two(|a, b| (d(a) + d(b)).to_bits()),
        "div.rn.f64" => Op::Two(|a, b| (d(a) / d(b)).to_bits()),
        "fma.rn.f64" => Op::Three(|a, b, c| d(a).mul_add(d(b), d(c)).to_bits()),
        _ => return None,
    })
}

fn conversion(opcode: &str) -> Option<Op> {
    Some(Op::One(match opcode {
        "cvt.rn.f16.f32" => |a| f16::from_f32(f(a)).to_bits().into(),
        "cvt.rn.bf16.f32" => |a| bf16::from_f32(f(a)).to_bits().into(),
        "cvt.f32.f16" => |a| fb(f16_value(a as u16)),
        "cvt.f64.f32" => |a| f64::from(f(a)).to_bits(),
        "cvt.rn.f32.s32" => |a| fb(s(a) as f32),
        "cvt.rpi.s32.f64" => |a| w(d(a).ceil() as i32),
        "cvt.rmi.s32.f64" => |a| w(d(a).floor() as i32),
        "cvt.rzi.s32.f32" => |a| rzi(f(a)),
        "cvt.s64.s32" => |a| i64::from(s(a)) as u64,
        "cvt.u64.u32" | "cvt.u32.u64" => u,
        "cvt.u32.u16" => |a| a & 0xffff,
        "cvt.u16.u32" => |a| a & 0xffff,
        _ => return None,
    }))
}
