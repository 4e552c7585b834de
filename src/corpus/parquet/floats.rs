//! Tables of floating-point numbers, one column for each unit of recorded activations.

use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::data_type::{DataType, DoubleType, FloatType};
use parquet::errors::{ParquetError, Result as ParquetResult};

use super::{ColumnReaderImpl, Pages, ParquetTable, Type, guarded};
use crate::corpus::format::Refusal;

/// Number of rows that are read at once.
const ROWS: usize = 256;

/// Receives rows of a table, `[rows, columns]`.
pub type VisitRows<'a> = &'a mut dyn FnMut(&[f32]) -> std::io::Result<()>;

impl ParquetTable {
    /// Returns the numbers of rows and columns.
    ///
    /// # Errors
    /// Returns a refusal if a column holds anything but f32 or f64, or values that may repeat.
    pub fn float_shape(&self) -> Result<[usize; 2], Refusal> {
        let schema = self.metadata.file_metadata().schema_descr();
        let columns = (0..schema.num_columns()).map(|column| schema.column(column));
        for column in columns {
            let is_float = matches!(column.physical_type(), Type::FLOAT | Type::DOUBLE);
            if !is_float || column.max_rep_level() > 0 {
                let name = column.path().string();
                let problem = format!("column `{name}` holds no f32 or f64, one per row");
                return Err((problem, "keep one column of floats for each unit".into()));
            }
        }
        let rows = usize::try_from(self.metadata.file_metadata().num_rows()).unwrap_or(0);
        Ok([rows, schema.num_columns()])
    }

    /// Passes all rows to `visit`, some at a time, as f32.
    ///
    /// # Errors
    /// Returns a refusal if the file is damaged or holds nulls, or the error of `visit`.
    pub fn visit_floats(&self, visit: VisitRows) -> Result<(), Refusal> {
        let groups = 0..self.metadata.num_row_groups();
        let mut all = || groups.clone().try_for_each(|group| self.visit_group(group, visit));
        let problem = match guarded(&mut all) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(problem)) => problem.to_string(),
            Err(problem) => problem,
        };
        let problem = problem.strip_prefix("Parquet error: ").unwrap_or(&problem).to_owned();
        Err((problem, "write the file again, without nulls".into()))
    }

    fn visit_group(&self, group: usize, visit: VisitRows) -> ParquetResult<()> {
        let group = self.metadata.row_group(group);
        let rows = usize::try_from(group.num_rows())?;
        let open = |chunk: &parquet::file::metadata::ColumnChunkMetaData| {
            let description = chunk.column_descr_ptr();
            let levels = description.max_def_level() > 0;
            let pages = Pages::of(&self.file, chunk, rows, self.limit, levels)?;
            Ok(get_column_reader(description, Box::new(pages)))
        };
        let mut readers = group.columns().iter().map(open).collect::<ParquetResult<Vec<_>>>()?;
        let width = readers.len();
        let mut block = Vec::new();
        for first in (0..rows).step_by(ROWS) {
            let count = ROWS.min(rows - first);
            block.clear();
            block.resize(count * width, 0.0);
            for (column, reader) in readers.iter_mut().enumerate() {
                for (row, value) in floats(reader, count)?.into_iter().enumerate() {
                    block[row * width + column] = value;
                }
            }
            visit(&block)?;
        }
        Ok(())
    }
}

/// Reads the next values of a column.
fn floats(reader: &mut ColumnReader, count: usize) -> ParquetResult<Vec<f32>> {
    match reader {
        ColumnReader::FloatColumnReader(reader) => values::<FloatType>(reader, count),
        ColumnReader::DoubleColumnReader(reader) => {
            let values = values::<DoubleType>(reader, count)?;
            Ok(values.into_iter().map(|value| value as f32).collect())
        }
        _ => Err(ParquetError::General("holds neither f32 nor f64".into())),
    }
}

fn values<T: DataType>(reader: &mut ColumnReaderImpl<T>, count: usize) -> ParquetResult<Vec<T::T>> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    while levels.len().max(values.len()) < count {
        let left = count - levels.len().max(values.len());
        let (rows, ..) = reader.read_records(left, Some(&mut levels), None, &mut values)?;
        if rows == 0 {
            let problem = "is damaged: a column ends before its rows";
            return Err(ParquetError::General(problem.into()));
        }
    }
    match values.len() == count {
        true => Ok(values),
        false => Err(ParquetError::General("holds nulls, expected a number in every cell".into())),
    }
}
