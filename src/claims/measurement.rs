//! Takes the measures of claims from evidence.

use std::cell::OnceCell;
use std::sync::Arc;

use super::evidence::Evidence;
use super::measure::{Measure, NeuronSet, Quantity};
use super::prediction_labels;
use crate::record::PercentileInterval;
use crate::stats::percentile::{mean, median, ranks_within};
use crate::table::Column;

/// The vocabulary kurtosis above which a neuron is a prediction or suppression neuron (paper §5.1).
const PREDICTION_KURTOSIS: f64 = 10.0;
/// The kurtosis below which the authors call the activations of a neuron sub-Gaussian.
const SUBGAUSSIAN_KURTOSIS: f64 = 2.0;
/// The share of active tokens above which a neuron is very active (paper §6.2).
const VERY_ACTIVE: f64 = 0.5;

/// The values of a measure, or the reason why it was not taken.
pub type Taken = Result<Vec<f64>, String>;

impl Measure {
    /// Returns the figure of an experiment.
    fn figure(&self, evidence: &Evidence) -> Taken {
        let (experiment, name) =
            self.experiment.as_ref().zip(self.figure.as_ref()).ok_or("names no figure")?;
        let found = evidence.figures.get(name).cloned();
        found.ok_or_else(|| format!("no run of the `{experiment}` experiment is here"))
    }

    /// Takes the measure from the evidence about one or several models.
    pub fn take(&self, evidence: &[Arc<Evidence>]) -> Taken {
        if let Some(awaited) = &self.awaits {
            return Err(format!("awaits {awaited}"));
        }
        let e = evidence.first().ok_or("about no model")?;
        let Some(quantity) = self.name else { return self.figure(e) };
        let measurement = Measurement::new(self, quantity, e);
        let shares = || evidence.iter().map(|e| universal_share(e)).collect::<Vec<f64>>();
        match quantity {
            Quantity::ShareRatio => {
                let shares = shares();
                let others = shares[1..].iter().copied().fold(0.0, f64::max);
                Ok(vec![shares[0] / others])
            }
            Quantity::ShareDifference => {
                let shares = shares();
                Ok(vec![largest(&shares) - smallest(&shares)])
            }
            _ => measurement.take(),
        }
    }

    /// Returns the 95 % interval of the measure's value, if the evidence has one.
    pub fn interval(&self, evidence: &[Arc<Evidence>]) -> Option<PercentileInterval> {
        let [e] = evidence else { return None };
        match self.name? {
            Quantity::UniversalShare => e.interval_of_share(),
            Quantity::PercentileGap => e.interval_of_gap(self.column?),
            _ => None,
        }
    }
}

fn universal_share(e: &Evidence) -> f64 {
    100.0 * count(e.table.column(Column::ExcessCorr), |v| v > e.threshold)
        / e.shape.n_neurons() as f64
}

fn count(values: &[f64], test: impl Fn(f64) -> bool) -> f64 {
    values.iter().filter(|&&v| test(v)).count() as f64
}

/// Returns the largest value, or NaN if a value is NaN, so that no claim is judged on missing values.
fn largest(values: &[f64]) -> f64 {
    if values.iter().any(|v| v.is_nan()) {
        return f64::NAN;
    }
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// Returns the smallest value, or NaN if a value is NaN.
fn smallest(values: &[f64]) -> f64 {
    -largest(&values.iter().map(|v| -v).collect::<Vec<_>>())
}

/// A quantity and the evidence about one model, from which it is taken.
pub(super) struct Measurement<'a> {
    measure: &'a Measure,
    quantity: Quantity,
    e: &'a Evidence,
    /// The place of each layer.
    pub layers: Vec<usize>,
    /// Whether the neuron of each row is universal. `None` if it has no excess correlation.
    pub universal: Vec<Option<bool>>,
    /// The within-layer percentiles of the measure's column.
    ranks: OnceCell<Vec<f64>>,
}

