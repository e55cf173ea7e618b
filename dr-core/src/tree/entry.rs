//! One entry of a directory, with everything that Linux can say of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::ChunkId;
use crate::time::Timestamp;

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Entry {
    /// The name: 1 to 255 bytes, neither `.` nor `..`, without slash and NUL; not always UTF-8.
    pub name: Vec<u8>,
    /// What it is, and what it holds.
    pub kind: EntryKind,
    /// Everything else that is known of it.
    pub metadata: Metadata,
}

/// What an entry is, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum EntryKind {
    /// A regular file.
    File(FileContent),
    /// A directory: the stream holds its entries.
    Directory(Stream),
    /// A symbolic link and its target's bytes.
    Symlink(Vec<u8>),
    /// A character device and its number (`st_rdev`).
    CharacterDevice(u64),
    /// A block device and its number (`st_rdev`).
    BlockDevice(u64),
    /// A named pipe.
    Fifo,
    /// A UNIX socket.
    Socket,
}

/// The content of a regular file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FileContent {
    /// The file's length in bytes, holes included.
    pub bytes: u64,
    /// The data: all of the file, or where it has holes its data extents, one after the other.
    pub stream: Stream,
    /// Where the data extents lie, for a file with holes.
    pub sparse: Option<SparseMap>,
}

/// The data extents of a file with holes, in ascending order, apart from one another, together as long as the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SparseMap {
    /// A few extents, here in the entry.
    Inline(Vec<Extent>),
    /// Many extents: a stream of 16-byte records, offset and length, each a little-endian u64.
    Stream(Stream),
}

/// A run of data in a file with holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The first byte's offset in the file.
    pub offset: u64,
    /// The length in bytes, at least 1.
    pub bytes: u64,
}

/// A sequence of bytes as a list of chunks. At level 0 the chunks hold the bytes; at level `n` they hold lists of the
/// references of level `n - 1`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stream {
    /// The length of the whole sequence in bytes.
    pub bytes: u64,
    /// How many levels of lists lie between these references and the bytes.
    pub level: u8,
    /// The references of the topmost level, in order.
    pub chunks: Vec<ChunkRef>,
}

/// A chunk's id and its length, so that offsets are known without looking chunks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRef {
    /// The chunk's id.
    pub id: ChunkId,
    /// The chunk's length in bytes.
    pub bytes: u32,
}

/// What an entry has beside its name and content.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Metadata {
    /// Permission bits, set-user-id, set-group-id and sticky bit: `st_mode & 0o7777`.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The owner's name, where the system knew one. Stored once per tree chunk, not per entry.
    #[serde(skip)]
    pub user: Option<Arc<str>>,
    /// The group's name, where the system knew one. Stored once per tree chunk, not per entry.
    #[serde(skip)]
    pub group: Option<Arc<str>>,
    /// When the content was last changed.
    pub modified: Timestamp,
    /// When the inode was last changed.
    pub changed: Timestamp,
    /// When the file was made, where the file system knows.
    pub created: Option<Timestamp>,
    /// When it was last read, where the caller asked for it.
    pub accessed: Option<Timestamp>,
    /// The inode's number.
    pub inode: u64,
    /// The device's number (`st_dev`). Entries with equal device and inode and more than one link are one file.
    pub device: u64,
    /// The number of hard links.
    pub links: u64,
    /// Whether the file is to be read again next time, because it changed while, or just before, it was read.
    pub racy: bool,
    /// Extended attributes, POSIX ACLs and capabilities among them, in ascending order of name.
    pub xattrs: Vec<Xattr>,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xattr {
    /// The full name, for example `user.comment`.
    pub name: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

impl Entry {
    /// Builds an entry.
    pub fn new(name: impl Into<Vec<u8>>, kind: EntryKind, metadata: Metadata) -> Entry {
        Entry { name: name.into(), kind, metadata }
    }

    /// Whether this is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, EntryKind::Directory(_))
    }

    /// The (device, inode) pair shared by all names of one file, for an entry that has several.
    pub fn hard_link_key(&self) -> Option<(u64, u64)> {
        (self.metadata.links > 1 && !self.is_directory())
            .then_some((self.metadata.device, self.metadata.inode))
    }
}

impl FileContent {
    /// Builds the content of a file of `bytes` bytes that has no holes, or whose holes `sparse` describes.
    pub fn new(bytes: u64, stream: Stream, sparse: Option<SparseMap>) -> FileContent {
        FileContent { bytes, stream, sparse }
    }
}
