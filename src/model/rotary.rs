//! Rotary positions: queries and keys are rotated by angles proportional to their positions, so
//! that their products depend on the distance between them.

use super::Rotary;

/// Cosines and sines of the rotation at every position of a row.
pub struct RotaryAngles {
    /// Number of rotated pairs of dimensions.
    pairs: usize,
    /// `[position][pair]`: cosine and sine.
    turns: Vec<(f32, f32)>,
}

impl RotaryAngles {
    /// Computes the angles for rows of up to `positions` tokens: position · base^(−2i / dims) for
    /// pair i.
    pub fn new(rotary: Rotary, positions: usize) -> Self {
        let pairs = rotary.dims / 2;
        let rate = |i: usize| rotary.base.powf(-2.0 * i as f64 / rotary.dims as f64);
        let turn = |(position, i): (usize, usize)| {
            let (sin, cos) = (position as f64 * rate(i)).sin_cos();
            (cos as f32, sin as f32)
        };
        let places = (0..positions).flat_map(|p| (0..pairs).map(move |i| (p, i)));
        Self { pairs, turns: places.map(turn).collect() }
    }

    /// Returns `[position][pair][2]`: cosine and sine.
    pub fn turns(&self) -> Vec<f32> {
        self.turns.iter().flat_map(|&(cos, sin)| [cos, sin]).collect()
    }

    /// Rotates the queries and keys of one row, where `qkv` is `[len, 3 d_model]`. Dimension i of a
    /// head is paired with dimension i + dims / 2.
    pub fn turn(&self, qkv: &mut [f32], d_model: usize, d_head: usize) {
        for (position, token) in qkv.chunks_exact_mut(3 * d_model).enumerate() {
            let turns = &self.turns[position * self.pairs..][..self.pairs];
            for head in token[..2 * d_model].chunks_exact_mut(d_head) {
                let (first, second) = head.split_at_mut(self.pairs);
                for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(turns) {
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    fn row(len: usize, value: f32) -> Vec<f32> {
        (0..len * 24).map(|i| value + (i % 7) as f32).collect()
    }

    proptest! {
        // Heads of 4 dimensions, all rotated: the product of a query and a key depends only on
        // their distance, and lengths do not change.
        #[test]
        fn products_depend_on_distance(p in 0usize..20, by in 0usize..20, seed in -3.0f32..3.0) {
            let angles = RotaryAngles::new(Rotary { dims: 4, base: 100.0 }, 64);
            let at = |position: usize| {
                let mut all = row(64, seed);
                // The same token at every position.
                let token: Vec<f32> = all[..24].to_vec();
                all.chunks_exact_mut(24).for_each(|t| t.copy_from_slice(&token));
                angles.turn(&mut all, 8, 4);
                all[position * 24..][..24].to_vec()
            };
            let product = |q: &[f32], k: &[f32]| -> f32 { (0..4).map(|i| q[i] * k[8 + i]).sum() };
            let (near, far) = (product(&at(p), &at(p + by)), product(&at(20), &at(20 + by)));
            assert_relative_eq!(near, far, epsilon = 2e-3);
            prop_assert_eq!(&at(5)[16..], &at(0)[16..]);
        }
    }

    #[test]
    fn the_first_position_and_the_rest_of_a_head_stay() {
        let angles = RotaryAngles::new(Rotary { dims: 2, base: 10_000.0 }, 2);
        let mut qkv = row(2, 1.0);
        let before = qkv.clone();
        angles.turn(&mut qkv, 8, 4);
        assert_eq!(qkv[..24], before[..24]);
        assert_eq!(qkv[24 + 2..24 + 4], before[24 + 2..24 + 4], "beyond the rotated share");
        let (sin, cos) = 1.0_f32.sin_cos();
        assert_relative_eq!(qkv[24], before[24] * cos - before[25] * sin, epsilon = 1e-6);
    }
}
