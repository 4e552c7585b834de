//! A cache of tokens on disk, so that a large text is tokenised once. The name of a cache is the
//! digest of everything that its tokens depend on. The file is a safetensors file with these
//! tensors, followed by the SHA-256 of its bytes (32 bytes):
//!
//! - `ids` u32 `[tokens]`: all rows, one after the other
//! - `ends` u64 `[rows]`: where each row ends
//! - `samples` u32 `[rows]`: index of the sample of each row
//! - `told` u8: ids and labels of samples, and the number of documents, as JSON

use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::documents::{DocumentCount, Sample};
use super::tokenizer::BpeTokenizer;
use super::tokens::Row;
use crate::digest::digest;
use crate::error::{Error, Kind, Result};
use crate::input::InputFile;
use crate::output::tell;
use crate::printable;
use crate::spec::Corpus;
use crate::store::write_whole;

/// The environment variable with the folder of caches. Without it, no cache is written.
pub const CACHE: &str = "UNIVERSAL_NEURONS_CACHE";
/// Version of the file, increased when its layout changes or the same text could give other
/// tokens.
const VERSION: u32 = 2;
/// Length of the SHA-256 at the end of a cache, in bytes.
const SEAL: usize = 32;

/// The rows of a corpus, and its samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The samples, without their texts.
    pub samples: Vec<Sample>,
    /// Numbers of documents.
    pub count: DocumentCount,
    /// The rows of tokens.
    pub rows: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct CacheDetails {
    samples: Vec<(String, String)>,
    count: DocumentCount,
}

/// The cache file of one text that is cut into rows in one way.
pub struct Cache {
    path: PathBuf,
    /// Maximum length of a row, in tokens.
    context: usize,
}

impl Cache {
    /// Returns the cache in the folder that the environment names, or None without a folder.
    pub fn of(
        corpus: &Corpus,
        corpus_digest: &str,
        tokenizer: &BpeTokenizer,
        bos: u32,
    ) -> Option<Self> {
        let folder = std::env::var_os(CACHE).filter(|folder| !folder.is_empty())?;
        // A digest of the tokenizer itself, which is the same for both forms of its files.
        let tokenizer_digest = tokenizer.digest().ok()?;
        let cut = (&corpus.fields, corpus.context, corpus.tokenisation, corpus.limit);
        // The name of the corpus file belongs to the key because it decides the file format.
        let file = corpus.path.file_name().map(|name| name.to_string_lossy());
        let program = (VERSION, env!("CARGO_PKG_VERSION"));
        let key = serde_json::json!([program, file, corpus_digest, tokenizer_digest, bos, cut]);
        let name = format!("{}.tokens", digest(key.to_string().as_bytes()));
        Some(Self { path: Path::new(&folder).join(name), context: corpus.context })
    }

    /// Reads the cache. Returns None if there is none or, after a warning, if it is damaged; the
    /// text is then tokenised again.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or is not a regular file.
    pub fn read(&self, d_vocab: usize) -> Result<Option<Read>> {
        if !self.path.exists() {
            return Ok(None);
        }
        let mut file = InputFile::open_unchecked(Kind::Corpus, &self.path)?;
        let bytes = file.read(file.len())?;
        let found = parse(&bytes, d_vocab, self.context);
        if found.is_none() {
            let path = printable::text(&self.path.display().to_string()).to_string();
            tell(format_args!("warning: {path}: the kept tokens are damaged; they are made again"));
        }
        Ok(found)
    }

    /// Writes the cache.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be created or written.
    pub fn write(&self, read: &Read) -> Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)
            .map_err(|e| Error::io(Kind::Store, folder, "make the folder of caches", &e))?;
        let bytes = serialised(read)
            .map_err(|e| Error::new(Kind::Store, self.path.display(), e, "unset the variable"))?;
        write_whole(&self.path, |out| out.write_all(&bytes))
    }
}

fn serialised(read: &Read) -> std::result::Result<Vec<u8>, safetensors::SafeTensorError> {
    let ids: Vec<u8> =
        read.rows.iter().flat_map(|r| &r.ids).flat_map(|i| i.to_le_bytes()).collect();
    let ends = read.rows.iter().scan(0_u64, |end, row| {
        *end += row.ids.len() as u64;
        Some(*end)
    });
    let ends: Vec<u8> = ends.flat_map(u64::to_le_bytes).collect();
    let samples = read.rows.iter().flat_map(|r| (r.sample as u32).to_le_bytes());
    let samples: Vec<u8> = samples.collect();
    let named = read.samples.iter().map(|s| (s.id.clone(), s.domain.clone()));
    let told = CacheDetails { samples: named.collect(), count: read.count };
    // Strings and numbers can always be written as JSON.
    let told = serde_json::to_vec(&told).unwrap_or_default();
    let view = |dtype, size, bytes| TensorView::new(dtype, vec![<[u8]>::len(bytes) / size], bytes);
    let tensors = [
        ("ids", view(Dtype::U32, 4, &ids)?),
        ("ends", view(Dtype::U64, 8, &ends)?),
        ("samples", view(Dtype::U32, 4, &samples)?),
        ("told", view(Dtype::U8, 1, &told)?),
    ];
    let mut file = safetensors::serialize(tensors, None)?;
    let seal = Sha256::digest(&file);
    file.extend_from_slice(&seal);
    Ok(file)
}

