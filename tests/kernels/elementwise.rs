//! Tests of `kernels/activation.cu` and `kernels/forward.cu`.

use universal_neurons::backend::device::HalfType;
use universal_neurons::backend::device::array::{Array, HalfFormat, HalfMatrix};
use universal_neurons::backend::device::ops::{
    self, ACTIVATION_CHUNK, ACTIVATION_SUMS, ActivationBatch, Gelu, HISTOGRAM_BINS, PlacedChange,
    Sequences,
};

use super::{FORMS, Probe, Random, on_every_device, twin};

on_every_device!(
    activations_are_their_definition,
    values_beyond_f16_are_clamped_and_infinity_is_kept,
    pre_activations_are_counted_by_bin,
    embeddings_are_looked_up,
    layer_norm_is_its_definition,
    rotation_is_its_definition,
    changes_are_their_definition,
    attention_is_its_definition,
);

/// Returns the largest error of rounding a value to a format.
fn off(form: HalfFormat, value: f64) -> f64 {
    let unit = match (form.number, form.split) {
        (HalfType::F16, false) => 2f64.powi(-11),
        (HalfType::Bf16, false) => 2f64.powi(-8),
        (HalfType::F16, true) => 2f64.powi(-21),
        (HalfType::Bf16, true) => 2f64.powi(-16),
    };
    // f16 has no numbers between 0 and 2^-24.
    value.abs() * unit + 2f64.powi(-25)
}

/// Checks that every value is written exactly once, and nothing between the rows.
fn assert_written_once<D: Probe>(device: &D, matrix: &HalfMatrix<D>) {
    let Some(writes) = device.writes(matrix.values().memory()) else { return };
    for (byte, &times) in writes.iter().enumerate() {
        let col = byte / 2 % matrix.ld();
        assert_eq!(times, u8::from(col < matrix.cols), "column {col} of {}", matrix.cols);
    }
}

/// The inputs of the activation kernel for one layer.
struct Layer {
    tokens: usize,
    width: usize,
    x: Vec<f32>,
    /// `[width][4]`: bias, centre, pilot, scale.
    neurons: Vec<f32>,
    slot: Vec<i32>,
}

struct Made {
    next: Vec<f32>,
    kept: Vec<f32>,
    sums: Vec<Vec<f64>>,
}

const EDGE: f32 = -0.098;
const LOW: f32 = 0.01;

impl Layer {
    /// Neurons with a large mean, with tails of ten standard deviations, and with a small spread.
    fn new(tokens: usize, width: usize) -> Self {
        let mut random = Random::new((tokens * width) as u64);
        let value = |i: usize, random: &mut Random| match i % width % 4 {
            0 => 30.0 + random.value(),
            1 => {
                if i / width % 40 == 11 {
                    10.0
                } else {
                    random.value()
                }
            }
            2 => 0.001 * random.value(),
            _ => 3.0 * random.value(),
        };
        let x = (0..tokens * width).map(|i| value(i, &mut random)).collect();
        let of = |j: usize| match j % 4 {
            0 => [0.5, 30.5, 30.5, 1.0],
            2 => [0.0, 0.0, 0.0, 1024.0],
            _ => [-0.25, -0.25, 0.1, 0.5],
        };
        let neurons = (0..width).flat_map(of).collect();
        let mut kept = 0;
        let slot = (0..tokens).map(|t| match t % 5 {
            2 => -1,
            _ => {
                kept += 1;
                kept - 1
            }
        });
        Self { tokens, width, x, neurons, slot: slot.collect() }
    }

    fn kept(&self) -> usize {
        self.slot.iter().filter(|&&s| s >= 0).count()
    }

