//! Where a restored tree is written.
//!
//! Snapshots are not trusted, and neither are the other users of the machine: whatever the names and entries say, and
//! whatever is planted in the target meanwhile, nothing outside the target's root is written, and no symbolic link
//! below the root is followed. Every call therefore names one entry of an open directory, or walks from the root's
//! descriptor, or that of a directory opened so before, downwards refusing links. A directory that somebody moves away
//! while it is open is still the one that is written to.
//!
//! New files and directories are accessible to their maker alone until `finish_*` gives them their owner and mode.
//! Directories are finished after all that is in them, so a finished file lies behind closed doors until the end.

pub(crate) mod bytes;
mod directory;
mod handle;
mod metadata;
mod owners;
mod present;
mod remove;
mod special;
mod way;

#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};

pub(crate) use bytes::Holes;
pub(crate) use directory::{DirectoryMade, Obstacle, TargetDir};
pub(crate) use metadata::{MetadataPart, MetadataProblem};
pub(crate) use owners::OwnerMap;
pub(crate) use present::{Present, UNFINISHED_FILE, look_at};
pub(crate) use special::Outcome;

use owners::OwnerNumbers;
use way::Way;

const NAME_BYTES_MAX: usize = 255;

/// Less than the kernel's `PATH_MAX` of 4096, which counts the NUL; longer paths are walked in several steps.
const STEP_BYTES_MAX: usize = 4000;

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What a restore does beyond contents, modes and times.
#[derive(Debug, Clone)]
pub(crate) struct TargetOptions {
    /// Gives files back to their owners. The default where the effective user is root.
    pub(crate) owners: bool,
    /// Makes devices, pipes and sockets.
    pub(crate) specials: bool,
    /// Goes by the recorded numbers of users and groups, also where their names are known here.
    pub(crate) numeric_ids: bool,
    /// Users and groups that become others.
    pub(crate) owner_map: OwnerMap,
    /// Gives modes and access control lists.
    pub(crate) permissions: bool,
    /// Gives extended attributes.
    pub(crate) xattrs: bool,
    /// Gives times.
    pub(crate) times: bool,
}

/// The directory below which a tree is restored.
#[derive(Debug)]
pub(crate) struct Target {
    root: TargetDir,
    way: Mutex<Way>,
}

/// What all directories of a target share.
#[derive(Debug)]
struct Shared {
    options: TargetOptions,
    numbers: OwnerNumbers,
    has_openat2: AtomicBool,
}

impl Default for TargetOptions {
    fn default() -> TargetOptions {
        TargetOptions {
            owners: rustix::process::geteuid().is_root(),
            specials: true,
            numeric_ids: false,
            owner_map: OwnerMap::default(),
            permissions: true,
            xattrs: true,
            times: true,
        }
    }
}

impl Target {
    /// Opens the directory `path`, which is made with its parents where it is missing. The operator typed it, so here
    /// symbolic links are followed.
    ///
    /// # Errors
    /// `Destination` where that fails.
    pub(crate) fn create(path: &Path, options: TargetOptions) -> Result<Target> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| failed("cannot make the target directory", path, error))?;
        Target::open(path, options)
    }

    /// Opens the directory `path`, as `create` does, where it is there.
    ///
    /// # Errors
    /// `Destination` where that fails.
    pub(crate) fn open_existing(path: &Path, options: TargetOptions) -> Result<Option<Target>> {
        match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => Target::open(path, options).map(Some),
        }
    }

    fn open(path: &Path, options: TargetOptions) -> Result<Target> {
        let fd = openat(CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed("cannot open the target directory", path, error))?;
        let shared = Shared { options, numbers: OwnerNumbers::default(), has_openat2: AtomicBool::new(true) };
        let root = TargetDir::new(fd, path.to_owned(), Arc::new(shared));
        Ok(Target { root, way: Mutex::default() })
    }

    /// The target directory itself.
    #[cfg(test)]
    pub(crate) fn root(&self) -> &TargetDir {
        &self.root
    }

    /// Opens the directory at `path` below the root, given by its components.
    ///
    /// # Errors
    /// `Destination` where a component is no name, is missing, or is no real directory.
    pub(crate) fn open_dir<P: AsRef<[u8]>>(&self, path: &[P]) -> Result<TargetDir> {
        match self.way.try_lock() {
            Ok(mut way) => way.open(&self.root, path),
            Err(TryLockError::Poisoned(way)) => way.into_inner().open(&self.root, path),
            // From the root it is faster than waiting until another thread has opened what it wants.
            Err(TryLockError::WouldBlock) => self.root.open_below(path),
        }
    }

    /// Waits until all that was written has reached the disk: of the file system of the root, so without what lies on
    /// other file systems mounted below it.
    ///
    /// # Errors
    /// `Destination` where the system reports that something could not be written.
    pub(crate) fn sync_all(&self) -> Result<()> {
        rustix::fs::syncfs(self.root.as_fd())
            .map_err(|error| failed("cannot sync the target's file system", self.root.path(), error))
    }
}

