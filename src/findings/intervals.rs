//! Intervals of excess correlations, of the universal share and of the signatures, by resampling.
//!
//! A resample draws blocks of documents with replacement. They decide which neurons are universal:
//! each neuron's best match is taken again among its candidates, while its baseline stays that of
//! all tokens. A resample has fewer different tokens than the text, so that best matches and
//! baselines both become larger by chance; since the baseline is fixed, the mean increase of a
//! neuron's best match over all resamples is subtracted. For signatures, a resample also draws neurons
//! within each layer with replacement. The percentiles of their properties stay those of the table.

use rayon::prelude::*;

use super::Findings;
use crate::correlation::{BlockDraws, BlockSums, Layout, PairCandidates};
use crate::plan::Plan;
use crate::record::PercentileInterval;
use crate::stats::percentile::{mean, quantile, ranks_within};
use crate::table::Column;

impl PercentileInterval {
    /// Returns the interval of a quantity over resamples. `None` if it does not exist in some
    /// resample.
    fn of(values: &[f64]) -> Option<Self> {
        let at = |share| quantile(values.iter().copied(), share);
        let known = values.iter().all(|v| v.is_finite());
        Some(Self { low: at(0.025)?, high: at(0.975)? }).filter(|_| known)
    }
}

/// What resamples are computed from.
pub struct Resamples<'a> {
    /// Sums over blocks of documents.
    pub sums: &'a BlockSums,
    /// The blocks that each resample draws.
    pub draws: &'a BlockDraws,
}

impl Findings {
    /// Returns the candidates of the neurons in each partner model. `judged` is the index in the
    /// family of the model that the findings are about.
    pub fn pair_candidates(&self, plan: &Plan, judged: usize) -> Vec<PairCandidates> {
        let of = |(partner, lists): (usize, &Vec<Vec<u32>>)| PairCandidates {
            reference: judged,
            partner,
            lists: lists.clone(),
        };
        plan.partners(judged).zip(&self.candidates).map(of).collect()
    }

    /// Adds intervals to the findings. `judged` is the index in the family of the model that they
    /// are about.
    pub fn add_intervals(&mut self, layout: Layout, judged: usize, resamples: &Resamples) {
        let n = resamples.draws.resamples();
        let summary = &self.summary;
        let thresholds = summary.shares.iter().chain(&summary.curve).map(|share| share.threshold);
        let thresholds: Vec<f64> = thresholds.collect();
        let mut counts = vec![vec![0.0; n]; thresholds.len()];
        let mut universal = Vec::new();
        for layer in 0..layout.n_layers {
            let excess = self.resampled_excess(layout, layer, judged, resamples);
            for (threshold, counts) in thresholds.iter().zip(&mut counts) {
                add_above(&excess, *threshold, counts);
            }
            let of_layer = &mut self.summary.by_layer[layer];
            let mut count = vec![0.0; n];
            add_above(&excess, of_layer.threshold, &mut count);
            of_layer.interval = percent(&count, of_layer.of);
            let rows = self.extra[layout.neurons(layer)].iter_mut().zip(&excess);
            rows.for_each(|(row, excess)| row.excess = PercentileInterval::of(excess));
            let threshold = of_layer.threshold;
            let is_above = |excess: &Vec<f64>| excess.iter().map(|e| *e > threshold).collect();
            universal.extend(excess.iter().map(is_above));
        }
        let shares = self.summary.shares.iter_mut().chain(&mut self.summary.curve);
        for (share, counts) in shares.zip(&counts) {
            share.interval = percent(counts, share.of);
        }
        self.add_signature_intervals(layout, &universal, resamples);
    }

    /// Returns the excess correlation of each neuron of a layer in each resample.
    fn resampled_excess(
        &self,
        layout: Layout,
        layer: usize,
        judged: usize,
        resamples: &Resamples,
    ) -> Vec<Vec<f64>> {
        let estimate = self.table.column(Column::ExcessCorr);
        let of = |i: usize| {
            let mut excess = resamples.sums.mean_best(judged, i, resamples.draws);
            let centre = mean(excess.iter().copied());
            excess.iter_mut().for_each(|e| *e += estimate[i] - centre);
            excess
        };
        layout.neurons(layer).into_par_iter().map(of).collect()
    }