impl<'a> Measurement<'a> {
    pub(super) fn new(measure: &'a Measure, quantity: Quantity, e: &'a Evidence) -> Self {
        let excess = e.table.column(Column::ExcessCorr);
        let above = |v: &f64| (!v.is_nan()).then_some(*v > e.threshold);
        let universal = excess.iter().map(above).collect();
        let layers = (0..e.shape.n_layers).collect();
        Self { measure, quantity, e, layers, universal, ranks: OnceCell::new() }
    }

    pub(super) fn take(&self) -> Taken {
        use Quantity as Q;
        let one = |value: f64| Ok(vec![value]);
        match self.quantity {
            Q::UniversalShare => one(universal_share(self.e)),
            Q::UniversalCount => one(self.universal().len() as f64),
            Q::UniversalByLayer => Ok(self.by_layer(&self.universal())),
            Q::EarlyAmongLargest => one(self.early_among_largest()),
            Q::Spread => one(self.spread(&self.set()?)),
            Q::SpreadGap => {
                self.whole()?;
                one(self.spread(&self.universal()) - self.spread(&self.all()))
            }
            Q::TopNeuron => self.top_neuron(),
            Q::DepthDiagonal => {
                one(self.diagonal(self.e.depth.as_ref().ok_or("no matrix of layers")?))
            }
            Q::LeastLayerExcess => self.least_layer_excess(),
            Q::LeastUniversalExcess => {
                one(smallest(&self.values(Column::ExcessCorr, &self.universal())))
            }
            Q::IdentityError => one(self.identity_error()),
            Q::OlderRows | Q::OlderInUniversal | Q::OlderIdentityError => self.older(),
            Q::SubgaussianRows | Q::SubgaussianLargestKurt => self.subgaussian(),
            Q::PercentileMedian => one(self.percentile_median(&self.set()?)?),
            Q::PercentileGap => one(self.percentile_median(&self.universal())?
                - self.percentile_median(&self.others())?),
            Q::Median => one(self.median_of(self.values(self.column()?, &self.set()?))?),
            Q::PositiveShare => {
                let values = self.values(self.column()?, &self.set()?);
                one(100.0 * count(&values, |v| v > 0.0) / values.len() as f64)
            }
            Q::Range => {
                let values = self.values(self.column()?, &self.set()?);
                Ok(vec![smallest(&values), largest(&values)])
            }
            Q::PredictionByLayer => Ok(self.by_layer(&self.prediction())),
            Q::PredictionCount => one(self.prediction().len() as f64),
            Q::SuppressionShare => one(self.suppression_share(&self.prediction())),
            Q::PredictionOnset => self.prediction_onset(),
            Q::SubgaussianCount => {
                let kurt = self.values(Column::Kurt, &self.universal());
                one(count(&kurt, |v| v < SUBGAUSSIAN_KURTOSIS))
            }
            Q::PredictionLateShare => one(self.prediction_late_share()),
            Q::PredictionLastLayerShare => one(self.prediction_last_layer_share()),
            Q::SuppressionLateShares => self.suppression_late_shares(),
            Q::SuppressionLateGap => {
                let shares = self.suppression_late_shares()?;
                one(shares[0] - shares[1])
            }
            Q::PredictionTableCounts
            | Q::PredictionTableEarly
            | Q::PredictionTableSuppression
            | Q::PredictionTableUniversal
            | Q::PredictionTableKurt
            | Q::PredictionTableAgreement => prediction_labels::take(self.quantity, self.e),
            Q::ActiveCosine => self.active_cosine(),
            Q::ShareRatio | Q::ShareDifference => Err("is about several models".into()),
        }
    }

    fn whole(&self) -> Result<(), String> {
        if self.e.whole { Ok(()) } else { Err("needs a table of all neurons".into()) }
    }

    fn column(&self) -> Result<Column, String> {
        self.measure.column.ok_or_else(|| "the claim names no column".into())
    }

    /// Returns the rows of the set that the claim names, without the neurons that it excludes.
    fn set(&self) -> Result<Vec<usize>, String> {
        let mut rows = match self.measure.of.ok_or("the claim names no set of neurons")? {
            NeuronSet::Universal => self.universal(),
            NeuronSet::Others => self.whole().map(|()| self.others())?,
            NeuronSet::All => self.whole().map(|()| self.all())?,
        };
        let ids = &self.e.table.ids;
        for id in &self.measure.without {
            let place = rows.iter().position(|&row| ids[row] == *id);
            let missing = || format!("{id}, which the claim excludes, is not in the table");
            rows.remove(place.ok_or_else(missing)?);
        }
        Ok(rows)
    }

