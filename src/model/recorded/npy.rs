//! The header of a NumPy file (`.npy`). What a recording needs of the format is one short line: the
//! type, the order and the shape of an array.

use safetensors::Dtype;

use super::super::weights::Tensor;
use crate::error::{Error, Kind, Result};
use crate::input::InputFile;

/// The first bytes of a NumPy file.
const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest header that is read, in bytes; those of plain arrays have about a hundred.
const MAX_HEADER: usize = 1 << 16;

/// Returns the array in a file, which becomes the n-th file of a recording.
///
/// # Errors
/// Returns an error naming the file if it is not an array of plain numbers in C order, in
/// little-endian bytes, or if it has another length than its header says.
pub fn array_of(input: &InputFile, file: usize) -> Result<Tensor> {
    let refused = |(problem, remedy): (String, &str)| {
        Error::new(Kind::Model, input.path().display(), problem, remedy)
    };
    let start = &mut [0; 12];
    if input.len() < start.len() as u64 {
        return Err(refused(damaged(&format!("it has {} bytes", input.len()))));
    }
    input.read_at(0, start)?;
    let (length, data) = header_place(start).map_err(refused)?;
    if length > MAX_HEADER || (data + length) as u64 > input.len() {
        let found = format!("a header of {length} bytes in {}", input.len());
        return Err(refused(damaged(&found)));
    }
    let mut header = vec![0; length];
    input.read_at(data as u64, &mut header)?;
    let header =
        String::from_utf8(header).map_err(|_| refused(damaged("its header is not text")))?;
    let (dtype, shape) = parse(&header).map_err(refused)?;
    let values = shape.iter().try_fold(1_usize, |n, d| n.checked_mul(*d));
    let bytes = values.and_then(|n| n.checked_mul(dtype.bitsize() / 8));
    let data = data + length;
    if bytes.and_then(|n| n.checked_add(data)).map(|n| n as u64) != Some(input.len()) {
        let found = format!("it has {} bytes, and an array of shape {shape:?}", input.len());
        return Err(refused(damaged(&found)));
    }
    let bytes = data..input.len() as usize;
    Ok(Tensor { dtype, shape, file, bytes })
}

fn damaged(found: &str) -> (String, &'static str) {
    (format!("is not a whole NumPy file ({found})"), "write it again with `numpy.save`")
}

/// Returns the length of the header and where it begins, given the first bytes of the file.
fn header_place(start: &[u8; 12]) -> Result<(usize, usize), (String, &'static str)> {
    match (start.strip_prefix(MAGIC), start[6]) {
        (None, _) => Err(damaged("it does not begin as one")),
        (_, 1) => Ok((usize::from(u16::from_le_bytes([start[8], start[9]])), 10)),
        (_, 2 | 3) => {
            let length = u32::from_le_bytes([start[8], start[9], start[10], start[11]]);
            Ok((length as usize, 12))
        }
        (_, version) => Err(damaged(&format!("version {version} of the format, expected 1 to 3"))),
    }
}

/// Reads a header such as `{'descr': '<f4', 'fortran_order': False, 'shape': (100, 64), }`.
fn parse(header: &str) -> Result<(Dtype, Vec<usize>), (String, &'static str)> {
    let no_field = |key: &str| damaged(&format!("its header has no `{key}`"));
    let value = |key: &'static str| {
        let after = header.split_once(&format!("'{key}'")).map(|(_, rest)| rest.trim_start());
        after.and_then(|rest| rest.strip_prefix(':')).map(str::trim).ok_or_else(|| no_field(key))
    };
    let descr = value("descr")?;
    let descr = descr.strip_prefix('\'').and_then(|d| d.split_once('\'')).map(|(d, _)| d);
    let descr = descr.ok_or_else(|| {
        let problem = "holds records, expected one number for each unit".to_owned();
        (problem, "save a plain array of floating-point numbers")
    })?;
    let dtype = dtype_of(descr).ok_or_else(|| {
        let problem = format!("holds numbers of type `{descr}`, expected `<f2`, `<f4` or `<f8`");
        (problem, "convert it with `.astype(\"<f4\")`")
    })?;
    if !value("fortran_order")?.starts_with("False") {
        let problem = "is in Fortran order, expected C order".to_owned();
        return Err((problem, "save `numpy.ascontiguousarray(x)`"));
    }
    let shape = value("shape")?;
    let shape = shape.strip_prefix('(').and_then(|s| s.split_once(')')).map(|(s, _)| s);
    let lengths = shape.ok_or_else(|| no_field("shape"))?.split(',').map(str::trim);
    let lengths = lengths.filter(|length| !length.is_empty()).map(str::parse);
    let shape: Result<Vec<usize>, _> = lengths.collect();
    let shape = shape.map_err(|_| damaged("its shape is not a list of lengths"))?;
    Ok((dtype, shape))
}

fn dtype_of(descr: &str) -> Option<Dtype> {
    Some(match descr {
        "<f2" => Dtype::F16,
        "<f4" => Dtype::F32,
        "<f8" => Dtype::F64,
        "|b1" => Dtype::BOOL,
        "|u1" => Dtype::U8,
        "<i4" => Dtype::I32,
        "<i8" => Dtype::I64,
        "<u4" => Dtype::U32,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a NumPy file with a header of the given version.
    fn file(version: u8, header: &str, data: &[u8]) -> tempfile::NamedTempFile {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend((header.len() as u16).to_le_bytes()),
            _ => bytes.extend((header.len() as u32).to_le_bytes()),
        }
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), bytes).expect("write");
        file
    }

    fn read(file: &tempfile::NamedTempFile) -> Result<Tensor> {
        array_of(&InputFile::open(Kind::Model, file.path()).expect("opened"), 0)
    }

    #[test]
    fn every_version_is_read() {
        let header = "{'descr': '<f2', 'fortran_order': False, 'shape': (2, 3), }          \n";
        for version in 1..=3 {
            let array = read(&file(version, header, &[0; 12])).expect("read");
            assert_eq!((array.dtype, &array.shape[..]), (Dtype::F16, &[2, 3][..]));
            let start = if version == 1 { 10 } else { 12 } + header.len();
            assert_eq!(array.bytes, start..start + 12);
        }
    }

    #[test]
    fn what_is_no_plain_array_is_refused_with_a_remedy() {
        let of = |descr: &str, fortran: &str, shape: &str| {
            format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}")
        };
        for (header, says) in [
            (of("'<f4'", "True", "(1, 1)"), "Fortran"),
            (of("'>f4'", "False", "(1, 1)"), "`>f4`"),
            (of("'<c8'", "False", "(1, 1)"), "`<c8`"),
            (of("[('a', '<f4')]", "False", "(1,)"), "records"),
            (of("'<f4'", "False", "(2, 1)"), "an array of shape [2, 1]"),
            (of("'<f4'", "False", "(18446744073709551615, 2)"), "whole NumPy file"),
            (of("'<f4'", "False", "(99999999999999999999,)"), "list of lengths"),
            (of("'<f4'", "False", "7"), "no `shape`"),
            ("{}".into(), "no `descr`"),
        ] {
            let error = read(&file(1, &header, &[0; 4])).expect_err(says);
            assert!(error.problem.contains(says), "{header}: {error}");
        }
        let long = file(2, "{}", &[]);
        let mut bytes = std::fs::read(long.path()).expect("read");
        bytes[8..12].fill(0xff);
        std::fs::write(long.path(), bytes).expect("write");
        assert!(read(&long).expect_err("too long").problem.contains("header of 4294967295"));
        assert!(read(&file(4, "{}", &[])).expect_err("version").problem.contains("version 4"));
    }
}
