//! Bytes as text inside a page: deflated, then in base 85.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use serde::Serialize;

/// Bytes that `script/packed.js` unpacks.
#[derive(Debug, Serialize)]
pub struct Packed {
    /// Number of bytes after deflation.
    bytes: usize,
    /// These bytes in base 85, the last four of them completed by zeros.
    text: String,
}

impl Packed {
    /// Packs bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        // Writing to memory cannot fail.
        let deflated = encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default();
        Self { bytes: deflated.len(), text: base85(&deflated) }
    }
}

/// Returns bytes in base 85: five digits for four bytes, the most significant digit first. The text
/// is a sixteenth shorter than in base 64.
fn base85(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(4) * 5);
    for group in bytes.chunks(4) {
        let mut four = [0; 4];
        four[..group.len()].copy_from_slice(group);
        let word = u32::from_be_bytes(four);
        let digits = [85_u32.pow(4), 85_u32.pow(3), 85 * 85, 85, 1].map(|place| word / place % 85);
        text.extend(digits.map(digit));
    }
    text
}

/// Returns a digit: the characters from `(` on, without `<`, which could end a script.
fn digit(value: u32) -> char {
    match char::from(b'(' + value as u8) {
        '<' => '~',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::DeflateDecoder;
    use proptest::prelude::*;
    use std::io::Read;

    /// Unpacks bytes in the way that the page does.
    fn unpacked(packed: &Packed) -> Vec<u8> {
        let value = |c: u8| u32::from(if c == b'~' { b'<' } else { c } - b'(');
        let word = |five: &[u8; 5]| five.iter().fold(0_u32, |word, c| word * 85 + value(*c));
        let (groups, rest) = packed.text.as_bytes().as_chunks::<5>();
        assert!(rest.is_empty());
        let deflated: Vec<u8> = groups.iter().flat_map(|g| word(g).to_be_bytes()).collect();
        let mut bytes = Vec::new();
        DeflateDecoder::new(&deflated[..packed.bytes]).read_to_end(&mut bytes).expect("deflated");
        bytes
    }

    #[test]
    fn digits_are_those_of_a_recomputation() {
        // Python: [int.from_bytes(b"\xff\x00\x80<", "big") // 85**i % 85 for i in (4, 3, 2, 1, 0)]
        // is [81, 81, 31, 49, 18], and that of four bytes 255 [82, 23, 54, 12, 0].
        assert_eq!(base85(b"\xff\x00\x80<"), "yyGY:");
        assert_eq!(base85(&[255; 4]), "z?^4(");
        assert_eq!((base85(&[0]), base85(&[0, 0, 0, 20])), ("(((((".into(), "((((~".into()));
    }

    proptest! {
        #[test]
        fn packed_bytes_are_unpacked(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let packed = Packed::of(&bytes);
            prop_assert!(packed.text.bytes().all(|c| (b'('..=b'~').contains(&c) && c != b'<'));
            prop_assert_eq!(unpacked(&packed), bytes);
        }
    }
}