    fn run<D: Probe>(&self, device: &D, form: HalfFormat, gelu: Gelu) -> Made {
        let (tokens, width) = (self.tokens, self.width);
        let mut next = HalfMatrix::new(device, tokens, width, form).unwrap();
        let mut kept = HalfMatrix::new(device, width + 3, self.kept().max(1) + 5, form).unwrap();
        let chunks = tokens.div_ceil(ACTIVATION_CHUNK);
        let mut sums = Array::new(device, chunks * ACTIVATION_SUMS * width).unwrap();
        let neurons = Array::of(device, &self.neurons).unwrap();
        let slot = Array::of(device, &self.slot).unwrap();
        let batch = ActivationBatch {
            tokens,
            width,
            neurons: &neurons,
            slot: &slot,
            gelu,
            edge: EDGE,
            low: LOW,
        };
        let x = Array::of(device, &self.x).unwrap();
        ops::activation(device, &x, &batch, &mut next, (&mut kept, 3), &mut sums).unwrap();
        self.check_writes(device, &next, &kept);
        let sums = sums.to_vec(device).unwrap();
        let total = |q: usize, j: usize| {
            (0..chunks).map(|c| f64::from(sums[(c * ACTIVATION_SUMS + q) * width + j])).sum()
        };
        let columns = 0..self.kept();
        let (ld, plane) = (kept.ld(), kept.plane() as usize);
        let values = |at: usize| {
            let read = |at: usize| kept.values().read(device, at..at + columns.len()).unwrap();
            let first = read(at);
            let second = if form.split { read(at + plane) } else { vec![0; first.len()] };
            let sum = |(a, b): (&u16, &u16)| form.number.widen(*a) + form.number.widen(*b);
            first.iter().zip(&second).map(sum).collect::<Vec<f32>>()
        };
        Made {
            next: next.to_vec(device, width).unwrap(),
            kept: (0..width).flat_map(|j| values((j + 3) * ld)).collect(),
            sums: (0..ACTIVATION_SUMS).map(|q| (0..width).map(|j| total(q, j)).collect()).collect(),
        }
    }

    /// Checks that every value is written exactly once and nothing else is written.
    fn check_writes<D: Probe>(&self, device: &D, next: &HalfMatrix<D>, kept: &HalfMatrix<D>) {
        assert_written_once(device, next);
        if let Some(writes) = device.writes(kept.values().memory()) {
            let ld = kept.ld();
            for (byte, &times) in writes.iter().enumerate() {
                let (row, col) = (byte / 2 / ld % kept.rows, byte / 2 % ld);
                assert_eq!(times, u8::from(row >= 3 && col < self.kept()), "row {row}, {col}");
            }
        }
    }

    fn check(&self, made: &Made, form: HalfFormat, gelu: fn(f64) -> f64) {
        let (width, kept) = (self.width, self.kept());
        for j in 0..width {
            let [bias, centre, pilot, scale] =
                [0, 1, 2, 3].map(|i| f64::from(self.neurons[j * 4 + i]));
            let mut want = [0.0; ACTIVATION_SUMS];
            let mut room = [0.0; ACTIVATION_SUMS];
            for t in 0..self.tokens {
                let pre = f64::from(self.x[t * width + j] + self.neurons[j * 4]);
                assert!((pre - f64::from(self.x[t * width + j]) - bias).abs() < 1e-5);
                let post = gelu(pre);
                let next = f64::from(made.next[t * width + j]);
                // The error of ex2.approx and of f32 arithmetic: a few f32 ulps.
                let close = off(form, post) + 2e-6 * post.abs() + 2e-7;
                assert!((next - post).abs() < close, "{form:?}: {next} for {post} at {pre}");
                if self.slot[t] < 0 {
                    continue;
                }
                let value = f64::from(made.kept[j * kept + self.slot[t] as usize]);
                let shifted = (post - pilot) * scale;
                let near = off(form, shifted) + (3e-6 * post.abs() + 4e-7) * scale;
                assert!((value - shifted).abs() < near, "{form:?}: {value} for {shifted}");
                let d = pre - centre;
                let add = |q: usize, v: f64, want: &mut [f64], room: &mut [f64]| {
                    want[q] += v;
                    room[q] += v.abs() * 2e-5 + 1e-6;
                };
                for p in 0..4 {
                    add(p, d.powi(p as i32 + 1), &mut want, &mut room);
                }
                // The kernel sums the rounded values.
                add(4, value, &mut want, &mut room);
                add(5, value * value, &mut want, &mut room);
                let counts = [pre > 0.0, pre > f64::from(EDGE), post < f64::from(LOW)];
                for (q, count) in counts.into_iter().enumerate() {
                    add(6 + q, count.into(), &mut want, &mut room);
                }
            }
            for q in 0..ACTIVATION_SUMS {
                let got = made.sums[q][j];
                let room = room[q] + 3e-5 * want[q].abs();
                assert!(
                    (got - want[q]).abs() <= room,
                    "sum {q} of neuron {j}: {got} for {}",
                    want[q]
                );
            }
        }
    }
}

