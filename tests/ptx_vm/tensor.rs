//! Instructions of tensor cores, in which the lanes of a warp work together.

use universal_neurons::backend::device::HalfType;

use super::launch::{Block, aligned};
use super::memory::Access;
use super::ops::{LANES, Lanes, Space, bf16_value, f16_value};
use super::parse::Instruction;
use super::warp::Warp;

impl Warp {
    /// The rows of matrix m are at the addresses in lanes 8 m to 8 m + 7; lane l receives two
    /// values of row l / 4 of each matrix.
    pub fn load_matrix(
        &mut self,
        i: &Instruction,
        mask: u32,
        block: &mut Block,
    ) -> Result<(), String> {
        whole(mask)?;
        let [base, offset] = self.operands(i, mask)?;
        let rows: Lanes = std::array::from_fn(|lane| base[lane].wrapping_add(offset[lane]));
        for (rows, &to) in rows.chunks(8).zip(&i.to) {
            let at = std::array::from_fn(|lane| rows[lane / 4] + (lane % 4) as u64 * 4);
            rows.iter().try_for_each(|row| aligned(*row, 16))?;
            let mut values = [0; LANES];
            for (lane, value) in values.iter_mut().enumerate() {
                *value = block.shared.load(at[lane], 4, self.thread(lane), Access::Read)?;
            }
            block.counts.access(Space::Shared, mask, 4, &at, false);
            self.write(to, mask, &values);
        }
        Ok(())
    }

    /// D[16, 8] = A[16, 16] B[16, 8] + C, with exact products and a sum rounded once.
    pub fn mma(
        &mut self,
        i: &Instruction,
        mask: u32,
        number: HalfType,
        block: &mut Block,
    ) -> Result<(), String> {
        whole(mask)?;
        block.counts.mma += 1;
        let [a0, a1, a2, a3, b0, b1, c @ ..]: [&Lanes; 10] = self.operands(i, mask)?;
        let (a, b) = ([a0, a1, a2, a3], [b0, b1]);
        let exponent = match number {
            HalfType::F16 => 0x7c00,
            HalfType::Bf16 => 0x7f80,
        };
        // Most of a tile lies beyond a small matrix.
        let nothing =
            all_zero(&b) && all_finite(&a, exponent) || all_zero(&a) && all_finite(&b, exponent);
        let products = match number {
            _ if nothing => [[0.0; 8]; 16],
            HalfType::F16 => product(fragments(a, b, f16_value)),
            HalfType::Bf16 => product(fragments(a, b, bf16_value)),
        };
        // Register v holds rows l / 4 + 8 (v / 2), columns 2 (l mod 4) + v mod 2.
        let sums: [Lanes; 4] = std::array::from_fn(|v| {
            std::array::from_fn(|lane| {
                let c = f64::from(f32::from_bits(c[v][lane] as u32));
                let products = products[lane / 4 + v / 2 * 8][lane % 4 * 2 + v % 2];
                u64::from(((c + products) as f32).to_bits())
            })
        });
        for (&to, sums) in i.to.iter().zip(&sums) {
            self.write(to, mask, sums);
        }
        Ok(())
    }
}

type Left = [[f64; 16]; 16];
type Right = [[f64; 8]; 16];

/// Returns A[row][k] and B[k][column].
#[inline]
fn fragments(a: [&Lanes; 4], b: [&Lanes; 2], value: impl Fn(u16) -> f32) -> (Left, Right) {
    let (mut left, mut right) = ([[0.0; 16]; 16], [[0.0; 8]; 16]);
    // Register r of A holds rows l / 4 + 8 (r mod 2), columns 2 (l mod 4) + 8 (r / 2).
    for (r, a) in a.iter().enumerate() {
        let halves = halves(a, &value);
        for (lane, &half) in halves.iter().enumerate() {
            let row = &mut left[lane / 4 + r % 2 * 8][lane % 4 * 2 + r / 2 * 8..][..2];
            row.copy_from_slice(&half);
        }
    }
    for (r, b) in b.iter().enumerate() {
        let halves = halves(b, &value);
        for (lane, &half) in halves.iter().enumerate() {
            let k = lane % 4 * 2 + r * 8;
            (right[k][lane / 4], right[k + 1][lane / 4]) = (half[0], half[1]);
        }
    }
    (left, right)
}

/// Returns both numbers of each lane.
#[inline]
fn halves(bits: &Lanes, value: impl Fn(u16) -> f32) -> [[f64; 2]; LANES] {
    let low = bits.map(|bits| value(bits as u16));
    let high = bits.map(|bits| value((bits >> 16) as u16));
    std::array::from_fn(|lane| [f64::from(low[lane]), f64::from(high[lane])])
}

/// Whether all numbers of some lanes are zero (of either sign).
fn all_zero(registers: &[&Lanes]) -> bool {
    let any = |lanes: &&Lanes| lanes.iter().fold(0, |any, bits| any | bits);
    registers.iter().map(any).fold(0, |any, bits| any | bits) & 0x7fff_7fff == 0
}

/// Whether no number is NaN or infinite, whose exponent has all bits of `exponent`.
fn all_finite(registers: &[&Lanes], exponent: u16) -> bool {
    let (low, high) = (u64::from(exponent), u64::from(exponent) << 16);
    let infinite = |bits: &u64| u64::from(bits & low == low) | u64::from(bits & high == high);
    let any = |lanes: &&Lanes| lanes.iter().fold(0, |any, bits| any | infinite(bits));
    registers.iter().map(any).fold(0, |any, infinite| any | infinite) == 0
}

fn product((a, b): (Left, Right)) -> [[f64; 8]; 16] {
    let mut sums = [[0.0; 8]; 16];
    for (row, sums) in a.iter().zip(&mut sums) {
        for (&a, b) in row.iter().zip(&b) {
            sums.iter_mut().zip(b).for_each(|(sum, b)| *sum += a * b);
        }
    }
    sums
}

fn whole(mask: u32) -> Result<(), String> {
    match mask {
        u32::MAX => Ok(()),
        _ => Err("not every lane of the warp takes part".to_owned()),
    }
}
