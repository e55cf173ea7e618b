//! Looks at what is stored without writing anything: finds entries in many snapshots, compares snapshots with one another
//! and with the disk, follows one path through time, says what snapshots take, and shows single objects.

mod describe;
mod diff;
mod find;
mod local;
mod usage;
mod versions;

pub use describe::{Description, ObjectKind, StoredObject};
pub use diff::{DiffKind, DiffOptions, DiffReport, DiffTotals, Difference, VisitDifference};
pub use find::{FindQuery, FindReport, VisitFound};
pub use local::LocalDiffOptions;
pub use usage::{SnapshotUsage, UsageReport};
pub use versions::{PathVersion, VersionsReport};

use crate::tree::EntryKind;

/// What kind of thing an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EntryType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A UNIX socket.
    Socket,
}

impl EntryType {
    /// The type of an entry.
    pub fn of(kind: &EntryKind) -> EntryType {
        match kind {
            EntryKind::File(_) => EntryType::File,
            EntryKind::Directory(_) => EntryType::Directory,
            EntryKind::Symlink(_) => EntryType::Symlink,
            EntryKind::CharacterDevice(_) => EntryType::CharacterDevice,
            EntryKind::BlockDevice(_) => EntryType::BlockDevice,
            EntryKind::Fifo => EntryType::Fifo,
            EntryKind::Socket => EntryType::Socket,
        }
    }
}

/// The path of an entry in a directory.
fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut below = Vec::with_capacity(path.len() + 1 + name.len());
    below.extend_from_slice(path);
    below.push(b'/');
    below.extend_from_slice(name);
    below
}
