//! Files that a user gives, opened once.
//!
//! Every reader of such a file goes through [`InputFile`], which
//!
//! - refuses pipes, devices and folders, and does so before opening them could block;
//! - recognises a Git LFS pointer or a web page in place of the real file;
//! - digests a file through the descriptor that it is read from, so that a digest belongs to
//!   the bytes that were used even if the path is replaced meanwhile.

use std::fs::{File, FileType, Metadata};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::digest::{digest, hex};
use crate::error::{Error, Kind, Result};

/// Number of bytes at the start of a file in which a stand-in is recognised.
const HEAD: u64 = 512;
/// First bytes of a Git LFS pointer.
const LFS: &str = "version https://git-lfs.github.com/spec/";
/// The UTF-8 byte-order mark.
const BOM: char = '\u{feff}';

/// Identifies the state of a file: differs for another file under the same path, and for the
/// same file after it was written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// Device and inode, on systems that have them.
    place: Option<(u64, u64)>,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let place = {
            use std::os::unix::fs::MetadataExt;
            Some((metadata.dev(), metadata.ino()))
        };
        #[cfg(not(unix))]
        let place = None;
        Self { length: metadata.len(), modified: metadata.modified().ok(), place }
    }
}

/// A regular file, opened for reading.
#[derive(Debug)]
pub struct InputFile {
    kind: Kind,
    path: PathBuf,
    file: File,
    /// Length and time of modification when the file was opened.
    opened: Metadata,
}

/// Reads all of standard input as text of at most `limit` bytes, without its byte-order mark.
///
/// # Errors
/// Returns an error of this kind if the input is longer, is not valid UTF-8, or cannot be read.
pub fn stdin_text(kind: Kind, limit: u64) -> Result<String> {
    let error = |problem: String, remedy: &str| Error::new(kind, "standard input", problem, remedy);
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(limit.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|e| error(format!("cannot be read: {e}"), "give a text or a file"))?;
    if bytes.len() as u64 > limit {
        return Err(error(format!("is over {limit} bytes long"), "give a shorter text"));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        error(format!("invalid UTF-8 after byte {at}"), "give text in UTF-8")
    })?;
    Ok(text.strip_prefix(BOM).map(str::to_owned).unwrap_or(text))
}

impl InputFile {
    /// Opens a regular file that is not empty and not a stand-in.
    ///
    /// # Errors
    /// Returns an error of `kind` if the file is missing or unreadable, is not a regular file,
    /// is empty, or is a Git LFS pointer or a web page in place of the real file.
    pub fn open(kind: Kind, path: &Path) -> Result<Self> {
        let mut input = Self::open_unchecked(kind, path)?;
        if input.is_empty() {
            return Err(input.error("is empty", "copy or download the file again"));
        }
        let mut head = Vec::new();
        let read = (&input.file).take(HEAD).read_to_end(&mut head);
        read.map_err(|e| input.io("read the file", &e))?;
        if let Some((problem, remedy)) = stand_in(&head) {
            return Err(input.error(problem, remedy));
        }
        input.rewind()?;
        Ok(input)
    }

    /// Opens a regular file with any content.
    ///
    /// # Errors
    /// Returns an error of `kind` if the file is missing or unreadable, or is not a regular
    /// file.
    pub fn open_unchecked(kind: Kind, path: &Path) -> Result<Self> {
        let io = |e: std::io::Error| Error::io(kind, path, "read the file", &e);
        // Checked before opening: opening a FIFO waits for its writer.
        refuse_irregular(kind, path, std::fs::metadata(path).map_err(io)?.file_type())?;
        let file = File::open(path).map_err(io)?;
        let opened = file.metadata().map_err(io)?;
        refuse_irregular(kind, path, opened.file_type())?;
        Ok(Self { kind, path: path.to_path_buf(), file, opened })
    }

    /// Returns the path that the file was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the length of the file in bytes when it was opened.
    pub fn len(&self) -> u64 {
        self.opened.len()
    }

