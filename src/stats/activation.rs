//! Statistics of pre-activations over tokens (method: paper §4.2 and its tables).

use rayon::prelude::*;

use super::PILOT_TOKENS;
use super::moments::{Moments, PowerSums};
use crate::checkpoint::{Part, State, Visit};
use crate::spec::{MomentKind, SparsityKind};

/// Edges of the published histogram: linspace(−10, 15, 256).
pub const EDGES: usize = 256;
const LOWEST: f64 = -10.0;
const BIN: f64 = 25.0 / 255.0;

/// The published column `sparsity` counts pre-activations above this edge, which is one bin below
/// zero because the edge nearest to zero lies at +1.6e-7.
pub const PUBLISHED_EDGE: f64 = LOWEST + 101.0 * BIN;

/// The replication note's sparsity counts post-activations below this value.
pub const NOTE_THRESHOLD: f32 = 0.01;

/// Sums over tokens for every neuron of one model.
#[derive(Debug, Clone)]
pub struct ActivationSums {
    n: u64,
    /// Whether the pilots have been set.
    started: bool,
    neurons: Vec<NeuronMoments>,
    /// Histogram counts `[n_neurons][EDGES + 1]`, if the spec asks for binned moments.
    histogram: Option<Vec<[u32; EDGES + 1]>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct NeuronMoments {
    powers: PowerSums,
    above_zero: u64,
    above_published_edge: u64,
    below_note_threshold: u64,
}

/// Statistics of the activation of one neuron.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ActivationStatistics {
    /// Moments of the pre-activation.
    pub moments: Moments,
    /// Share of tokens with pre-activation above zero, or above the published edge.
    pub sparsity: f64,
    /// Share of tokens with post-activation below 0.01, the replication note's sparsity.
    pub note_sparsity: f64,
}

impl ActivationStatistics {
    /// The statistics of a neuron without any: all NaN.
    const MISSING: Self =
        Self { moments: Moments::MISSING, sparsity: f64::NAN, note_sparsity: f64::NAN };
}

/// Number of neurons handled by one task.
const NEURONS: usize = 256;

impl ActivationSums {
    /// Creates sums without tokens.
    pub fn new(n_neurons: usize, moments: MomentKind) -> Self {
        let binned = moments == MomentKind::Binned;
        Self {
            n: 0,
            started: false,
            neurons: vec![NeuronMoments::default(); n_neurons],
            histogram: binned.then(|| vec![[0; EDGES + 1]; n_neurons]),
        }
    }

    /// Adds pre- and post-activations of the same tokens, each `[tokens, n_neurons]`.
    pub fn absorb(&mut self, pre: &[f32], post: &[f32]) {
        let width = self.neurons.len();
        if !self.started {
            self.take_pilot(pre);
        }
        self.n += (pre.len() / width) as u64;
        self.neurons.par_chunks_mut(NEURONS).enumerate().for_each(|(block, neurons)| {
            for (pre, post) in pre.chunks_exact(width).zip(post.chunks_exact(width)) {
                let columns = block * NEURONS..block * NEURONS + neurons.len();
                let values = pre[columns.clone()].iter().zip(&post[columns]);
                neurons.iter_mut().zip(values).for_each(|(n, (&pre, &post))| n.add(pre, post));
            }
        });
        if let Some(histogram) = &mut self.histogram {
            histogram.par_iter_mut().enumerate().for_each(|(i, bins)| {
                pre.iter().skip(i).step_by(width).for_each(|&v| bins[bin(v.into())] += 1);
            });
        }
    }

    /// Returns whether these are sums over `n` tokens and the pilots have been set.
    pub fn is_of(&self, n: u64) -> bool {
        self.n == n && (self.started || n == 0)
    }

    /// Sets the pilot of each neuron, without tokens.
    pub fn start_around(&mut self, pilots: &[f32]) {
        self.started = true;
        for (neuron, &pilot) in self.neurons.iter_mut().zip(pilots) {
            neuron.powers = PowerSums::around(pilot.into());
        }
    }

