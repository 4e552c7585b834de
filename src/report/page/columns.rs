//! Columns of numbers as a page stores them: with the digits that it shows, and not more.

use serde::Serialize;

use crate::stats::percentile::median;

/// Integers from here on are not exact in JavaScript.
const EXACT: i64 = 1 << 53;
/// Number of significant digits that a column shows of a typical value.
const DIGITS: i32 = 3;
/// Most digits after the decimal point that JavaScript writes.
const MOST: i32 = 100;

/// A column of numbers with a fixed number of digits after the decimal point.
#[derive(Debug, Clone, PartialEq)]
pub struct Decimals {
    /// Number of digits after the decimal point; below zero, the digits that are left out before it.
    pub digits: i32,
    /// Each number times 10^`digits`, rounded; `None` for a number that is not finite.
    pub values: Vec<Option<i64>>,
}

impl Decimals {
    /// Rounds numbers once. Returns `None` if one of them is too large for the page's integers.
    pub fn of(values: &[f64], digits: i32) -> Option<Self> {
        let one = |v: &f64| match v.is_finite() {
            true => scaled(*v, digits).map(Some),
            false => Some(None),
        };
        Some(Self { digits, values: values.iter().map(one).collect::<Option<_>>()? })
    }

    /// Rounds correlations, which lie between −1 and 1; those outside, from a damaged file, become the
    /// nearest of these.
    pub fn of_correlations(values: impl Iterator<Item = f64>, digits: i32) -> Self {
        let one = |v: f64| v.is_finite().then(|| scaled(v.clamp(-1.0, 1.0), digits)).flatten();
        Self { digits, values: values.map(one).collect() }
    }

    /// Rounds numbers to one digit more than the page shows, so that it can sort by it. Where rounding
    /// again would show another number than rounding once, the last digit is that next to it.
    pub fn with_spare_digit(values: &[f64], shown: i32) -> Option<Self> {
        let once = Self::of(values, shown)?;
        let mut spare = Self::of(values, shown + 1)?;
        for (spare, once) in spare.values.iter_mut().flatten().zip(once.values.iter().flatten()) {
            *spare += (*once - rounded_tenth(*spare)).signum();
        }
        Some(spare)
    }

    /// Returns the number in a row as the page has it, if it exists.
    pub fn value(&self, row: usize) -> Option<f64> {
        let value = self.values[row]? as f64;
        Some(match self.digits {
            ..0 => value * 10_f64.powi(-self.digits),
            digits => value / 10_f64.powi(digits),
        })
    }

    /// Returns integers, which have no digits after the decimal point.
    pub fn integers(values: impl IntoIterator<Item = Option<usize>>) -> Self {
        let values = values.into_iter().map(|v| v.and_then(|v| i64::try_from(v).ok()));
        Self { digits: 0, values: values.collect() }
    }
}

/// Returns a tenth of an integer, rounded half away from zero.
fn rounded_tenth(value: i64) -> i64 {
    value.signum() * ((value.abs() + 5) / 10)
}

/// Returns a number times 10^`digits`, with the digits that formatting gives; `None` if it is too large.
fn scaled(value: f64, digits: i32) -> Option<i64> {
    let text = match usize::try_from(digits) {
        Ok(digits) => format!("{value:.digits$}").replace('.', ""),
        Err(_) => format!("{:.0}", value / 10_f64.powi(-digits)),
    };
    text.parse().ok().filter(|v: &i64| v.abs() < EXACT)
}

/// Returns the number of digits after the decimal point with which the median size of some numbers has
/// three significant digits.
pub fn digits_for(values: &[f64]) -> i32 {
    let sizes = values.iter().map(|v| v.abs()).filter(|v| v.is_finite() && *v > 0.0);
    let exponent = median(sizes).map_or(0, |size| size.log10().floor() as i32);
    (DIGITS - 1 - exponent).min(MOST)
}

/// Where a column stands in the bytes, and what its numbers are relative to.
#[derive(Debug, Serialize)]
pub struct Head {
    /// Number of digits after the decimal point; absent for numbers that are stored as f64.
    #[serde(skip_serializing_if = "Option::is_none")]
    digits: Option<i32>,
    /// The smallest difference of a number from its guess.
    low: i64,
    /// Number of the lowest bits of each number, which stand next to each other.
    bits: u32,
    /// Number of bytes that the other bits of a number take.
    planes: u32,
}

/// The bytes of columns. The lowest bits of numbers are noise, which deflation would make longer, so
/// that they are packed; of the other bits, first all lowest bytes of a column are written, then the
/// next ones.
#[derive(Debug, Default)]
pub struct Planes(pub Vec<u8>);

impl Planes {
    /// Adds a column. A number is stored as its difference from `guess`, which the page computes too.
    pub fn add(&mut self, column: &Decimals, guess: impl Fn(usize) -> i64) -> Head {
        let off = |(i, v): (usize, &Option<i64>)| v.map(|v| v - guess(i));
        let differences: Vec<Option<i64>> = column.values.iter().enumerate().map(off).collect();
        let low = differences.iter().flatten().copied().min().unwrap_or(0);
        // Zero stands for a number that does not exist.
        let codes: Vec<u64> =
            differences.iter().map(|d| d.map_or(0, |d| d.abs_diff(low) + 1)).collect();
        let bits = noisy_bits(&codes);
        self.0.extend(packed_bits(&codes, bits));
        let most = codes.iter().copied().max().unwrap_or(0) >> bits;
        let planes = length(most).div_ceil(8);
        for plane in 0..planes as usize {
            self.0.extend(codes.iter().map(|code| (code >> bits).to_le_bytes()[plane]));
        }
        Head { digits: Some(column.digits), low, bits, planes }
    }