    fn all(&self) -> Vec<usize> {
        (0..self.e.table.ids.len()).collect()
    }

    fn rows(&self, test: impl Fn(usize) -> bool) -> Vec<usize> {
        self.all().into_iter().filter(|&row| test(row)).collect()
    }

    fn universal(&self) -> Vec<usize> {
        self.rows(|row| self.universal[row] == Some(true))
    }

    fn others(&self) -> Vec<usize> {
        self.rows(|row| self.universal[row] == Some(false))
    }

    fn layer(&self, row: usize) -> usize {
        self.layers[self.e.table.ids[row].layer]
    }

    /// Returns the universal neurons with high vocabulary kurtosis.
    fn prediction(&self) -> Vec<usize> {
        let kurt = self.e.table.column(Column::VocabKurt);
        let mut rows = self.universal();
        rows.retain(|&row| kurt[row] > PREDICTION_KURTOSIS);
        rows
    }

    fn values(&self, column: Column, rows: &[usize]) -> Vec<f64> {
        rows.iter().map(|&row| self.e.table.column(column)[row]).collect()
    }

    fn by_layer(&self, rows: &[usize]) -> Vec<f64> {
        let mut counts = vec![0.0; self.e.shape.n_layers];
        rows.iter().for_each(|&row| counts[self.layer(row)] += 1.0);
        counts
    }

    fn early_among_largest(&self) -> f64 {
        let counts = self.by_layer(&self.universal());
        let mut layers: Vec<usize> = (0..counts.len()).collect();
        layers.sort_by(|&a, &b| counts[b].total_cmp(&counts[a]));
        layers.iter().take(2).filter(|&&layer| layer < 2).count() as f64
    }

    fn spread(&self, rows: &[usize]) -> f64 {
        let (max, min) = (self.values(Column::MaxCorr, rows), self.values(Column::MinCorr, rows));
        mean(max.iter().zip(&min).map(|(max, min)| max - min))
    }

    fn top_neuron(&self) -> Taken {
        let excess = self.e.table.column(Column::ExcessCorr);
        let live = self.rows(|row| !excess[row].is_nan());
        let top = live.into_iter().max_by(|&a, &b| excess[a].total_cmp(&excess[b]));
        let row = top.ok_or("no neuron has an excess correlation")?;
        let id = self.e.table.ids[row];
        Ok(vec![id.layer as f64, id.neuron as f64, excess[row]])
    }

    fn least_layer_excess(&self) -> Taken {
        self.whole()?;
        let (excess, ids) = (self.e.table.column(Column::ExcessCorr), &self.e.table.ids);
        let of_layer = |layer| {
            mean(excess.iter().zip(ids).filter(|(_, id)| id.layer == layer).map(|(e, _)| *e))
        };
        let means: Vec<f64> = (0..self.e.shape.n_layers).map(of_layer).collect();
        Ok(vec![smallest(&means)])
    }

    fn identity_error(&self) -> f64 {
        let c = |column| self.e.table.column(column);
        let error = |row: usize| {
            let excess = c(Column::MeanCorr)[row] - c(Column::MeanBaseline)[row];
            let l2 = c(Column::WInNorm)[row].powi(2) + c(Column::WOutNorm)[row].powi(2);
            (c(Column::ExcessCorr)[row] - excess).abs().max((c(Column::L2Penalty)[row] - l2).abs())
        };
        largest(&self.all().into_iter().map(error).collect::<Vec<_>>())
    }

