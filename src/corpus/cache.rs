//! A cache of tokens on disk, so that a large text is tokenised once. The name of a cache is the
//! digest of everything that its tokens depend on. The file is a safetensors file with these
//! tensors, followed by the SHA-256 of its bytes (32 bytes):
//!
//! - `ids` u32 `[tokens]`: all rows, one after the other
//! - `ends` u64 `[rows]`: where each row ends
//! - `parts` u64 `[parts, 3]`: position, sample and token of each part of a sample in a row
//! - `part_ends` u64 `[rows]`: where the parts of each row end
//! - `told` u8: ids and labels of samples, and the number of documents, as JSON

use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::documents::{DocumentCount, Sample};
use super::rows::{Row, SamplePart};
use super::tokenizer::BpeTokenizer;
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
const VERSION: u32 = 3;
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
        let cut =
            (&corpus.fields, corpus.context, corpus.tokenisation, corpus.prepend_bos, corpus.limit);
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
    let ends = ends(read.rows.iter().map(|row| row.ids.len()));
    let part_ends = self::ends(read.rows.iter().map(|row| row.parts.len()));
    let numbers = |part: &SamplePart| [part.position, part.sample, part.token];
    let parts = read.rows.iter().flat_map(|row| &row.parts).flat_map(numbers);
    let parts: Vec<u8> = parts.flat_map(|number| (number as u64).to_le_bytes()).collect();
    let named = read.samples.iter().map(|s| (s.id.clone(), s.domain.clone()));
    let told = CacheDetails { samples: named.collect(), count: read.count };
    // Strings and numbers can always be written as JSON.
    let told = serde_json::to_vec(&told).unwrap_or_default();
    let view = |dtype, size, bytes| TensorView::new(dtype, vec![<[u8]>::len(bytes) / size], bytes);
    let tensors = [
        ("ids", view(Dtype::U32, 4, &ids)?),
        ("ends", view(Dtype::U64, 8, &ends)?),
        ("parts", view(Dtype::U64, 8, &parts)?),
        ("part_ends", view(Dtype::U64, 8, &part_ends)?),
        ("told", view(Dtype::U8, 1, &told)?),
    ];
    let mut file = safetensors::serialize(tensors, None)?;
    let seal = Sha256::digest(&file);
    file.extend_from_slice(&seal);
    Ok(file)
}

/// Returns where each item of a list ends, given the lengths of the items.
fn ends(lengths: impl Iterator<Item = usize>) -> Vec<u8> {
    let mut end = 0;
    let ends = lengths.map(|length| {
        end += length as u64;
        end
    });
    ends.flat_map(u64::to_le_bytes).collect()
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
    let (parts, part_ends) = (of("parts", Dtype::U64)?, of("part_ends", Dtype::U64)?);
    let told: CacheDetails = serde_json::from_slice(of("told", Dtype::U8)?.data()).ok()?;
    let ids: Vec<u32> = ids.data().as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
    let numbers = |data: &[u8]| -> Vec<usize> {
        data.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b) as usize).collect()
    };
    let (ends, part_ends, parts) =
        (numbers(ends.data()), numbers(part_ends.data()), numbers(parts.data()));
    if part_ends.len() != ends.len() || ids.iter().any(|&id| id as usize >= d_vocab) {
        return None;
    }
    let part = |n: &[usize; 3]| SamplePart { position: n[0], sample: n[1], token: n[2] };
    let parts: Vec<SamplePart> = parts.as_chunks().0.iter().map(part).collect();
    let (mut rows, mut start, mut part_start) = (Vec::new(), 0, 0);
    for (end, part_end) in ends.into_iter().zip(part_ends) {
        let ids = ids.get(start..end).filter(|row| (1..=context).contains(&row.len()))?.to_vec();
        let parts = parts.get(part_start..part_end)?.to_vec();
        let row = Row { ids, parts };
        if !is_sound(&row, told.samples.len()) {
            return None;
        }
        rows.push(row);
        (start, part_start) = (end, part_end);
    }
    let whole = start == ids.len() && part_start == parts.len();
    let named = told.samples.into_iter();
    let samples = named.map(|(id, domain)| Sample { id, domain, text: String::new() });
    whole.then(|| Read { samples: samples.collect(), count: told.count, rows })
}

/// Returns whether a row has parts, by ascending position within it, of samples that exist.
fn is_sound(row: &Row, samples: usize) -> bool {
    let within = |part: &SamplePart| part.position < row.ids.len() && part.sample < samples;
    let ascending = |two: &[SamplePart]| two[0].position < two[1].position;
    !row.parts.is_empty() && row.parts.iter().all(within) && row.parts.windows(2).all(ascending)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_of(lengths: &[usize]) -> Read {
        let row = |(sample, &len): (usize, &usize)| {
            let mut row = Row::of_sample(None, &vec![len as u32; len], sample, 3 * sample);
            // Every second row ends with a token of the first sample.
            let position = len - 1;
            if sample % 2 == 1 && position > 0 {
                row.parts.push(SamplePart { position, sample: 0, token: 0 });
            }
            row
        };
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
                    is_sound(row, read.samples.len())
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
        let part = |change: fn(&mut SamplePart)| {
            let mut read = sound.clone();
            change(&mut read.rows[0].parts[0]);
            parse(&serialised(&read).expect("written"), 10, 9)
        };
        assert_eq!(part(|part| part.sample = 3), None, "a sample that does not exist");
        assert_eq!(part(|part| part.position = 3), None, "a position beyond the row");
        assert_eq!(forged(|read| read.rows[0].parts.clear()), None, "a row of no sample");
        assert_eq!(forged(|read| read.rows[1].parts.reverse()), None, "parts out of order");
        assert_eq!(forged(|read| read.samples.truncate(1)), None, "samples that are missing");
    }
}
