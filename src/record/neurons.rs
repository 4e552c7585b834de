//! The neuron table of a run: `neurons.csv` and `neurons.parquet`.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, Repetition, Type as Physical};
use parquet::data_type::{DoubleType, Int64Type};
use parquet::errors::Result as ParquetResult;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use super::Sheet;
use crate::correlation::Layout;
use crate::error::Result;
use crate::store::damaged;
use crate::table::{Column, Table};

/// Name of the file that [`read`] reads.
pub const FILE: &str = "neurons.csv";

/// Returns the header of `neurons.csv`, which is that of the authors' tables of universal neurons.
pub fn columns() -> Vec<&'static str> {
    let numeric = Column::ALL.iter().map(|c| c.name());
    ["layer", "neuron"].into_iter().chain(numeric).collect()
}

/// Reads `neurons.csv` of a run folder. [`Table::write_csv`] writes the file.
///
/// # Errors
/// Returns an error if the file is missing or damaged, or its rows are not the neurons of a model
/// of this layout in their order.
pub fn read(folder: &Path, layout: Layout) -> Result<Table> {
    let file = folder.join(FILE);
    let table = Sheet::read(&file, &columns(), layout)?.into_table();
    if table.is_whole(layout.n_layers, layout.d_mlp) {
        return Ok(table);
    }
    let problem = format!(
        "does not have the neurons of {} layers of {} in their order",
        layout.n_layers, layout.d_mlp
    );
    Err(damaged(&file, problem))
}

/// Writes `neurons.parquet`: the columns of `neurons.csv`, `layer` and `neuron` as INT64, the
/// others as DOUBLE, with null for a value that does not exist.
///
/// # Errors
/// Returns an error if writing to `out` fails.
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