pub fn activations_are_their_definition<D: Probe>(device: &D) {
    for (tokens, width) in [(1, 8), (37, 43), (300, 72)] {
        for form in FORMS {
            let layer = Layer::new(tokens, width);
            layer.check(&layer.run(device, form, Gelu::Tanh), form, twin::gelu_tanh);
        }
    }
    let layer = Layer::new(40, 8);
    layer.check(&layer.run(device, FORMS[2], Gelu::Erf), FORMS[2], twin::gelu_erf);
}

fn values_beyond_f16_are_clamped_and_infinity_is_kept<D: Probe>(device: &D) {
    let layer = Layer {
        tokens: 3,
        width: 8,
        x: [[65_503.0; 8], [70_000.0; 8], [f32::INFINITY; 8]].concat(),
        neurons: [0.0, 0.0, 0.0, 1.0].repeat(8),
        slot: vec![0, 1, 2],
    };
    let made = layer.run(device, FORMS[0], Gelu::Tanh);
    assert_eq!(made.next[..16], [65_504.0; 16], "the nearest to 65,503, and the largest");
    assert!(made.next[16..].iter().all(|v| v.is_infinite()));
    assert!(made.sums[5].iter().all(|v| !v.is_finite()), "the neuron is found out");
    let made = layer.run(device, FORMS[1], Gelu::Tanh);
    assert_eq!(made.next[8], 70_144.0, "bf16 has the range of f32");
}

/// Bin i holds the values in (−10 + (i − 1) 25/255, −10 + i 25/255]; edges are computed by division.
pub fn pre_activations_are_counted_by_bin<D: Probe>(device: &D) {
    let (tokens, width, first) = (300, 40, 8);
    let mut random = Random::new(9);
    let mut x: Vec<f32> = random.values(tokens * width).iter().map(|v| 14.0 * v + 2.0).collect();
    x[..8].copy_from_slice(&[-10.0, -5.0, 0.0, 5.0, 10.0, 15.0, f32::INFINITY, f32::NEG_INFINITY]);
    let slot: Vec<i32> = (0..tokens as i32).map(|t| if t % 7 == 3 { -1 } else { t }).collect();
    let mut counts = Array::zeros(device, (first + width) * HISTOGRAM_BINS).unwrap();
    let (dx, ds) = (Array::of(device, &x).unwrap(), Array::of(device, &slot).unwrap());
    for _ in 0..2 {
        let bins = (&mut counts, first);
        ops::histogram(device, &dx, (tokens, width), &ds, bins).unwrap();
    }
    let mut want = vec![0; (first + width) * HISTOGRAM_BINS];
    for (row, _) in x.chunks_exact(width).zip(&slot).filter(|(_, slot)| **slot >= 0) {
        for (neuron, &value) in row.iter().enumerate() {
            let bin = ((f64::from(value) + 10.0) / (25.0 / 255.0)).ceil().clamp(0.0, 256.0);
            want[(first + neuron) * HISTOGRAM_BINS + bin as usize] += 2;
        }
    }
    let got = counts.to_vec(device).unwrap();
    let wrong = (0..want.len()).find(|i| got[*i] != want[*i]);
    assert_eq!(wrong, None, "the first bin with another count");
}

fn embeddings_are_looked_up<D: Probe>(device: &D) {
    let (d, vocab, context) = (300, 7, 5);
    let mut random = Random::new(1);
    let (embed, pos) = (random.values(vocab * d), random.values(context * d));
    let (id, position) = (vec![6_u32, 0, 3, 3], vec![0_u32, 4, 1, 2]);
    let tables = (&Array::of(device, &embed).unwrap(), &Array::of(device, &pos).unwrap());
    let at = (&Array::of(device, &id).unwrap(), &Array::of(device, &position).unwrap());
    let mut resid = Array::new(device, 4 * d).unwrap();
    ops::embed(device, tables, at, d, &mut resid).unwrap();
    for (t, row) in resid.to_vec(device).unwrap().chunks_exact(d).enumerate() {
        for (c, &got) in row.iter().enumerate() {
            let want = embed[id[t] as usize * d + c] + pos[position[t] as usize * d + c];
            assert_eq!(got, want);
        }
    }
}

