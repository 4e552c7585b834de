//! Tests of `kernels/correlate.cu`, `gram.cu`, `reduce.cu`, `candidates.cu` and `gather.cu`.

use universal_neurons::backend::device::array::{Array, HalfFormat, HalfMatrix};
use universal_neurons::backend::device::ops::{
    self, BINS, BlockMatches, OperandSums, ProductTarget, StoredSums,
};
use universal_neurons::backend::device::{Device, HalfType};

use super::{FORMS, Probe, Random, on_every_device, twin};

on_every_device!(
    products_are_sums_of_products,
    products_are_added_with_bias_at_an_offset,
    gram_is_a_product_with_itself,
    comparisons_find_the_best_partners,
    stored_sums_give_the_same_matches,
    sums_become_an_operand,
    the_first_of_equals_comes_first,
    candidates_are_summed_in_f64,
    chosen_rows_and_columns_are_copied,
);

/// Sizes that are not multiples of a tile, a slab, or eight.
const SHAPES: [(usize, usize, usize); 5] =
    [(1, 1, 1), (3, 130, 33), (129, 5, 100), (150, 140, 64), (16, 8, 31)];

/// Returns the largest relative rounding error of a format. Two planes hold 22 bits in f16 and 16
/// in bf16; the product of the two second planes is omitted.
fn unit(form: HalfFormat) -> f64 {
    match (form.number, form.split) {
        (HalfType::F16, false) => 2f64.powi(-11),
        (HalfType::Bf16, false) => 2f64.powi(-8),
        (HalfType::F16, true) => 2f64.powi(-21),
        (HalfType::Bf16, true) => 2f64.powi(-15),
    }
}

/// Returns the largest error of a sum of k products whose absolute values add up to `size`:
/// rounding of both factors, and of f32 accumulators.
fn bound(form: HalfFormat, k: usize, size: f64) -> f64 {
    size * (2.2 * unit(form) + (k as f64 + 8.0) * 2f64.powi(-23)) + 1e-7
}

/// Makes rows of k values, followed by a few columns of NaN that must not be used.
fn halves<D: Device>(device: &D, values: &[f32], k: usize, form: HalfFormat) -> HalfMatrix<D> {
    let value = |row: usize, col: usize| if col < k { values[row * k + col] } else { f32::NAN };
    HalfMatrix::of(device, (values.len() / k, k + 5), form, value).unwrap()
}

pub fn products_are_sums_of_products<D: Probe>(device: &D) {
    for (case, (m, n, k)) in SHAPES.into_iter().enumerate() {
        for form in FORMS {
            let mut random = Random::new(case as u64);
            let (x, y) = (random.values(m * k), random.values(n * k));
            let ld = n + case;
            // Not initialised: the virtual machine reports a read of memory that was not written.
            let mut c = Array::new(device, m * ld).unwrap();
            let (dx, dy) = (halves(device, &x, k, form), halves(device, &y, k, form));
            let into = ProductTarget { values: &mut c, at: 0, ld, add: false };
            ops::product(device, (&dx.all(), &dy.all(), k), into, None).unwrap();
            let (want, size) = twin::product(&x, &y, k);
            for i in 0..m {
                let row = c.read(device, i * ld..i * ld + n).unwrap();
                for (j, &got) in row.iter().enumerate() {
                    let (want, size) = (want[i * n + j], size[i * n + j]);
                    let off = (f64::from(got) - want).abs();
                    assert!(off <= bound(form, k, size), "{form:?} {m} {n} {k}: {got} for {want}");
                }
            }
            if let Some(writes) = device.writes(c.memory()) {
                for (byte, &times) in writes.iter().enumerate() {
                    let inside = byte / 4 % ld < n;
                    assert_eq!(times, u8::from(inside), "byte {byte} of {m} x {ld}");
                }
            }
        }
    }
}

