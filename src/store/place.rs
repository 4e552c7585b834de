//! Replaces a folder by another one.

use std::path::{Path, PathBuf};

/// Renames `new` to `target`. Returns the path to which the previous content of `target` was
/// moved: `new`, or `old` on systems that cannot exchange two names.
///
/// # Errors
/// Returns an error if the folders cannot be renamed. Both then have their old names, or the
/// error says where they are.
pub(super) fn place(new: &Path, target: &Path, old: &Path) -> std::io::Result<Option<PathBuf>> {
    if std::fs::symlink_metadata(target).is_err() {
        std::fs::rename(new, target)?;
        return Ok(None);
    }
    match exchange(new, target) {
        Ok(()) => Ok(Some(new.to_path_buf())),
        Err(e) if is_unsupported(&e) => {
            rename_twice(new, target, old)?;
            Ok(Some(old.to_path_buf()))
        }
        Err(e) => Err(e),
    }
}

/// Exchanges two names in one step, so that `target` names a whole folder at any time.
#[cfg(target_os = "linux")]
fn exchange(new: &Path, target: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, new, CWD, target, RenameFlags::EXCHANGE)?)
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

fn is_unsupported(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidInput, Unsupported};
    matches!(error.kind(), Unsupported | InvalidInput)
}

fn rename_twice(new: &Path, target: &Path, old: &Path) -> std::io::Result<()> {
    std::fs::rename(target, old)?;
    std::fs::rename(new, target).map_err(|e| match std::fs::rename(old, target) {
        Ok(()) => e,
        Err(_) => {
            std::io::Error::new(e.kind(), format!("{e}; the earlier run is in {}", old.display()))
        }
    })
}

/// Checks that the folder `target` can be renamed, by a rename that cannot succeed because
/// `full` is a folder that is not empty.
///
/// # Errors
/// Returns the error that a rename of `target` would give: it is a mount point, or the parent
/// folder or file system does not allow the rename.
#[cfg(unix)]
pub(super) fn prove(target: &Path, full: &Path) -> std::io::Result<()> {
    use std::io::ErrorKind as K;
    let refused = [K::ResourceBusy, K::CrossesDevices, K::PermissionDenied, K::ReadOnlyFilesystem];
    match std::fs::rename(target, full) {
        Err(e) if refused.contains(&e.kind()) => Err(e),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
pub(super) fn prove(_: &Path, _: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(root: &Path) -> [PathBuf; 3] {
        let paths = ["new", "target", "old"].map(|name| root.join(name));
        for path in &paths[..2] {
            std::fs::create_dir(path).expect("folder");
            std::fs::write(path.join(path.file_name().expect("name")), "x").expect("write");
        }
        paths
    }

    #[test]
    fn the_earlier_folder_is_kept() {
        for place in [place, |new: &Path, target: &Path, old: &Path| {
            rename_twice(new, target, old).map(|()| Some(old.to_path_buf()))
        }] {
            let root = tempfile::tempdir().expect("folder");
            let [new, target, old] = folders(root.path());
            let earlier = place(&new, &target, &old).expect("placed").expect("there was one");
            assert!(target.join("new").exists() && earlier.join("target").exists());
        }
    }

    #[test]
    fn an_error_of_the_second_rename_is_rolled_back() {
        let root = tempfile::tempdir().expect("folder");
        let [new, target, old] = folders(root.path());
        assert!(rename_twice(&root.path().join("missing"), &target, &old).is_err());
        assert!(target.join("target").exists() && new.exists() && !old.exists());
    }
}
