//! What each instruction computes in all lanes, or how it is handled otherwise.

use half::{bf16, f16};
use universal_neurons::backend::device::HalfType;

use super::wide::widened;

pub const LANES: usize = 32;

/// One value per lane.
pub type Lanes = [u64; LANES];

/// Returns the lanes of a mask.
pub fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        let lane = (left != 0).then(|| left.trailing_zeros() as usize)?;
        left &= left - 1;
        Some(lane)
    })
}

/// An instruction without its operands. Functions of one to four operands compute every lane, so
/// that the compiler can vectorise them; only lanes that take part keep the result.
#[derive(Debug, Clone, Copy)]
pub enum Op {
    One(fn(&Lanes, &mut Lanes)),
    Two(fn(&Lanes, &Lanes, &mut Lanes)),
    Three(fn(&Lanes, &Lanes, &Lanes, &mut Lanes)),
    Four(fn(&Lanes, &Lanes, &Lanes, &Lanes, &mut Lanes)),
    /// A division, which is undefined where the divisor is zero, so that only lanes that take part
    /// compute it.
    Divide(fn(i32, i32) -> i32),
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
    Mma(HalfType),
}

/// Makes a function of all lanes from one of a single lane.
macro_rules! each {
    ($op:ident, |$($x:ident),+| $value:expr) => {{
        widened! {
            fn each($($x: &Lanes,)+ out: &mut Lanes) {
                for lane in 0..LANES {
                    $(let $x = $x[lane];)+
                    out[lane] = $value;
                }
            }
        }
        Op::$op(each)
    }};
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

/// Returns the value of an f16. Unlike that of the crate `half`, which asks for the processor each
/// time, this is a few operations that the compiler can vectorise.
#[inline]
pub fn f16_value(bits: u16) -> f32 {
    let (sign, rest) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff));
    // Moves the exponent's bias from 15 to 127; infinity has the largest exponent of both.
    let bias = if rest >= 0x7c00 { 2 * (127 - 15) } else { 127 - 15 };
    let normal = (rest << 13) + (bias << 23);
    // The digits of a subnormal number, below a one that is then subtracted.
    let subnormal = f32::from_bits((rest << 13) | (113 << 23)) - f32::from_bits(113 << 23);
    f32::from_bits(sign | if rest < 0x400 { subnormal.to_bits() } else { normal })
}

#[inline]
pub fn bf16_value(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
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
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32" => Op::Mma(HalfType::F16),
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" => Op::Mma(HalfType::Bf16),
        _ => return None,
    })
}

fn compare(opcode: &str) -> Option<Op> {
    let rest = opcode.strip_prefix("setp.")?;
    Some(match rest {
        "eq.f32" => each!(Two, |a, b| (f(a) == f(b)).into()),
        "neu.f32" => each!(Two, |a, b| (f(a) != f(b)).into()),
        "lt.f32" => each!(Two, |a, b| (f(a) < f(b)).into()),
        "gt.f32" => each!(Two, |a, b| (f(a) > f(b)).into()),
        "ge.f32" => each!(Two, |a, b| (f(a) >= f(b)).into()),
        "le.f32" => each!(Two, |a, b| (f(a) <= f(b)).into()),
        // Unordered comparisons are true if either operand is NaN.
        "leu.f32" => each!(Two, |a, b| u64::from(f(a) <= f(b) || f(a).is_nan() || f(b).is_nan())),
        "ltu.f32" => each!(Two, |a, b| u64::from(f(a) < f(b) || f(a).is_nan() || f(b).is_nan())),
        "geu.f32" => each!(Two, |a, b| u64::from(f(a) >= f(b) || f(a).is_nan() || f(b).is_nan())),
        "gtu.f32" => each!(Two, |a, b| u64::from(f(a) > f(b) || f(a).is_nan() || f(b).is_nan())),
        "num.f32" => each!(Two, |a, b| (!f(a).is_nan() && !f(b).is_nan()).into()),
        "nan.f32" => each!(Two, |a, b| (f(a).is_nan() || f(b).is_nan()).into()),
        "eq.s32" => each!(Two, |a, b| (s(a) == s(b)).into()),
        "ne.s32" => each!(Two, |a, b| (s(a) != s(b)).into()),
        "lt.s32" => each!(Two, |a, b| (s(a) < s(b)).into()),
        "le.s32" => each!(Two, |a, b| (s(a) <= s(b)).into()),
        "gt.s32" => each!(Two, |a, b| (s(a) > s(b)).into()),
        "ge.s32" => each!(Two, |a, b| (s(a) >= s(b)).into()),
        "lt.u32" => each!(Two, |a, b| (u(a) < u(b)).into()),
        "gt.u32" => each!(Two, |a, b| (u(a) > u(b)).into()),
        "ge.u32" => each!(Two, |a, b| (u(a) >= u(b)).into()),
        "eq.s64" => each!(Two, |a, b| (a == b).into()),
        "ne.s64" => each!(Two, |a, b| (a != b).into()),
        _ => return None,
    })
}

