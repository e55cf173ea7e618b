//! The index: which chunk lies in which frame of which pack.
//!
//! Segments come from the store sealed; each becomes a table of fixed-width records in the cache directory, searched in
//! place. The tables are only ever copies. Of a large segment that is not there yet, single pages are read.

mod concordance;
mod filter;
mod lookups;
mod mapped;
mod paged;
mod pages;
mod record_set;
mod segment;
mod table;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub(crate) use concordance::{Collation, Concordance, ConcordanceFile, Limits};
pub(crate) use lookups::Lookups;
pub(crate) use paged::{PagedTable, STEP_BYTES, SegmentSource};
pub(crate) use pages::Pages;
pub(crate) use record_set::{Place, RecordSet};
pub(crate) use segment::{open_segment, open_table, seal_segment, segment_of_packs};
pub(crate) use table::Table;

use concordance::{Answer, Concording};

use crate::error::Result;
use crate::format::envelope::{Header, PackClass};
use crate::format::pack::FrameShape;
use crate::format::segment::SegmentPack;
use crate::id::{ChunkId, ObjectHash};

/// A segment as a table, with its filter.
#[cfg(feature = "internals")]
pub(crate) fn encode_segment_table(segment: &crate::format::segment::Segment) -> Vec<u8> {
    table::encode_table(segment, &filter::build_filter(&segment.chunks))
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

/// Filters of so many segments are asked before a chunk is looked for in any of these: waiting for all of them would take
/// longer than most chunks need.
const FILTERED_TOGETHER: usize = 4;

/// A segment that can be searched.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// All of it is on this machine.
    Whole(Arc<Table>),
    /// Its pages are read from the store when a lookup needs them.
    Paged(Arc<PagedTable>),
}

impl From<Arc<Table>> for Part {
    fn from(table: Arc<Table>) -> Part {
        Part::Whole(table)
    }
}

impl From<Table> for Part {
    fn from(table: Table) -> Part {
        Part::Whole(Arc::new(table))
    }
}

impl From<PagedTable> for Part {
    fn from(table: PagedTable) -> Part {
        Part::Paged(Arc::new(table))
    }
}

impl Part {
    /// The whole table, where all of it is on this machine.
    fn whole(&self) -> Option<&Arc<Table>> {
        match self {
            Part::Whole(table) => Some(table),
            Part::Paged(table) => table.whole(),
        }
    }

    /// The same part, all of which is on this machine.
    pub(crate) fn into_whole(self) -> Result<Part> {
        match self {
            Part::Paged(table) => table.load_whole().map(Part::Whole),
            whole => Ok(whole),
        }
    }

    /// The same part, as much of it as is on this machine; none where lookups found that some of it is damaged.
    pub(crate) fn renewed(&self) -> Option<Part> {
        match self.whole() {
            Some(table) => Some(Part::Whole(table.clone())),
            None => self.gap().is_none().then(|| self.clone()),
        }
    }

    fn gap(&self) -> Option<&str> {
        match self {
            Part::Whole(_) => None,
            Part::Paged(table) => table.gap(),
        }
    }

    fn for_each_pack(&self, take: &mut dyn FnMut(SegmentPack)) {
        match self {
            Part::Whole(table) => table.packs().for_each(take),
            Part::Paged(table) => table.packs().iter().cloned().for_each(take),
        }
    }

    /// How many chunks it lists, copies counted each time.
    pub(crate) fn chunks(&self) -> usize {
        match self {
            Part::Whole(table) => table.chunks(),
            Part::Paged(table) => table.chunks(),
        }
    }

    /// Whether a chunk may be listed, as far as that is known without looking for it.
    fn may_hold(&self, id: &ChunkId) -> bool {
        match self {
            Part::Whole(table) => table.may_hold(id),
            Part::Paged(_) => true,
        }
    }

    fn lookup(&self, id: &ChunkId) -> Vec<Result<Location>> {
        match self {
            Part::Whole(table) => table.lookup(id).map(Ok).collect(),
            Part::Paged(table) => match table.lookup(id) {
                Ok(found) => found.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            },
        }
    }
}

/// All live segments, earliest commit first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    parts: Vec<Part>,
    /// The same, where all of every segment is on this machine; none otherwise.
    tables: Option<Vec<Arc<Table>>>,
    condemned: Arc<Condemned>,
    /// Packs that are known to be damaged: what lies in them is stored again.
    distrusted: Arc<HashSet<ObjectHash>>,
    is_whole: bool,
    /// What finds a chunk in all large tables at once; none without a cache.
    concording: Option<Arc<Concording>>,
}

