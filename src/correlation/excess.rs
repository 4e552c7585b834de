//! The columns of the neuron table that follow from the comparisons (paper eq. 3).

use super::pair::{NeuronMatch, PairResult};
use super::sums::Layout;

/// The largest, mean and smallest value over the partner models.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PartnerSpread {
    /// The largest value.
    pub max: f64,
    /// The mean value.
    pub mean: f64,
    /// The smallest value.
    pub min: f64,
}

impl PartnerSpread {
    /// Returns the spread of one value for each partner.
    ///
    /// # Panics
    ///
    /// Panics if `values` is empty.
    pub fn of(values: &[f64]) -> Self {
        assert!(!values.is_empty(), "a spread needs at least one partner");
        Self {
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            mean: values.iter().sum::<f64>() / values.len() as f64,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
        }
    }
}

/// The best correlation and the chance level of one reference neuron.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// Best correlation with any neuron of a partner: `max_corr, mean_corr, min_corr`.
    pub corr: PartnerSpread,
    /// Best correlation with the neurons of a chance baseline, averaged over draws for each
    /// partner: `max_baseline, mean_baseline, min_baseline`.
    pub baseline: PartnerSpread,
    /// Standard deviation of `mean_baseline` over draws; 0 for a single draw.
    pub baseline_sd: f64,
    /// Standard error of `mean_baseline`, which is a mean over draws; NaN for a single draw.
    pub baseline_se: f64,
}

impl Agreement {
    /// Returns `excess_corr`: the mean best correlation minus the mean chance level.
    pub fn excess(&self) -> f64 {
        self.corr.mean - self.baseline.mean
    }
}

/// Returns the agreement of every reference neuron. `None` if the neuron has no correlation with
/// some partner: its own activation, or that of every neuron of the partner, never varies or is not
/// finite.
pub fn agreements(pairs: &[PairResult]) -> Vec<Option<Agreement>> {
    let neurons = pairs.first().map_or(0, PairResult::neurons);
    (0..neurons).map(|i| agreement(pairs, i)).collect()
}

fn agreement(pairs: &[PairResult], i: usize) -> Option<Agreement> {
    let corr: Vec<f64> = pairs.iter().map(|p| Some(p.best(i)?.rho)).collect::<Option<_>>()?;
    let draws = pairs[0].baseline.len();
    let level = |p: &PairResult| p.baseline.iter().map(|draw| draw[i]).sum::<f64>() / draws as f64;
    let levels: Vec<f64> = pairs.iter().map(level).collect();
    let by_draw: Vec<f64> = (0..draws).map(|draw| baseline_of_draw(pairs, i, draw)).collect();
    levels.iter().all(|l| l.is_finite()).then(|| Agreement {
        corr: PartnerSpread::of(&corr),
        baseline: PartnerSpread::of(&levels),
        baseline_sd: standard_deviation(&by_draw),
        baseline_se: standard_error(&by_draw),
    })
}

/// Returns the chance level of neuron `i` in one draw, averaged over partners.
fn baseline_of_draw(pairs: &[PairResult], i: usize, draw: usize) -> f64 {
    pairs.iter().map(|p| p.baseline[draw][i]).sum::<f64>() / pairs.len() as f64
}

/// Returns the standard error of the number of neurons whose excess correlation is above a threshold,
/// from the numbers that each draw of the baseline alone gives; NaN for a single draw.
pub fn universal_error(
    pairs: &[PairResult],
    agreements: &[Option<Agreement>],
    threshold: f64,
) -> f64 {
    let draws = pairs.first().map_or(0, |pair| pair.baseline.len());
    let count = |draw: usize| {
        let is_above = |(i, agreement): (usize, &Option<Agreement>)| {
            let corr = agreement.as_ref().map_or(f64::NAN, |a| a.corr.mean);
            corr - baseline_of_draw(pairs, i, draw) > threshold
        };
        agreements.iter().enumerate().filter(|neuron| is_above(*neuron)).count() as f64
    };
    standard_error(&(0..draws).map(count).collect::<Vec<_>>())
}

/// Returns the population standard deviation.
fn standard_deviation(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt()
}

