//! A random orthogonal matrix that is applied in `d log d` operations instead of `d²`.
//!
//! One round multiplies every component by a random sign and applies a Hadamard transform, which
//! mixes all components. Four rounds give a matrix whose chance levels are distributed like those
//! of a uniformly distributed orthogonal matrix; two are too few where one neuron has nearly all
//! the variance (`tests.rs` has the comparison, `benches/results/` the record).
//!
//! A Hadamard transform needs a power of two. For any other width, a round first puts the
//! components in random order, transforms the first `p` of them, where `p` is the largest power
//! of two below `d`, and then the last `p`, so that every component is mixed.

use rayon::prelude::*;

use super::random::{Purpose, RandomStream};
use crate::backend::wide::{Both, widened};

/// Number of rows transformed together, one in each lane of a register.
const LANES: usize = 16;
const ROUNDS: usize = 4;

/// One component of `LANES` rows.
type Lanes = [f32; LANES];

/// A random orthogonal matrix `[d, d]` as a product of signs, permutations and Hadamard
/// transforms.
pub struct FastRotation {
    d: usize,
    rounds: Vec<Round>,
}

/// A Hadamard transform of the first components, and one of the last components if they differ.
struct Round {
    /// Order of the components; empty if they stay where they are.
    order: Vec<usize>,
    /// Signs divided by √p, for each transform.
    signs: Vec<Vec<f32>>,
}

impl FastRotation {
    /// Draws a matrix of `d` rows from a stream of random numbers.
    pub fn new(stream: RandomStream, d: usize) -> Self {
        let stream = RandomStream { purpose: Purpose::FastRotation, ..stream };
        Self { d, rounds: (0..ROUNDS).map(|round| Round::new(stream, round, d)).collect() }
    }

    /// Returns the floating-point operations that transform one row.
    pub fn operations(d: usize) -> f64 {
        let (p, transforms) = shape(d);
        (ROUNDS * transforms * p * (1 + p.ilog2() as usize)) as f64
    }

    /// Fills a block with `R s` for every row `s` of up to `LANES` rows, `[n, d]`.
    fn transform(&self, block: &mut RowBlock, rows: &[f32]) {
        block.load(rows, self.d);
        self.apply(block);
    }

    fn apply(&self, block: &mut RowBlock) {
        let (p, _) = shape(self.d);
        for round in &self.rounds {
            block.reorder(&round.order);
            for (signs, first) in round.signs.iter().zip([0, self.d - p]) {
                hadamard(&mut block.values[first..first + p], signs);
            }
        }
    }

    /// Returns the matrix itself, `[d, d]`.
    pub fn dense(&self) -> Vec<f32> {
        let d = self.d;
        let mut all = vec![0.0; d * d];
        let mut block = RowBlock::new(d);
        for first in (0..d).step_by(LANES) {
            let lanes = LANES.min(d - first);
            block.values.fill([0.0; LANES]);
            (0..lanes).for_each(|lane| block.values[first + lane][lane] = 1.0);
            self.apply(&mut block);
            for (row, values) in block.values.iter().enumerate() {
                all[row * d + first..][..lanes].copy_from_slice(&values[..lanes]);
            }
        }
        all
    }

    /// Returns `R_jᵀ C R_j` for every row j of the matrix; `c` is symmetric, `[d, d]`.
    pub fn squares(&self, c: &[f32]) -> Vec<f64> {
        let d = self.d;
        // The blocks hold R C by columns: component j of block b is `(R C)[j, LANES b + lane]`.
        let blocks: Vec<RowBlock> = c
            .par_chunks(LANES * d)
            .map(|rows| {
                let mut block = RowBlock::new(d);
                self.transform(&mut block, rows);
                block
            })
            .collect();
        let diagonal = |first: usize| {
            let mut block = RowBlock::new(d);
            for k in 0..d {
                let column = &blocks[k / LANES].values;
                for lane in 0..LANES.min(d - first) {
                    block.values[k][lane] = column[first + lane][k % LANES];
                }
            }
            self.apply(&mut block);
            let at = |lane: usize| f64::from(block.values[first + lane][lane]);
            (0..LANES.min(d - first)).map(at).collect::<Vec<f64>>()
        };
        let firsts: Vec<usize> = (0..d).step_by(LANES).collect();
        firsts.into_par_iter().flat_map_iter(diagonal).collect()
    }

    /// Raises each of `best` to the largest `(R s)_j inverse_j` of its row s of `rows`, `[n, d]`.
    pub fn raise(&self, rows: &[f32], inverse: &[f64], best: &mut [f64]) {
        let blocks = best.par_chunks_mut(LANES).zip(rows.par_chunks(LANES * self.d));
        blocks.for_each_init(
            || RowBlock::new(self.d),
            |block, (best, rows)| {
                self.transform(block, rows);
                let mut largest = [f64::NEG_INFINITY; LANES];
                largest[..best.len()].copy_from_slice(best);
                raise_to_largest(&mut largest, &block.values, inverse);
                best.copy_from_slice(&largest[..best.len()]);
            },
        );
    }
}

