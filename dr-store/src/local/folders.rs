//! Making folders and files that only their owner can read, and making them durable.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::PutMode;

/// The private folder, at the top of a store, for staging where others can enter an object's folder. It is no valid
/// part of a name, so listings skip it.
pub(super) const STAGING: &str = "STAGING";

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Who can open a file by a path through a folder of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// The owner only: the folder or one above it, up to the root, has no mode bits for others.
    Private,
    /// Whoever the file's own mode lets.
    Open,
}

/// Makes the root and the folders above it, durably, where they do not exist.
pub(super) fn make_root(path: &Path) -> io::Result<()> {
    // An empty parent is that of a relative path of one part: the working folder.
    if path.as_os_str().is_empty() || path.try_exists()? {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_root(parent)?;
    }
    make_folder(path)?;
    sync_folder(parent_of(path))
}

/// Makes `folder` (empty for the root, which exists), durably, where it does not exist. The folder above it exists,
/// with the access `above`.
///
/// The folder above is synced also where this one exists: whoever made it may have been stopped, or be at it.
pub(super) fn make(root: &Path, folder: &str, above: Access) -> io::Result<Access> {
    let path = root.join(folder);
    if !folder.is_empty() {
        make_folder(&path)?;
        sync_folder(parent_of(&path))?;
    }
    let metadata = real_folder(&path)?;
    Ok(if above == Access::Private { above } else { access_of(&metadata) })
}

/// Makes the staging folder. Its content need not outlive a crash, so it is not synced.
pub(super) fn make_staging(root: &Path) -> io::Result<()> {
    let path = root.join(STAGING);
    make_folder(&path)?;
    if access_of(&real_folder(&path)?) == Access::Open {
        ignore_missing_modes(fs::set_permissions(&path, Permissions::from_mode(FOLDER_MODE)))?;
    }
    Ok(())
}

/// Takes a file's mode bits from others. Failing is no failure of the put: the file was made by this process, so the
/// cause is a file system without modes, or the object's deletion by another.
pub(super) fn make_file_private(path: &Path) {
    let _ = fs::set_permissions(path, Permissions::from_mode(FILE_MODE));
}

/// Gives a staged and synced file its name, durably.
pub(super) fn publish(staged: &Path, path: &Path, mode: PutMode) -> io::Result<()> {
    match mode {
        PutMode::Create => fs::hard_link(staged, path)?,
        PutMode::Replace => fs::rename(staged, path)?,
    }
    sync_folder(parent_of(path))
}

/// The path of `folder`, or `None` where a part of it is missing, or is anything but a folder.
pub(super) fn without_links(root: &Path, folder: &str) -> io::Result<Option<PathBuf>> {
    let mut path = root.to_path_buf();
    for part in folder.split('/').filter(|part| !part.is_empty()) {
        path.push(part);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(path))
}

fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The metadata of a folder. A link in its place is refused: what lies behind it would not be listed.
fn real_folder(path: &Path) -> io::Result<Metadata> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        return Ok(metadata);
    }
    Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} is not a folder", path.display())))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn access_of(folder: &Metadata) -> Access {
    if folder.permissions().mode() & 0o077 == 0 { Access::Private } else { Access::Open }
}

/// File systems without modes refuse to change them.
fn ignore_missing_modes(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) =>
        {
            Ok(())
        }
        result => result,
    }
}