/// Parses a cache. Returns None if it is damaged, or has ids of `d_vocab` and more or rows of
/// more than `context` tokens.
fn parse(bytes: &[u8], d_vocab: usize, context: usize) -> Option<Read> {
    let (file, seal) = bytes.split_at_checked(bytes.len().checked_sub(SEAL)?)?;
    if Sha256::digest(file).as_slice() != seal {
        return None;
    }
    let file = SafeTensors::deserialize(file).ok()?;
    let of = |name: &str, dtype| file.tensor(name).ok().filter(|t| t.dtype() == dtype);
    let (ids, ends) = (of("ids", Dtype::U32)?, of("ends", Dtype::U64)?);
    let (samples, told) = (of("samples", Dtype::U32)?, of("told", Dtype::U8)?);
    let told: CacheDetails = serde_json::from_slice(told.data()).ok()?;
    let word = |b: &[u8; 4]| u32::from_le_bytes(*b);
    let ids: Vec<u32> = ids.data().as_chunks().0.iter().map(word).collect();
    let ends = ends.data().as_chunks().0.iter().map(|b| u64::from_le_bytes(*b) as usize);
    let samples = samples.data().as_chunks().0.iter().map(|b| word(b) as usize);
    if samples.len() != ends.len() || ids.iter().any(|&id| id as usize >= d_vocab) {
        return None;
    }
    let (mut rows, mut start) = (Vec::new(), 0);
    for (end, sample) in ends.zip(samples) {
        if sample >= told.samples.len() {
            return None;
        }
        let row = ids.get(start..end).filter(|row| (1..=context).contains(&row.len()))?;
        rows.push(Row { sample, ids: row.to_vec() });
        start = end;
    }
    let named = told.samples.into_iter();
    let samples = named.map(|(id, domain)| Sample { id, domain, text: String::new() });
    (start == ids.len()).then(|| Read { samples: samples.collect(), count: told.count, rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_of(lengths: &[usize]) -> Read {
        let row = |(sample, &len): (usize, &usize)| Row { sample, ids: vec![len as u32; len] };
        let sample =
            |i: usize| Sample { id: format!("s{i}"), domain: "d".into(), text: String::new() };
        Read {
            samples: (0..lengths.len()).map(sample).collect(),
            count: DocumentCount { documents: lengths.len(), empty: 1 },
            rows: lengths.iter().enumerate().map(row).collect(),
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_comes_back(lengths in prop::collection::vec(1usize..9, 1..20)) {
            let read = read_of(&lengths);
            let bytes = serialised(&read).expect("written");
            let longest = *lengths.iter().max().expect("some");
            prop_assert_eq!(parse(&bytes, 10, 9), Some(read));
            prop_assert_eq!(parse(&bytes, longest, 9), None, "an id outside the vocabulary");
            prop_assert_eq!(parse(&bytes, 10, longest - 1), None, "a row beyond the context");
        }

        #[test]
        fn forged_caches_with_a_right_digest_are_refused_or_harmless(
            at in 0usize..400,
            value in any::<u8>(),
        ) {
            let mut bytes = serialised(&read_of(&[3, 2, 4])).expect("written");
            bytes.truncate(bytes.len() - SEAL);
            let at = at % bytes.len();
            bytes[at] = value;
            let seal = Sha256::digest(&bytes);
            bytes.extend_from_slice(&seal);
            if let Some(read) = parse(&bytes, 10, 9) {
                let fits = |row: &Row| {
                    row.sample < read.samples.len()
                        && (1..=9).contains(&row.ids.len())
                        && row.ids.iter().all(|&id| id < 10)
                };
                prop_assert!(read.rows.iter().all(fits));
            }
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let whole = serialised(&read_of(&[3, 2, 4])).expect("written");
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&bytes, 10, 9), None, "bit {bit}");
        }
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length], 10, 9), None, "{length} bytes");
        }
        assert_eq!(parse(&[&whole[..], b"x"].concat(), 10, 9), None, "a byte more");
    }

    #[test]
    fn forged_rows_are_refused() {
        let sound = read_of(&[3, 2, 4]);
        let forged = |change: fn(&mut Read)| {
            let mut read = sound.clone();
            change(&mut read);
            parse(&serialised(&read).expect("written"), 10, 9)
        };
        assert!(forged(|_| ()).is_some());
        assert_eq!(forged(|read| read.rows[1].ids = vec![1; 10]), None, "longer than the context");
        assert_eq!(forged(|read| read.rows[1].ids.clear()), None, "an empty row");
        assert_eq!(forged(|read| read.rows[2].ids[0] = 10), None, "an id outside the vocabulary");
        assert_eq!(forged(|read| read.rows[0].sample = 3), None, "a sample that does not exist");
        assert_eq!(forged(|read| read.samples.truncate(1)), None, "samples that are missing");
    }
}