    /// Adds a column of numbers as they are.
    pub fn add_exact(&mut self, values: &[f64]) -> Head {
        for plane in 0..8 {
            self.0.extend(values.iter().map(|v| v.to_le_bytes()[plane]));
        }
        Head { digits: None, low: 0, bits: 0, planes: 8 }
    }
}

/// Returns the number of bits of an integer.
fn length(value: u64) -> u32 {
    u64::BITS - value.leading_zeros()
}

/// Returns the number of lowest bits beyond the eight highest ones of nearly all codes. The few codes
/// that are larger have more than one byte above these bits.
fn noisy_bits(codes: &[u64]) -> u32 {
    const MOST: u32 = 16;
    let mut sorted = codes.to_vec();
    sorted.sort_unstable();
    let nearly_all = sorted.get(sorted.len() * 99 / 100).copied().unwrap_or(0);
    length(nearly_all).saturating_sub(8).min(MOST)
}

/// Returns the lowest bits of codes next to each other, the lowest bit first.
fn packed_bits(codes: &[u64], bits: u32) -> Vec<u8> {
    let mut bytes = vec![0; (codes.len() * bits as usize).div_ceil(8)];
    let all = codes.iter().flat_map(|code| (0..bits).map(move |bit| code >> bit & 1));
    all.enumerate().for_each(|(at, bit)| bytes[at / 8] |= (bit as u8) << (at % 8));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads a column in the way that the page does.
    fn read(
        bytes: &[u8],
        head: &Head,
        rows: usize,
        guess: impl Fn(usize) -> i64,
    ) -> Vec<Option<i64>> {
        let bits = head.bits as usize;
        let above = &bytes[(rows * bits).div_ceil(8)..];
        let bit = |at: usize| i64::from(bytes[at / 8] >> (at % 8) & 1);
        let code = |i: usize| -> i64 {
            let low: i64 = (0..bits).map(|b| bit(i * bits + b) << b).sum();
            let high =
                (0..head.planes as usize).map(|p| i64::from(above[p * rows + i]) << (8 * p + bits));
            low + high.sum::<i64>()
        };
        let value =
            |i: usize| Some(code(i)).filter(|c| *c > 0).map(|c| c - 1 + head.low + guess(i));
        (0..rows).map(value).collect()
    }

    proptest! {
        #[test]
        fn columns_are_read_back(
            values in prop::collection::vec(prop::option::of(-1_000_000_i64..1_000_000), 1..60),
            slope in -5_i64..5,
        ) {
            let column = Decimals { digits: 2, values };
            let guess = |i: usize| slope * i as i64;
            let mut planes = Planes::default();
            let head = planes.add(&column, guess);
            let rows = column.values.len();
            prop_assert_eq!(
                planes.0.len(),
                (rows * head.bits as usize).div_ceil(8) + rows * head.planes as usize
            );
            prop_assert_eq!(read(&planes.0, &head, column.values.len(), guess), column.values);
        }

        #[test]
        fn digits_are_those_of_formatting(value in -1e6_f64..1e6, digits in 0_i32..6) {
            let scaled = scaled(value, digits).expect("small");
            let places = usize::try_from(digits).expect("not negative");
            let sign = if value < 0.0 { "-" } else { "" };
            let all = format!("{:0>1$}", scaled.abs(), places + 1);
            let (whole, rest) = all.split_at(all.len() - places);
            let point = if places > 0 { "." } else { "" };
            prop_assert_eq!(format!("{sign}{whole}{point}{rest}"), format!("{value:.places$}"));
        }

        #[test]
        fn a_spare_digit_never_changes_what_is_shown(values in prop::collection::vec(-1.0_f64..1.0, 1..60)) {
            let spare = Decimals::with_spare_digit(&values, 3).expect("small");
            let once = Decimals::of(&values, 3).expect("small");
            for ((spare, once), value) in spare.values.iter().zip(&once.values).zip(&values) {
                let spare = spare.expect("finite");
                prop_assert_eq!(Some(rounded_tenth(spare)), *once);
                prop_assert!((spare as f64 - 1e4 * value).abs() <= 1.0);
            }
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
            prop_assert!(order.is_sorted_by_key(|&i| spare.values[i]), "the order is kept");
        }
    }

    #[test]
    fn a_number_that_would_be_rounded_twice_is_shown_as_rounded_once() {
        let spare = Decimals::with_spare_digit(&[0.700_498, -0.700_498, 0.700_51, f64::NAN], 3);
        assert_eq!(spare.expect("small").values, [Some(7004), Some(-7004), Some(7005), None]);
    }

    #[test]
    fn a_column_has_three_digits_of_a_typical_value() {
        assert_eq!(digits_for(&[0.039, -0.041, 0.0, f64::NAN, 3.0]), 4);
        assert_eq!((digits_for(&[3.1, 4.0, 900.0]), digits_for(&[2.5e20])), (2, -18));
        assert_eq!(digits_for(&[0.0, f64::INFINITY]), 2);
        assert_eq!(
            Decimals::of(&[2.5e20, f64::INFINITY], -18).expect("fits").values,
            [Some(250), None]
        );
        assert_eq!(Decimals::of(&[1.0, 1e20], 2), None);
    }
}