    /// Adds sums over `tokens` tokens that a device computed around the pilots: those of
    /// (pre − pilot)^1 to (pre − pilot)^4 of each neuron, and the counts of `kernels/activation.cu`.
    pub fn add(&mut self, tokens: u64, powers: [&[f64]; 4], counts: [&[f64]; 3]) {
        self.n += tokens;
        for (i, neuron) in self.neurons.iter_mut().enumerate() {
            let sums = powers.map(|power| power[i]);
            neuron.powers.merge(&PowerSums::of(neuron.powers.shift(), tokens as f64, sums));
            let [above_zero, above_edge, below] = counts.map(|count| count[i] as u64);
            neuron.above_zero += above_zero;
            neuron.above_published_edge += above_edge;
            neuron.below_note_threshold += below;
        }
    }

    /// Creates sums over the activations of `tokens` tokens that are stored without zeros, one item
    /// per neuron. The activations are the pre-activations too.
    pub fn of_sparse<V>(tokens: u64, neurons: impl Iterator<Item = V>) -> Self
    where
        V: ExactSizeIterator<Item = f32> + Clone,
    {
        let neuron = |values: V| {
            let zeros = tokens - values.len() as u64;
            let mean = values.clone().map(f64::from).sum::<f64>() / tokens as f64;
            let powers = PowerSums::around(mean);
            let mut sums = NeuronMoments { powers, ..NeuronMoments::default() };
            values.for_each(|value| sums.add(value, value));
            sums.powers.add_repeated(0.0, zeros as f64);
            sums.above_published_edge += zeros;
            sums.below_note_threshold += zeros;
            sums
        };
        Self { n: tokens, started: true, neurons: neurons.map(neuron).collect(), histogram: None }
    }

    /// Adds counts by bin that a device made, `[n_neurons, EDGES + 1]`. Does nothing without a
    /// histogram.
    pub fn add_bins(&mut self, counts: &[u32]) {
        for (all, counts) in self.histogram.iter_mut().flatten().zip(counts.chunks(EDGES + 1)) {
            all.iter_mut().zip(counts).for_each(|(all, count)| *all += count);
        }
    }

    /// Sets each neuron's pilot to its mean over the first tokens, so that a large mean costs no
    /// digits.
    pub fn take_pilot(&mut self, pre: &[f32]) {
        let width = self.neurons.len();
        let pre = &pre[..pre.len().min(PILOT_TOKENS * width)];
        self.started = true;
        let tokens = pre.len() / width;
        self.neurons.par_iter_mut().enumerate().for_each(|(i, neuron)| {
            let sum: f64 = pre.iter().skip(i).step_by(width).map(|&v| f64::from(v)).sum();
            neuron.powers = PowerSums::around(sum / tokens as f64);
        });
    }

    /// Returns the statistics of a neuron over all tokens added. All are NaN if there are no tokens,
    /// or if a pre-activation was not finite, because no statistic would mean anything.
    pub fn statistics(&self, neuron: usize, sparsity: SparsityKind) -> ActivationStatistics {
        let sums = &self.neurons[neuron];
        if self.n == 0 || !sums.powers.is_finite() {
            return ActivationStatistics::MISSING;
        }
        let share = |count: u64| count as f64 / self.n as f64;
        ActivationStatistics {
            moments: match &self.histogram {
                None => sums.powers.moments(),
                Some(histogram) => binned_moments(&histogram[neuron]),
            },
            sparsity: share(match sparsity {
                SparsityKind::AboveZero => sums.above_zero,
                SparsityKind::PublishedBin => sums.above_published_edge,
            }),
            note_sparsity: share(sums.below_note_threshold),
        }
    }
}

