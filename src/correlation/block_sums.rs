//! Sums over blocks of documents for the best few partners of each neuron, and best matches when
//! the blocks are drawn with replacement.
//!
//! A resample weighs each block by how often it was drawn. Since sums over tokens are linear, its
//! correlations are those of the weighted sums, and no token is read again.

use std::sync::Arc;

use super::candidates::{CandidateSums, NeuronMajor};
use super::random::{Purpose, RandomStream};
use super::sums::{Layout, NeuronSums};

/// The candidates of the neurons of a reference model in one partner model.
#[derive(Debug, Clone)]
pub struct PairCandidates {
    /// Index of the reference model in the family.
    pub reference: usize,
    /// Index of the partner model in the family.
    pub partner: usize,
    /// `[neuron]`: its candidates, as indices over all layers of the partner.
    pub lists: Vec<Vec<u32>>,
}

/// Sums over each block of tokens: Σx and Σx² of every neuron of every model, and Σxy of every
/// neuron of a reference model with its candidates.
pub struct BlockSums {
    layouts: Vec<Layout>,
    /// `[block][model]`; empty before the first token.
    own: Vec<Vec<NeuronSums>>,
    blocks: usize,
    pairs: Vec<PairSums>,
}

struct PairSums {
    reference: usize,
    partner: usize,
    /// `[block]`.
    blocks: Vec<CandidateSums>,
}

impl BlockSums {
    /// Creates sums without tokens.
    pub fn new(layouts: Vec<Layout>, blocks: usize, pairs: Vec<PairCandidates>) -> Self {
        let of_pair = |pair: PairCandidates| PairSums {
            reference: pair.reference,
            partner: pair.partner,
            blocks: vec![CandidateSums::of_lists(Arc::new(pair.lists)); blocks],
        };
        let pairs = pairs.into_iter().map(of_pair).collect();
        Self { layouts, own: Vec::new(), blocks, pairs }
    }

    /// Adds the activations of the same tokens of a block in all models, `[tokens, n_neurons]` each
    /// and at most [`CHUNK`](super::CHUNK) tokens. Subtracts the pilots from them.
    pub fn absorb(&mut self, block: usize, tokens: &mut [&mut [f32]]) {
        if self.own.is_empty() {
            // All blocks have the same pilots, so that their sums can be added.
            let pilots = self.layouts.iter().zip(tokens.iter()).map(|(layout, tokens)| {
                let mut own = NeuronSums::new(layout.n_neurons());
                own.take_pilot(tokens);
                own
            });
            self.own = vec![pilots.collect(); self.blocks];
        }
        for (own, tokens) in self.own[block].iter_mut().zip(tokens.iter_mut()) {
            own.absorb(tokens);
        }
        let of_model = |(tokens, layout): (&&mut [f32], &Layout)| NeuronMajor::of(tokens, *layout);
        let by_neuron: Vec<NeuronMajor> = tokens.iter().zip(&self.layouts).map(of_model).collect();
        for pair in &mut self.pairs {
            pair.blocks[block].absorb(&by_neuron[pair.reference], &by_neuron[pair.partner]);
        }
    }

    /// Returns, for each resample, the mean over partners of the largest correlation of neuron `i`
    /// of a reference model with its candidates. NaN where the neuron has no correlation with any
    /// candidate of some partner.
    pub fn mean_best(&self, reference: usize, i: usize, draws: &BlockDraws) -> Vec<f64> {
        let n = draws.weighted(self.own.iter().map(|own| own[reference].n as f64));
        let x = self.spread(reference, i, &n, draws);
        let mut sum = vec![0.0; draws.resamples()];
        let pairs = self.pairs.iter().filter(|pair| pair.reference == reference);
        let partners = pairs.clone().count() as f64;
        for pair in pairs {
            let best = self.best(pair, i, (&n, &x), draws);
            sum.iter_mut().zip(best).for_each(|(sum, best)| *sum += best);
        }
        sum.iter_mut().for_each(|sum| *sum /= partners);
        sum
    }

