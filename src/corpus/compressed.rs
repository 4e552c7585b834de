//! Compressed corpora: every frame or member is read to its end and its checksum verified.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use super::format::Packing;

/// Bytes of unpacked data that are read ahead to see what a file holds.
const HEAD: u64 = 1 << 16;
/// Bytes of unpacked data that are held at once beside the window.
const BUFFER: usize = 1 << 17;
/// Windows that every Zstandard decoder takes, as a power of two of bytes.
const LEAST_WINDOW: u32 = 27;
/// The largest window of the format that is in use, as a power of two of bytes.
const LARGEST_WINDOW: u32 = 31;

/// Unpacked bytes, and the first of them.
pub struct Unpacked<'a> {
    /// The first bytes.
    pub head: Vec<u8>,
    /// Whether there are no others.
    pub whole: bool,
    /// All bytes, the first among them.
    pub bytes: Box<dyn BufRead + 'a>,
}

/// Unpacks a stream. Zstandard windows may take `max_unpacked` bytes, and those of 128 MiB,
/// which every decoder reads, in any case.
///
/// # Errors
/// Returns an error if the first bytes cannot be unpacked. Later bytes that cannot be, and a
/// checksum or an end that is wrong or missing, are errors of the returned reader.
pub fn unpack<'a>(
    file: impl BufRead + 'a,
    packing: Packing,
    max_unpacked: usize,
) -> io::Result<Unpacked<'a>> {
    let mut bytes: Box<dyn BufRead + 'a> = match packing {
        Packing::Plain => Box::new(file),
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
            let window = max_unpacked.max(1).ilog2().clamp(LEAST_WINDOW, LARGEST_WINDOW);
            decoder.window_log_max(window)?;
            Box::new(BufReader::with_capacity(BUFFER, decoder))
        }
        Packing::Gzip => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file))),
    };
    let mut head = Vec::new();
    bytes.by_ref().take(HEAD).read_to_end(&mut head)?;
    let whole = (head.len() as u64) < HEAD;
    Ok(Unpacked { whole, bytes: Box::new(Cursor::new(head.clone()).chain(bytes)), head })
}

/// Says what an error of unpacking means, and what to do about it.
pub fn explained(error: &io::Error, packing: Packing) -> (String, String) {
    let again = "copy or download the corpus again";
    let text = error.to_string();
    match packing {
        Packing::Plain => (text, again.into()),
        _ if text.contains("too much memory") => {
            let problem = "a Zstandard frame has a longer window than is allowed";
            let remedy = "raise `corpus.max_unpacked_mib` (2048 reads every window), or repack it: \
                          `zstd -dc --long=31 old.zst | zstd -o new.zst`";
            (problem.into(), remedy.into())
        }
        _ if error.kind() == io::ErrorKind::UnexpectedEof => {
            (format!("the compressed data end too early ({text})"), again.into())
        }
        _ => (
            format!("the compressed data are damaged or followed by something else ({text})"),
            again.into(),
        ),
    }
}
