//! The correlations with each partner model: `correlations.json`, `correlations.safetensors` and
//! `partners.csv`.

use std::io::Write;

use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::BestMatch;
use super::extra::ExtraRow;
use crate::correlation::Layout;
use crate::nullable::or_nan;
use crate::stats::Moments;
use crate::table::NeuronId;

/// The correlations of all neurons with all neurons of one partner model: one entry of
/// `correlations.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartnerCorrelations {
    /// Name of the partner model.
    pub partner: String,
    /// Number of pairs of neurons that have a correlation.
    #[serde(deserialize_with = "or_nan")]
    pub pairs: f64,
    /// Moments of ρ over these pairs.
    pub rho: Moments,
    /// Counts of ρ in bins of equal width from −1 to 1.
    #[serde(deserialize_with = "or_nan")]
    pub histogram: Vec<f64>,
    /// Linear CKA of every pair of layers, `[layer][layer of the partner]`; empty unless several models
    /// are judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "or_nan")]
    pub cka: Vec<Vec<f64>>,
    /// Best partner neurons of each neuron, best first. They are written to `partners.csv`, and
    /// are empty in a record that was read.
    #[serde(skip)]
    pub top: Vec<Vec<(NeuronId, f64)>>,
}

impl PartnerCorrelations {
    /// Name of the file that lists all partners.
    pub const FILE: &str = "correlations.json";
}

/// Writes `partners.csv`: a row for each neuron, partner model and rank.
///
/// # Errors
/// Returns an error if writing to `out` fails.
pub fn write_partners(
    ids: &[NeuronId],
    partners: &[PartnerCorrelations],
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(["neuron", "model", "rank", "partner", "corr"])?;
    for (i, id) in ids.iter().enumerate() {
        for PartnerCorrelations { partner, top, .. } in partners {
            for (rank, (other, rho)) in top[i].iter().enumerate() {
                let (rank, rho) = ((rank + 1).to_string(), rho.to_string());
                csv.write_record([&id.to_string(), partner, &rank, &other.to_string(), &rho])?;
            }
        }
    }
    csv.flush()
}

/// Writes `correlations.safetensors`, with one row for each partner model:
///
/// - `best` i64 `[partners, n_neurons]`: best match, counted over all layers of the partner;
///   −1 if the neuron has none
/// - `corr`, `baseline` f64 `[partners, n_neurons]`: ρ with the best match and the chance level;
///   NaN if the neuron has none
/// - `histogram` f64 `[partners, 100]`: counts of ρ over all pairs, from −1 to 1
///
/// `layouts` are those of the partners. The metadata contains the names of the partners.
///
/// # Errors
/// Returns an error if writing to `out` fails.
pub fn write_correlations(
    partners: &[PartnerCorrelations],
    layouts: &[Layout],
    rows: &[ExtraRow],
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let matches = |partner: usize| rows.iter().map(move |row| row.matches[partner]);
    let each = || layouts.iter().enumerate();
    let index = |layout: &Layout, m: Option<BestMatch>| {
        m.map_or(-1, |m| (m.id.layer * layout.d_mlp + m.id.neuron) as i64)
    };
    let best = each().flat_map(|(p, layout)| matches(p).map(move |m| index(layout, m)));
    let best: Vec<u8> = best.flat_map(i64::to_le_bytes).collect();
    let bytes = |of: fn(BestMatch) -> f64| -> Vec<u8> {
        let values = each().flat_map(|(p, _)| matches(p).map(move |m| m.map_or(f64::NAN, of)));
        values.flat_map(f64::to_le_bytes).collect()
    };
    let (corr, baseline) = (bytes(|m| m.rho), bytes(|m| m.baseline));
    let histogram = partners.iter().flat_map(|p| p.histogram.iter().copied());
    let histogram: Vec<u8> = histogram.flat_map(f64::to_le_bytes).collect();
    let shape = vec![layouts.len(), rows.len()];
    let bins = vec![layouts.len(), histogram.len() / 8 / layouts.len().max(1)];
    let view = |dtype, shape: &Vec<usize>, bytes| {
        TensorView::new(dtype, shape.clone(), bytes).map_err(std::io::Error::other)
    };
    let tensors = [
        ("baseline", view(Dtype::F64, &shape, &baseline)?),
        ("best", view(Dtype::I64, &shape, &best)?),
        ("corr", view(Dtype::F64, &shape, &corr)?),
        ("histogram", view(Dtype::F64, &bins, &histogram)?),
    ];
    let names: Vec<&str> = partners.iter().map(|p| p.partner.as_str()).collect();
    let metadata = [("partners".to_owned(), names.join(","))].into_iter().collect();
    let bytes = safetensors::serialize(tensors, Some(metadata)).map_err(std::io::Error::other)?;
    out.write_all(&bytes)
}
