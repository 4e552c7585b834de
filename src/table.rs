//! The neuron table: one row per neuron, with the published columns in their order.

mod names;

use std::io::Write;

use crate::correlation::excess::Agreement;
use crate::stats::WeightStatistics;
use crate::stats::activation::ActivationStatistics;

pub use self::names::{HeadId, NeuronId};

macro_rules! columns {
    ($($variant:ident $name:literal $doc:literal,)*) => {
        /// A numeric column of the published neuron tables.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
        pub enum Column { $(#[doc = $doc] #[serde(rename = $name)] $variant,)* }

        impl Column {
            /// All columns, in the published order, after `layer` and `neuron`.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the published name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

columns! {
    MaxCorr "max_corr" "Largest best-match ρ over partners.",
    MeanCorr "mean_corr" "Mean best-match ρ over partners.",
    MinCorr "min_corr" "Smallest best-match ρ over partners.",
    MaxBaseline "max_baseline" "Largest chance level over partners.",
    MinBaseline "min_baseline" "Smallest chance level over partners.",
    MeanBaseline "mean_baseline" "Mean chance level over partners.",
    WInNorm "w_in_norm" "‖w_in‖.",
    InputBias "input_bias" "b_in.",
    WOutNorm "w_out_norm" "‖w_out‖.",
    InOutSim "in_out_sim" "cos(w_in, w_out).",
    L2Penalty "l2_penalty" "‖w_in‖² + ‖w_out‖².",
    Mean "mean" "Mean pre-activation.",
    Var "var" "Population variance of the pre-activation.",
    Skew "skew" "Skewness of the pre-activation.",
    Kurt "kurt" "Kurtosis of the pre-activation, 3 for a Gaussian.",
    VocabMean "vocab_mean" "Mean over the vocabulary of cos(W_U, w_out).",
    VocabVar "vocab_var" "Variance over the vocabulary of cos(W_U, w_out).",
    VocabSkew "vocab_skew" "Skewness over the vocabulary of cos(W_U, w_out).",
    VocabKurt "vocab_kurt" "Kurtosis over the vocabulary of cos(W_U, w_out).",
    Sparsity "sparsity" "Share of tokens on which the neuron is active.",
    ExcessCorr "excess_corr" "mean_corr − mean_baseline.",
}

/// Neurons and the values of their published columns.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// The neuron of each row.
    pub ids: Vec<NeuronId>,
    columns: Vec<Vec<f64>>,
}

impl Table {
    /// Creates a table without rows.
    pub fn new() -> Self {
        Self { ids: Vec::new(), columns: vec![Vec::new(); Column::ALL.len()] }
    }

    /// Appends a row, with the values in the order of [`Column::ALL`].
    pub fn push(&mut self, id: NeuronId, values: [f64; Column::ALL.len()]) {
        self.ids.push(id);
        self.columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
    }

    /// Returns whether the table has each neuron of a model once, in the order of neurons.
    pub fn is_whole(&self, n_layers: usize, d_mlp: usize) -> bool {
        let expected = n_layers.checked_mul(d_mlp);
        let placed = |(i, id): (usize, &NeuronId)| *id == NeuronId::of(i, d_mlp);
        expected == Some(self.ids.len()) && self.ids.iter().enumerate().all(placed)
    }

    /// Returns a column, one value for each row.
    pub fn column(&self, column: Column) -> &[f64] {
        &self.columns[column as usize]
    }

    /// Returns the layer of each row.
    pub fn layers(&self) -> Vec<usize> {
        self.ids.iter().map(|id| id.layer).collect()
    }

    /// Writes the table as CSV. Numbers are written in the shortest form that is read back to the same
    /// bits. A value that does not exist, such as the correlation of a neuron that never varies, is an
    /// empty cell.
    ///
    /// # Errors
    /// Returns an error if writing to `out` fails.
    pub fn write_csv(&self, out: impl Write) -> std::io::Result<()> {
        let mut csv = csv::Writer::from_writer(out);
        let names = Column::ALL.iter().map(|c| c.name());
        csv.write_record(["layer", "neuron"].into_iter().chain(names))?;
        for (row, id) in self.ids.iter().enumerate() {
            let values = self.columns.iter().map(|c| cell(c[row]));
            let ids = [id.layer.to_string(), id.neuron.to_string()];
            csv.write_record(ids.into_iter().chain(values))?;
        }
        csv.flush()
    }
}

/// Returns a number as a cell of a table, which is empty if the number is not finite.
pub fn cell(value: f64) -> String {
    if value.is_finite() { value.to_string() } else { String::new() }
}

/// Returns a number as a cell with a fixed number of digits after the decimal point, which is empty
/// if the number is not finite.
pub fn fixed_cell(value: f64, digits: usize) -> String {
    if value.is_finite() { format!("{value:.digits$}") } else { String::new() }
}

/// Returns the columns of one neuron, in the order of [`Column::ALL`]. The correlations of a neuron
/// without any are NaN; `neurons-extra.csv` says why.
pub fn published_row(
    agreement: Option<&Agreement>,
    activation: &ActivationStatistics,
    weights: &WeightStatistics,
) -> [f64; Column::ALL.len()] {
    let [corr, baseline] = match agreement {
        Some(a) => [a.corr, a.baseline].map(|s| [s.max, s.mean, s.min]),
        None => [[f64::NAN; 3]; 2],
    };
    let ActivationStatistics { moments: pre, sparsity, .. } = activation;
    let vocab = weights.vocab;
    [
        corr[0],
        corr[1],
        corr[2],
        baseline[0],
        baseline[2],
        baseline[1],
        weights.w_in_norm,
        weights.input_bias,
        weights.w_out_norm,
        weights.in_out_sim,
        weights.l2_penalty(),
        pre.mean,
        pre.var,
        pre.skew,
        pre.kurt,
        vocab.mean,
        vocab.var,
        vocab.skew,
        vocab.kurt,
        *sparsity,
        agreement.map_or(f64::NAN, Agreement::excess),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_the_published_one() {
        let mut csv = Vec::new();
        Table::new().write_csv(&mut csv).expect("write to memory");
        let published = "layer,neuron,max_corr,mean_corr,min_corr,max_baseline,min_baseline,\
            mean_baseline,w_in_norm,input_bias,w_out_norm,in_out_sim,l2_penalty,mean,var,skew,kurt,\
            vocab_mean,vocab_var,vocab_skew,vocab_kurt,sparsity,excess_corr\n";
        assert_eq!(String::from_utf8(csv).expect("text"), published);
    }

    #[test]
    fn rows_read_back_to_the_same_bits() {
        let mut table = Table::new();
        let id = NeuronId { layer: 1, neuron: 2 };
        table.push(id, [0.1 + 0.2; Column::ALL.len()]);
        let mut csv = Vec::new();
        table.write_csv(&mut csv).expect("write to memory");
        let text = String::from_utf8(csv).expect("text");
        let row = text.lines().nth(1).expect("one row");
        assert!(row.starts_with("1,2,"));
        assert!(row.split(',').skip(2).all(|v| v.parse() == Ok(0.1 + 0.2)));
    }
}