fn arithmetic(opcode: &str) -> Option<Op> {
    integer(opcode).or_else(|| float(opcode)).or_else(|| conversion(opcode))
}

fn integer(opcode: &str) -> Option<Op> {
    Some(match opcode {
        "mov.u32" | "mov.b32" | "mov.f32" | "mov.u64" | "mov.f64" | "mov.u16" | "mov.pred" => {
            each!(One, |a| a)
        }
        "mov.b64" => Op::Pack,
        "cvta.to.global.u64" | "cvta.to.shared.u64" => each!(One, |a| a),
        "add.s32" => each!(Two, |a, b| w(s(a).wrapping_add(s(b)))),
        "sub.s32" => each!(Two, |a, b| w(s(a).wrapping_sub(s(b)))),
        "mul.lo.s32" => each!(Two, |a, b| w(s(a).wrapping_mul(s(b)))),
        "mad.lo.s32" => each!(Three, |a, b, c| w(s(a).wrapping_mul(s(b)).wrapping_add(s(c)))),
        "div.s32" => Op::Divide(i32::wrapping_div),
        "rem.s32" => Op::Divide(i32::wrapping_rem),
        "min.s32" => each!(Two, |a, b| w(s(a).min(s(b)))),
        "max.s32" => each!(Two, |a, b| w(s(a).max(s(b)))),
        "max.u32" => each!(Two, |a, b| u(a).max(u(b))),
        "min.u32" => each!(Two, |a, b| u(a).min(u(b))),
        "sub.s16" => each!(Two, |a, b| u64::from((a as u16).wrapping_sub(b as u16))),
        "mul.lo.s16" => each!(Two, |a, b| u64::from((a as u16).wrapping_mul(b as u16))),
        "and.b16" => each!(Two, |a, b| (a & b) & 0xffff),
        "mul.wide.u16" => each!(Two, |a, b| u64::from(a as u16) * u64::from(b as u16)),
        "mul.wide.s32" => each!(Two, |a, b| (i64::from(s(a)) * i64::from(s(b))) as u64),
        "mul.wide.u32" => each!(Two, |a, b| u(a).wrapping_mul(u(b))),
        "mul.lo.s64" => each!(Two, |a, b| a.wrapping_mul(b)),
        "add.s64" => each!(Two, |a, b| a.wrapping_add(b)),
        "sub.s64" => each!(Two, |a, b| a.wrapping_sub(b)),
        "and.b32" | "and.b64" | "and.pred" => each!(Two, |a, b| a & b),
        "or.b32" | "or.b64" | "or.pred" => each!(Two, |a, b| a | b),
        "xor.b32" => each!(Two, |a, b| u(a ^ b)),
        "not.b32" => each!(One, |a| u(!a)),
        "not.b64" => each!(One, |a| !a),
        "not.pred" => each!(One, |a| a ^ 1),
        // Shifts beyond the width behave as in an infinitely wide register.
        "shl.b32" => each!(Two, |a, b| u(u(a) << u(b).min(32))),
        "shr.u32" => each!(Two, |a, b| u(a) >> u(b).min(32)),
        "shr.s32" => each!(Two, |a, b| w(s(a) >> u(b).min(31))),
        "shl.b64" => each!(Two, |a, b| a.checked_shl(b as u32).unwrap_or(0)),
        "shr.u64" => each!(Two, |a, b| a.checked_shr(b as u32).unwrap_or(0)),
        "bfi.b32" => each!(Four, |a, b, at, len| bfi(a, b, at, len)),
        "selp.b32" | "selp.b64" | "selp.f32" | "selp.u32" | "selp.s32" => {
            each!(Three, |a, b, p| if p & 1 == 1 { a } else { b })
        }
        _ => return None,
    })
}