impl Index {
    pub(crate) fn new(parts: impl IntoIterator<Item = impl Into<Part>>, condemned: Arc<Condemned>) -> Index {
        let parts: Vec<Part> = parts.into_iter().map(Into::into).collect();
        let tables = parts.iter().map(|part| part.whole().cloned()).collect();
        Index { parts, tables, condemned, distrusted: Arc::default(), is_whole: true, concording: None }
    }

    /// The same index of segments of these names, as many as it has parts, which may have a concordance.
    pub(crate) fn with_concordance(
        mut self,
        names: Vec<ObjectHash>,
        limits: Limits,
        file: Option<ConcordanceFile>,
    ) -> Index {
        let concording = Concording::new(names, limits);
        if let Some(file) = file {
            concording.consult(file, &self.parts);
        }
        self.concording = Some(Arc::new(concording));
        self
    }

    /// Asks this concordance from now on, and so do clones of this index.
    pub(crate) fn consult(&self, file: ConcordanceFile) {
        if let Some(concording) = &self.concording {
            concording.consult(file, &self.parts);
        }
    }

    /// Counts a lookup by `pack_of`. Gives, to one caller, the tables of which to make a concordance, once that is worth it.
    #[inline]
    pub(crate) fn count_lookup(&self, id: &ChunkId) -> Option<Collation> {
        self.concording.as_ref()?.count(id, &self.parts)
    }

    /// The tables of which to make a concordance, however few lookups there were.
    pub(crate) fn collation(&self) -> Option<Collation> {
        self.concording.as_ref()?.collation(&self.parts)
    }

    /// Whether there is a concordance, intact or not.
    pub(crate) fn has_concordance(&self) -> bool {
        self.concording.as_ref().is_some_and(|concording| concording.concordance().is_some())
    }

    /// The concordance, where there is one and it is what was written, byte by byte: for whoever deletes.
    pub(crate) fn intact_concordance(&self) -> Option<&Concordance> {
        self.concording.as_ref()?.concordance().filter(|concordance| concordance.is_intact())
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

    /// Whether every live segment could be read, as far as lookups needed it. Where one could not, chunks may seem to be
    /// missing that are there.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole && self.gap().is_none()
    }

    /// Whether all of every segment is on this machine and is what was written, byte by byte: for whoever deletes, or takes
    /// something for lost.
    pub(crate) fn is_intact(&self) -> bool {
        self.is_whole() && self.is_loaded() && self.tables().iter().all(|table| table.is_intact())
    }

    /// What a lookup could not read.
    pub(crate) fn gap(&self) -> Option<&str> {
        self.parts.iter().find_map(Part::gap)
    }

