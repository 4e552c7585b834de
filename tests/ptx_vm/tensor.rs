//! Instructions of tensor cores, in which the lanes of a warp work together.

use universal_neurons::backend::device::HalfType;

use super::launch::Block;
use super::memory::aligned;
use super::ops::{LANES, Lanes, Space, bf16_value, f16_value};
use super::parse::Instruction;
use super::warp::Warp;
use super::wide::{Both, widened};

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
        let rows = self.addresses(i);
        for (rows, &to) in rows.chunks(8).zip(&i.to) {
            let mut at = [0; LANES];
            for lane in 0..LANES {
                at[lane] = rows[lane / 4] + (lane % 4) as u64 * 4;
            }
            rows.iter().try_for_each(|row| aligned(*row, 16))?;
            let mut values = [0; LANES];
            let words = values.as_chunks_mut::<4>().0;
            for (l, (row, values)) in Both(rows.iter(), words.iter_mut()).enumerate() {
                block.shared.load_words(*row, self.thread(4 * l), values)?;
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
        let [a0, a1, a2, a3, b0, b1, c @ ..]: [&Lanes; 10] = self.operands(i);
        let (a, b) = ([a0, a1, a2, a3], [b0, b1]);
        let exponent = match number {
            HalfType::F16 => 0x7c00,
            HalfType::Bf16 => 0x7f80,
        };
        // Most of a tile lies beyond a small matrix.
        let nothing =
            all_zero(&b) && all_finite(&a, exponent) || all_zero(&a) && all_finite(&b, exponent);
        let mut products = [[0.0; 8]; 16];
        match number {
            _ if nothing => {}
            HalfType::F16 => product_f16(a, b, &mut products),
            HalfType::Bf16 => product_bf16(a, b, &mut products),
        }
        let mut sums = [[0; LANES]; 4];
        add(&products, c, &mut sums);
        for (&to, sums) in i.to.iter().zip(&sums) {
            self.write(to, mask, sums);
        }
        Ok(())
    }
}

/// The product of two fragments, [row][column].
type Product = [[f64; 8]; 16];

widened! {
    fn product_f16(a: [&Lanes; 4], b: [&Lanes; 2], sums: &mut Product) {
        product(left(a, f16_value), right(b, f16_value), sums);
    }
}

widened! {
    fn product_bf16(a: [&Lanes; 4], b: [&Lanes; 2], sums: &mut Product) {
        product(left(a, bf16_value), right(b, bf16_value), sums);
    }
}

#[inline(always)]
fn product(a: [[f32; 16]; 16], b: [[f64; 8]; 16], sums: &mut Product) {
    for row in 0..16 {
        for k in 0..16 {
            let a = f64::from(a[row][k]);
            for column in 0..8 {
                sums[row][column] += a * b[k][column];
            }
        }
    }
}

/// Returns A[row][k]. Register r holds rows l / 4 + 8 (r mod 2), columns 2 (l mod 4) + 8 (r / 2).
#[inline(always)]
fn left(a: [&Lanes; 4], value: impl Fn(u16) -> f32 + Copy) -> [[f32; 16]; 16] {
    let mut left = [[0.0; 16]; 16];
    for (r, a) in (0..4).zip(a) {
        let (low, high) = halves(a, value);
        for lane in 0..LANES {
            let (row, k) = (lane / 4 + r % 2 * 8, lane % 4 * 2 + r / 2 * 8);
            (left[row][k], left[row][k + 1]) = (low[lane], high[lane]);
        }
    }
    left
}

/// Returns B[k][column]. Register r holds rows 2 (l mod 4) + 8 r, column l / 4.
#[inline(always)]
fn right(b: [&Lanes; 2], value: impl Fn(u16) -> f32 + Copy) -> [[f64; 8]; 16] {
    let mut right = [[0.0; 8]; 16];
    for (r, b) in (0..2).zip(b) {
        let (low, high) = halves(b, value);
        for lane in 0..LANES {
            let (k, column) = (lane % 4 * 2 + r * 8, lane / 4);
            right[k][column] = f64::from(low[lane]);
            right[k + 1][column] = f64::from(high[lane]);
        }
    }
    right
}

/// Returns the lower and the upper number of each lane.
#[inline(always)]
fn halves(bits: &Lanes, value: impl Fn(u16) -> f32 + Copy) -> ([f32; LANES], [f32; LANES]) {
    let (mut low, mut high) = ([0.0; LANES], [0.0; LANES]);
    for lane in 0..LANES {
        (low[lane], high[lane]) = (value(bits[lane] as u16), value((bits[lane] >> 16) as u16));
    }
    (low, high)
}

widened! {
    /// Adds products to C. Register v holds rows l / 4 + 8 (v / 2), columns 2 (l mod 4) + v mod 2.
    fn add(products: &Product, c: [&Lanes; 4], sums: &mut [Lanes; 4]) {
        for v in 0..4 {
            for lane in 0..LANES {
                let product = products[lane / 4 + v / 2 * 8][lane % 4 * 2 + v % 2];
                let c = f64::from(f32::from_bits(c[v][lane] as u32));
                sums[v][lane] = u64::from(((c + product) as f32).to_bits());
            }
        }
    }
}

/// Whether all numbers of some lanes are zero (of either sign).
fn all_zero(registers: &[&Lanes]) -> bool {
    let mut any = 0;
    registers.iter().for_each(|lanes| collect_bits(lanes, &mut any));
    any & 0x7fff_7fff == 0
}

/// Whether no number is NaN or infinite, whose exponent has all bits of `exponent`.
fn all_finite(registers: &[&Lanes], exponent: u16) -> bool {
    let mut any = false;
    registers.iter().for_each(|lanes| find_exponent(lanes, exponent, &mut any));
    !any
}

widened! {
    fn collect_bits(lanes: &Lanes, any: &mut u64) {
        for bits in lanes {
            *any |= bits;
        }
    }
}

widened! {
    fn find_exponent(lanes: &Lanes, exponent: u16, any: &mut bool) {
        let (low, high) = (u64::from(exponent), u64::from(exponent) << 16);
        for bits in lanes {
            *any |= (bits & low == low) | (bits & high == high);
        }
    }
}

fn whole(mask: u32) -> Result<(), String> {
    match mask {
        u32::MAX => Ok(()),
        _ => Err("not every lane of the warp takes part".to_owned()),
    }
}
