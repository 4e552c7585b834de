//! The letters by which byte-level vocabularies write bytes.

/// Returns the letter that a byte has in the names of a byte-level vocabulary. Bytes that
/// print stand for themselves, the others for letters from U+0100 on, in their order.
pub fn letter_of(byte: u8) -> char {
    match prints(byte) {
        true => char::from(byte),
        false => {
            let place = (0..byte).filter(|b| !prints(*b)).count();
            char::from_u32(256 + place as u32).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
    }
}

fn prints(byte: u8) -> bool {
    matches!(byte, 33..=126 | 161..=172 | 174..=255)
}

/// Returns the bytes that a token of a byte-level vocabulary stands for, one for each letter
/// of its name; None if the name has other letters.
pub fn bytes_of(name: &str) -> Option<Vec<u8>> {
    let byte = |letter: char| match u32::from(letter) {
        code @ 0..=255 => Some(code as u8).filter(|b| prints(*b)),
        code => (0..=255).filter(|b| !prints(*b)).nth((code - 256) as usize),
    };
    name.chars().map(byte).collect()
}
