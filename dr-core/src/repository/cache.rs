//! The cache directory: tables made of index segments. Only ever copies; deleting it costs time, never data.

use std::path::{Path, PathBuf};

use super::Inner;
use super::bounded::get_bounded;
use super::state::write_private;
use crate::error::{Error, Result};
use crate::format::names;
use crate::id::ObjectHash;
use crate::index::{Table, open_segment, open_table};
use crate::limits::{LIST_BYTES_MAX, SEGMENT_BYTES_MAX};
use crate::log::SegmentPlace;

/// The checkpoint's file.
const CHECKPOINT: &str = "checkpoint";

/// This repository's part of the cache directory.
#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
}

impl Cache {
    pub(crate) fn new(directory: &Path, repository: &str) -> Cache {
        Cache { directory: directory.join(repository) }
    }

    fn table_path(&self, segment: &ObjectHash) -> PathBuf {
        self.directory.join("index").join(segment.to_string())
    }

    /// Keeps a table. A cache that cannot be written is no reason to fail.
    pub(crate) fn keep_table(&self, segment: &ObjectHash, table: &[u8]) {
        let _ = write_private(&self.table_path(segment), table);
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

    /// Replaces a table by one that was just made of the segment in the store, and opens it.
    pub(crate) fn renew_table(&self, segment: &ObjectHash, table: &[u8]) -> Option<Table> {
        self.keep_table(segment, table);
        let kept = Table::open(&self.table_path(segment)).ok()?;
        kept.is_copy_of(table).then_some(kept)
    }
}

/// The table of a live segment: from the cache, or made of the segment in the store or in the log.
pub(crate) fn load_table(repository: &Inner, place: &SegmentPlace) -> Result<Table> {
    if let Some(cache) = &repository.cache
        && let Ok(table) = Table::open(&cache.table_path(place.hash()))
    {
        return Ok(table);
    }
    let table = read_table(repository, place)?;
    if let Some(cache) = &repository.cache {
        cache.keep_table(place.hash(), &table);
        if let Ok(table) = Table::open(&cache.table_path(place.hash())) {
            return Ok(table);
        }
    }
    Table::from_bytes(table)
}

/// Reads and verifies a live segment, never from the cache.
pub(crate) fn read_segment(
    repository: &Inner,
    place: &SegmentPlace,
) -> Result<(crate::format::segment::Segment, Vec<u8>)> {
    read_with(repository, place, |bytes| open_segment(|header| repository.ring.kek(header), bytes))
}

/// The table of a live segment, made of the segment in the store or in the log.
pub(crate) fn read_table(repository: &Inner, place: &SegmentPlace) -> Result<Vec<u8>> {
    read_with(repository, place, |bytes| open_table(|header| repository.ring.kek(header), bytes))
}

fn read_with<T>(
    repository: &Inner,
    place: &SegmentPlace,
    open: impl FnOnce(&[u8]) -> Result<T>,
) -> Result<T> {
    match place {
        SegmentPlace::Inline(hash, bytes) => {
            open(bytes).map_err(|error| error.with_object(format!("segment {hash} in the log")))
        }
        SegmentPlace::Object(hash) => {
            let name = names::hashed(names::INDEX, hash);
            let bytes = get_bounded(&*repository.store, &name, SEGMENT_BYTES_MAX)?;
            if ObjectHash::of_parts([&bytes[..]]) != *hash {
                return Err(Error::corrupt("the index segment does not hash to its name").with_object(&name));
            }
            open(&bytes).map_err(|error: Error| {
                error
                    .with_object(&name)
                    .with_remedy("this part of the index is damaged: restore the object from another copy")
            })
        }
    }
}