pub fn products_are_added_with_bias_at_an_offset<D: Probe>(device: &D) {
    let (m, n, k, at, ld) = (20, 33, 40, 7, 50);
    let mut random = Random::new(9);
    let (x, y, bias) = (random.values(3 * m * k), random.values(2 * n * k), random.values(n));
    let before = random.values(at + m * ld);
    let mut c = Array::of(device, &before).unwrap();
    let form = FORMS[2];
    let (dx, dy) = (halves(device, &x, k, form), halves(device, &y, k, form));
    let operands = (&dx.rows(m..2 * m), &dy.rows(n..2 * n), k);
    let device_bias = Array::of(device, &bias).unwrap();
    let into = ProductTarget { values: &mut c, at, ld, add: true };
    ops::product(device, operands, into, Some(&device_bias)).unwrap();
    let (want, size) = twin::product(&x[m * k..2 * m * k], &y[n * k..], k);
    let after = c.to_vec(device).unwrap();
    for (i, (&now, &then)) in after.iter().zip(&before).enumerate() {
        let place = i.checked_sub(at).map(|i| (i / ld, i % ld));
        match place.filter(|(_, col)| *col < n) {
            None => assert_eq!(now, then, "value {i} lies outside"),
            Some((row, col)) => {
                let want = want[row * n + col] + f64::from(bias[col]) + f64::from(then);
                assert!((f64::from(now) - want).abs() < bound(form, k, size[row * n + col] + 2.0));
            }
        }
    }
}

pub fn gram_is_a_product_with_itself<D: Probe>(device: &D) {
    for (m, k) in [(1, 5), (140, 40), (260, 33)] {
        for form in [FORMS[1], FORMS[2]] {
            let x = Random::new(m as u64).values(m * k);
            let dx = halves(device, &x, k, form);
            let mut c = Array::zeros(device, m * m).unwrap();
            // Called twice, because the kernel adds to its output.
            ops::gram(device, &dx.all(), k, &mut c, 0).unwrap();
            ops::gram(device, &dx.all(), k, &mut c, 0).unwrap();
            let (want, size) = twin::product(&x, &x, k);
            let got = c.to_vec(device).unwrap();
            for ((&got, want), size) in got.iter().zip(want).zip(size) {
                assert!((f64::from(got) - 2.0 * want).abs() <= 2.0 * bound(form, k, size));
            }
            for i in 0..m {
                for j in 0..i {
                    assert_eq!(got[i * m + j].to_bits(), got[j * m + i].to_bits(), "symmetry");
                }
            }
            if let Some(writes) = device.writes(c.memory()) {
                assert!(writes.iter().all(|&w| w == 1), "each sum is written once");
            }
        }
    }
}

/// Returns rows that are hard to correlate: constant ones, tails of ten standard deviations, means
/// of three, and copies of a common row with little noise.
fn neurons(rows: usize, k: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let shared = Random::new(77).values(k);
    let mut row = |i: usize| -> Vec<f32> {
        match i % 7 {
            3 => vec![0.25; k],
            4 => (0..k).map(|t| if t % 50 == 7 { 10.0 } else { 0.1 * random.value() }).collect(),
            5 => (0..k).map(|_| 3.0 + random.value()).collect(),
            6 => shared.iter().map(|s| s + 0.1 * random.value()).collect(),
            _ => random.values(k),
        }
    };
    (0..rows).flat_map(&mut row).collect()
}

struct DeviceNeuronSums<D: Device> {
    sum: Array<D, f32>,
    inverse: Array<D, f32>,
}

impl<D: Device> DeviceNeuronSums<D> {
    fn of(device: &D, values: &[f32], k: usize) -> Self {
        let (sum, inverse): (Vec<f32>, Vec<f32>) =
            twin::sums(values, k).iter().map(|&(s, i)| (s as f32, i as f32)).unzip();
        Self {
            sum: Array::of(device, &sum).unwrap(),
            inverse: Array::of(device, &inverse).unwrap(),
        }
    }

    fn side(&self) -> OperandSums<'_, D> {
        OperandSums { sum: &self.sum, inverse: &self.inverse, at: 0 }
    }
}

/// Returns the values after rounding, so that the oracle gets the same input as the kernel.
fn rounded(values: &[f32], form: HalfFormat) -> Vec<f32> {
    let one = |&x: &f32| {
        let first = form.number.widen(form.number.round(x));
        let second = form.number.widen(form.number.round(x - first));
        first + if form.split { second } else { 0.0 }
    };
    values.iter().map(one).collect()
}

