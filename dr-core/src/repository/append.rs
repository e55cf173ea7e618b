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
use crate::log::{Log, append};
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
    /// Seals a segment, and puts it into the store.
    pub(crate) fn put_segment(&self, segment: &Segment) -> Result<ObjectHash> {
        put_hashed(&*self.store, names::INDEX, self.seal_segment(segment)?)
    }

    /// Seals a segment, and puts it into the store unless it is small enough to stand in the entry.
    pub(crate) fn put_segment_unless_small(&self, segment: &Segment) -> Result<NewSegment> {
        let sealed = self.seal_segment(segment)?;
        if sealed.len() <= INLINE_SEGMENT_BYTES_MAX {
            return Ok(NewSegment::Inline(sealed));
        }
        put_hashed(&*self.store, names::INDEX, sealed).map(NewSegment::Object)
    }

    fn seal_segment(&self, segment: &Segment) -> Result<Vec<u8>> {
        let (sealed, table) = seal_segment(&self.ring, segment, &*self.entropy)?;
        if let Some(cache) = &self.cache {
            cache.keep_table(&ObjectHash::of_parts([sealed.as_slice()]), &table);
        }
        Ok(sealed)
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
        log.confirm_head(&self.sync())?;
        append(&mut log, &*self.store, &self.ring, &*self.entropy, self.writer, &mut |log| {
            log.check_writable()?;
            validate(log)
        })?;
        self.store_checkpoint(&mut log);
        if let Some(seen) = &self.seen {
            // The entry is in the log whatever this machine's disk says; the next opening remembers it.
            let _ = seen.remember(&log);
        }
        Ok(log.clone())
    }

    /// The same, where `validate` may find that no entry is valid any more: then nothing is appended.
    pub(crate) fn append_if(
        &self,
        validate: &mut dyn FnMut(&Log) -> Result<Option<Event>>,
    ) -> Result<Option<Log>> {
        let mut is_refused = false;
        let appended = self.append(&mut |log| {
            let event = validate(log)?;
            is_refused = event.is_none();
            event.ok_or_else(|| Error::new(ErrorKind::Internal, "an entry is not valid on the newest state"))
        });
        if is_refused { Ok(None) } else { appended.map(Some) }
    }
}