    fn older(&self) -> Taken {
        let sheet = self.e.older.as_ref().ok_or("no high_excess_correlation table is here")?;
        let column = |name: &str| sheet.column(name).ok_or("the older table lacks a column");
        Ok(vec![match self.quantity {
            Quantity::OlderRows => sheet.ids.len() as f64,
            Quantity::OlderInUniversal => {
                let known = |id| self.e.table.ids.contains(id);
                sheet.ids.iter().filter(|id| known(*id)).count() as f64
            }
            _ => {
                let (excess, corr, base) =
                    (column("excess_corr")?, column("min_corr")?, column("max_baseline")?);
                let error = |row: usize| (excess[row] - (corr[row] - base[row])).abs();
                largest(&(0..sheet.ids.len()).map(error).collect::<Vec<_>>())
            }
        }])
    }

    fn subgaussian(&self) -> Taken {
        let missing = "no sub_gaussian_activation_kurtosis table is here";
        let sheet = self.e.subgaussian.as_ref().ok_or(missing)?;
        let kurt = sheet.column(Column::Kurt.name()).ok_or("the table has no kurtosis")?;
        let rows = self.quantity == Quantity::SubgaussianRows;
        Ok(vec![if rows { kurt.len() as f64 } else { largest(kurt) }])
    }

    fn percentile_median(&self, rows: &[usize]) -> Result<f64, String> {
        self.whole()?;
        let column = self.e.table.column(self.column()?);
        let ranks = self.ranks.get_or_init(|| ranks_within(&self.e.table.layers(), column));
        self.median_of(rows.iter().map(|&row| ranks[row]).collect())
    }

    fn median_of(&self, values: Vec<f64>) -> Result<f64, String> {
        median(values.into_iter()).ok_or_else(|| "no neuron to take a median of".into())
    }

    fn suppression_share(&self, rows: &[usize]) -> f64 {
        let skew = self.values(Column::VocabSkew, rows);
        100.0 * count(&skew, |v| v < 0.0) / skew.len() as f64
    }

    fn prediction_onset(&self) -> Taken {
        let counts = self.by_layer(&self.prediction());
        let first = counts.iter().position(|&c| c > 0.0);
        // Without such a neuron the value is NaN, and the claim is undecided.
        Ok(vec![first.map_or(f64::NAN, |layer| layer as f64 / counts.len() as f64)])
    }

    fn prediction_late_share(&self) -> f64 {
        let (rows, ids) = (self.prediction(), &self.e.table.ids);
        let late = rows.iter().filter(|row| 2 * ids[**row].layer >= self.e.shape.n_layers);
        100.0 * late.count() as f64 / rows.len() as f64
    }

    fn prediction_last_layer_share(&self) -> f64 {
        let last = |rows: &[usize]| self.by_layer(rows)[self.e.shape.n_layers - 1];
        100.0 * last(&self.prediction()) / last(&self.universal())
    }

    fn suppression_late_shares(&self) -> Taken {
        let kurt = self.e.table.column(Column::VocabKurt);
        let last = self.e.shape.n_layers - 1;
        let set = self.set()?;
        let share = |late: bool| {
            let of_kind = |row: &usize| {
                kurt[*row] > PREDICTION_KURTOSIS && (self.layer(*row) == last) == late
            };
            self.suppression_share(&set.iter().copied().filter(of_kind).collect::<Vec<_>>())
        };
        Ok(vec![share(true), share(false)])
    }

    fn active_cosine(&self) -> Taken {
        self.whole()?;
        let active = self.e.table.column(Column::Sparsity);
        let rows = self.rows(|row| active[row] > VERY_ACTIVE);
        Ok(vec![self.median_of(self.values(Column::InOutSim, &rows))?])
    }

    /// Returns the mean of the diagonal of a matrix, whose columns are the layers of the partners,
    /// minus the mean of the other entries.
    fn diagonal(&self, matrix: &[Vec<f64>]) -> f64 {
        let place = |column: usize| self.layers.get(column).copied().unwrap_or(column);
        let row_of = |(i, row): (usize, &Vec<f64>)| {
            let entry = |(j, v): (usize, &f64)| (i == place(j), *v);
            row.iter().enumerate().map(entry).collect::<Vec<_>>()
        };
        let cells = || matrix.iter().enumerate().flat_map(row_of);
        let mean_of = |on: bool| mean(cells().filter(|(d, _)| *d == on).map(|(_, v)| v));
        mean_of(true) - mean_of(false)
    }
}
