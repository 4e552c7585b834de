//! Pages of a Parquet file, checked before memory is reserved for them.
//!
//! Sizes and counts in page headers are not trusted: the library reserves memory for them before
//! it finds that the data are shorter or longer.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use parquet::basic::{Compression, Encoding, Type};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

/// Number of bytes of a page header that are inspected: three numbers of up to five bytes.
const HEADER: usize = 32;
/// Maximum number of values of a page. Encodings that take less than a bit per value could claim
/// any number.
const MOST_VALUES: u32 = 1 << 24;

/// The pages of a chunk of one column.
pub struct Pages {
    inner: SerializedPageReader<PageFile>,
    text: bool,
    levels: bool,
}

impl Pages {
    /// Opens a column chunk. No page may unpack to more than `limit` bytes. `levels` says whether
    /// values may be null.
    pub fn of(
        file: &Arc<Mutex<File>>,
        chunk: &ColumnChunkMetaData,
        rows: usize,
        limit: usize,
        levels: bool,
    ) -> Result<Self> {
        let codec = chunk.compression();
        let file =
            Arc::new(PageFile { file: Arc::clone(file), codec, limit, claimed: Mutex::new(0) });
        let inner = SerializedPageReader::new(file, chunk, rows, None)?;
        Ok(Self { inner, text: chunk.column_type() == Type::BYTE_ARRAY, levels })
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.inner.get_next_page()?;
        if let Some(page) = &page {
            check(page, self.text, self.levels)?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.inner.skip_next_page()
    }

    // Repeated columns are refused, so every page begins with a new row.
    fn at_record_boundary(&mut self) -> Result<bool> {
        Ok(true)
    }
}

fn damaged(what: impl std::fmt::Display) -> ParquetError {
    ParquetError::General(format!("is damaged: {what}"))
}

/// Checks that a page can hold as many values as it claims.
fn check(page: &Page, text: bool, levels: bool) -> Result<()> {
    let claimed = page.num_values();
    if claimed > MOST_VALUES {
        return Err(damaged(format_args!("a page claims {claimed} values")));
    }
    // Each text of a dictionary is preceded by its length of four bytes.
    if page.is_dictionary_page() && text && claimed as usize > page.buffer().len() / 4 {
        return Err(damaged(format_args!("a dictionary claims {claimed} texts")));
    }
    if page.is_dictionary_page() && claimed as usize > page.buffer().len().saturating_mul(8) {
        return Err(damaged(format_args!("a dictionary claims {claimed} values")));
    }
    match page.encoding() {
        Encoding::DELTA_BYTE_ARRAY => {
            Err(ParquetError::General("is encoded as DELTA_BYTE_ARRAY, which is not read".into()))
        }
        Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BINARY_PACKED
            if page.is_data_page() =>
        {
            let encoded = delta_count(page, levels).unwrap_or(u64::MAX);
            match encoded <= u64::from(claimed) {
                true => Ok(()),
                false => Err(damaged(format_args!("{encoded} lengths for {claimed} values"))),
            }
        }
        _ => Ok(()),
    }
}

/// Returns the number of values that a delta encoding claims, or None if its header is damaged.
fn delta_count(page: &Page, levels: bool) -> Option<u64> {
    let bytes = page.buffer();
    let start = match page {
        Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
            *def_levels_byte_len as usize + *rep_levels_byte_len as usize
        }
        _ if levels => 4 + u32::from_le_bytes(*bytes.first_chunk()?) as usize,
        _ => 0,
    };
    let mut rest = bytes.get(start..)?;
    for _ in ["values of a block", "miniblocks of a block"] {
        varint(&mut rest)?;
    }
    varint(&mut rest)
}

/// Reads a variable-length number (seven bits per byte) from the front of `bytes`.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// The file as the library sees it. Page headers and page bytes are checked as they are read.
struct PageFile {
    file: Arc<Mutex<File>>,
    codec: Compression,
    limit: usize,
    /// Unpacked size of the page by its header, which was read last, in bytes.
    claimed: Mutex<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PageFile {
    fn bytes_at(&self, start: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut file = lock(&self.file);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        (&mut *file).take(length as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn refuse_size(&self, size: u64) -> Result<()> {
        if size <= self.limit as u64 {
            return Ok(());
        }
        let mib = self.limit >> 20;
        let problem =
            format!("a page unpacks to {size} bytes, over `corpus.max_unpacked_mib` ({mib} MiB)");
        Err(ParquetError::General(problem))
    }

    /// Checks that a page unpacks to at most the size in its header, for codecs with which the
    /// library would unpack more.
    fn refuse_bomb(&self, packed: &[u8]) -> Result<()> {
        let claimed = *lock(&self.claimed);
        let mut unpacked: Box<dyn Read + '_> = match self.codec {
            Compression::GZIP(_) => Box::new(MultiGzDecoder::new(packed)),
            Compression::BROTLI(_) => Box::new(brotli::Decompressor::new(packed, 4096)),
            _ => return Ok(()),
        };
        let most = &mut unpacked.by_ref().take(claimed + 1);
        match io::copy(most, &mut io::sink()) {
            // Other errors are left to the library: pages of version 2 begin with levels that
            // are not compressed.
            Ok(size) if size > claimed => Err(damaged("a page unpacks to more than it claims")),
            _ => Ok(()),
        }
    }
}

impl Length for PageFile {
    fn len(&self) -> u64 {
        lock(&self.file).metadata().map_or(0, |metadata| metadata.len())
    }
}

impl ChunkReader for PageFile {
    type T = io::Chain<io::Cursor<Vec<u8>>, FileAt>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let head = self.bytes_at(start, HEADER)?;
        let claimed = unpacked_size(&head).ok_or_else(|| damaged("no page where one should be"))?;
        self.refuse_size(claimed)?;
        *lock(&self.claimed) = claimed;
        let at = start + head.len() as u64;
        Ok(io::Cursor::new(head).chain(FileAt { file: Arc::clone(&self.file), at }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.refuse_size(length as u64)?;
        let bytes = self.bytes_at(start, length)?;
        if bytes.len() < length {
            return Err(damaged("it ends within a page"));
        }
        self.refuse_bomb(&bytes)?;
        Ok(bytes.into())
    }
}

/// A shared file with its own position.
pub struct FileAt {
    file: Arc<Mutex<File>>,
    at: u64,
}

impl Read for FileAt {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut file = lock(&self.file);
        file.seek(SeekFrom::Start(self.at))?;
        let read = file.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Returns the unpacked size of a page, in bytes, from the beginning of its header. A header
/// begins with three required fields of 32 bits: the type, the unpacked size and the packed
/// size. Each is the byte 0x15 and a zigzag number.
fn unpacked_size(header: &[u8]) -> Option<u64> {
    let mut rest = header;
    let mut size = None;
    for _ in ["type", "unpacked size"] {
        let (&field, after) = rest.split_first()?;
        rest = after;
        size = (field == 0x15).then(|| varint(&mut rest)).flatten();
        size?;
    }
    // Odd zigzag numbers are negative.
    size.filter(|size| size % 2 == 0).map(|size| size / 2)
}
