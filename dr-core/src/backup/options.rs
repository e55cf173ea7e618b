//! What a caller may ask of a backup.

use std::io::Read;
use std::time::Duration;

use crate::error::Result;
use crate::frame::Compression;
use crate::time::Timestamp;

/// What a caller may ask of a backup.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BackupOptions {
    /// The host that the snapshot is filed under.
    pub host: String,
    /// Tags of the snapshot.
    pub tags: Vec<String>,
    /// The snapshot's time, where it is not to be now.
    pub time: Option<Timestamp>,
    /// With which snapshot to compare.
    pub parent: Parent,
    /// Takes a file for unchanged though its inode number differs (network file systems).
    pub ignore_inode: bool,
    /// Takes a file for unchanged though its change time differs (network file systems); its modification time counts.
    pub ignore_ctime: bool,
    /// Reads and counts, but stores nothing.
    pub dry_run: bool,
    /// Commits no snapshot where the tree is what the parent has, for the same host and paths. Tags do not count, nor do the
    /// directories that only lead to what is backed up.
    pub skip_if_unchanged: bool,
    /// How hard to compress.
    pub compression: Compression,
    /// Opens and hashes every sealed frame again before it leaves this machine.
    pub verify_frames: bool,
    /// How much memory the backup may take, in bytes, at least 64 MiB; it takes up to 300 bytes beyond that for each chunk that is
    /// new. Fewer threads run where it is not enough for all. `None`: about 100 MiB and 12 MiB for each thread.
    pub memory_bytes_max: Option<u64>,
    /// Commits what is done so far after this time, so that an interrupted run is not read again. `None`: never.
    pub partial_every: Option<Duration>,
}

/// With which snapshot a backup compares, to tell what is unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parent {
    /// The newest of the same host and paths.
    #[default]
    Newest,
    /// This one: what `Repository::find_snapshot` understands.
    Snapshot(String),
    /// None: everything is read.
    Nothing,
}

impl Default for BackupOptions {
    fn default() -> Self {
        BackupOptions {
            host: String::new(),
            tags: Vec::new(),
            time: None,
            parent: Parent::Newest,
            ignore_inode: false,
            ignore_ctime: false,
            dry_run: false,
            skip_if_unchanged: false,
            compression: Compression::default(),
            verify_frames: true,
            memory_bytes_max: None,
            partial_every: Some(Duration::from_secs(15 * 60)),
        }
    }
}

impl BackupOptions {
    /// The defaults, for a host of no name.
    pub fn new() -> BackupOptions {
        BackupOptions::default()
    }

    /// Files the snapshot under a host.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }
}

/// One stream that becomes one file of a snapshot.
#[non_exhaustive]
pub struct StreamInput {
    /// The file's name in the snapshot, right below `/` or a path.
    pub name: String,
    /// The bytes. Read on a thread of its own, which is left alone when the call is cancelled while it blocks.
    pub reader: Box<dyn Read + Send>,
    /// Called at the end of the bytes; an error (a command that failed) ends the backup without a snapshot.
    pub confirm: Box<dyn FnOnce() -> Result<()> + Send>,
}

impl StreamInput {
    /// A stream that is whole when it ends.
    pub fn new(name: impl Into<String>, reader: impl Read + Send + 'static) -> StreamInput {
        StreamInput { name: name.into(), reader: Box::new(reader), confirm: Box::new(|| Ok(())) }
    }

    /// Asks `confirm` at the end of the bytes whether they are whole.
    #[must_use]
    pub fn confirmed_by(mut self, confirm: impl FnOnce() -> Result<()> + Send + 'static) -> Self {
        self.confirm = Box::new(confirm);
        self
    }
}

impl std::fmt::Debug for StreamInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamInput").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A tar archive that becomes the files that it holds.
#[non_exhaustive]
pub struct TarInput {
    /// The directory of the snapshot that the archive is unpacked into; `/` for the topmost.
    pub name: String,
    /// The archive's bytes, which are read once, on a thread of their own: see [`StreamInput::reader`].
    pub reader: Box<dyn Read + Send>,
    /// Called at the end of the bytes: see [`StreamInput::confirm`].
    pub confirm: Box<dyn FnOnce() -> Result<()> + Send>,
}

impl TarInput {
    /// An archive that is whole when it ends.
    pub fn new(name: impl Into<String>, reader: impl Read + Send + 'static) -> TarInput {
        TarInput { name: name.into(), reader: Box::new(reader), confirm: Box::new(|| Ok(())) }
    }

    /// Asks `confirm` at the end of the bytes whether they are whole.
    #[must_use]
    pub fn confirmed_by(mut self, confirm: impl FnOnce() -> Result<()> + Send + 'static) -> Self {
        self.confirm = Box::new(confirm);
        self
    }
}

impl std::fmt::Debug for TarInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TarInput").field("name", &self.name).finish_non_exhaustive()
    }
}
