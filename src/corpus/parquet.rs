//! Reads rows of Parquet files: only the columns that a corpus asks for, page by page, one row at
//! a time. The library panics on some damaged files; such panics become errors here.

mod floats;

use std::cell::Cell;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Once};

use parquet::basic::{ConvertedType, LogicalType, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::DataType;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::format::Refusal;
use super::json::{FieldValue, FieldValues};
use super::pages::Pages;

/// Maximum number of columns that an error names.
const NAMED: usize = 20;

/// A Parquet file.
pub struct ParquetTable {
    file: Arc<Mutex<File>>,
    metadata: ParquetMetaData,
    limit: usize,
}

impl ParquetTable {
    /// Reads the metadata of a file. Each page may unpack to at most `limit` bytes.
    ///
    /// # Errors
    /// Returns a refusal if the metadata are damaged.
    pub fn of(file: File, limit: usize) -> Result<Self, Refusal> {
        let metadata = guarded(|| ParquetMetaDataReader::new().parse_and_finish(&file));
        let metadata = metadata.and_then(|metadata| metadata.map_err(|e| e.to_string()));
        let metadata = metadata.map_err(|problem| {
            (
                format!("is not a complete Parquet file: {problem}"),
                "copy or download the corpus again".into(),
            )
        })?;
        Ok(Self { file: Arc::new(Mutex::new(file)), metadata, limit })
    }

    /// Returns an iterator over the rows, with the values of the named columns.
    ///
    /// # Errors
    /// Returns a refusal if a name is not that of one column of text, numbers or nulls.
    pub fn rows(&self, names: &[Option<&str>; 3]) -> Result<Rows<'_>, Refusal> {
        let column = |name: Option<&str>| {
            name.map(|name| column(self.metadata.file_metadata().schema_descr(), name)).transpose()
        };
        let columns = [column(names[0])?, column(names[1])?, column(names[2])?];
        Ok(Rows {
            table: self,
            columns,
            group: 0,
            left: 0,
            readers: [None, None, None],
            ended: false,
        })
    }
}

/// Returns the index of a column by its name. A dot leads into a structure.
fn column(schema: &SchemaDescriptor, name: &str) -> Result<usize, Refusal> {
    let path = |column: usize| schema.column(column).path().string();
    let mut found = (0..schema.num_columns()).filter(|&column| path(column) == name);
    let remedy = || "name the columns in `corpus.fields`, dots leading into structures".to_owned();
    let Some(column) = found.next() else {
        let inside = |column: &usize| {
            path(*column).strip_prefix(name).is_some_and(|rest| rest.starts_with('.'))
        };
        let problem = match (0..schema.num_columns()).find(inside) {
            Some(column) if schema.column(column).max_rep_level() > 0 => {
                format!("column `{name}` is a list or a map, expected one value per row")
            }
            Some(column) => format!("column `{name}` is a structure that holds `{}`", path(column)),
            None => {
                let names: Vec<String> = (0..schema.num_columns()).take(NAMED).map(path).collect();
                format!("has no column `{name}`; it has: {}", names.join(", "))
            }
        };
        return Err((problem, remedy()));
    };
    if found.next().is_some() {
        return Err((format!("has two columns `{name}`"), "rename one of them".into()));
    }
    match unreadable(&schema.column(column)) {
        Some(what) => Err((format!("column `{name}` holds {what}, expected text"), remedy())),
        None => Ok(column),
    }
}

/// Returns what a column contains if it is neither text nor numbers nor booleans.
fn unreadable(column: &ColumnDescriptor) -> Option<&'static str> {
    if column.max_rep_level() > 0 {
        return Some("lists");
    }
    let logical = column.logical_type_ref();
    match (column.physical_type(), logical) {
        (_, Some(LogicalType::Decimal(_))) => Some("decimal numbers"),
        (_, Some(LogicalType::Date | LogicalType::Time(_) | LogicalType::Timestamp(_))) => {
            Some("dates or times")
        }
        (Type::INT96, _) => Some("dates or times"),
        (Type::FIXED_LEN_BYTE_ARRAY, _) => Some("bytes of a fixed length"),
        _ => match column.converted_type() {
            ConvertedType::DECIMAL => Some("decimal numbers"),
            ConvertedType::BSON => Some("BSON"),
            _ => None,
        },
    }
}

/// One column of a row group.
struct Column {
    reader: ColumnReader,
    /// Whether integers are unsigned.
    unsigned: bool,
}

/// An iterator over the rows of a file; an item is a row or the problem with it.
pub struct Rows<'a> {
    table: &'a ParquetTable,
    columns: [Option<usize>; 3],
    /// Index of the next row group.
    group: usize,
    /// Number of rows left in the open row group.
    left: usize,
    readers: [Option<Column>; 3],
    ended: bool,
}

