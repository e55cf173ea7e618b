//! Live segments, from the cache, the log or the store: whole, or as much as lookups need.

use std::ops::Range;
use std::sync::Arc;

use dr_store::{Bytes, Name, Store};

use super::bounded::{check_bytes, get_bounded};
use super::{Cache, Inner};
use crate::crypto::KeyRing;
use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::Header;
use crate::format::names;
use crate::format::segment::Segment;
use crate::id::ObjectHash;
use crate::index::{PagedTable, Part, STEP_BYTES, SegmentSource, Table, open_segment, open_table};
use crate::limits::SEGMENT_BYTES_MAX;
use crate::log::SegmentPlace;

/// Longer segments that are not in the cache are read page by page.
const PAGED_BEYOND_BYTES: u64 = 4 << 20;

/// A live segment, to be searched: whole if it is small or in the cache, else page by page.
pub(super) fn load_part(repository: &Inner, place: &SegmentPlace) -> Result<Part> {
    let SegmentPlace::Object(hash) = place else { return load_table(repository, place).map(Part::from) };
    if let Some(Ok(table)) = repository.cache.as_ref().map(|cache| cache.table(hash)) {
        return Ok(table.into());
    }
    let name = names::hashed(names::INDEX, hash);
    let bytes = repository.store.stat(&name)?.bytes;
    check_bytes(&name, bytes, SEGMENT_BYTES_MAX)?;
    if bytes <= PAGED_BEYOND_BYTES {
        return load_table(repository, place).map(Part::from);
    }
    let (store, ring, cache) = (repository.store.clone(), repository.ring.clone(), repository.cache.clone());
    let source = StoredSegment { store, ring, cache, hash: *hash, name, bytes };
    let keks = |header: &Header| repository.ring.kek(header);
    PagedTable::open(Box::new(source), &keks, repository.pages.clone()).map(Part::from)
}

/// The table of a live segment: from the cache, or made of the segment in the store or in the log.
pub(crate) fn load_table(repository: &Inner, place: &SegmentPlace) -> Result<Table> {
    let cache = repository.cache.as_ref();
    if let Some(Ok(table)) = cache.map(|cache| cache.table(place.hash())) {
        return Ok(table);
    }
    let table = read_table(repository, place)?;
    keep(cache, place.hash(), table)
}

/// A table that was just made, in the cache if there is one.
fn keep(cache: Option<&Cache>, hash: &ObjectHash, table: Vec<u8>) -> Result<Table> {
    if let Some(cache) = cache {
        cache.keep_table(hash, &table);
        if let Ok(table) = cache.table(hash) {
            return Ok(table);
        }
    }
    Table::from_bytes(table)
}

/// Reads and verifies a live segment, never from the cache.
pub(crate) fn read_segment(repository: &Inner, place: &SegmentPlace) -> Result<(Segment, Vec<u8>)> {
    read_with(repository, place, |bytes| open_segment(|header| repository.ring.kek(header), bytes))
}

/// The same as a table only, which takes half the memory.
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
        SegmentPlace::Object(hash) => read_object(&*repository.store, hash, open),
    }
}

fn read_object<T>(store: &dyn Store, hash: &ObjectHash, open: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
    let name = names::hashed(names::INDEX, hash);
    let bytes = get_bounded(store, &name, SEGMENT_BYTES_MAX)?;
    if ObjectHash::of_parts([&bytes[..]]) != *hash {
        return Err(Error::corrupt("the index segment does not hash to its name").with_object(&name));
    }
    open(&bytes).map_err(|error: Error| {
        error
            .with_object(&name)
            .with_remedy("this part of the index is damaged: restore the object from another copy")
    })
}

/// A segment in the store, of which blocks that were read are kept in the cache, sealed.
#[derive(Debug)]
struct StoredSegment {
    store: Arc<dyn Store>,
    ring: KeyRing,
    cache: Option<Cache>,
    hash: ObjectHash,
    name: Name,
    bytes: u64,
}

impl StoredSegment {
    /// The blocks of a range whose ends are those of blocks.
    fn blocks(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, Range<u64>)> {
        let (start, bytes) = (range.start, self.bytes);
        (start / STEP_BYTES..range.end.div_ceil(STEP_BYTES)).map(move |block| {
            (block, block * STEP_BYTES - start..((block + 1) * STEP_BYTES).min(bytes) - start)
        })
    }

    fn kept(&self, range: &Range<u64>) -> Option<Bytes> {
        let cache = self.cache.as_ref()?;
        let mut kept = Vec::new();
        for (block, place) in self.blocks(range) {
            kept.extend_from_slice(&cache.block(&self.hash, block, place.end - place.start)?);
        }
        Some(kept.into())
    }
}

impl SegmentSource for StoredSegment {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn fetch(&self, range: Range<u64>, is_fresh: bool) -> Result<Bytes> {
        if !is_fresh && let Some(kept) = self.kept(&range) {
            return Ok(kept);
        }
        let fetched = self.store.get_range(&self.name, range.clone()).map_err(|error| {
            let error = Error::from(error);
            // It was longer when it was opened.
            let is_cut = error.kind() == ErrorKind::InvalidInput;
            if is_cut { Error::corrupt("the index segment was cut short").with_source(error) } else { error }
        })?;
        if let Some(cache) = &self.cache {
            for (block, place) in self.blocks(&range) {
                if let Some(sealed) = fetched.get(place.start as usize..place.end as usize) {
                    cache.keep_block(&self.hash, block, sealed);
                }
            }
        }
        Ok(fetched)
    }

    fn load_whole(&self) -> Result<Table> {
        let open = |bytes: &[u8]| open_table(|header| self.ring.kek(header), bytes);
        let table = read_object(&*self.store, &self.hash, open)?;
        keep(self.cache.as_ref(), &self.hash, table)
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}