    /// Returns the largest correlation of neuron `i` with a candidate of one partner in each
    /// resample. `n` is the number of tokens of each resample, `x` the spread of the neuron.
    fn best(
        &self,
        pair: &PairSums,
        i: usize,
        (n, x): (&[f64], &[Spread]),
        draws: &BlockDraws,
    ) -> Vec<f64> {
        let mut best = vec![f64::NAN; draws.resamples()];
        let products: Vec<Vec<(usize, f64)>> =
            pair.blocks.iter().map(|block| block.of(i).collect()).collect();
        let candidates = products.first().map_or(0, Vec::len);
        for slot in 0..candidates {
            let y = self.spread(pair.partner, products[0][slot].0, n, draws);
            let xy = draws.weighted(products.iter().map(|block| block[slot].1));
            let terms = xy.iter().zip(n).zip(x.iter().zip(&y));
            for (best, ((xy, n), (x, y))) in best.iter_mut().zip(terms) {
                let rho = (xy - x.sum * y.sum / n) * x.inverse * y.inverse;
                // `max` returns the other operand if one is NaN.
                *best = best.max(rho);
            }
        }
        best
    }

    /// Returns Σx and the inverse spread of a neuron in each resample.
    fn spread(&self, model: usize, neuron: usize, n: &[f64], draws: &BlockDraws) -> Vec<Spread> {
        let own = || self.own.iter().map(|own| &own[model]);
        let sums = draws.weighted(own().map(|own| own.sum(neuron)));
        let squares = draws.weighted(own().map(|own| own.sum_of_squares(neuron)));
        let of = |((sum, own_square), n): ((f64, f64), &f64)| {
            let square = own_square - sum * sum / n;
            // The variance of a constant neuron is not exactly zero here: rounding leaves a small
            // share of Σx².
            let varies = square > FLAT * own_square && square.is_finite();
            Spread { sum, inverse: if varies { 1.0 / square.sqrt() } else { f64::NAN } }
        };
        sums.into_iter().zip(squares).zip(n).map(of).collect()
    }
}

/// Share of Σx² that must be left after (Σx)²/n is subtracted: a neuron that is constant in a resample
/// has no correlation there.
const FLAT: f64 = 1e-12;

/// Σx of a neuron, and 1 / √(Σx² − (Σx)²/n), NaN if it never varies.
#[derive(Clone, Copy)]
struct Spread {
    sum: f64,
    inverse: f64,
}

/// Blocks drawn with replacement, as many as there are, for each resample.
pub struct BlockDraws {
    /// `[block][resample]`: how often the block was drawn.
    counts: Vec<Vec<f64>>,
    resamples: usize,
    seed: u64,
}

impl BlockDraws {
    /// Draws blocks for each resample: the first numbers of the stream of the resample.
    pub fn new(blocks: usize, resamples: usize, seed: u64) -> Self {
        let mut counts = vec![vec![0.0; resamples]; blocks];
        (0..resamples).for_each(|resample| {
            let mut below = Self::stream(seed, resample).below();
            (0..blocks).for_each(|_| counts[below(blocks)][resample] += 1.0);
        });
        Self { counts, resamples, seed }
    }

    /// Returns the random numbers of a resample.
    fn stream(seed: u64, resample: usize) -> RandomStream {
        RandomStream { seed, purpose: Purpose::Resample, id: resample as u64 }
    }

    /// Returns the number of resamples.
    pub fn resamples(&self) -> usize {
        self.resamples
    }

    /// Draws as many neurons of each layer as it has, with replacement. Returns how often each
    /// neuron was drawn. The numbers follow those that blocks were drawn by.
    pub fn neurons(&self, layout: Layout, resample: usize) -> Vec<u32> {
        let blocks = self.counts.len();
        let mut below = Self::stream(self.seed, resample).below();
        (0..blocks).for_each(|_| {
            below(blocks);
        });
        let mut counts = vec![0; layout.n_neurons()];
        for layer in 0..layout.n_layers {
            let first = layout.neurons(layer).start;
            (0..layout.d_mlp).for_each(|_| counts[first + below(layout.d_mlp)] += 1);
        }
        counts
    }