    /// Adds the intervals of signatures. `universal` says for each neuron in which resamples it is
    /// universal.
    fn add_signature_intervals(
        &mut self,
        layout: Layout,
        universal: &[Vec<bool>],
        resamples: &Resamples,
    ) {
        let (layers, table) = (self.table.layers(), &self.table);
        let known: Vec<bool> =
            table.column(Column::ExcessCorr).iter().map(|e| !e.is_nan()).collect();
        let ranked = |name: &str| {
            let column = Column::ALL.iter().find(|c| c.name() == name)?;
            Some(Ranked::of(&ranks_within(&layers, table.column(*column)), &known))
        };
        let signatures = self.summary.signatures.iter();
        let columns: Vec<Option<Ranked>> = signatures.map(|s| ranked(&s.column)).collect();
        let in_resample = |r: usize| {
            let drawn = resamples.draws.neurons(layout, r);
            let gap = |ranked: &Option<Ranked>| {
                ranked.as_ref().map_or(f64::NAN, |ranked| {
                    let median = |wanted| ranked.median(&drawn, |i| universal[i][r] == wanted);
                    median(true) - median(false)
                })
            };
            columns.iter().map(gap).collect()
        };
        let n = resamples.draws.resamples();
        let gaps: Vec<Vec<f64>> = (0..n).into_par_iter().map(in_resample).collect();
        for (i, signature) in self.summary.signatures.iter_mut().enumerate() {
            let values: Vec<f64> = gaps.iter().map(|gaps| gaps[i]).collect();
            signature.interval = PercentileInterval::of(&values);
        }
    }
}

/// Adds to each resample's count the neurons whose excess correlation is above a threshold.
fn add_above(excess: &[Vec<f64>], threshold: f64, counts: &mut [f64]) {
    for excess in excess {
        let above = excess.iter().map(|e| f64::from(*e > threshold));
        counts.iter_mut().zip(above).for_each(|(count, above)| *count += above);
    }
}

/// Returns the interval of a share, in percent, from the number of neurons in each resample.
fn percent(counts: &[f64], of: usize) -> Option<PercentileInterval> {
    let shares = counts.iter().map(|count| 100.0 * count / of as f64);
    PercentileInterval::of(&shares.collect::<Vec<_>>())
}

/// Neurons in the order of a value, with the value.
struct Ranked(Vec<(usize, f64)>);

impl Ranked {
    /// Sorts the known neurons that have a value.
    fn of(values: &[f64], known: &[bool]) -> Self {
        let all = values.iter().copied().enumerate();
        let mut ranked: Vec<_> = all.filter(|(i, v)| known[*i] && !v.is_nan()).collect();
        ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
        Self(ranked)
    }