fn layer_norm_is_its_definition<D: Probe>(device: &D) {
    for (rows, d) in [(1, 8), (9, 71), (17, 768)] {
        for form in [FORMS[1], FORMS[2]] {
            let mut random = Random::new(rows as u64);
            // With a mean of 1,000, the variance must not be lost to cancellation.
            let x: Vec<f32> = random.values(rows * d).iter().map(|v| 1000.0 + v).collect();
            let (gain, bias) = (random.values(d), random.values(d));
            let mut out = HalfMatrix::new(device, rows, d, form).unwrap();
            let (dx, dg) = (Array::of(device, &x).unwrap(), Array::of(device, &gain).unwrap());
            let db = Array::of(device, &bias).unwrap();
            ops::layer_norm(device, (&dx, rows), (&dg, &db, 1e-5), &mut out).unwrap();
            let got = out.to_vec(device, d).unwrap();
            for (got, x) in got.chunks_exact(d).zip(x.chunks_exact(d)) {
                for (&got, want) in got.iter().zip(twin::layer_norm(x, &gain, &bias, 1e-5)) {
                    // The f32 mean of numbers near 1,000 has an error of a few 2^-15.
                    assert!((f64::from(got) - want).abs() < off(form, want) + 5e-4);
                }
            }
            assert_written_once(device, &out);
        }
    }
}

/// Dimension i < pairs of a head at position p becomes a cos θ − b sin θ, where b is dimension i +
/// pairs, and b becomes b cos θ + a sin θ. Values and all other dimensions stay.
pub fn rotation_is_its_definition<D: Probe>(device: &D) {
    for (heads, d_head, pairs) in [(2, 8, 1), (3, 8, 4), (2, 40, 5), (128, 8, 4)] {
        let (d, positions) = (heads * d_head, [0_u32, 1, 2, 0, 1]);
        let mut random = Random::new(pairs as u64);
        let qkv = random.values(positions.len() * 3 * d);
        let angle = |position: u32, pair: usize| f64::from(position) * 0.7 / (1.0 + pair as f64);
        let turns = (0..3).flat_map(|p| (0..pairs).map(move |i| angle(p, i)));
        let turns: Vec<f32> =
            turns.flat_map(|angle| [angle.cos() as f32, angle.sin() as f32]).collect();
        let mut rotated = Array::of(device, &qkv).unwrap();
        let of = (&Array::of(device, &turns).unwrap(), pairs);
        let places = Array::of(device, &positions).unwrap();
        ops::rotate(device, &mut rotated, &places, of, (d, d_head)).unwrap();
        let writes = device.writes(rotated.memory());
        for (at, got) in rotated.to_vec(device).unwrap().into_iter().enumerate() {
            let (token, column) = (at / (3 * d), at % (3 * d));
            let i = column % d_head;
            let turned = column < 2 * d && i < 2 * pairs;
            let (sin, cos) = angle(positions[token], i % pairs).sin_cos();
            let value = |at: usize| f64::from(qkv[at]);
            let want = match (turned, i < pairs) {
                (false, _) => value(at),
                (true, true) => value(at) * cos - value(at + pairs) * sin,
                (true, false) => value(at) * cos + value(at - pairs) * sin,
            };
            assert!((f64::from(got) - want).abs() < 1e-6, "column {column}: {got} for {want}");
            if let Some(writes) = &writes {
                assert_eq!(writes[4 * at], u8::from(turned), "column {column}");
            }
        }
    }
}

