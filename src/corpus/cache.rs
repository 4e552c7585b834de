//! Tokens on disk, so that a large text is tokenised once. A cache is a file of safetensors,
//! called by the digest of all that its tokens depend on:
//!
//! - `ids` u32 `[tokens]`: all rows, one after the other
//! - `ends` u64 `[rows]`: where each row ends
//! - `samples` u32 `[rows]`: the sample that each row comes from
//! - `told` u8: ids and labels of samples, and the count of documents, as JSON

use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;

use super::documents::{Count, Sample};
use super::tokens::Row;
use crate::backend::map::map_file;
use crate::error::{Error, Kind, Result};
use crate::spec::Corpus;
use crate::store::{digest, write_whole};

/// The environment variable that names the folder of caches; none are kept without it.
pub const CACHE: &str = "UNIVERSAL_NEURONS_CACHE";
/// Changed when the same text could give other tokens.
const VERSION: u32 = 1;

/// What was read of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Its samples, without their texts.
    pub samples: Vec<Sample>,
    /// How many documents there were.
    pub count: Count,
    /// Its rows.
    pub rows: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Told {
    samples: Vec<(String, String)>,
    count: Count,
}

/// A place for the tokens of one text, cut in one way.
pub struct Cache(PathBuf);

impl Cache {
    /// In the folder that the environment names, if it names one.
    pub fn of(
        corpus: &Corpus,
        corpus_digest: &str,
        tokenizer: &Tokenizer,
        bos: u32,
    ) -> Option<Self> {
        let folder = std::env::var_os(CACHE).filter(|folder| !folder.is_empty())?;
        // The vocabulary and how it is cut, whichever files it came from.
        let tokenizer_digest = digest(tokenizer.to_string(false).unwrap_or_default().as_bytes());
        let cut = (&corpus.fields, corpus.context, corpus.tokenisation, corpus.limit);
        let key = serde_json::json!([VERSION, corpus_digest, tokenizer_digest, bos, cut]);
        let name = format!("{}.tokens", digest(key.to_string().as_bytes()));
        Some(Self(Path::new(&folder).join(name)))
    }

    /// What is there; None if nothing is.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn read(&self, d_vocab: usize) -> Result<Option<Read>> {
        if !self.0.exists() {
            return Ok(None);
        }
        let map = map_file(&self.0)?;
        parse(&map, d_vocab).map(Some).ok_or_else(|| {
            let problem = "is no whole cache of tokens";
            Error::new(Kind::Corpus, self.0.display(), problem, "remove it; it is made again")
        })
    }

    /// Keeps what was read.
    ///
    /// # Errors
    /// If the folder cannot be made or written.
    pub fn write(&self, read: &Read) -> Result<()> {
        let folder = self.0.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)
            .map_err(|e| Error::io(Kind::Store, folder, "make the folder of caches", &e))?;
        let bytes = serialised(read)
            .map_err(|e| Error::new(Kind::Store, self.0.display(), e, "unset the variable"))?;
        write_whole(&self.0, |out| out.write_all(&bytes))
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
    let told = Told { samples: named.collect(), count: read.count };
    // Everything in it can be written as JSON.
    let told = serde_json::to_vec(&told).unwrap_or_default();
    let view = |dtype, size, bytes| TensorView::new(dtype, vec![<[u8]>::len(bytes) / size], bytes);
    let tensors = [
        ("ids", view(Dtype::U32, 4, &ids)?),
        ("ends", view(Dtype::U64, 8, &ends)?),
        ("samples", view(Dtype::U32, 4, &samples)?),
        ("told", view(Dtype::U8, 1, &told)?),
    ];
    safetensors::serialize(tensors, None)
}

/// None where the file is not what `serialised` makes.
fn parse(bytes: &[u8], d_vocab: usize) -> Option<Read> {
    let file = SafeTensors::deserialize(bytes).ok()?;
    let of = |name: &str, dtype| file.tensor(name).ok().filter(|t| t.dtype() == dtype);
    let (ids, ends) = (of("ids", Dtype::U32)?, of("ends", Dtype::U64)?);
    let (samples, told) = (of("samples", Dtype::U32)?, of("told", Dtype::U8)?);
    let told: Told = serde_json::from_slice(told.data()).ok()?;
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
        rows.push(Row { sample, ids: ids.get(start..end).filter(|ids| !ids.is_empty())?.to_vec() });
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
            count: Count { documents: lengths.len(), empty: 1 },
            rows: lengths.iter().enumerate().map(row).collect(),
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_comes_back(lengths in prop::collection::vec(1usize..9, 1..20)) {
            let read = read_of(&lengths);
            let bytes = serialised(&read).expect("written");
            prop_assert_eq!(parse(&bytes, 10), Some(read));
            prop_assert_eq!(parse(&bytes, *lengths.iter().max().expect("some")), None, "an id outside");
        }

        #[test]
        fn damage_is_seen_or_harmless(at in 0usize..400, value in any::<u8>()) {
            let mut bytes = serialised(&read_of(&[3, 2, 4])).expect("written");
            let at = at % bytes.len();
            bytes[at] = value;
            if let Some(read) = parse(&bytes, 10) {
                prop_assert!(read.rows.iter().all(|r| r.sample < read.samples.len() && !r.ids.is_empty()));
            }
        }
    }
}
