//! Sums of activations by group of tokens: by token, previous token, position, label or syntax. The
//! result of every test that unites groups follows from them, so hundreds of tests cost little more
//! than one.

use rayon::prelude::*;

/// Number of neurons that one task sums.
const COLUMNS: usize = 256;

/// Bytes that the sums of one neuron take for each group.
pub const BYTES_PER_GROUP: usize = size_of::<[f64; 3]>();

/// n, Σv, Σv² and the number of v > 0 for every group and neuron.
#[derive(Debug, Clone)]
pub struct GroupSums {
    n_neurons: usize,
    n: Vec<f64>,
    /// Blocks of neurons, each `[group][neuron]`.
    blocks: Vec<NeuronBlock>,
}

#[derive(Debug, Clone)]
struct NeuronBlock {
    width: usize,
    /// Σv, Σv², and the number of v > 0.
    sums: Vec<[f64; 3]>,
}

impl GroupSums {
    /// Creates zero sums.
    pub fn new(groups: usize, n_neurons: usize) -> Self {
        let block = |first: usize| {
            let width = COLUMNS.min(n_neurons - first);
            NeuronBlock { width, sums: vec![[0.0; 3]; groups * width] }
        };
        let blocks = (0..n_neurons).step_by(COLUMNS).map(block).collect();
        Self { n_neurons, n: vec![0.0; groups], blocks }
    }

    /// Adds the activations `[tokens, n_neurons]` of each token to its group. Tokens without a
    /// group are skipped.
    ///
    /// # Panics
    ///
    /// Panics if a group index is out of range.
    pub fn absorb(&mut self, groups: &[Option<usize>], tokens: &[f32]) {
        groups.iter().flatten().for_each(|&group| self.n[group] += 1.0);
        let width = self.n_neurons;
        self.blocks.par_iter_mut().enumerate().for_each(|(i, block)| {
            for (group, row) in groups.iter().zip(tokens.chunks_exact(width)) {
                let Some(group) = group else { continue };
                let row = &row[i * COLUMNS..][..block.width];
                let sums = &mut block.sums[group * block.width..][..block.width];
                for (sums, &v) in sums.iter_mut().zip(row) {
                    let wide = f64::from(v);
                    sums[0] += wide;
                    sums[1] += wide * wide;
                    sums[2] += f64::from(u8::from(v > 0.0));
                }
            }
        });
    }

    /// Returns the number of groups.
    pub fn groups(&self) -> usize {
        self.n.len()
    }

    /// Returns the number of tokens of a group.
    pub fn tokens(&self, group: usize) -> f64 {
        self.n[group]
    }

    /// Returns Σv of one neuron over a group.
    pub fn sum(&self, group: usize, neuron: usize) -> f64 {
        let block = &self.blocks[neuron / COLUMNS];
        block.sums[group * block.width + neuron % COLUMNS][0]
    }

    /// Returns Σv, Σv² and the number of v > 0 of every neuron over some groups.
    pub fn over(&self, groups: &[usize]) -> Vec<[f64; 3]> {
        let of_block = |block: &NeuronBlock| {
            let mut all = vec![[0.0; 3]; block.width];
            for group in groups {
                let sums = &block.sums[group * block.width..][..block.width];
                for (all, sums) in all.iter_mut().zip(sums) {
                    all.iter_mut().zip(sums).for_each(|(a, s)| *a += s);
                }
            }
            all
        };
        self.blocks.par_iter().flat_map_iter(of_block).collect()
    }

    /// Returns the mutual information, in bits, between firing (v > 0) and the group, for every
    /// neuron. The value expected by chance for the number of tokens is subtracted.
    pub fn information(&self) -> Vec<f64> {
        let all: Vec<usize> = (0..self.groups()).filter(|&g| self.n[g] > 0.0).collect();
        let n: f64 = self.n.iter().sum();
        let chance = (all.len() as f64 - 1.0) / (2.0 * n * std::f64::consts::LN_2);
        let given = |i: usize| -> f64 {
            let (block, at) = (&self.blocks[i / COLUMNS], i % COLUMNS);
            let fires = |g: usize| block.sums[g * block.width + at][2];
            let total: f64 = all.iter().map(|&g| fires(g)).sum();
            let within = all.iter().map(|&g| self.n[g] / n * entropy(fires(g) / self.n[g]));
            entropy(total / n) - within.sum::<f64>() - chance
        };
        (0..self.n_neurons).into_par_iter().map(given).collect()
    }
}

/// Returns the entropy in bits of a coin with probability `p`.
fn entropy(p: f64) -> f64 {
    let term = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    term(p) + term(1.0 - p)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_are_their_definition(rows in prop::collection::vec((0usize..5, -2.0f32..2.0, -2.0f32..2.0), 1..40)) {
            let mut sums = GroupSums::new(5, 2);
            for part in rows.chunks(7) {
                let groups: Vec<_> = part.iter().map(|r| (r.0 > 0).then_some(r.0)).collect();
                let tokens: Vec<f32> = part.iter().flat_map(|r| [r.1, r.2]).collect();
                sums.absorb(&groups, &tokens);
            }
            let wanted = |r: &&(usize, f32, f32)| [2, 4].contains(&r.0);
            let second: Vec<f64> = rows.iter().filter(wanted).map(|r| f64::from(r.2)).collect();
            let got = sums.over(&[2, 4])[1];
            prop_assert!((sums.sum(2, 1) + sums.sum(4, 1) - got[0]).abs() < 1e-9);
            prop_assert!((got[0] - second.iter().sum::<f64>()).abs() < 1e-9);
            prop_assert!((got[1] - second.iter().map(|v| v * v).sum::<f64>()).abs() < 1e-9);
            prop_assert_eq!(got[2], second.iter().filter(|v| **v > 0.0).count() as f64);
            prop_assert_eq!(sums.tokens(0), 0.0);
        }
    }

    #[test]
    fn firing_tells_a_bit_or_nothing() {
        let mut sums = GroupSums::new(2, 2);
        // Neuron 0 fires only in group 1, neuron 1 in half of each group.
        for i in 0..4000 {
            let on = |yes: bool| if yes { 1.0 } else { -1.0 };
            sums.absorb(&[Some(i % 2)], &[on(i % 2 == 1), on(i % 4 < 2)]);
        }
        let bits = sums.information();
        assert!((bits[0] - 1.0).abs() < 1e-3 && bits[1].abs() < 1e-3, "{bits:?}");
    }
}