/// Returns the length of the Hadamard transforms, and their number in each round.
fn shape(d: usize) -> (usize, usize) {
    let p = 1 << d.ilog2();
    (p, if p == d { 1 } else { 2 })
}

impl Round {
    fn new(stream: RandomStream, round: usize, d: usize) -> Self {
        let (p, transforms) = shape(d);
        // The upper bits of the id tell the parts of the matrix apart.
        let part = |part: usize| {
            let part = (round * 3 + part) as u64;
            RandomStream { id: stream.id ^ part << 56, ..stream }
        };
        let signs = |transform: usize| {
            let mut signs = vec![0.0; p];
            part(1 + transform).normals(&mut signs);
            let scale = (p as f32).sqrt().recip();
            signs.iter_mut().for_each(|sign| *sign = scale.copysign(*sign));
            signs
        };
        let order = if transforms == 1 { Vec::new() } else { part(0).permutation(d) };
        Self { order, signs: (0..transforms).map(signs).collect() }
    }
}

/// Up to `LANES` rows, component by component.
struct RowBlock {
    values: Vec<Lanes>,
    spare: Vec<Lanes>,
}

impl RowBlock {
    fn new(d: usize) -> Self {
        Self { values: vec![[0.0; LANES]; d], spare: vec![[0.0; LANES]; d] }
    }

    /// Takes rows `[n, d]`, at most `LANES` of them; the other lanes are 0.
    fn load(&mut self, rows: &[f32], d: usize) {
        if rows.len() < LANES * d {
            self.values.fill([0.0; LANES]);
        }
        for (lane, row) in rows.chunks_exact(d).enumerate() {
            self.values.iter_mut().zip(row).for_each(|(values, v)| values[lane] = *v);
        }
    }

    /// Puts the component `order[i]` in place `i`.
    fn reorder(&mut self, order: &[usize]) {
        if !order.is_empty() {
            self.spare.iter_mut().zip(order).for_each(|(to, from)| *to = self.values[*from]);
            std::mem::swap(&mut self.values, &mut self.spare);
        }
    }
}

widened! {
    /// Multiplies the components by `signs` and applies the Hadamard transform, in place. The
    /// number of components is a power of two.
    fn hadamard(values: &mut [Lanes], signs: &[f32]) {
        let (fours, rest) = values.as_chunks_mut::<4>();
        // The signs have no loop of their own, which would be compiled to scattered writes.
        for (four, signs) in Both(fours.iter_mut(), signs.as_chunks::<4>().0.iter()) {
            first_levels(four, signs);
        }
        for (values, sign) in rest.iter_mut().zip(signs) {
            values.iter_mut().for_each(|v| *v *= sign);
        }
        let mut half = if rest.is_empty() { 4 * LANES } else { LANES };
        let values = values.as_flattened_mut();
        // Two levels at once, so that values are read and written half as often.
        while half * 4 <= values.len() {
            for block in values.chunks_exact_mut(4 * half) {
                let (front, back) = block.split_at_mut(2 * half);
                two_levels(front.split_at_mut(half), back.split_at_mut(half));
            }
            half *= 4;
        }
        if half * 2 <= values.len() {
            let (front, back) = values.split_at_mut(half);
            for (a, b) in front.iter_mut().zip(back) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
    }
}

/// Multiplies four components by signs and applies the first two levels of the transform.
#[inline(always)]
fn first_levels([a, b, c, d]: &mut [Lanes; 4], signs: &[f32; 4]) {
    for lane in 0..LANES {
        let four = [a[lane] * signs[0], b[lane] * signs[1], c[lane] * signs[2], d[lane] * signs[3]];
        [a[lane], b[lane], c[lane], d[lane]] = butterfly(four);
    }
}

/// Applies two levels of the transform to four groups of components.
#[inline(always)]
fn two_levels((a, b): (&mut [f32], &mut [f32]), (c, d): (&mut [f32], &mut [f32])) {
    for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
        [*a, *b, *c, *d] = butterfly([*a, *b, *c, *d]);
    }
}

#[inline(always)]
fn butterfly([a, b, c, d]: [f32; 4]) -> [f32; 4] {
    let (ab, a_b) = (a + b, a - b);
    let (cd, c_d) = (c + d, c - d);
    [ab + cd, a_b + c_d, ab - cd, a_b - c_d]
}

widened! {
    fn raise_to_largest(largest: &mut [f64; LANES], values: &[Lanes], inverse: &[f64]) {
        // A copy stays in registers.
        let mut best = *largest;
        for (values, inverse) in Both(values.iter(), inverse.iter()) {
            for (best, value) in Both(best.iter_mut(), values.iter()) {
                // `max` returns the other operand if one is NaN.
                *best = best.max(f64::from(*value) * inverse);
            }
        }
        *largest = best;
    }
}

#[cfg(test)]
mod tests;
