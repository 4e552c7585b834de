//! SHA-256 digests of files and bytes.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Kind, Result};
use crate::input::InputFile;

/// Returns the SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// Returns an error if the file cannot be read, or is not a regular file.
pub fn digest_file(kind: Kind, path: &Path) -> Result<String> {
    InputFile::open_unchecked(kind, path)?.digest()
}

/// Returns the SHA-256 of bytes, in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Returns bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