fn check_judged(found: &BlockMatches, rho: &[f64], (m, n): (usize, usize), best: usize, off: f64) {
    for i in 0..m {
        let row = &rho[i * n..(i + 1) * n];
        let mut order: Vec<usize> = (0..n).filter(|&j| !row[j].is_nan()).collect();
        order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        let mut seen = Vec::new();
        for slot in 0..best {
            let (got, partner) = (found.rho[slot * m + i], found.partner[slot * m + i] as usize);
            let Some(&want) = order.get(slot) else {
                assert!(got.is_nan(), "row {i} has no {slot}th partner, not {got}");
                continue;
            };
            assert!((f64::from(got) - row[want]).abs() < off, "row {i}: {got} for {}", row[want]);
            // Another partner is accepted only if its correlation is as large.
            assert!((row[partner] - row[want]).abs() < 2.0 * off, "row {i}: {partner} for {want}");
            assert!(!seen.contains(&partner), "row {i}: {partner} twice");
            seen.push(partner);
        }
    }
    let all: Vec<f64> = rho.iter().copied().filter(|r| !r.is_nan()).collect();
    assert_eq!(found.histogram.iter().sum::<u64>(), all.len() as u64);
    for (bin, &count) in found.histogram.iter().enumerate() {
        let edge = |i: usize| -1.0 + 2.0 * i as f64 / BINS as f64;
        // Correlations near an edge may fall on its other side after rounding.
        let within = |by: f64| {
            let (low, high) = (edge(bin) - by, edge(bin + 1) + by);
            let ends = |r: f64| (bin == 0 || r >= low) && (bin + 1 == BINS || r < high);
            all.iter().filter(|&&r| ends(r)).count() as u64
        };
        assert!((within(-off)..=within(off)).contains(&count), "bin {bin}: {count}");
    }
    for (power, &got) in found.powers.iter().enumerate() {
        let want: f64 = all.iter().map(|r| r.powi(power as i32)).sum();
        assert!(
            (got - want).abs() <= off * (all.len() as f64 + 1.0),
            "power {power}: {got} for {want}"
        );
    }
}

pub fn comparisons_find_the_best_partners<D: Probe>(device: &D) {
    for (m, n, k, best) in [(1, 1, 8, 1), (140, 150, 90, 3), (40, 300, 64, 1), (9, 5, 70, 10)] {
        for form in [FORMS[0], FORMS[1], FORMS[2]] {
            let (x, y) = (neurons(m, k, 1), neurons(n, k, 2));
            let (x, y) = (rounded(&x, form), rounded(&y, form));
            let (dx, dy) = (halves(device, &x, k, form), halves(device, &y, k, form));
            let (sx, sy) =
                (DeviceNeuronSums::of(device, &x, k), DeviceNeuronSums::of(device, &y, k));
            let operands = (&dx.all(), &dy.all(), k);
            let sides = (&sx.side(), &sy.side());
            let found = ops::correlate(device, operands, sides, k as f64, best).unwrap();
            // A mean of three standard deviations makes Σ|xy| ten times the spread.
            check_judged(&found, &twin::pearson(&x, &y, k), (m, n), best, 1e-4);
        }
    }
}

fn stored_sums_give_the_same_matches<D: Probe>(device: &D) {
    let (m, n, k, best) = (133, 140, 70, 2);
    let (x, y) = (neurons(m, k, 3), neurons(n, k, 4));
    let form = FORMS[2];
    let (dx, dy) = (halves(device, &x, k, form), halves(device, &y, k, form));
    let (sx, sy) = (DeviceNeuronSums::of(device, &x, k), DeviceNeuronSums::of(device, &y, k));
    let (operands, sides) = ((&dx.all(), &dy.all(), k), (&sx.side(), &sy.side()));
    let fused = ops::correlate(device, operands, sides, k as f64, best).unwrap();
    let mut c = Array::new(device, m * n).unwrap();
    let into = ProductTarget { values: &mut c, at: 0, ld: n, add: false };
    ops::product(device, operands, into, None).unwrap();
    let sums = StoredSums { values: &c, at: 0, ld: n, shape: (m, n) };
    let stored = ops::judge_sums(device, &sums, sides, k as f64, best).unwrap();
    check_judged(&stored, &twin::pearson(&x, &y, k), (m, n), best, 1e-4);
    assert_eq!(fused.partner, stored.partner, "the same arithmetic on the same sums");
    assert_eq!(fused.histogram, stored.histogram);
}