impl State for ActivationSums {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        visit(Part::Count(&mut self.n))?;
        let mut started = u64::from(self.started);
        visit(Part::Count(&mut started))?;
        self.started = started > 0;
        self.neurons.iter_mut().try_for_each(|neuron| neuron.parts(visit))?;
        self.histogram.iter_mut().flatten().try_for_each(|bins| visit(Part::Counts(bins)))
    }
}

impl State for NeuronMoments {
    fn parts(&mut self, visit: Visit) -> std::io::Result<()> {
        self.powers.parts(visit)?;
        visit(Part::Count(&mut self.above_zero))?;
        visit(Part::Count(&mut self.above_published_edge))?;
        visit(Part::Count(&mut self.below_note_threshold))
    }
}

impl NeuronMoments {
    #[inline]
    fn add(&mut self, pre: f32, post: f32) {
        self.powers.add(pre.into());
        self.above_zero += u64::from(pre > 0.0);
        self.above_published_edge += u64::from(f64::from(pre) > PUBLISHED_EDGE);
        self.below_note_threshold += u64::from(post < NOTE_THRESHOLD);
    }
}

/// Returns the bin of the published histogram: the number of edges below the value. Bin i covers
/// (edge i−1, edge i]; bins 0 and 256 are open.
fn bin(value: f64) -> usize {
    let below = ((value - LOWEST) / BIN).ceil();
    below.clamp(0.0, EDGES as f64) as usize
}

