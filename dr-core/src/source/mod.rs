//! Where the bytes come from: the interface between the engine and whatever is being backed up.
//!
//! A source is a tree of directories. The engine lists a directory, compares each entry with the parent snapshot, and
//! reads only what changed. [`LocalTree`] is the local file system, [`BucketTree`] a bucket of objects; an embedding program may bring its own.

mod bucket;
mod count;
mod local;
mod selected;
mod selection;
pub(crate) mod tar;

use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub use bucket::BucketTree;
pub use count::{SourceTotals, count_source};
pub use local::{LocalTree, LocalTreeOptions};
pub use selected::SelectedTree;
pub use selection::{Selection, TagFile};

use crate::select::Exclusion;
use crate::tree::{Entry, EntryKind, Extent};

/// A tree that can be backed up.
pub trait Source: Debug + Send + Sync {
    /// The paths that were asked for, as the snapshot records them.
    fn paths(&self) -> Vec<PathBuf>;

    /// Opens the topmost directory, `/` of the snapshot.
    ///
    /// # Errors
    /// Any I/O error; the backup fails.
    fn open_root(&self) -> io::Result<Arc<dyn SourceDirectory>>;

    /// What was asked for and is not there, or cannot be reached; recorded in the snapshot as problems.
    fn missing(&self) -> Vec<(PathBuf, io::Error)>;
}

/// An open directory of a source. Other threads may open and list the directories below it before the walk comes to them.
pub trait SourceDirectory: Debug + Send + Sync {
    /// Lists the directory: one item per entry, in ascending order of name (bytes). Files have an empty stream and
    /// their length, directories an empty stream, symbolic links no target and nothing has extended attributes yet: `complete`
    /// adds them where they are needed. An entry that cannot be looked at is an error beside its name.
    ///
    /// # Errors
    /// Any I/O error of the directory itself; it is recorded as a problem.
    fn entries(&self) -> io::Result<Vec<SourceItem>>;

    /// Adds the target of a symbolic link and the extended attributes.
    ///
    /// # Errors
    /// Any I/O error; `NotFound` where the entry has vanished. What could be read stands in the entry even so: a
    /// symbolic link that has its target is backed up.
    fn complete(&self, entry: &mut Entry) -> io::Result<()>;

    /// Opens the directory `name`.
    ///
    /// # Errors
    /// Any I/O error; `NotFound` where it has vanished.
    fn open_directory(&self, name: &[u8]) -> io::Result<Arc<dyn SourceDirectory>>;

    /// Opens the regular file `name` for reading. Never follows a symbolic link and never blocks on a pipe that took
    /// the file's place.
    ///
    /// # Errors
    /// Any I/O error; `NotFound` where it has vanished.
    fn open_file(&self, name: &[u8]) -> io::Result<Box<dyn SourceFile>>;

    /// Has the beginning of the file `name` brought into memory, where it is not there and that can be asked for; called of files
    /// that are about to be read, while the source is slow. What fails here is met again by whoever reads.
    fn fetch(&self, _name: &[u8]) -> Fetched {
        Fetched::Unknown
    }

    /// What there is to say of the last listing, beside the entries. Asked once after each.
    fn remarks(&self) -> Vec<Remark> {
        Vec::new()
    }

    /// Whether the entry `name` carries the mark that it is not to be backed up (`chattr +d`).
    ///
    /// # Errors
    /// Any I/O error.
    fn is_marked_nodump(&self, _name: &[u8]) -> io::Result<bool> {
        Ok(false)
    }
}

/// Whether a file had to be fetched before it could be read quickly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fetched {
    /// It was in memory.
    Nothing,
    /// That cannot be told.
    Unknown,
    /// It was not, and is on its way.
    Begun,
}

/// What a source says of a listing, beside the entries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Remark {
    /// An entry was left out, as the caller wished. With a directory goes all that is in it.
    Excluded {
        /// The entry's name.
        name: Vec<u8>,
        /// Why.
        reason: Exclusion,
    },
    /// Something about the caller's wishes is not as it should be: they count only in part.
    Warning {
        /// The entry's name.
        name: Vec<u8>,
        /// What is wrong.
        detail: String,
    },
}

/// One listed entry.
#[derive(Debug)]
pub struct SourceItem {
    /// The entry's name.
    pub name: Vec<u8>,
    /// The entry, or why it could not be looked at.
    pub entry: io::Result<Entry>,
}

/// An open file of a source.
pub trait SourceFile: Debug + Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; 0 at the end of the file. May be called from several threads.
    ///
    /// # Errors
    /// Any I/O error.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Looks at the open file again: its entry with metadata and current length. Extended attributes may be left to
    /// `complete`.
    ///
    /// # Errors
    /// Any I/O error; the file is not backed up.
    fn entry(&self) -> io::Result<Entry>;

    /// Adds the extended attributes. For a source whose `entry` has them already there is nothing to do.
    ///
    /// # Errors
    /// Any I/O error. What could be read stands in the entry even so, and the file is backed up with that.
    fn complete(&self, _entry: &mut Entry) -> io::Result<()> {
        Ok(())
    }

    /// Whether length, modification and change time are still those of `entry`.
    ///
    /// # Errors
    /// Any I/O error.
    fn is_unchanged_since(&self, entry: &Entry) -> io::Result<bool> {
        self.entry().map(|now| same_content(&now, entry))
    }

    /// Whether every read was of one and the same version, and the inode's number stands for it: no change can hide behind
    /// equal times then.
    fn is_versioned(&self) -> bool {
        false
    }

    /// The data extents of a file with holes within its first `bytes` bytes; `None` for a file without holes.
    ///
    /// # Errors
    /// Any I/O error.
    fn extents(&self, bytes: u64) -> io::Result<Option<Vec<Extent>>>;
}

/// Whether two looks at a file saw the same length, modification and change time.
pub(crate) fn same_content(now: &Entry, before: &Entry) -> bool {
    let bytes = |entry: &Entry| match &entry.kind {
        EntryKind::File(content) => Some(content.bytes),
        _ => None,
    };
    bytes(now) == bytes(before)
        && now.metadata.modified == before.metadata.modified
        && now.metadata.changed == before.metadata.changed
}
