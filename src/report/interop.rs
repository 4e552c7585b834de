//! A study's numbers in the formats that data frames and array programs read.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, Repetition, Type as Physical};
use parquet::data_type::{DoubleType, Int64Type};
use parquet::errors::Result as ParquetResult;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use safetensors::tensor::{Dtype, TensorView};

use crate::correlation::Layout;
use crate::findings::{Findings, Match};
use crate::table::{Column, Table};

/// Writes the neuron table as Parquet: the columns of the CSV file, `layer` and `neuron`
/// as INT64, the others as DOUBLE, null where a value does not exist.
///
/// # Errors
/// Those of the writer.
pub fn write_parquet(table: &Table, out: &mut dyn Write) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    parquet_bytes(table, &mut bytes).map_err(std::io::Error::other)?;
    out.write_all(&bytes)
}

fn parquet_bytes(table: &Table, out: &mut Vec<u8>) -> ParquetResult<()> {
    let field = |name: &str, kind, repetition| {
        let field = Type::primitive_type_builder(name, kind).with_repetition(repetition);
        field.build().map(Arc::new)
    };
    let ids = ["layer", "neuron"].map(|name| field(name, Physical::INT64, Repetition::REQUIRED));
    let values =
        Column::ALL.iter().map(|c| field(c.name(), Physical::DOUBLE, Repetition::OPTIONAL));
    let fields = ids.into_iter().chain(values).collect::<ParquetResult<Vec<_>>>()?;
    let schema = Type::group_type_builder("neurons").with_fields(fields).build()?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut file = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?;
    let mut group = file.next_row_group()?;
    let of_id: [fn(&crate::table::NeuronId) -> usize; 2] = [|id| id.layer, |id| id.neuron];
    for part in of_id {
        let values: Vec<i64> = table.ids.iter().map(|id| part(id) as i64).collect();
        let Some(mut column) = group.next_column()? else { break };
        column.typed::<Int64Type>().write_batch(&values, None, None)?;
        column.close()?;
    }
    for name in Column::ALL {
        let all = table.column(*name);
        let there: Vec<i16> = all.iter().map(|v| i16::from(v.is_finite())).collect();
        let values: Vec<f64> = all.iter().copied().filter(|v| v.is_finite()).collect();
        let Some(mut column) = group.next_column()? else { break };
        column.typed::<DoubleType>().write_batch(&values, Some(&there), None)?;
        column.close()?;
    }
    group.close()?;
    file.close().map(|_| ())
}

/// Writes what is known of the correlations as safetensors, rows in the order of the
/// partners:
///
/// - `best` i64 `[partners, n_neurons]`: best match, counted over the partner's layers;
///   −1 where there is none
/// - `corr`, `baseline` f64 `[partners, n_neurons]`: ρ with it, and of the best chance
///   neuron; NaN where there is none
/// - `histogram` f64 `[partners, 100]`: counts of ρ over all pairs, from −1 to 1
///
/// `layouts` are those of the partners; their names are in the metadata.
///
/// # Errors
/// Those of the writer.
pub fn write_correlations(
    findings: &Findings,
    layouts: &[Layout],
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let matches = |partner: usize| findings.extra.iter().map(move |e| e.matches[partner]);
    let each = || layouts.iter().enumerate();
    let index = |layout: &Layout, m: Option<Match>| {
        m.map_or(-1, |m| (m.id.layer * layout.d_mlp + m.id.neuron) as i64)
    };
    let best = each().flat_map(|(p, layout)| matches(p).map(move |m| index(layout, m)));
    let best: Vec<u8> = best.flat_map(i64::to_le_bytes).collect();
    let bytes = |of: fn(Match) -> f64| -> Vec<u8> {
        let values = each().flat_map(|(p, _)| matches(p).map(move |m| m.map_or(f64::NAN, of)));
        values.flat_map(f64::to_le_bytes).collect()
    };
    let (corr, baseline) = (bytes(|m| m.rho), bytes(|m| m.baseline));
    let histogram = findings.partners.iter().flat_map(|p| p.histogram.iter().copied());
    let histogram: Vec<u8> = histogram.flat_map(f64::to_le_bytes).collect();
    let rows = layouts.len();
    let shape = vec![rows, findings.extra.len()];
    let bins = vec![rows, histogram.len() / 8 / rows.max(1)];
    let view = |dtype, shape: &Vec<usize>, bytes| {
        TensorView::new(dtype, shape.clone(), bytes).map_err(std::io::Error::other)
    };
    let tensors = [
        ("baseline", view(Dtype::F64, &shape, &baseline)?),
        ("best", view(Dtype::I64, &shape, &best)?),
        ("corr", view(Dtype::F64, &shape, &corr)?),
        ("histogram", view(Dtype::F64, &bins, &histogram)?),
    ];
    let partners = findings.summary.partners.join(",");
    let metadata = [("partners".to_owned(), partners)].into_iter().collect();
    let bytes = safetensors::serialize(tensors, Some(metadata)).map_err(std::io::Error::other)?;
    out.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::NeuronId;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    #[test]
    fn parquet_reads_back_to_the_same_bits_and_nulls() {
        let mut table = Table::new();
        for neuron in 0..3 {
            let mut values = [0.1 * neuron as f64 + 0.2; Column::ALL.len()];
            values[neuron] = f64::NAN;
            table.push(NeuronId { layer: 1, neuron }, values);
        }
        let mut bytes = Vec::new();
        parquet_bytes(&table, &mut bytes).expect("written");
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), &bytes).expect("write");
        let reader = SerializedFileReader::new(file.reopen().expect("open")).expect("Parquet");
        for (i, row) in reader.get_row_iter(None).expect("rows").enumerate() {
            let row = row.expect("row");
            assert_eq!(
                (row.get_long(0).expect("layer"), row.get_long(1).expect("neuron")),
                (1, i as i64)
            );
            for (c, column) in Column::ALL.iter().enumerate() {
                let want = table.column(*column)[i];
                match row.get_double(c + 2) {
                    Ok(got) => assert_eq!(got.to_bits(), want.to_bits(), "{}", column.name()),
                    Err(_) => assert!(want.is_nan(), "{}", column.name()),
                }
            }
        }
    }
}
