//! The directories that a restore itself needs: that of the repository it reads from, and what this machine keeps of it.
//! They may lie in the target; nothing in them is written or deleted.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::places::{Places, components, is_at_or_below};
use crate::error::{Error, ErrorKind, Result};
use crate::repository::Inner;

type Inode = (u64, u64);

/// The directories that a restore itself needs.
#[derive(Debug, Default)]
pub(super) struct Guarded {
    /// Device and inode of each.
    inodes: Vec<Inode>,
    /// That of the repository.
    repository: Option<Inode>,
    /// Where in the target they are, as far as they are in it.
    places: Vec<Vec<u8>>,
}

impl Guarded {
    /// Finds them.
    ///
    /// # Errors
    /// `InvalidInput` where the target, or a place in it that the caller chose, lies in one of them.
    pub(super) fn new(repository: &Inner, target: &Path, places: &Places) -> Result<Guarded> {
        let mut guarded = Guarded::default();
        let root = repository.store.local_root();
        guarded.repository = root.as_deref().and_then(inode);
        let directories: Vec<PathBuf> =
            root.into_iter().chain(repository.own_directories.iter().cloned()).collect();
        let target_inode = inode(target);
        for directory in directories.iter().filter_map(|directory| std::fs::canonicalize(directory).ok()) {
            guarded.inodes.extend(inode(&directory));
            let above =
                directory.ancestors().find(|above| target_inode.is_some() && inode(above) == target_inode);
            if let Some(below) = above.and_then(|above| directory.strip_prefix(above).ok()) {
                guarded.places.push(below.as_os_str().as_bytes().to_vec());
            }
        }
        let target = std::path::absolute(target).unwrap_or_else(|_| target.to_path_buf());
        // What is missing of the target is made below the nearest directory that is there.
        let existing = target.ancestors().find_map(|above| std::fs::canonicalize(above).ok());
        if existing.is_some_and(|existing| existing.ancestors().any(|above| guarded.is_it(inode(above)))) {
            return Err(inside(&target));
        }
        match places.moved().find(|(_, to)| guarded.is_inside(to)) {
            Some((_, to)) => Err(inside(&target.join(crate::observer::as_path(to)))),
            None => Ok(guarded),
        }
    }

    /// Whether a directory is one of them.
    pub(super) fn holds(&self, inode: Inode) -> bool {
        self.inodes.contains(&inode)
    }

    /// Whether a directory is the repository.
    pub(super) fn is_repository(&self, inode: Inode) -> bool {
        self.repository == Some(inode)
    }

    /// Whether the repository is a directory of this machine.
    pub(super) fn has_repository(&self) -> bool {
        self.repository.is_some()
    }

    /// Whether a place in the target is one of them, or in one.
    pub(super) fn is_inside(&self, place: &[u8]) -> bool {
        let place = components(place).join(&b'/');
        self.places.iter().any(|guarded| !guarded.is_empty() && is_at_or_below(&place, guarded))
    }

    fn is_it(&self, inode: Option<Inode>) -> bool {
        inode.is_some_and(|inode| self.holds(inode))
    }
}

fn inode(path: &Path) -> Option<Inode> {
    std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn inside(path: &Path) -> Error {
    let what = "the target lies in the repository that is restored from, or in what this machine keeps of it";
    Error::new(ErrorKind::InvalidInput, what).with_path(path).with_remedy("restore to another directory")
}