impl Rows<'_> {
    fn row(&mut self) -> ParquetResult<Option<FieldValues>> {
        while self.left == 0 {
            self.close()?;
            if self.group == self.table.metadata.num_row_groups() {
                return Ok(None);
            }
            self.open()?;
        }
        self.left -= 1;
        let mut row = [None, None, None];
        for (found, reader) in row.iter_mut().zip(&mut self.readers) {
            if let Some(reader) = reader {
                let missing =
                    || ParquetError::General("is damaged: a column ends before its rows".into());
                *found = Some(cell(reader)?.ok_or_else(missing)?);
            }
        }
        Ok(Some(row))
    }

    /// Opens the next row group.
    fn open(&mut self) -> ParquetResult<()> {
        let group = self.table.metadata.row_group(self.group);
        let rows = usize::try_from(group.num_rows())?;
        self.group += 1;
        for (reader, column) in self.readers.iter_mut().zip(self.columns) {
            let Some(column) = column else { continue };
            let chunk = group.columns().get(column);
            let chunk = chunk
                .ok_or_else(|| ParquetError::General("is damaged: a column is missing".into()))?;
            let description = chunk.column_descr_ptr();
            let levels = description.max_def_level() > 0;
            let pages = Pages::of(&self.table.file, chunk, rows, self.table.limit, levels)?;
            let unsigned = matches!(
                description.converted_type(),
                ConvertedType::UINT_32 | ConvertedType::UINT_64
            );
            *reader =
                Some(Column { reader: get_column_reader(description, Box::new(pages)), unsigned });
        }
        self.left = rows;
        Ok(())
    }

    /// Checks that no column of the open row group has more values than rows.
    fn close(&mut self) -> ParquetResult<()> {
        for reader in &mut self.readers {
            if let Some(reader) = reader
                && cell(reader)?.is_some()
            {
                return Err(ParquetError::General(
                    "is damaged: a column has more values than rows".into(),
                ));
            }
            *reader = None;
        }
        Ok(())
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<FieldValues, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = match guarded(|| self.row()) {
            Ok(Ok(None)) => return None,
            Ok(Ok(Some(row))) => return Some(Ok(row)),
            Ok(Err(problem)) => problem.to_string(),
            Err(problem) => problem,
        };
        self.ended = true;
        Some(Err(row.strip_prefix("Parquet error: ").unwrap_or(&row).to_owned()))
    }
}

/// Returns the next value of a column, or None after the last.
fn cell(column: &mut Column) -> ParquetResult<Option<FieldValue>> {
    use ColumnReader as C;
    let unsigned = column.unsigned;
    let scalar = |value: String| FieldValue::Scalar(value);
    Ok(match &mut column.reader {
        C::ByteArrayColumnReader(reader) => one(reader)?.map(|value| match value {
            Some(bytes) => match bytes.as_utf8() {
                Ok(text) => FieldValue::Text(text.to_owned()),
                Err(_) => FieldValue::Other("bytes that are not UTF-8"),
            },
            None => FieldValue::Null,
        }),
        C::BoolColumnReader(reader) => {
            one(reader)?.map(|v| v.map_or(FieldValue::Null, |v| scalar(v.to_string())))
        }
        C::Int32ColumnReader(reader) => one(reader)?.map(|v| {
            let text =
                |v: i32| if unsigned { v.cast_unsigned().to_string() } else { v.to_string() };
            v.map_or(FieldValue::Null, |v| scalar(text(v)))
        }),
        C::Int64ColumnReader(reader) => one(reader)?.map(|v| {
            let text =
                |v: i64| if unsigned { v.cast_unsigned().to_string() } else { v.to_string() };
            v.map_or(FieldValue::Null, |v| scalar(text(v)))
        }),
        C::FloatColumnReader(reader) => {
            one(reader)?.map(|v| v.map_or(FieldValue::Null, |v| finite(v.is_finite(), v)))
        }
        C::DoubleColumnReader(reader) => {
            one(reader)?.map(|v| v.map_or(FieldValue::Null, |v| finite(v.is_finite(), v)))
        }
        C::Int96ColumnReader(_) | C::FixedLenByteArrayColumnReader(_) => {
            return Err(ParquetError::General("holds neither text nor numbers".into()));
        }
    })
}

fn finite(finite: bool, value: impl std::fmt::Debug) -> FieldValue {
    match finite {
        true => FieldValue::Scalar(format!("{value:?}")),
        false => FieldValue::Other("NaN or an infinity"),
    }
}

/// Returns the next value of a column that may be null, or None after the last.
fn one<T: DataType>(reader: &mut ColumnReaderImpl<T>) -> ParquetResult<Option<Option<T::T>>> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let (rows, ..) = reader.read_records(1, Some(&mut levels), None, &mut values)?;
    Ok((rows > 0).then(|| values.pop()))
}

thread_local! {
    /// Whether a panic of this thread is caught and becomes an error.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a function that may panic on damaged input, and turns a panic into an error.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                before(info);
            }
        }));
    });
    GUARDED.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    outcome.map_err(|_| "is damaged: the reader of Parquet gave up on it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_library_is_an_error() {
        assert!(guarded(|| panic!("as on negative lengths")).is_err());
        assert_eq!(guarded(|| 3), Ok(3));
        let caught = catch_unwind(|| panic!("of somebody else"));
        assert!(caught.is_err() && !GUARDED.get());
    }
}