    /// Returns whether the file held no bytes when it was opened.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the whole file, which may hold at most `limit` bytes.
    ///
    /// # Errors
    /// Returns an error if the file is longer than `limit` or cannot be read.
    pub fn read(&mut self, limit: u64) -> Result<Vec<u8>> {
        self.rewind()?;
        let mut bytes = Vec::new();
        let read = (&self.file).take(limit.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|e| self.io("read the file", &e))?;
        if bytes.len() as u64 > limit {
            let problem = format!("is over {limit} bytes long");
            return Err(self.error(problem, "give the file itself, not a larger one"));
        }
        Ok(bytes)
    }

    /// Reads the whole file as text of at most `limit` bytes, without its byte-order mark.
    ///
    /// # Errors
    /// Returns an error as [`Self::read`] does, or if the text is not valid UTF-8.
    pub fn text(&mut self, limit: u64) -> Result<String> {
        let bytes = self.read(limit)?;
        self.decoded(bytes)
    }

    /// Reads the whole file once, as text of at most `limit` bytes without its byte-order mark
    /// and as the SHA-256 of its bytes in hexadecimal.
    ///
    /// # Errors
    /// Returns an error as [`Self::text`] does.
    pub fn digested_text(&mut self, limit: u64) -> Result<(String, String)> {
        let bytes = self.read(limit)?;
        let sha256 = digest(&bytes);
        Ok((self.decoded(bytes)?, sha256))
    }

    fn decoded(&self, bytes: Vec<u8>) -> Result<String> {
        let text = String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            self.error(format!("invalid UTF-8 after byte {at}"), "save the file as UTF-8")
        })?;
        Ok(text.strip_prefix(BOM).map(str::to_owned).unwrap_or(text))
    }

    /// Returns the SHA-256 of the file in hexadecimal, read through this descriptor.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read.
    pub fn digest(&mut self) -> Result<String> {
        self.rewind()?;
        let mut hasher = Sha256::new();
        std::io::copy(&mut &self.file, &mut hasher).map_err(|e| self.io("read the file", &e))?;
        Ok(hex(&hasher.finalize()))
    }

    /// Returns the SHA-256 of the only file, or if there are several, the SHA-256 of their digests.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read.
    pub fn digest_of_all<'a>(files: impl Iterator<Item = &'a mut Self>) -> Result<String> {
        let digests = files.map(Self::digest).collect::<Result<Vec<_>>>()?;
        Ok(match &digests[..] {
            [one] => one.clone(),
            several => digest(several.concat().as_bytes()),
        })
    }

    /// Fills `buffer` with the bytes of the file that start at `offset`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or ends before the buffer is full.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let mut read = || {
            (&self.file).seek(SeekFrom::Start(offset))?;
            (&self.file).read_exact(buffer)
        };
        read().map_err(|e| self.io("read the file", &e))
    }

    /// Returns the open file, for readers that seek.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns the stamp of the file when it was opened.
    pub fn stamp(&self) -> Stamp {
        Stamp::of(&self.opened)
    }

    /// Returns a buffered reader of the file that starts at its first byte.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read from its beginning.
    pub fn reader(&mut self) -> Result<BufReader<&File>> {
        self.rewind()?;
        Ok(BufReader::with_capacity(1 << 16, &self.file))
    }

    /// Returns the open file, at its first byte.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read from its beginning.
    pub fn into_file(mut self) -> Result<File> {
        self.rewind()?;
        Ok(self.file)
    }

    /// Checks that the file was not written to since it was opened, so that a digest taken
    /// before belongs to the bytes read after it.
    ///
    /// # Errors
    /// Returns an error if the length or the time of modification differs.
    pub fn unchanged(&self) -> Result<()> {
        let now = self.file.metadata().map_err(|e| self.io("inspect the file", &e))?;
        if Stamp::of(&now) == self.stamp() {
            return Ok(());
        }
        Err(self.error("changed while it was read", "run the command again when it is complete"))
    }

    fn rewind(&mut self) -> Result<()> {
        let rewound = self.file.seek(SeekFrom::Start(0));
        rewound.map(|_| ()).map_err(|e| self.io("read the file", &e))
    }

    fn io(&self, doing: &str, source: &std::io::Error) -> Error {
        Error::io(self.kind, &self.path, doing, source)
    }

    fn error(&self, problem: impl std::fmt::Display, remedy: &str) -> Error {
        Error::new(self.kind, self.path.display(), problem, remedy)
    }
}