/// Returns moments in which each bin counts as its centre, and an open bin as the centre of a bin of
/// the same width.
fn binned_moments(bins: &[u32; EDGES + 1]) -> Moments {
    let centre = |bin: usize| LOWEST + (bin as f64 - 0.5) * BIN;
    // Around a bin that holds values, so that values in one bin have variance 0.
    let first = bins.iter().position(|&count| count > 0).unwrap_or(0);
    let mut sums = PowerSums::around(centre(first));
    for (i, &count) in bins.iter().enumerate() {
        sums.add_repeated(centre(i), count.into());
    }
    sums.moments()
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use proptest::prelude::*;

    #[test]
    fn bins_are_closed_on_the_right() {
        assert_eq!((bin(-11.0), bin(-10.0), bin(-9.999)), (0, 0, 1));
        assert_eq!((bin(15.0), bin(15.001), bin(f64::INFINITY)), (255, 256, 256));
    }

    proptest! {
        #[test]
        fn order_and_cut_of_tokens_do_not_matter(mut x in prop::collection::vec(-4.0f32..4.0, 2..50), cut in 1usize..50) {
            let all = |x: &[f32], cut: usize| {
                let mut sums = ActivationSums::new(1, MomentKind::Exact);
                x.chunks(cut).for_each(|part| sums.absorb(part, part));
                sums.statistics(0, SparsityKind::AboveZero)
            };
            let whole = all(&x, x.len());
            let parts = all(&x, cut);
            x.reverse();
            for other in [parts, all(&x, 3)] {
                prop_assert!((whole.moments.mean - other.moments.mean).abs() < 1e-9);
                prop_assert!((whole.moments.var - other.moments.var).abs() < 1e-9);
                prop_assert_eq!(whole.sparsity, other.sparsity);
            }
        }

        #[test]
        fn sums_without_zeros_are_those_with_them(
            x in prop::collection::vec(prop_oneof![2 => Just(0.0_f32), 1 => -1.0_f32..4.0], 3..60),
        ) {
            let mut with = ActivationSums::new(1, MomentKind::Exact);
            with.absorb(&x, &x);
            let stored: Vec<f32> = x.iter().copied().filter(|v| *v != 0.0).collect();
            let neurons = [stored.iter().copied()].into_iter();
            let without = ActivationSums::of_sparse(x.len() as u64, neurons);
            prop_assert!(without.is_of(x.len() as u64));
            for kind in [SparsityKind::AboveZero, SparsityKind::PublishedBin] {
                let [a, b] = [&with, &without].map(|sums| sums.statistics(0, kind));
                prop_assert_eq!((a.sparsity, a.note_sparsity), (b.sparsity, b.note_sparsity));
                prop_assert!((a.moments.mean - b.moments.mean).abs() < 1e-9);
                prop_assert!((a.moments.var - b.moments.var).abs() < 1e-9);
                // The shape of a sample that hardly varies is one of rounding.
                prop_assert!(a.moments.var < 1e-3 || (a.moments.kurt / b.moments.kurt - 1.0).abs() < 1e-6);
            }
        }

        #[test]
        fn binned_moments_are_within_half_a_bin(x in prop::collection::vec(-9.0f32..14.0, 5..50)) {
            let moments = |kind| {
                let mut sums = ActivationSums::new(1, kind);
                sums.absorb(&x, &x);
                sums.statistics(0, SparsityKind::AboveZero).moments
            };
            let (exact, binned) = (moments(MomentKind::Exact), moments(MomentKind::Binned));
            prop_assert!((exact.mean - binned.mean).abs() <= BIN / 2.0 + 1e-9);
        }
    }

    #[test]
    fn stored_activations_with_a_large_mean_lose_no_digits() {
        let x: Vec<f32> = (0..700_u16).map(|i| 1000.0 + f32::from(i % 7) - 3.0).collect();
        let sums = ActivationSums::of_sparse(700, [x.iter().copied()].into_iter());
        let moments = sums.statistics(0, SparsityKind::AboveZero).moments;
        assert_relative_eq!(moments.var, 4.0, max_relative = 1e-12);
        assert_relative_eq!(moments.kurt, 1.75, max_relative = 1e-12);
    }

    /// Returns the statistics as a list.
    fn listed(s: ActivationStatistics) -> [f64; 6] {
        let m = s.moments;
        [m.mean, m.var, m.skew, m.kurt, s.sparsity, s.note_sparsity]
    }

    #[test]
    fn a_neuron_that_is_not_finite_has_no_statistics_and_its_neighbour_has_all() {
        for kind in [MomentKind::Exact, MomentKind::Binned] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                // The first token makes the pilot; a fault may come before or after it.
                for place in 0..3 {
                    let mut x = [1.0, 5.0, -2.0, 5.0, 3.0, 5.0];
                    let whole = x;
                    x[2 * place] = bad;
                    let sums = |x: &[f32]| {
                        let mut sums = ActivationSums::new(2, kind);
                        x.chunks(2).for_each(|token| sums.absorb(token, token));
                        [0, 1].map(|i| listed(sums.statistics(i, SparsityKind::AboveZero)))
                    };
                    let [faulty, neighbour] = sums(&x);
                    assert!(faulty.iter().all(|v| v.is_nan()), "{kind:?} {bad}: {faulty:?}");
                    assert_eq!(neighbour, sums(&whole)[1]);
                    assert_eq!(neighbour[1..], [0.0, 0.0, 0.0, 1.0, 0.0], "a constant has a mean");
                }
            }
        }
    }

    #[test]
    fn no_token_makes_no_statistic() {
        let none = ActivationSums::new(1, MomentKind::Exact).statistics(0, SparsityKind::AboveZero);
        assert!(listed(none).iter().all(|v| v.is_nan()));
    }

    #[test]
    fn the_published_column_counts_one_bin_more() {
        let x = [-0.0979_f32, -0.0981, 0.5, -3.0];
        let mut sums = ActivationSums::new(1, MomentKind::Exact);
        sums.absorb(&x, &x);
        assert_eq!(sums.statistics(0, SparsityKind::AboveZero).sparsity, 0.25);
        assert_eq!(sums.statistics(0, SparsityKind::PublishedBin).sparsity, 0.5);
        assert_eq!(sums.statistics(0, SparsityKind::AboveZero).note_sparsity, 0.75);
    }
}
