//! Single files that appear complete or not at all.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::parts::{PART, remove_parts};
use super::{folder_of, follow_links, lock, sync_folder};
use crate::error::{Error, Kind, Result};

/// Maximum number of attempts to create a temporary file.
const ATTEMPTS: usize = 16;

/// Writes a single file, which appears complete or not at all. Symbolic links are followed; a
/// device, a pipe or a standard stream is written to instead of being replaced.
///
/// # Errors
/// Returns an error if the file's folder or the device cannot be written, or `content` fails.
pub fn write_whole(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let write = || match Destination::of(path)? {
        Destination::File(path) => replace(&path, content),
        Destination::Stream(mut stream) => {
            content(&mut stream)?;
            stream.flush()
        }
    };
    write().map_err(|e: std::io::Error| Error::io(Kind::Store, path, "write the file", &e))
}

/// The destination of a write.
enum Destination {
    /// A regular file, which is created or replaced.
    File(PathBuf),
    /// Anything else, which is written to.
    Stream(Box<dyn Write>),
}

impl Destination {
    fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::File(follow_links(path)));
            }
            Err(e) => return Err(e),
        };
        if metadata.is_dir() {
            return Err(std::io::ErrorKind::IsADirectory.into());
        }
        // A second descriptor of a redirected stream would start at offset 0 and overwrite it.
        if is_stream(&metadata, duplicate(&std::io::stdout())) {
            return Ok(Self::Stream(Box::new(std::io::stdout())));
        }
        if is_stream(&metadata, duplicate(&std::io::stderr())) {
            return Ok(Self::Stream(Box::new(std::io::stderr())));
        }
        if metadata.is_file() {
            return Ok(Self::File(follow_links(path)));
        }
        Ok(Self::Stream(Box::new(OpenOptions::new().write(true).open(path)?)))
    }
}

#[cfg(unix)]
fn duplicate(stream: &impl std::os::fd::AsFd) -> Option<File> {
    stream.as_fd().try_clone_to_owned().ok().map(File::from)
}

#[cfg(not(unix))]
fn duplicate<S>(_: &S) -> Option<File> {
    None
}

/// Returns whether a path's metadata is that of an open stream.
#[cfg(unix)]
fn is_stream(metadata: &Metadata, stream: Option<File>) -> bool {
    use std::os::unix::fs::MetadataExt;
    let stream = stream.and_then(|file| file.metadata().ok());
    stream.is_some_and(|s| (s.dev(), s.ino()) == (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn is_stream(_: &Metadata, _: Option<File>) -> bool {
    false
}

/// Writes a temporary file beside `path` and renames it to `path`.
fn replace(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let folder = folder_of(path);
    remove_parts(folder);
    let mut file = BufWriter::with_capacity(1 << 20, create(folder)?);
    content(&mut file)?;
    let file = file.into_inner()?;
    if let Ok(earlier) = std::fs::metadata(path) {
        file.as_file().set_permissions(earlier.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    sync_folder(folder)
}

fn create(folder: &Path) -> std::io::Result<NamedTempFile> {
    for _ in 0..ATTEMPTS {
        let file = builder().tempfile_in(folder)?;
        if lock::own(file.as_file(), file.path()) {
            return Ok(file);
        }
    }
    Err(std::io::Error::other("its temporary file vanishes"))
}

fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PART.0).suffix(PART.1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The system applies the umask.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) -> Result<()> {
        write_whole(path, |out| out.write_all(text.as_bytes()))
    }

    fn names(folder: &Path) -> usize {
        std::fs::read_dir(folder).expect("folder").count()
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_modes_kept() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let root = tempfile::tempdir().expect("folder");
        let [file, link, dangling] = ["file", "link", "dangling"].map(|n| root.path().join(n));
        std::fs::write(&file, "old").expect("write");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("mode");
        symlink("file", &link).expect("link");
        symlink("new", &dangling).expect("link");
        write(&link, "new").expect("write");
        write(&dangling, "made").expect("write");
        assert!(link.is_symlink() && dangling.is_symlink(), "links are left");
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "new");
        assert_eq!(std::fs::read_to_string(root.path().join("new")).expect("read"), "made");
        let mode = std::fs::metadata(&file).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(names(root.path()), 4, "nothing is left beside them");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn devices_and_folders_are_not_replaced() {
        use std::os::unix::fs::FileTypeExt;
        let full = Path::new("/dev/full");
        let error = write(full, &"x".repeat(10)).expect_err("it is full");
        assert!(error.problem.contains("space"), "{error}");
        assert!(std::fs::metadata(full).expect("there").file_type().is_char_device());
        write(Path::new("/dev/null"), "x").expect("written");
        let root = tempfile::tempdir().expect("folder");
        assert!(write(root.path(), "x").is_err() && root.path().is_dir());
    }

    #[test]
    fn parts_of_dead_processes_are_removed_and_others_kept() {
        let root = tempfile::tempdir().expect("folder");
        let dead = root.path().join(".universal-neurons-dead.part");
        std::fs::write(&dead, "x").expect("write");
        let foreign = root.path().join(".tmpAbCdEf");
        std::fs::write(&foreign, "x").expect("write");
        let alive = create(root.path()).expect("create");
        write(&root.path().join("file"), "x").expect("write");
        assert!(!dead.exists() && foreign.exists() && alive.path().exists());
    }

    #[test]
    fn a_failure_leaves_the_file_as_it_was() {
        let root = tempfile::tempdir().expect("folder");
        let file = root.path().join("file");
        write(&file, "old").expect("write");
        let fail = |out: &mut dyn Write| {
            out.write_all(b"half")?;
            Err(std::io::ErrorKind::StorageFull.into())
        };
        assert!(write_whole(&file, fail).is_err());
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "old");
        assert_eq!(names(root.path()), 1);
    }
}