fn refuse_irregular(kind: Kind, path: &Path, found: FileType) -> Result<()> {
    if found.is_file() {
        return Ok(());
    }
    let problem = if found.is_dir() {
        "is a folder, expected a file"
    } else {
        "is a pipe or a device, expected a regular file"
    };
    Err(Error::new(kind, path.display(), problem, "give the path of a file on disk"))
}

/// Returns what a file that begins with `head` is if it stands in for the real one, and the
/// remedy. Such files arrive when a download is answered with something else.
pub(crate) fn stand_in(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let text = String::from_utf8_lossy(&head[..head.len().min(HEAD as usize)]);
    let text = text.trim_start_matches(BOM).trim_start();
    let begins = |with: &str| text.get(..with.len()).is_some_and(|t| t.eq_ignore_ascii_case(with));
    if text.starts_with(LFS) {
        let problem = "is a Git LFS pointer, not the file that it points to";
        return Some((problem, "run `git lfs pull` in its repository, or use `fetch model`"));
    }
    if begins("<!doctype html") || begins("<html") {
        let problem = "is a web page, not the file itself";
        return Some((problem, "download the file itself (on a hub: its `resolve` address)"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), content).expect("write");
        file
    }

    fn refusal(content: &[u8]) -> String {
        let file = file(content);
        InputFile::open(Kind::Model, file.path()).expect_err("refused").problem
    }

    #[test]
    fn stand_ins_are_named() {
        assert_eq!(refusal(b""), "is empty");
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
        assert!(refusal(pointer).contains("Git LFS pointer"));
        let pages: [&[u8]; 3] =
            [b"<!DOCTYPE html>\n<html>", b"\xef\xbb\xbf\n <HTML lang=en>", b"<!doctype HTML>"];
        for page in pages {
            assert!(refusal(page).contains("web page"), "{}", String::from_utf8_lossy(page));
        }
    }

    #[test]
    fn short_and_binary_files_are_opened() {
        for content in [&b"<"[..], b"{}", b"\xff\xfe\x00", "<ärger>".as_bytes()] {
            let file = file(content);
            let mut input = InputFile::open(Kind::Model, file.path()).expect("opened");
            assert_eq!(input.read(100).expect("read"), content);
        }
    }

    #[test]
    fn text_is_utf8_without_its_mark_and_bounded() {
        let marked = file("\u{feff}a: 1".as_bytes());
        let mut input = InputFile::open(Kind::Spec, marked.path()).expect("opened");
        assert_eq!(input.text(7).expect("text"), "a: 1");
        assert!(input.text(6).expect_err("longer").problem.contains("over 6 bytes"));
        let latin = file(b"caf\xe9");
        let mut input = InputFile::open(Kind::Spec, latin.path()).expect("opened");
        assert!(input.text(9).expect_err("refused").problem.contains("after byte 3"));
    }

    #[test]
    fn a_digest_is_of_the_descriptor_and_changes_are_noticed() {
        let file = file(b"abc");
        let mut input = InputFile::open(Kind::Model, file.path()).expect("opened");
        // SHA-256 of "abc" as FIPS 180-2 gives it.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(input.digest().expect("digest"), expected);
        let (text, digest) = input.digested_text(3).expect("text");
        assert_eq!((text.as_str(), digest.as_str()), ("abc", expected));
        input.unchanged().expect("nobody wrote to it");
        std::fs::write(file.path(), b"abcd").expect("write");
        assert!(input.unchanged().expect_err("changed").problem.contains("changed"));
    }

    #[cfg(unix)]
    #[test]
    fn devices_pipes_and_folders_are_refused_at_once() {
        let folder = tempfile::tempdir().expect("folder");
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
        assert!(made.success());
        for (path, says) in [
            (pipe.as_path(), "pipe or a device"),
            (Path::new("/dev/zero"), "pipe or a device"),
            (folder.path(), "folder"),
        ] {
            let error = InputFile::open(Kind::Spec, path).expect_err("refused");
            assert!(error.problem.contains(says), "{error}");
        }
    }
}
