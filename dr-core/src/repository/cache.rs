//! The cache directory: tables made of index segments. Only ever copies; deleting it costs time, never data.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dr_store::{Bytes, Name};

use super::caches::mark_used;
use super::state::{write_private, write_private_copy, write_private_with};
use crate::error::Result;
use crate::id::ObjectHash;
use crate::index::{ConcordanceFile, Table};
use crate::limits::LIST_BYTES_MAX;
use crate::log::EntryCopies;
use crate::time::Timestamp;

/// The checkpoint's file.
pub(super) const CHECKPOINT: &str = "checkpoint";
/// The file that finds chunks in all large tables at once. There is one: that of other tables is replaced.
pub(super) const CONCORDANCE: &str = "concordance";

/// This repository's part of the cache directory.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    directory: PathBuf,
    /// Keeps others from cleaning it up.
    _mark: Option<Arc<File>>,
}

impl Cache {
    /// Uses the repository's part of a cache directory from now on.
    pub(crate) fn new(directory: &Path, repository: &str, now: Timestamp) -> Cache {
        let directory = directory.join(repository);
        let _mark = mark_used(&directory, now).map(Arc::new);
        Cache { directory, _mark }
    }

    fn table_path(&self, segment: &ObjectHash) -> PathBuf {
        self.directory.join("index").join(segment.to_string())
    }

    /// The table of a segment, where there is one.
    pub(super) fn table(&self, segment: &ObjectHash) -> Result<Table> {
        Table::open(&self.table_path(segment))
    }

    /// Keeps a table. A cache that cannot be written is no reason to fail.
    pub(crate) fn keep_table(&self, segment: &ObjectHash, table: &[u8]) {
        if write_private(&self.table_path(segment), table).is_ok() {
            let _ = std::fs::remove_dir_all(self.blocks_path(segment));
        }
    }

    fn blocks_path(&self, segment: &ObjectHash) -> PathBuf {
        self.directory.join("blocks").join(segment.to_string())
    }

    /// Sealed bytes of a segment, as long as they must be. Whoever opens them sees whether they are what was kept.
    pub(super) fn block(&self, segment: &ObjectHash, number: u64, bytes: u64) -> Option<Bytes> {
        let path = self.blocks_path(segment).join(number.to_string());
        let is_sound = std::fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() == bytes);
        if is_sound { std::fs::read(path).ok().map(Bytes::from) } else { None }
    }

    /// Keeps sealed bytes of a segment. A cache that cannot be written is no reason to fail.
    pub(super) fn keep_block(&self, segment: &ObjectHash, number: u64, sealed: &[u8]) {
        let _ = write_private(&self.blocks_path(segment).join(number.to_string()), sealed);
    }

    /// The entries of a log of siblings.
    pub(crate) fn entry_copies(&self) -> &dyn EntryCopies {
        self
    }

    /// The checkpoint of the log, sealed.
    pub(crate) fn checkpoint(&self) -> Option<Vec<u8>> {
        let path = self.directory.join(CHECKPOINT);
        let is_sound = std::fs::metadata(&path).is_ok_and(|meta| meta.len() <= LIST_BYTES_MAX as u64);
        if is_sound { std::fs::read(path).ok() } else { None }
    }

    /// Keeps a sealed checkpoint. A cache that cannot be written is no reason to fail.
    pub(crate) fn keep_checkpoint(&self, sealed: &[u8]) {
        let _ = write_private(&self.directory.join(CHECKPOINT), sealed);
    }

    /// The concordance, where there is one.
    pub(crate) fn concordance(&self) -> Result<ConcordanceFile> {
        ConcordanceFile::open(&self.directory.join(CONCORDANCE))
    }

    /// Whether the disk that the cache is on has room for so many bytes.
    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        rustix::fs::statvfs(&self.directory)
            .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) >= bytes)
    }

    /// Keeps a concordance.
    ///
    /// # Errors
    /// What `write` says, or the cache's file system: then there is the one that there was.
    pub(crate) fn keep_concordance(
        &self,
        write: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        write_private_with(&self.directory.join(CONCORDANCE), write)
    }

    /// Removes a concordance that is of no use.
    pub(crate) fn remove_concordance(&self) {
        let _ = std::fs::remove_file(self.directory.join(CONCORDANCE));
    }

    /// Replaces a table by one that was just made of the segment in the store, and opens it. Where it was another one, no
    /// concordance may go on hiding what that one hid.
    pub(crate) fn renew_table(&self, segment: &ObjectHash, table: &[u8]) -> Option<Table> {
        if let Ok(kept) = self.table(segment) {
            if kept.is_copy_of(table) {
                return Some(kept);
            }
            self.remove_concordance();
        }
        self.keep_table(segment, table);
        let kept = Table::open(&self.table_path(segment)).ok()?;
        kept.is_copy_of(table).then_some(kept)
    }
}

impl EntryCopies for Cache {
    fn entry(&self, name: &Name, bytes: u64) -> Option<Vec<u8>> {
        let path = self.directory.join(name.as_str());
        let is_sound = std::fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() == bytes);
        if is_sound { std::fs::read(path).ok() } else { None }
    }

    fn keep_entry(&self, name: &Name, sealed: &[u8]) {
        // There are thousands of them, and what a crash leaves of one does not open.
        let _ = write_private_copy(&self.directory.join(name.as_str()), sealed);
    }
}
