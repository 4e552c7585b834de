//! SHA-256 digests of files and bytes.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};

/// Returns the SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// Returns an error if the file cannot be read.
pub fn digest_file(kind: Kind, path: &Path) -> Result<String> {
    let digest = || {
        let mut hasher = Sha256::new();
        std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
        Ok(hex(&hasher.finalize()))
    };
    digest().map_err(|e: std::io::Error| Error::io(kind, path, "read the file", &e))
}

/// Returns the SHA-256 of bytes, in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Returns bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
