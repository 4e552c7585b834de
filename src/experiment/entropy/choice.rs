//! Which neurons an entropy experiment fixes: candidates or named neurons, and random controls.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::settings::{Controls, EntropySettings};
use crate::model::Config;
use crate::model::weights::Weights;
use crate::stats::percentile::{quantile, ranks};
use crate::stats::weights::{WeightStatistics, output_cosine};
use crate::table::NeuronId;

/// Number of layers, counted from the last, in which neurons are chosen.
pub const LAYERS: usize = 2;
/// Part of the neurons, in percent, whose norm is too large or whose variance is too small for a
/// control.
const DECILE: f64 = 10.0;

/// A neuron whose activation is fixed.
pub struct Fixed {
    /// The neuron.
    pub id: NeuronId,
    /// Whether it is a control.
    pub control: bool,
    /// Percentile of ‖w_out‖ in the last layers; NaN for a neuron of an earlier layer.
    pub norm_rank: f64,
    /// Percentile of the variance of the logit effect in the last layers.
    pub variance_rank: f64,
    /// Place of ‖w_in‖² + ‖w_out‖² among all neurons, 1 for the largest; NaN if it is NaN.
    pub norm_place: f64,
    /// Place of the variance of the logit effect among all neurons, 1 for the smallest; NaN if the
    /// variance is NaN.
    pub variance_place: f64,
    /// Statistics of its weights.
    pub weights: WeightStatistics,
    /// Sums of entropy, loss, reciprocal rank and scale, for each value.
    pub sums: Vec<[f64; 4]>,
}

/// Returns the candidates, best first, or the named neurons, followed by the controls.
/// `statistics` has one entry for each neuron.
pub fn choose(
    spec: &EntropySettings,
    statistics: &[WeightStatistics],
    config: &Config,
) -> Vec<Fixed> {
    let first = first_late(config);
    let late = &statistics[first..];
    let of =
        |value: fn(&WeightStatistics) -> f64| ranks(&late.iter().map(value).collect::<Vec<_>>());
    let (norms, variances) = (of(|s| s.w_out_norm), of(|s| s.vocab.var));
    let fixed = |id: NeuronId, control| {
        let weights = statistics[id.index(config.d_mlp())];
        // The percentiles are those of the last layers, so a neuron of an earlier layer has none.
        let late = id.index(config.d_mlp()).checked_sub(first);
        let place = |of: fn(&WeightStatistics) -> f64| {
            let before = statistics.iter().filter(|s| of(s) < of(&weights)).count();
            if of(&weights).is_nan() { f64::NAN } else { before as f64 + 1.0 }
        };
        Fixed {
            id,
            control,
            norm_rank: late.map_or(f64::NAN, |i| norms[i]),
            variance_rank: late.map_or(f64::NAN, |i| variances[i]),
            norm_place: place(|s| -s.l2_penalty()),
            variance_place: place(|s| s.vocab.var),
            weights,
            sums: Vec::new(),
        }
    };
    let id = |i: usize| NeuronId::of(first + i, config.d_mlp());
    let mut order: Vec<usize> = (0..late.len()).collect();
    order.sort_by(|&a, &b| (norms[b] - variances[b]).total_cmp(&(norms[a] - variances[a])));
    let candidates = order[..spec.candidates.min(order.len())].iter().map(|&i| fixed(id(i), false));
    let mut chosen: Vec<Fixed> = match spec.neurons.is_empty() {
        true => candidates.collect(),
        false => spec.neurons.iter().map(|&id| fixed(id, false)).collect(),
    };
    let plain: Vec<bool> = match spec.choice {
        Controls::LateLayers => {
            let plain = |i: usize| norms[i] < 100.0 - DECILE && variances[i] > DECILE;
            (0..late.len()).map(plain).collect()
        }
        Controls::AllLayers => plain_of_all(statistics)[first..].to_vec(),
    };
    let may = |i: &usize| plain[*i] && !spec.neurons.contains(&id(*i));
    let mut others: Vec<usize> = (0..late.len()).filter(may).collect();
    let mut random = ChaCha8Rng::seed_from_u64(spec.seed);
    for _ in 0..spec.controls.min(others.len()) {
        let j = (random.next_u64() % others.len() as u64) as usize;
        chosen.push(fixed(id(others.swap_remove(j)), true));
    }
    chosen
}

/// Returns the index over all layers of the first neuron of the last layers.
fn first_late(config: &Config) -> usize {
    config.n_layers.saturating_sub(LAYERS) * config.d_mlp()
}

/// Returns whether each neuron is outside the top decile of ‖w_in‖² + ‖w_out‖² and the bottom
/// decile of the variance of the logit effect, bounds included, over all neurons.
fn plain_of_all(statistics: &[WeightStatistics]) -> Vec<bool> {
    let most = quantile(statistics.iter().map(WeightStatistics::l2_penalty), 1.0 - DECILE / 100.0);
    let least = quantile(statistics.iter().map(|s| s.vocab.var), DECILE / 100.0);
    let (Some(most), Some(least)) = (most, least) else { return vec![false; statistics.len()] };
    statistics.iter().map(|s| s.l2_penalty() <= most && s.vocab.var >= least).collect()
}

/// Returns, for each neuron that is not a control, the neuron of the last two layers whose output
/// weights are most opposed to its own, and their cosine.
pub fn antipodes(folded: &Weights, config: &Config, fixed: &[Fixed]) -> Vec<(NeuronId, f64)> {
    let all = first_late(config)..config.n_layers * config.d_mlp();
    let opposed = |f: &Fixed| {
        let own = f.id.index(config.d_mlp());
        let cosine = |i: usize| output_cosine(folded, config, own, i);
        let pairs = all.clone().filter(|&i| i != own).map(|i| (i, cosine(i)));
        let least = pairs.fold((own, 2.0), |best, pair| if pair.1 < best.1 { pair } else { best });
        (NeuronId::of(least.0, config.d_mlp()), least.1)
    };
    fixed.iter().filter(|f| !f.control).map(opposed).collect()
}
