//! What every writer of the log needs: index segments and lists in the store, then one entry.

use super::{Inner, put_hashed};
use crate::crypto::seal_object;
use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::ObjectType;
use crate::format::log::{Event, HashList, encode_list};
use crate::format::names;
use crate::format::segment::Segment;
use crate::id::ObjectHash;
use crate::index::seal_segment;
use crate::limits::LIST_HASHES_MAX;
use crate::log::{Log, Sync, append};
use crate::observer::lock;

/// Sealed segments up to this length may stand in the log's entry itself.
const INLINE_SEGMENT_BYTES_MAX: usize = 16 << 10;
/// Lists of hashes up to this length stand in the log's entry itself.
const INLINE_HASHES_MAX: usize = 256;

/// A segment that an entry can name.
#[derive(Debug)]
pub(crate) enum NewSegment {
    /// In the store.
    Object(ObjectHash),
    /// Small enough to stand in the entry.
    Inline(Vec<u8>),
}

impl Inner {
    /// Seals a segment, and puts it into the store unless it is small and `may_inline`.
    pub(crate) fn put_segment(&self, segment: &Segment, may_inline: bool) -> Result<NewSegment> {
        let (sealed, table) = seal_segment(&self.ring, segment, &*self.entropy)?;
        let hash = ObjectHash::of_parts([sealed.as_slice()]);
        if let Some(cache) = &self.cache {
            cache.keep_table(&hash, &table);
        }
        if may_inline && sealed.len() <= INLINE_SEGMENT_BYTES_MAX {
            return Ok(NewSegment::Inline(sealed));
        }
        put_hashed(&*self.store, names::INDEX, sealed).map(NewSegment::Object)
    }

    /// Hashes as an entry names them: themselves, or a list object, which is durable before the entry. They are sorted
    /// first.
    pub(crate) fn put_list(&self, hashes: &[ObjectHash]) -> Result<HashList> {
        let mut hashes = hashes.to_vec();
        hashes.sort_unstable();
        hashes.dedup();
        if hashes.len() <= INLINE_HASHES_MAX {
            return Ok(HashList::Inline(hashes));
        }
        if hashes.len() > LIST_HASHES_MAX {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                "a list of packs is longer than the format allows",
            ));
        }
        let header = self.ring.header(ObjectType::List);
        let kek = self.ring.kek(&header)?;
        let sealed = seal_object(&kek, header, 0, &encode_list(&hashes), &*self.entropy)?;
        put_hashed(&*self.store, names::LIST, sealed).map(HashList::List)
    }

    /// Appends the entry that `validate` gives for the newest state of the log. Gives the state behind it.
    pub(crate) fn append(&self, validate: &mut dyn FnMut(&Log) -> Result<Event>) -> Result<Log> {
        self.probe_if_due()?;
        let mut log = lock(&self.log);
        // Above a gap nothing could be read: a store that was put back in time is noticed before it is written to.
        log.confirm_head(&Sync { store: &*self.store, ring: &self.ring })?;
        append(&mut log, &*self.store, &self.ring, &*self.entropy, self.writer, validate)?;
        self.store_checkpoint(&mut log);
        if let Some(seen) = &self.seen {
            // The entry is in the log whatever this machine's disk says; the next opening remembers it.
            let _ = seen.remember(&log);
        }
        Ok(log.clone())
    }
}