fn sums_become_an_operand<D: Probe>(device: &D) {
    let (m, n, k) = (9, 300, 40);
    for form in [FORMS[1], FORMS[2]] {
        let (x, y) = (neurons(m, k, 5), neurons(n, k, 6));
        let (sums, _) = twin::product(&x, &y, k);
        let values: Vec<f32> = sums.iter().map(|&v| v as f32).collect();
        let c = Array::of(device, &values).unwrap();
        let (sx, sy) = (DeviceNeuronSums::of(device, &x, k), DeviceNeuronSums::of(device, &y, k));
        let mut out = HalfMatrix::new(device, m, n, form).unwrap();
        let of = StoredSums { values: &c, at: 0, ld: n, shape: (m, n) };
        let sides = (&sx.side(), &sy.side());
        ops::scale_sums(device, &of, sides, (k as f64, 0.5), &mut out).unwrap();
        let got = out.to_vec(device, n).unwrap();
        let (rho, spreads) = (twin::pearson(&x, &y, k), twin::sums(&y, k));
        for (at, (&got, rho)) in got.iter().zip(rho).enumerate() {
            let (row, spread) = (at / n, 1.0 / spreads[at % n].1);
            match spread.is_nan() {
                true => assert!(got == 0.0, "column {} has no correlation", at % n),
                false if rho.is_nan() => assert!(got.is_nan(), "row {row} has none"),
                false => {
                    let want = rho * spread / 2.0;
                    // Sums of products with a mean of three are in f32.
                    let room = want.abs() * unit(form) + 2e-4;
                    assert!((f64::from(got) - want).abs() < room, "{form:?} {got} for {want}");
                }
            }
        }
    }
}

fn the_first_of_equals_comes_first<D: Probe>(device: &D) {
    // Columns 0 to 299 are all equal, in three tiles.
    let (k, n) = (16, 300);
    let x = Random::new(5).values(k);
    let y = x.repeat(n);
    let (dx, dy) = (halves(device, &x, k, FORMS[0]), halves(device, &y, k, FORMS[0]));
    let (sx, sy) = (DeviceNeuronSums::of(device, &x, k), DeviceNeuronSums::of(device, &y, k));
    let sides = (&sx.side(), &sy.side());
    let found = ops::correlate(device, (&dx.all(), &dy.all(), k), sides, k as f64, 4).unwrap();
    assert_eq!(found.partner, [0, 1, 2, 3]);
}

pub fn chosen_rows_and_columns_are_copied<D: Probe>(device: &D) {
    for form in FORMS {
        let (m, k) = (5, 300);
        let x = rounded(&Random::new(9).values(m * k), form);
        let from = halves(device, &x, k, form);
        let index =
            |of: &[usize]| Array::of(device, &of.iter().map(|&i| i as u32).collect::<Vec<_>>());
        let backwards: Vec<usize> = (0..k).rev().collect();
        for (rows, columns) in [
            (Some(vec![4, 0, 4]), None),
            (None, Some(backwards)),
            (Some(vec![1]), Some(vec![299, 0, 7, 7])),
        ] {
            let of =
                |chosen: &Option<Vec<usize>>, all| chosen.clone().unwrap_or((0..all).collect());
            let (want_rows, want_columns) = (of(&rows, m), of(&columns, k));
            let mut out =
                HalfMatrix::new(device, want_rows.len(), want_columns.len(), form).unwrap();
            let rows = rows.map(|rows| index(&rows).unwrap());
            let columns = columns.map(|columns| index(&columns).unwrap());
            ops::gather(device, &from, rows.as_ref(), columns.as_ref(), &mut out).unwrap();
            let place = |r: &usize| want_columns.iter().map(move |c| r * k + c).collect::<Vec<_>>();
            let want: Vec<f32> = want_rows.iter().flat_map(place).map(|at| x[at]).collect();
            assert!(out.to_vec(device, want_columns.len()).unwrap() == want, "{form:?}");
        }
    }
}

pub fn candidates_are_summed_in_f64<D: Probe>(device: &D) {
    for form in FORMS {
        let (m, n, k, pairs) = (20, 30, 77, 45);
        let mut random = Random::new(8);
        let (x, y) = (rounded(&random.values(m * k), form), rounded(&random.values(n * k), form));
        let (dx, dy) = (halves(device, &x, k, form), halves(device, &y, k, form));
        let i: Vec<u32> = (0..pairs).map(|p| p * 7 % m as u32).collect();
        let j: Vec<u32> = (0..pairs).map(|p| p * 11 % n as u32).collect();
        let (di, dj) = (Array::of(device, &i).unwrap(), Array::of(device, &j).unwrap());
        let mut sums = Array::of(device, &vec![100.0; pairs as usize]).unwrap();
        ops::candidates(device, (&dx, &dy, k), (&di, &dj), &mut sums).unwrap();
        let (want, size) = twin::product(&x, &y, k);
        for ((&got, &i), &j) in sums.to_vec(device).unwrap().iter().zip(&i).zip(&j) {
            let at = i as usize * n + j as usize;
            assert!((got - 100.0 - want[at]).abs() < 1e-6 * size[at], "{form:?}");
        }
    }
}
