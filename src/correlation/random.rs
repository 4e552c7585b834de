//! Random numbers that depend only on their address: seed, purpose, stream and position. Any part
//! of a stream can be drawn again anywhere, on any number of threads.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;

/// What random numbers are used for. Different purposes share no numbers, even with the same seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Rows of random rotations.
    Rotation = 0,
    /// Random orders of tokens.
    Permutation = 1,
    /// Noise in place of a partner's activations.
    Gaussian = 2,
    /// Noise and directions of the experiments other than the main comparison.
    Noise = 3,
    /// Signs and orders of fast rotations.
    FastRotation = 4,
    /// The order in which documents are dealt into blocks.
    Blocks = 5,
    /// Blocks and neurons that are drawn with replacement.
    Resample = 6,
    /// Weights of untrained networks.
    Weights = 7,
}

/// The address of one stream of random numbers.
#[derive(Debug, Clone, Copy)]
pub struct RandomStream {
    /// The seed given in the spec.
    pub seed: u64,
    /// The purpose of the numbers.
    pub purpose: Purpose,
    /// The index of the stream among those of the same purpose.
    pub id: u64,
}

/// Number of values drawn by one task; even, because normals are drawn in pairs.
const VALUES_PER_TASK: usize = 1 << 14;

impl RandomStream {
    /// Returns ChaCha20 with key `seed (8 bytes, little-endian), purpose, 0…` and the stream id as
    /// nonce.
    fn generator(self) -> ChaCha20Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8] = self.purpose as u8;
        let mut rng = ChaCha20Rng::from_seed(key);
        rng.set_stream(self.id);
        rng
    }

    /// Fills `out` with standard normal numbers by the Box–Muller transform: two 53-bit uniforms
    /// give the pair `r cos 2πu`, `r sin 2πu`.
    pub fn normals(self, out: &mut [f32]) {
        out.par_chunks_mut(VALUES_PER_TASK).enumerate().for_each(|(i, values)| {
            let mut rng = self.generator();
            // Each normal consumes one u64, that is two 32-bit words of the stream.
            rng.set_word_pos((i * VALUES_PER_TASK * 2) as u128);
            for pair in values.chunks_mut(2) {
                let normals = normal_pair(rng.next_u64(), rng.next_u64());
                pair.copy_from_slice(&normals[..pair.len()]);
            }
        });
    }

    /// Returns a random permutation of `0..len` (Fisher–Yates).
    pub fn permutation(self, len: usize) -> Vec<usize> {
        let mut below = self.below();
        let mut order: Vec<usize> = (0..len).collect();
        for last in (1..len).rev() {
            order.swap(last, below(last + 1));
        }
        order
    }

    /// Returns a function that draws a number below `n`, each equally likely.
    pub fn below(self) -> impl FnMut(usize) -> usize {
        let mut rng = self.generator();
        move |n| ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
    }
}

fn normal_pair(first: u64, second: u64) -> [f32; 2] {
    const UNIT: f64 = 1.0 / (1u64 << 53) as f64;
    // The first uniform lies in (0, 1], so its logarithm is finite.
    let radius = (-2.0 * (((first >> 11) + 1) as f64 * UNIT).ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * (second >> 11) as f64 * UNIT).sin_cos();
    [(radius * cos) as f32, (radius * sin) as f32]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::BaselineKind;

    fn stream(id: u64) -> RandomStream {
        RandomStream { seed: 7, purpose: Purpose::Rotation, id }
    }

    #[test]
    fn normals_have_mean_zero_and_variance_one() {
        let mut values = vec![0.0; 200_001];
        stream(3).normals(&mut values);
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let var = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
        // The bounds are five standard errors.
        assert!(mean.abs() < 5.0 / n.sqrt() && (var - 1.0).abs() < 5.0 * (2.0 / n).sqrt());
    }

    #[test]
    fn numbers_are_those_of_an_independent_implementation() {
        let text = include_str!("../../expected/golden/random.json");
        let golden: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let values = |key: &serde_json::Value| -> Vec<f64> {
            let list = key.as_array().expect("a list");
            list.iter().map(|v| v.as_f64().expect("a number")).collect()
        };
        let id = golden["stream"].as_u64().expect("a number");
        let mut got = vec![0.0; 40];
        RandomStream { seed: 2024, purpose: Purpose::Rotation, id }.normals(&mut got);
        let rotation = &golden["rotation"];
        let at = |key: &str| rotation[key].as_u64().expect("a number") as usize;
        let stream =
            super::super::rotation::rotation_stream(2024, at("draw"), at("partner"), at("layer"));
        got.extend(super::super::rotation::random_rotation(
            BaselineKind::Rotation,
            stream,
            at("d"),
        ));
        let want = [values(&golden["normals"]), values(&rotation["rows"])].concat();
        assert_eq!(got.len(), want.len());
        // Other libraries round logarithm and cosine differently, by at most one f32 ulp.
        assert!(got.iter().zip(&want).all(|(g, w)| (f64::from(*g) - w).abs() < 1e-6));
    }

    #[test]
    fn a_value_depends_on_its_address_alone() {
        let (mut short, mut long) = (vec![0.0; 10], vec![0.0; 3 * VALUES_PER_TASK]);
        stream(1).normals(&mut short);
        stream(1).normals(&mut long);
        assert_eq!(short, long[..10]);
        let mut other = vec![0.0; 10];
        stream(2).normals(&mut other);
        assert_ne!(short, other);
    }

    #[test]
    fn permutations_hold_every_index_once() {
        let mut order = stream(5).permutation(1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }
}
