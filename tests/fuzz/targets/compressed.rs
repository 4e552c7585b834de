//! Corpora in Zstandard and gzip: several frames, frames to be skipped, damage.
#![no_main]

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use universal_neurons::corpus::documents::read;
use universal_neurons::spec::{Corpus, Exclusion, Tokenisation};

/// Returns the documents of a file, None if it is refused.
fn documents(name: &str, bytes: &[u8]) -> Option<Vec<String>> {
    let folder = tempfile::tempdir_in("/dev/shm").expect("folder");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("write");
    let corpus = Corpus {
        path,
        sha256: None,
        fields: None,
        context: 8,
        tokenisation: Tokenisation::PerDoc,
        prepend_bos: true,
        exclude: vec![Exclusion::Bos],
        limit: None,
        sample: None,
        max_document_mib: None,
        max_unpacked_mib: None,
    };
    let mut texts = Vec::new();
    let read = read(&corpus, &mut |sample| {
        texts.push(sample.text);
        Ok(0)
    });
    read.is_ok().then_some(texts)
}

/// Packs text in one frame or member, with a checksum.
fn packed(gzip: bool, text: &[u8]) -> Vec<u8> {
    if gzip {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).expect("memory");
        return encoder.finish().expect("memory");
    }
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("encoder");
    encoder.include_checksum(true).expect("flag");
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

/// Returns whether a text that is not packed is read as something else than text, or refused
/// as a stand-in for the real file (a Git LFS pointer, a web page), of which a piece is none.
fn is_special(text: &[u8]) -> bool {
    let visible = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii_start();
    if visible.starts_with(b"version https://git-lfs") || visible.starts_with(b"<") {
        return true;
    }
    let skippable = text.len() > 3 && text[0] & 0xf0 == 0x50 && text[1..4] == *b"\x2a\x4d\x18";
    let begins = |magic: &[u8]| text.starts_with(magic);
    skippable || begins(b"\x28\xb5\x2f\xfd") || begins(b"\x1f\x8b") || begins(b"PAR")
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&[flags, pieces, at_low, at_high, flip], text)) = bytes.split_first_chunk::<5>()
    else {
        return;
    };
    let gzip = flags & 1 == 1;
    let name = if gzip { "x.txt.gz" } else { "x.txt.zst" };
    if flags & 2 == 0 {
        let _ = documents(name, text);
        return;
    }
    if text.is_empty() || is_special(text) {
        return;
    }
    let size = text.len() / (usize::from(pieces % 8) + 1) + 1;
    let skippable = !gzip && flags & 4 != 0;
    let mut whole = Vec::new();
    for piece in text.chunks(size) {
        if skippable {
            whole.extend_from_slice(b"\x50\x2a\x4d\x18\x03\0\0\0abc");
        }
        whole.extend(packed(gzip, piece));
    }
    // The same text unpacked, under a name that says text, has the same documents.
    let plain = documents("x.txt", text);
    assert_eq!(documents(name, &whole), plain, "packing changed what was read");

    let at = usize::from(u16::from_le_bytes([at_low, at_high])) % whole.len();
    if flags & 8 != 0 {
        // Cut off: read only if the cut lies between two frames.
        whole.truncate(at);
        let Some(found) = documents(name, &whole) else { return };
        let ends = (1..=text.len().div_ceil(size)).map(|n| text.len().min(n * size));
        let mut prefixes = ends.filter_map(|end| documents("x.txt", &text[..end]));
        assert!(prefixes.any(|prefix| prefix == found), "a cut was not noticed");
    } else if !skippable {
        // The length of a frame to be skipped has no checksum; all else has.
        whole[at] ^= flip;
        let Some(found) = documents(name, &whole) else { return };
        assert_eq!(Some(found), plain, "damage was not noticed");
    }
});
