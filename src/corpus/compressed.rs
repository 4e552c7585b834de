//! Compressed corpora. Every Zstandard frame and gzip member is read to its end, and its
//! checksum is verified.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use super::format::Packing;

/// Number of unpacked bytes that are read ahead to recognise the format.
const HEAD: u64 = 1 << 16;
/// Size of the buffer of unpacked data, in bytes.
const BUFFER: usize = 1 << 17;
/// Binary logarithm of the window size that every Zstandard decoder accepts, in bytes.
const LEAST_WINDOW: u32 = 27;
/// Binary logarithm of the largest window size in use, in bytes.
const LARGEST_WINDOW: u32 = 31;

/// A stream of unpacked bytes, and its beginning.
pub struct Unpacked<'a> {
    /// The beginning of the stream.
    pub head: Vec<u8>,
    /// Whether `head` is the whole stream.
    pub whole: bool,
    /// The whole stream, `head` included.
    pub bytes: Box<dyn BufRead + 'a>,
}

/// Unpacks a stream. Zstandard windows may have `max_unpacked` bytes, and always 128 MiB, which
/// every decoder accepts.
///
/// # Errors
/// Returns an error if the first bytes cannot be unpacked. The returned reader fails on later
/// damage, a wrong checksum, or a missing end.
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

/// Returns the problem and the remedy for an error of unpacking.
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