impl Shared {
    /// Opens the directory at `components`, which are valid names, without following any link.
    fn open_beneath<P: AsRef<[u8]>>(
        &self,
        from: BorrowedFd<'_>,
        components: &[P],
    ) -> std::result::Result<OwnedFd, Errno> {
        let mut passed: Option<OwnedFd> = None;
        let mut step: Vec<u8> = Vec::new();
        for component in components {
            let component = component.as_ref();
            if step.len() + 1 + component.len() > STEP_BYTES_MAX {
                let dir = passed.as_ref().map_or(from, AsFd::as_fd);
                passed = Some(self.open_step(dir, &step, OFlags::PATH | DIRECTORY)?);
                step.clear();
            }
            if !step.is_empty() {
                step.push(b'/');
            }
            step.extend_from_slice(component);
        }
        if step.is_empty() {
            step.push(b'.');
        }
        self.open_step(passed.as_ref().map_or(from, AsFd::as_fd), &step, OFlags::RDONLY | DIRECTORY)
    }

    fn open_step(
        &self,
        from: BorrowedFd<'_>,
        step: &[u8],
        flags: OFlags,
    ) -> std::result::Result<OwnedFd, Errno> {
        if self.has_openat2.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            match openat2(from, step, flags, Mode::empty(), resolve) {
                // An old kernel, or a container's filter of system calls, which may answer with either.
                Err(Errno::NOSYS | Errno::PERM) => self.has_openat2.store(false, Ordering::Relaxed),
                // The kernel could not rule out that somebody renamed a directory out of the target meanwhile.
                Err(Errno::AGAIN) => {}
                opened => return opened,
            }
        }
        walk(from, step, flags)
    }
}

/// Opens `step` one component at a time.
fn walk(from: BorrowedFd<'_>, step: &[u8], flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
    let mut passed: Option<OwnedFd> = None;
    let mut components = step.split(|&byte| byte == b'/').peekable();
    while let Some(component) = components.next() {
        let flags = if components.peek().is_some() { OFlags::PATH | DIRECTORY } else { flags };
        let dir = passed.as_ref().map_or(from, AsFd::as_fd);
        passed = Some(openat(dir, component, flags, Mode::empty())?);
    }
    passed.ok_or(Errno::INVAL)
}

/// Refuses what is not the name of one entry of a directory.
fn validate(name: &[u8], dir: &Path) -> Result<()> {
    let refused = match name {
        b"" => "an entry has no name",
        b"." | b".." => "an entry's name leads to another directory",
        _ if name.contains(&b'/') => "an entry's name has a slash",
        _ if name.contains(&0) => "an entry's name has a NUL",
        _ if name.len() > NAME_BYTES_MAX => "an entry's name is longer than 255 bytes",
        _ => return Ok(()),
    };
    // The name stays out of the path: a path of a log or a screen must not show a place outside the target.
    Err(Error::new(ErrorKind::Destination, format!("{refused}: {}", name.escape_ascii())).with_path(dir))
}

pub(super) fn below(dir: &Path, name: &[u8]) -> PathBuf {
    dir.join(OsStr::from_bytes(name))
}

/// A failure at a path of the target, with what can be done about it.
pub(super) fn failed(what: &str, path: &Path, error: impl Into<io::Error>) -> Error {
    let error = error.into();
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("free some space at the target and try again")
        }
        io::ErrorKind::PermissionDenied => Some("restore to a directory that you may write, or as root"),
        io::ErrorKind::ReadOnlyFilesystem => Some("restore to a file system that is mounted for writing"),
        _ => None,
    };
    let failure = Error::new(ErrorKind::Destination, what).with_path(path).with_source(error);
    match remedy {
        Some(remedy) => failure.with_remedy(remedy),
        None => failure,
    }
}