    /// Returns the sum over blocks of a value, each as often as it was drawn, for each resample.
    fn weighted(&self, values: impl Iterator<Item = f64>) -> Vec<f64> {
        let mut sums = vec![0.0; self.resamples];
        for (counts, value) in self.counts.iter().zip(values) {
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count * value);
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::oracle::{pearson, series};
    use super::*;

    const LAYOUT: Layout = Layout { n_layers: 2, d_mlp: 3 };
    const N: usize = 6;

    /// Activations of three models in each of some blocks: `[block][model]`, `[tokens, N]` each.
    type Blocks = Vec<[Vec<f32>; 3]>;

    fn blocks() -> impl Strategy<Value = Blocks> {
        let model = |tokens: usize| {
            // Few values, so that some neurons are constant in some resamples.
            let value = prop::sample::select(vec![-1.0_f32, 0.1, 0.1, 0.1, 2.5, 100.0]);
            prop::collection::vec(value, tokens * N)
        };
        let block = (1usize..8).prop_flat_map(move |tokens| [(); 3].map(|()| model(tokens)));
        prop::collection::vec(block, 2..6)
    }

    fn sums(blocks: &Blocks) -> BlockSums {
        let all = vec![(0..N as u32).collect(); N];
        let pair = |partner| PairCandidates { reference: 0, partner, lists: all.clone() };
        let mut sums = BlockSums::new(vec![LAYOUT; 3], blocks.len(), vec![pair(1), pair(2)]);
        for (block, models) in blocks.iter().enumerate() {
            let mut models = models.clone();
            sums.absorb(block, &mut models.each_mut().map(Vec::as_mut_slice));
        }
        sums
    }

    /// Returns the activations of a resample: those of the drawn blocks, one after the other.
    fn resampled(blocks: &Blocks, draws: &BlockDraws, resample: usize, model: usize) -> Vec<f32> {
        let drawn = blocks.iter().zip(&draws.counts).flat_map(|(block, counts)| {
            std::iter::repeat_n(&block[model], counts[resample] as usize)
        });
        drawn.flatten().copied().collect()
    }

    /// Returns the mean over partners of the best match of a neuron, by definition and in f64. The
    /// second value bounds the error of sums: activations are rounded to f32 when the pilot, of at
    /// most the largest activation, is subtracted.
    fn oracle(models: &[Vec<f32>; 3], i: usize) -> (f64, f64) {
        let spread = |v: &[f64]| {
            let mean = v.iter().sum::<f64>() / v.len() as f64;
            v.iter().map(|v| (v - mean).powi(2)).sum::<f64>().sqrt()
        };
        let largest = |v: &[f64]| v.iter().fold(100.0_f64, |most, v| most.max(v.abs()));
        let relative = |v: &[f64]| {
            let off = 2.0 * largest(v) * (v.len() as f64).sqrt() / spread(v);
            off * f64::from(f32::EPSILON) + 64.0 * off * off * f64::EPSILON
        };
        let x = series(&models[0], N, i);
        let (mut sum, mut error) = (0.0, 0.0_f64);
        for partner in &models[1..] {
            let mut best = f64::NAN;
            for j in 0..N {
                let y = series(partner, N, j);
                if spread(&x) > 1e-9 && spread(&y) > 1e-9 {
                    best = best.max(pearson(&x, &y));
                    error = error.max(2.0 * (relative(&x) + relative(&y)));
                }
            }
            sum += best;
        }
        (sum / 2.0, error)
    }

    proptest! {
        #[test]
        fn a_resample_is_the_study_of_its_tokens(blocks in blocks(), seed in any::<u64>()) {
            let sums = sums(&blocks);
            let draws = BlockDraws::new(blocks.len(), 5, seed);
            for i in 0..N {
                for (resample, got) in sums.mean_best(0, i, &draws).into_iter().enumerate() {
                    let models = [0, 1, 2].map(|m| resampled(&blocks, &draws, resample, m));
                    let (want, error) = oracle(&models, i);
                    let near = (got - want).abs() <= error;
                    prop_assert!(near || (got.is_nan() && want.is_nan()), "{} {}", got, want);
                }
            }
        }
    }

    #[test]
    fn as_many_blocks_and_neurons_are_drawn_as_there_are() {
        let draws = BlockDraws::new(7, 50, 3);
        for resample in 0..50 {
            let blocks: f64 = draws.counts.iter().map(|counts| counts[resample]).sum();
            assert_eq!(blocks, 7.0);
            let neurons = draws.neurons(LAYOUT, resample);
            assert_eq!([0, 1].map(|l| neurons[LAYOUT.neurons(l)].iter().sum::<u32>()), [3, 3]);
        }
        let other = BlockDraws::new(7, 50, 4);
        assert_ne!(draws.neurons(LAYOUT, 0), other.neurons(LAYOUT, 0), "another seed");
    }
}