fn float(opcode: &str) -> Option<Op> {
    Some(match opcode {
        "add.f32" => each!(Two, |a, b| fb(f(a) + f(b))),
        "sub.f32" => each!(Two, |a, b| fb(f(a) - f(b))),
        "mul.f32" => each!(Two, |a, b| fb(f(a) * f(b))),
        "div.rn.f32" => each!(Two, |a, b| fb(f(a) / f(b))),
        "rcp.rn.f32" => each!(One, |a| fb(1.0 / f(a))),
        "sqrt.rn.f32" => each!(One, |a| fb(f(a).sqrt())),
        "neg.f32" => each!(One, |a| fb(-f(a))),
        "abs.f32" => each!(One, |a| fb(f(a).abs())),
        // If one operand is NaN, the result is the other one.
        "max.f32" => each!(Two, |a, b| fb(f(a).max(f(b)))),
        "min.f32" => each!(Two, |a, b| fb(f(a).min(f(b)))),
        "fma.rn.f32" => each!(Three, |a, b, c| fb(f(a).mul_add(f(b), f(c)))),
        "ex2.approx.ftz.f32" => each!(One, |a| ex2_approx(a)),
        "add.f64" => each!(Two, |a, b| (d(a) + d(b)).to_bits()),
        "div.rn.f64" => each!(Two, |a, b| (d(a) / d(b)).to_bits()),
        "fma.rn.f64" => each!(Three, |a, b, c| d(a).mul_add(d(b), d(c)).to_bits()),
        _ => return None,
    })
}

fn conversion(opcode: &str) -> Option<Op> {
    Some(match opcode {
        "cvt.rn.f16.f32" => each!(One, |a| f16::from_f32(f(a)).to_bits().into()),
        "cvt.rn.bf16.f32" => each!(One, |a| bf16::from_f32(f(a)).to_bits().into()),
        "cvt.f32.f16" => each!(One, |a| fb(f16_value(a as u16))),
        "cvt.f64.f32" => each!(One, |a| f64::from(f(a)).to_bits()),
        "cvt.rn.f32.s32" => each!(One, |a| fb(s(a) as f32)),
        "cvt.rpi.s32.f64" => each!(One, |a| w(d(a).ceil() as i32)),
        "cvt.rmi.s32.f64" => each!(One, |a| w(d(a).floor() as i32)),
        "cvt.rzi.s32.f32" => each!(One, |a| rzi(f(a))),
        "cvt.s64.s32" => each!(One, |a| i64::from(s(a)) as u64),
        "cvt.u64.u32" | "cvt.u32.u64" => each!(One, |a| u(a)),
        "cvt.u32.u16" => each!(One, |a| a & 0xffff),
        "cvt.u16.u32" => each!(One, |a| a & 0xffff),
        _ => return None,
    })
}

#[test]
fn every_half_has_its_value() {
    let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    for bits in 0..=u16::MAX {
        assert!(same(f16_value(bits), f16::from_bits(bits).to_f32()), "f16 {bits:#x}");
        assert!(same(bf16_value(bits), bf16::from_bits(bits).to_f32()), "bf16 {bits:#x}");
    }
}
