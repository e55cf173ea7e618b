//! The local file system as a source.
//!
//! Every object is reached from the open descriptor of its directory, so no depth of nesting is too deep, and nothing
//! below a named path is ever reached through a symbolic link.

mod directory;
mod file;
mod names;
mod owners;
mod partial;
mod stat;
mod xattrs;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, Statx, openat};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::error::{Error, ErrorKind, Result};
use crate::source::{Source, SourceDirectory};

use directory::RealDirectory;
use owners::OwnerNames;
use partial::PartialDirectory;
use stat::Links;

/// How a [`LocalTree`] is read.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LocalTreeOptions {
    /// Records when files were last read.
    pub with_atime: bool,
    /// Stays on the file systems of the named paths: a mount point below is listed as an empty directory.
    pub one_file_system: bool,
}

/// Paths of the local file system, each taken whole, under the real directories that lead to them.
#[derive(Debug)]
pub struct LocalTree {
    paths: Vec<PathBuf>,
    whole: Arc<[Names]>,
    missing: Vec<(PathBuf, Errno)>,
    shared: Arc<Shared>,
}

/// The components of an absolute path.
type Names = Vec<Vec<u8>>;

/// What all directories and files of one tree share.
#[derive(Debug)]
struct Shared {
    options: LocalTreeOptions,
    owners: OwnerNames,
    /// The devices of the named paths, ascending: where `one_file_system` may go.
    devices: Vec<u64>,
}

impl LocalTree {
    /// Looks at each of `paths`. A relative path starts at the working directory; `.` and `..` are resolved by name
    /// alone, and symbolic links stay as they are. A path below another named one is part of that one.
    ///
    /// # Errors
    /// `InvalidInput` where no path is given or one is empty; `Source` where the working directory or `/` cannot be
    /// opened. A path that is not there is no error here: see [`Source::missing`].
    pub fn open(paths: &[PathBuf], options: LocalTreeOptions) -> Result<LocalTree> {
        let mut tree = Vec::with_capacity(paths.len());
        for path in paths {
            tree.push(absolute(path)?);
        }
        if tree.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "no path to back up was given"));
        }
        let root = open_top().map_err(|error| {
            Error::new(ErrorKind::Source, "cannot open the topmost directory")
                .with_path("/")
                .with_source(error)
        })?;
        let (mut whole, mut missing, mut devices) = (Vec::new(), Vec::new(), Vec::new());
        let (mut recorded, mut seen) = (Vec::with_capacity(tree.len()), HashSet::new());
        for names in tree {
            let path = to_path(&names);
            if !seen.insert(path.clone()) {
                continue;
            }
            match look_at(&root, &names) {
                Ok(stat) => {
                    devices.push(stat::device(&stat));
                    whole.push(names);
                }
                Err(error) => missing.push((path.clone(), error)),
            }
            recorded.push(path);
        }
        devices.sort_unstable();
        devices.dedup();
        whole.sort_unstable();
        // Sorted by components, what lies below a path comes right after it.
        whole.dedup_by(|later, earlier| later.starts_with(earlier));
        let shared = Arc::new(Shared { options, owners: OwnerNames::default(), devices });
        Ok(LocalTree { paths: recorded, whole: whole.into(), missing, shared })
    }
}

impl Source for LocalTree {
    fn paths(&self) -> Vec<PathBuf> {
        self.paths.clone()
    }

    fn open_root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        if self.whole.first().is_some_and(Vec::is_empty) {
            return Ok(Arc::new(RealDirectory::open(CWD, c"/", &self.shared)?));
        }
        Ok(Arc::new(PartialDirectory::root(open_top()?, &self.whole, &self.shared)))
    }

    fn missing(&self) -> Vec<(PathBuf, io::Error)> {
        self.missing.iter().map(|(path, error)| (path.clone(), io::Error::from(*error))).collect()
    }
}

impl Shared {
    fn may_enter(&self, stat: &Statx) -> bool {
        !self.options.one_file_system || self.devices.binary_search(&stat::device(stat)).is_ok()
    }
}

/// Splits `path`, made absolute, into its components.
fn absolute(path: &Path) -> Result<Names> {
    if path.as_os_str().is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, "a path to back up is empty"));
    }
    let mut names = Vec::new();
    if path.is_relative() {
        let working = std::env::current_dir().map_err(|error| {
            Error::new(ErrorKind::Source, "cannot find the working directory")
                .with_path(path)
                .with_source(error)
        })?;
        push_components(&mut names, &working);
    }
    push_components(&mut names, path);
    Ok(names)
}

fn push_components(names: &mut Names, path: &Path) {
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.as_bytes().to_vec()),
            Component::ParentDir => drop(names.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

fn to_path(names: &[Vec<u8>]) -> PathBuf {
    let mut path = PathBuf::from("/");
    path.extend(names.iter().map(|name| OsStr::from_bytes(name)));
    path
}

fn open_top() -> std::result::Result<OwnedFd, Errno> {
    openat(CWD, c"/", partial::PASSAGE, Mode::empty())
}

/// Looks at a named path as the walk will: through directories and links to directories, one component at a time.
fn look_at(root: &OwnedFd, names: &[Vec<u8>]) -> std::result::Result<Statx, Errno> {
    let Some((last, parents)) = names.split_last() else {
        return stat::of_open(root);
    };
    let mut passed: Option<OwnedFd> = None;
    for name in parents {
        let from = passed.as_ref().unwrap_or(root);
        passed = Some(openat(from, name.as_slice(), partial::PASSAGE, Mode::empty())?);
    }
    stat::of_name(passed.as_ref().unwrap_or(root), last.as_slice(), Links::Kept)
}

/// Opens without touching the access time where the system lets us, which it does for the owner and root only.
fn open_quietly(dir: impl AsFd, name: impl Arg + Copy, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
    let dir = dir.as_fd();
    match openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(dir, name, flags, Mode::empty()),
        opened => opened,
    }
}
