//! Checkpoints that `torch.save` writes: a zip archive with a pickle that names tensors, and the
//! bytes of each tensor.

use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::ops::Range;
use std::rc::Rc;

use zip::{CompressionMethod, ZipArchive};

use super::pickle::{PickleResult, Pickled, pickled};
use super::tensor::Tensor;

/// Maximum length of the pickle, in bytes. Names and shapes of tensors take far less.
const MAX_PICKLE: u64 = 64 << 20;

/// Returns the tensors of an archive of `length` bytes, with the positions of their bytes.
///
/// # Errors
/// Returns an error that describes the problem if the file is not an archive, an entry is compressed
/// or truncated, an object is not one of the few known ones, or a tensor exceeds its storage or is
/// not row-major.
pub fn tensors(file: impl Read + Seek, length: u64) -> PickleResult<BTreeMap<String, Tensor>> {
    let archive = Archive::open(file, length)?;
    let place = |(name, tensor): (String, Rc<Pickled>)| {
        let placed = archive.place(&tensor).map_err(|e| format!("tensor `{name}` {e}"))?;
        Ok((name, placed))
    };
    pickled(&archive.pickle)?.into_iter().map(place).collect()
}

/// Entries of an archive, by their names below its folder.
struct Archive {
    pickle: Vec<u8>,
    storages: BTreeMap<String, Range<usize>>,
}

impl Archive {
    fn open(file: impl Read + Seek, length: u64) -> PickleResult<Self> {
        let mut zip = ZipArchive::new(file).map_err(|e| {
            format!("is not a zip archive as `torch.save` of PyTorch 1.6 or newer writes it ({e})")
        })?;
        let (mut pickle, mut storages) = (None, BTreeMap::new());
        for i in 0..zip.len() {
            let mut entry = zip.by_index(i).map_err(|e| format!("has a damaged entry ({e})"))?;
            let name = entry.name().map_err(|e| format!("has an entry of a bad name ({e})"))?;
            let name = name.into_owned();
            if entry.compression() != CompressionMethod::Stored {
                return Err(format!("entry `{name}` is compressed, expected it stored"));
            }
            let inner = name.split_once('/').map_or(&*name, |(_, inner)| inner);
            if inner == "data.pkl" {
                pickle = Some(read_whole(&mut entry)?);
            } else if inner == "byteorder" {
                if read_whole(&mut entry)? != b"little" {
                    return Err("is of a big-endian machine".into());
                }
            } else if let Some(key) = inner.strip_prefix("data/") {
                let start =
                    entry.data_start().ok_or_else(|| format!("entry `{name}` has no place"))?;
                let range = start..start.saturating_add(entry.size());
                let outside = || format!("entry `{name}` does not lie in the file");
                if range.end > length {
                    return Err(outside());
                }
                storages.insert(key.to_owned(), range.start as usize..range.end as usize);
            }
        }
        let pickle = pickle.ok_or("is an archive without `data.pkl`")?;
        Ok(Self { pickle, storages })
    }

    /// Returns the position of a tensor in the file.
    fn place(&self, tensor: &Pickled) -> PickleResult<Tensor> {
        let Pickled { dtype, key, offset, shape, strides } = tensor;
        let storage = self.storages.get(&**key).ok_or("has no bytes in the archive")?;
        if !row_major(shape, strides) {
            return Err(format!("has strides {strides:?} for shape {shape:?}, expected row-major"));
        }
        let size = dtype.bitsize() / 8;
        let values = shape.iter().try_fold(1_usize, |n, d| n.checked_mul(*d));
        let length = values.and_then(|n| n.checked_mul(size)).ok_or("is too large")?;
        let start = offset.checked_mul(size).ok_or("is too large")?;
        let end = start.checked_add(length).ok_or("is too large")?;
        if end > storage.len() {
            return Err(format!("ends at byte {end} of {}", storage.len()));
        }
        let bytes = storage.start + start..storage.start + end;
        Ok(Tensor { dtype: *dtype, shape: shape.clone(), file: 0, bytes })
    }
}

fn read_whole(entry: &mut impl Read) -> PickleResult<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = entry.take(MAX_PICKLE + 1).read_to_end(&mut bytes);
    match read {
        Ok(n) if n as u64 > MAX_PICKLE => Err(format!("its pickle is over {MAX_PICKLE} bytes")),
        Ok(_) => Ok(bytes),
        Err(e) => Err(format!("has a damaged entry ({e})")),
    }
}

fn row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut next = 1_usize;
    let fits = |(d, stride): (&usize, &usize)| {
        // The stride of a dimension of length 1 has no effect.
        let fits = *d == 1 || *stride == next;
        next = next.saturating_mul(*d);
        fits
    };
    shape.len() == strides.len()
        && (shape.contains(&0) || shape.iter().zip(strides).rev().all(fits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strides_are_those_of_rows() {
        assert!(row_major(&[2, 3], &[3, 1]) && row_major(&[1, 3], &[7, 1]) && row_major(&[], &[]));
        assert!(!row_major(&[2, 3], &[1, 2]) && !row_major(&[2], &[1, 1]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = tensors(std::io::Cursor::new(&bytes), bytes.len() as u64);
        }
    }
}