/// Returns the standard error of the mean, NaN for fewer than two values.
fn standard_error(values: &[f64]) -> f64 {
    match values.len() {
        0 | 1 => f64::NAN,
        n => standard_deviation(values) / (n as f64 - 1.0).sqrt(),
    }
}

/// Returns the depth specialisation (Fig. 2c), `[layer of the reference][layer of the partner]`:
/// the share of the reference layer's neurons whose best match lies in the partner layer, averaged
/// over partners. `partners` are the layouts of the partner models, in the order of `pairs`.
pub fn depth_matrix(pairs: &[PairResult], reference: Layout, partners: &[Layout]) -> Vec<Vec<f64>> {
    let deepest = partners.iter().map(|p| p.n_layers).max().unwrap_or(0);
    let mut share = vec![vec![0.0; deepest]; reference.n_layers];
    let weight = 1.0 / (pairs.len() * reference.d_mlp) as f64;
    for (pair, partner) in pairs.iter().zip(partners) {
        let best = (0..pair.neurons()).map(|i| pair.best(i));
        add_depth(&mut share, weight, [reference, *partner], best);
    }
    share
}

/// Adds `weight` for each neuron of the first layout to the pair of its layer and that of its best
/// match in the second layout. `best` has the best match of every neuron.
pub fn add_depth(
    share: &mut [Vec<f64>],
    weight: f64,
    [x, y]: [Layout; 2],
    best: impl Iterator<Item = Option<NeuronMatch>>,
) {
    for (i, best) in best.enumerate() {
        if let Some(best) = best {
            share[x.layer(i)][y.layer(best.neuron)] += weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(rho: f64, neuron: usize, baseline: &[f64]) -> PairResult {
        let mut pair = PairResult::new(2, 1, baseline.len());
        pair.set_top(0, &[NeuronMatch { rho, neuron }]);
        pair.baseline.iter_mut().zip(baseline).for_each(|(draw, &b)| draw[0] = b);
        pair
    }

    #[test]
    fn excess_is_mean_best_match_minus_mean_chance() {
        let pairs = [pair(0.875, 0, &[0.25, 0.125]), pair(0.625, 1, &[0.125, 0.25])];
        let agreements = agreements(&pairs);
        let agreement = agreements[0].expect("a live neuron");
        assert_eq!(agreement.corr, PartnerSpread { max: 0.875, mean: 0.75, min: 0.625 });
        assert_eq!(agreement.baseline, PartnerSpread { max: 0.1875, mean: 0.1875, min: 0.1875 });
        assert_eq!((agreement.excess(), agreement.baseline_sd), (0.5625, 0.0));
        assert_eq!(agreements[1], None, "a neuron without correlation has no excess");
    }

    #[test]
    fn draws_give_standard_errors() {
        // The chance levels of the draws, averaged over partners, are 1/8, 1/4 and 3/8: their sample
        // variance is 1/64.
        let pairs = [pair(0.75, 0, &[0.25, 0.25, 0.25]), pair(0.75, 1, &[0.0, 0.25, 0.5])];
        let levels = agreements(&pairs);
        let error = levels[0].expect("a live neuron").baseline_se;
        assert!((error - (1.0_f64 / 64.0 / 3.0).sqrt()).abs() < 1e-15, "{error}");
        // The draws alone count 1, 1 and 0 neurons above 0.45.
        let count = universal_error(&pairs, &levels, 0.45);
        assert!((count - (1.0_f64 / 3.0 / 3.0).sqrt()).abs() < 1e-15, "{count}");
        let one = [pair(0.75, 0, &[0.25])];
        assert!(agreements(&one)[0].expect("a live neuron").baseline_se.is_nan());
        assert!(universal_error(&one, &agreements(&one), 0.45).is_nan());
    }

    #[test]
    fn depth_counts_where_best_matches_lie() {
        let layout = Layout { n_layers: 2, d_mlp: 1 };
        let pairs = [pair(0.5, 0, &[0.0]), pair(0.5, 1, &[0.0])];
        let shares = depth_matrix(&pairs, layout, &[layout, layout]);
        assert_eq!(shares, [vec![0.5, 0.5], vec![0.0, 0.0]]);
    }
}