    /// Returns the median value over the wanted neurons, each as often as it was drawn: the mean of
    /// the two middle values if their number is even, NaN if there are none.
    fn median(&self, drawn: &[u32], wanted: impl Fn(usize) -> bool) -> f64 {
        let chosen = || self.0.iter().filter(|(i, _)| wanted(*i));
        let n: u32 = chosen().map(|(i, _)| drawn[*i]).sum();
        if n == 0 {
            return f64::NAN;
        }
        let (mut seen, mut below) = (0, f64::NAN);
        for (i, value) in chosen() {
            let before = seen;
            seen += drawn[*i];
            // The places of the middle values, from 0: (n − 1) / 2 and n / 2, rounded down.
            if before <= (n - 1) / 2 && (n - 1) / 2 < seen {
                below = *value;
            }
            if before <= n / 2 && n / 2 < seen {
                return f64::midpoint(below, *value);
            }
        }
        f64::NAN
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::record::{ExtraRow, Share, Summary};
    use crate::stats::percentile::median;
    use crate::table::{NeuronId, Table};

    proptest! {
        #[test]
        fn a_median_counts_each_neuron_as_often_as_it_was_drawn(
            neurons in prop::collection::vec((-3i8..3, 0u32..4, any::<bool>(), any::<bool>()), 1..30),
        ) {
            let value = |(v, ..): &(i8, u32, bool, bool)| if *v == 2 { f64::NAN } else { f64::from(*v) };
            let values: Vec<f64> = neurons.iter().map(value).collect();
            let known: Vec<bool> = neurons.iter().map(|n| n.2).collect();
            let drawn: Vec<u32> = neurons.iter().map(|n| n.1).collect();
            let chosen = neurons.iter().zip(&values).filter(|(n, _)| n.2 && n.3);
            let repeated = chosen.flat_map(|(n, v)| std::iter::repeat_n(*v, n.1 as usize));
            let want = median(repeated).unwrap_or(f64::NAN);
            let got = Ranked::of(&values, &known).median(&drawn, |i| neurons[i].3);
            prop_assert!(got == want || (got.is_nan() && want.is_nan()), "{} {}", got, want);
        }
    }

    #[test]
    fn a_quantity_that_some_resample_lacks_has_no_interval() {
        let of = PercentileInterval::of;
        let all: Vec<f64> = (0..=1000).map(f64::from).collect();
        assert_eq!(of(&all), Some(PercentileInterval { low: 25.0, high: 975.0 }));
        assert_eq!((of(&[1.0, f64::NAN]), of(&[f64::INFINITY]), of(&[])), (None, None, None));
    }

    #[derive(Deserialize)]
    struct Golden {
        seed: u64,
        resamples: usize,
        layers: usize,
        width: usize,
        block_sizes: Vec<usize>,
        thresholds: Vec<f64>,
        models: Vec<Vec<f32>>,
        candidates: Vec<Vec<Vec<u32>>>,
        baseline: Vec<Option<f64>>,
        excess: Vec<Option<f64>>,
        columns: BTreeMap<String, Vec<Option<f64>>>,
        intervals: GoldenIntervals,
    }

    #[derive(Deserialize)]
    struct GoldenIntervals {
        excess: Vec<Option<[f64; 2]>>,
        shares: Vec<Option<[f64; 2]>>,
        by_layer: Vec<Option<[f64; 2]>>,
        signatures: BTreeMap<String, Option<[f64; 2]>>,
    }

    impl Golden {
        fn layout(&self) -> Layout {
            Layout { n_layers: self.layers, d_mlp: self.width }
        }

        /// Returns the sums of the golden activations.
        fn sums(&self) -> BlockSums {
            let pair = |(i, lists): (usize, &Vec<Vec<u32>>)| PairCandidates {
                reference: 0,
                partner: i + 1,
                lists: lists.clone(),
            };
            let pairs = self.candidates.iter().enumerate().map(pair).collect();
            let (n, blocks) = (self.layout().n_neurons(), self.block_sizes.len());
            let mut sums = BlockSums::new(vec![self.layout(); self.models.len()], blocks, pairs);
            let mut first = 0;
            for (block, size) in self.block_sizes.iter().enumerate() {
                let of_block = |model: &Vec<f32>| model[first * n..(first + size) * n].to_vec();
                let mut tokens: Vec<Vec<f32>> = self.models.iter().map(of_block).collect();
                sums.absorb(
                    block,
                    &mut tokens.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>(),
                );
                first += size;
            }
            sums
        }

        /// Returns findings with the golden table and without intervals.
        fn findings(&self) -> Findings {
            let value = |values: &[Option<f64>], i: usize| values[i].unwrap_or(f64::NAN);
            let cell = |column: Column, i: usize| match column {
                Column::MeanBaseline => value(&self.baseline, i),
                Column::ExcessCorr => value(&self.excess, i),
                other => self.columns.get(other.name()).map_or(0.0, |values| value(values, i)),
            };
            let mut table = Table::new();
            for i in 0..self.layout().n_neurons() {
                let row: Vec<f64> = Column::ALL.iter().map(|column| cell(*column, i)).collect();
                table.push(NeuronId::of(i, self.width), row.try_into().expect("all columns"));
            }
            let excess = table.column(Column::ExcessCorr).to_vec();
            let by_layer = excess.chunks(self.width);
            let by_layer = by_layer.map(|excess| Share::above(self.thresholds[0], excess));
            let summary = Summary {
                shares: self.thresholds.iter().map(|t| Share::above(*t, &excess)).collect(),
                by_layer: by_layer.collect(),
                signatures: super::super::summary::signatures(&table, self.thresholds[0]),
                ..Summary::default()
            };
            let extra = vec![ExtraRow::default(); excess.len()];
            Findings { table, extra, summary, partners: Vec::new(), candidates: Vec::new() }
        }
    }

    fn assert_near(what: &str, got: Option<PercentileInterval>, want: Option<[f64; 2]>) {
        let ends = got.map(|interval| [interval.low, interval.high]);
        let (Some(got), Some(want)) = (ends, want) else {
            return assert_eq!(ends, want, "{what}");
        };
        // Activations are rounded to f32 when the pilot is subtracted: by 2⁻²⁴ of at most 10, beside
        // a standard deviation of at least 0.3 in both neurons.
        let near = got.iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-5);
        assert!(near, "{what}: {got:?}, expected {want:?}");
    }

    #[test]
    fn intervals_are_those_of_an_independent_computation() {
        let text = include_str!("../../expected/golden/intervals.json");
        let golden: Golden = serde_json::from_str(text).expect("JSON");
        let (sums, mut findings) = (golden.sums(), golden.findings());
        let draws = BlockDraws::new(golden.block_sizes.len(), golden.resamples, golden.seed);
        let resamples = Resamples { sums: &sums, draws: &draws };
        findings.add_intervals(golden.layout(), 0, &resamples);
        let want = &golden.intervals;
        for (i, (row, want)) in findings.extra.iter().zip(&want.excess).enumerate() {
            assert_near(&format!("neuron {i}"), row.excess, *want);
        }
        let summary = &findings.summary;
        for (share, want) in summary.shares.iter().zip(&want.shares) {
            assert_near("share", share.interval, *want);
        }
        for (share, want) in summary.by_layer.iter().zip(&want.by_layer) {
            assert_near("layer", share.interval, *want);
        }
        assert_eq!(summary.signatures.len(), want.signatures.len());
        for signature in &summary.signatures {
            assert_near(&signature.column, signature.interval, want.signatures[&signature.column]);
        }
    }
}