    /// Packs and segments that may be deleted.
    pub(crate) fn condemned(&self) -> &Condemned {
        &self.condemned
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether all of every segment is on this machine, so that `tables` gives them all.
    pub(crate) fn is_loaded(&self) -> bool {
        self.tables.is_some()
    }

    /// The tables of all segments, for whoever looks at every record; none unless all of every segment is on this machine.
    pub(crate) fn tables(&self) -> &[Arc<Table>] {
        self.tables.as_deref().unwrap_or_default()
    }

    /// Every place where the chunk lies, in the order in which they should be tried. Packs that may be deleted are left
    /// out. A store that does not answer is an error, never a chunk that is not there.
    pub(crate) fn lookup<'a>(&'a self, id: &'a ChunkId) -> impl Iterator<Item = Result<Location>> + 'a {
        self.parts.iter().flat_map(move |part| part.lookup(id)).filter(|found| {
            let is_gone = |location: &Location| self.condemned.contains_key(&location.pack.hash);
            self.condemned.is_empty() || !found.as_ref().is_ok_and(is_gone)
        })
    }

    /// The first place of a chunk that fits.
    pub(crate) fn find(&self, id: &ChunkId, fits: impl Fn(&Location) -> bool) -> Result<Option<Location>> {
        self.lookup(id).find(|found| found.as_ref().map_or(true, &fits)).transpose()
    }

    /// Every place where the chunk lies: after those of `lookup`, also in packs that may be deleted. They may still be there,
    /// and what is read is verified.
    pub(crate) fn lookup_all<'a>(&'a self, id: &'a ChunkId) -> impl Iterator<Item = Result<Location>> + 'a {
        let is_gone = |found: &Result<Location>| {
            found.as_ref().is_ok_and(|location| self.condemned.contains_key(&location.pack.hash))
        };
        let parts = self.parts.iter().filter(|_| !self.condemned.is_empty());
        self.lookup(id).chain(parts.flat_map(move |part| part.lookup(id)).filter(is_gone))
    }

    /// Whether what lies in a pack counts as stored.
    fn is_good(&self, pack: &ObjectHash) -> bool {
        (self.condemned.is_empty() || !self.condemned.contains_key(pack))
            && (self.distrusted.is_empty() || !self.distrusted.contains(pack))
    }

    /// The same as `pack_of`, by the tables alone: for whoever takes what is not found for lost.
    pub(crate) fn pack_in_tables(&self, id: &ChunkId) -> Result<Option<ObjectHash>> {
        pack_among(&self.parts, id, |pack| self.is_good(pack))
    }

    /// The pack that holds the chunk, if any: what a backup asks before it stores one. It may miss one that is there.
    pub(crate) fn pack_of(&self, id: &ChunkId) -> Result<Option<ObjectHash>> {
        let is_good = |pack: &ObjectHash| self.is_good(pack);
        let Some(concordance) = self.concording.as_ref().and_then(|it| it.concordance()) else {
            return pack_among(&self.parts, id, is_good);
        };
        match concordance.find(id, is_good) {
            // Of several places the first counts.
            Answer::At(number, pack) => {
                Ok(pack_among(concordance.others_before(number), id, is_good)?.or(Some(pack)))
            }
            Answer::Nowhere => pack_among(concordance.others_before(usize::MAX), id, is_good),
            Answer::Unknown => pack_among(&self.parts, id, is_good),
        }
    }

    /// How many chunks the segments list, copies counted each time.
    pub(crate) fn chunks(&self) -> u64 {
        self.parts.iter().map(|part| part.chunks() as u64).sum()
    }

    /// How long all that lies in tree packs is: what whoever follows all trees reads of them, unless some of it is garbage.
    /// Packs that may be deleted are left out.
    pub(crate) fn tree_bytes(&self) -> u64 {
        let mut seen = HashSet::new();
        let mut counts = |pack: SegmentPack| {
            let is_tree = pack.class == PackClass::Tree && !self.condemned.contains_key(&pack.hash);
            is_tree && seen.insert(pack.hash)
        };
        let mut bytes = 0u64;
        for table in self.tables() {
            let packs = 0..table.pack_count();
            let counted: Vec<bool> =
                packs.map(|number| table.pack(number).is_some_and(&mut counts)).collect();
            let numbers = 0..u32::try_from(table.frames()).unwrap_or(u32::MAX);
            let frames = numbers.filter_map(|number| table.frame(number));
            let frames = frames.filter(|frame| counted.get(frame.pack as usize) == Some(&true));
            bytes = frames.fold(bytes, |sum, frame| sum.saturating_add(frame.shape.raw_bytes.into()));
        }
        bytes
    }

    /// Every pack that is listed and may not be deleted, once.
    pub(crate) fn packs(&self) -> Vec<SegmentPack> {
        let (mut packs, mut seen) = (Vec::new(), HashSet::new());
        for part in &self.parts {
            part.for_each_pack(&mut |pack| {
                if !self.condemned.contains_key(&pack.hash) && seen.insert(pack.hash) {
                    packs.push(pack);
                }
            });
        }
        packs
    }
}

/// The pack of the first place among some parts whose pack is good enough.
fn pack_among(
    parts: &[Part],
    id: &ChunkId,
    is_good: impl Fn(&ObjectHash) -> bool,
) -> Result<Option<ObjectHash>> {
    for parts in parts.chunks(FILTERED_TOGETHER) {
        // All filters are asked before any answer is looked at: they wait for memory together.
        let passed = parts
            .iter()
            .enumerate()
            .fold(0, |passed: u32, (number, part)| passed | u32::from(part.may_hold(id)) << number);
        let passing = |(number, _): &(usize, &Part)| passed >> number & 1 == 1;
        for (_, part) in parts.iter().enumerate().filter(passing) {
            let found = match part {
                Part::Whole(table) => table.packs_of_passed(id).find(&is_good),
                Part::Paged(table) => table.lookup(id)?.into_iter().map(|it| it.pack.hash).find(&is_good),
            };
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}