/// Chosen columns of marked tokens become min(max(x scale + add, low), high). All else stays, and is
/// not written.
pub fn changes_are_their_definition<D: Probe>(device: &D) {
    let rules = [
        [1.0, 0.75, f32::NEG_INFINITY, f32::INFINITY],
        [-2.5, 0.0, f32::NEG_INFINITY, f32::INFINITY],
        [1.0, 0.0, -0.5, 0.25],
        [0.0, 0.0, 3.0, 3.0],
    ];
    for (tokens, width, count) in [(1, 4, 1), (5, 12, 3), (3, 301, 300)] {
        let x = Random::new(width as u64).values(tokens * width);
        let columns: Vec<usize> = (0..count).map(|i| (i * 5 + 2) % width).collect();
        let rules: Vec<[f32; 4]> = (0..count).map(|i| rules[i % rules.len()]).collect();
        let marked: Vec<bool> = (0..tokens).map(|t| t % 2 == 0).collect();
        for marks in [None, Some(marked.as_slice())] {
            let change = PlacedChange::of(device, &columns, &rules, marks).unwrap();
            let rule_of = |token: usize, column: usize| {
                let at = columns.iter().position(|c| *c == column)?;
                marks.is_none_or(|marks| marks[token]).then_some(rules[at])
            };
            let want = |token: usize, column: usize| {
                let value = f64::from(x[token * width + column]);
                rule_of(token, column).map_or(value, |[scale, add, low, high]| {
                    let changed = value * f64::from(scale) + f64::from(add);
                    changed.max(low.into()).min(high.into())
                })
            };
            let mut values = Array::of(device, &x).unwrap();
            ops::change_values(device, &mut values, (tokens, width), &change).unwrap();
            let writes = device.writes(values.memory());
            for (at, got) in values.to_vec(device).unwrap().into_iter().enumerate() {
                let (token, column) = (at / width, at % width);
                assert!((f64::from(got) - want(token, column)).abs() < 1e-6, "{token}, {column}");
                if let Some(writes) = &writes {
                    assert_eq!(writes[4 * at], u8::from(rule_of(token, column).is_some()));
                }
            }
            for form in FORMS {
                let of = |row: usize, col: usize| x[row * width + col];
                let mut operand = HalfMatrix::of(device, (tokens, width), form, of).unwrap();
                let before = operand.to_vec(device, width).unwrap();
                ops::change_operand(device, &mut operand, &change).unwrap();
                let got = operand.to_vec(device, width).unwrap();
                for (at, got) in got.into_iter().enumerate() {
                    let (token, column) = (at / width, at % width);
                    let want = want(token, column);
                    // Both x and the result are rounded.
                    let allowed = 2.0 * off(form, want) + 3.0 * off(form, x[at].into());
                    assert!((f64::from(got) - want).abs() < allowed, "{form:?} {token}, {column}");
                    if rule_of(token, column).is_none() {
                        assert_eq!(got, before[at], "{form:?} {token}, {column}");
                    }
                }
            }
        }
    }
}

pub fn attention_is_its_definition<D: Probe>(device: &D) {
    let lengths = [1_u32, 70, 9];
    for (heads, d_head) in [(2, 8), (3, 7), (1, 64), (1, 72)] {
        let (d, tokens) = (heads * d_head, lengths.iter().sum::<u32>() as usize);
        // Scores reach ±40, so softmax must subtract the largest one.
        let qkv: Vec<f32> = Random::new(4).values(tokens * 3 * d).iter().map(|v| 4.0 * v).collect();
        let start: Vec<u32> = vec![0, 1, 71];
        let sequences = Sequences {
            start: Array::of(device, &start).unwrap(),
            length: Array::of(device, &lengths).unwrap(),
            longest: 70,
            tokens,
        };
        let form = FORMS[2];
        let mut out = HalfMatrix::new(device, tokens, d, form).unwrap();
        let dq = Array::of(device, &qkv).unwrap();
        ops::attention(device, &dq, &sequences, (d, d_head, 0.25), &mut out).unwrap();
        let got = out.to_vec(device, d).unwrap();
        for (&start, &len) in start.iter().zip(&lengths) {
            for head in 0..heads {
                let part = |which: usize| -> Vec<Vec<f64>> {
                    let row = |t: usize| {
                        let at = (start as usize + t) * 3 * d + which * d + head * d_head;
                        qkv[at..at + d_head].iter().map(|&v| f64::from(v)).collect()
                    };
                    (0..len as usize).map(row).collect()
                };
                let want = twin::attention(&part(0), &part(1), &part(2), 0.25);
                for (t, want) in want.iter().enumerate() {
                    for (c, want) in want.iter().enumerate() {
                        let got = got[(start as usize + t) * d + head * d_head + c];
                        assert!((f64::from(got) - want).abs() < 1e-4, "{got} for {want}");
                    }
                }
            }
        }
        assert_written_once(device, &out);
    }
}
