//! The index: which chunk lies in which frame of which pack.
//!
//! Segments come from the store sealed; each becomes a table of fixed-width records in the cache directory, searched in
//! place. The tables are only ever copies.

mod mapped;
mod segment;
mod table;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub(crate) use segment::{open_segment, open_table, seal_segment, segment_of_packs};
pub(crate) use table::Table;

use crate::format::envelope::Header;
use crate::format::pack::FrameShape;
use crate::format::segment::SegmentPack;
use crate::id::{ChunkId, ObjectHash};

/// A segment as a table, with its filter.
#[cfg(feature = "internals")]
pub(crate) fn encode_segment_table(segment: &crate::format::segment::Segment) -> Vec<u8> {
    table::encode_table(segment, &table::build_filter(&segment.chunks))
}

/// Where a chunk lies.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    pub(crate) pack: SegmentPack,
    /// The header that the frame was sealed under.
    pub(crate) header: Arc<Header>,
    pub(crate) frame_offset: u32,
    pub(crate) shape: FrameShape,
    /// Where in the raw frame the chunk begins, and how long it is.
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
}

/// Packs and segments that may be deleted, and the slots of the log that condemned them.
pub(crate) type Condemned = HashMap<ObjectHash, u64>;

/// All live segments, earliest commit first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    tables: Vec<Arc<Table>>,
    condemned: Arc<Condemned>,
    /// Packs that are known to be damaged: what lies in them is stored again.
    distrusted: Arc<HashSet<ObjectHash>>,
    is_whole: bool,
}

impl Index {
    pub(crate) fn new(tables: Vec<Arc<Table>>, condemned: Arc<Condemned>) -> Index {
        Index { tables, condemned, distrusted: Arc::default(), is_whole: true }
    }

    /// The same index, of which a segment could not be read.
    pub(crate) fn with_gaps(mut self) -> Index {
        self.is_whole = false;
        self
    }

    /// The same index, by which nothing is taken to be stored that lies in these packs only.
    pub(crate) fn with_distrusted(mut self, packs: HashSet<ObjectHash>) -> Index {
        self.distrusted = Arc::new(packs);
        self
    }

    /// Whether every live segment could be read. Where one could not, chunks may seem to be missing that are there.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Packs and segments that may be deleted.
    pub(crate) fn condemned(&self) -> &Condemned {
        &self.condemned
    }

    pub(crate) fn tables(&self) -> &[Arc<Table>] {
        &self.tables
    }

    /// Every place where the chunk lies, in the order in which they should be tried. Packs that may be deleted are left
    /// out.
    pub(crate) fn lookup<'a>(&'a self, id: &'a ChunkId) -> impl Iterator<Item = Location> + 'a {
        self.tables
            .iter()
            .flat_map(move |table| table.lookup(id))
            .filter(|location| self.condemned.is_empty() || !self.condemned.contains_key(&location.pack.hash))
    }

    /// The pack that holds the chunk, if any: what a backup asks before it stores one.
    pub(crate) fn pack_of(&self, id: &ChunkId) -> Option<ObjectHash> {
        self.tables.iter().flat_map(|table| table.packs_of(id)).find(|pack| {
            (self.condemned.is_empty() || !self.condemned.contains_key(pack))
                && (self.distrusted.is_empty() || !self.distrusted.contains(pack))
        })
    }

    /// How many chunks the segments list, copies counted each time.
    pub(crate) fn chunks(&self) -> u64 {
        self.tables.iter().map(|table| table.chunks() as u64).sum()
    }

    /// Every pack that is listed and may not be deleted, once.
    pub(crate) fn packs(&self) -> Vec<SegmentPack> {
        let mut seen = HashSet::new();
        self.tables
            .iter()
            .flat_map(|table| table.packs().iter().cloned())
            .filter(|pack| !self.condemned.contains_key(&pack.hash) && seen.insert(pack.hash))
            .collect()
    }
}
