//! Which chunks must stay: one bit for each record of the index, whatever the size of the repository.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use super::options::PruneOptions;
use super::packs::ListedPacks;
use super::plan::{Plan, plan};
use crate::error::{Error, Result};
use crate::format::envelope::PackClass;
use crate::format::segment::ChunkRecord;
use crate::id::{ChunkId, ObjectHash};
use crate::index::{Concordance, Index, Location, Lookups, Place, RecordSet, Table};
use crate::observer::lock;
use crate::repository::missing_chunk;
use crate::tree::{ChunkRef, KeepChunks};

/// Chunks that are looked up together: so many that what they wait for stays in the processor's second cache until it is used.
const BATCH_CHUNKS: usize = 4096;

/// The records of an index that are needed. Threads may mark at the same time.
pub(super) struct Marks<'a> {
    index: &'a Index,
    /// Where chunks are looked for first. What it does not know of is looked for in the tables.
    concordance: Option<&'a Concordance>,
    /// For each table, the standing of each of its packs.
    standings: Vec<Vec<Standing>>,
    /// For each table, whether it lists a pack of each class that is not gone.
    holds: Vec<[bool; 2]>,
    needed: RecordSet,
    /// Of the runs of entries, those whose references were marked, or are being marked. It is not enough that a run is needed:
    /// somebody may have named it as something else.
    entered: RecordSet,
    /// Needed chunks that lie in more than one pack.
    copied: Mutex<Vec<ChunkId>>,
}

/// What a pack may be needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Holds(PackClass),
    /// It may be deleted, or cannot be read.
    Gone,
}

/// What of a pack is needed.
#[derive(Debug, Clone)]
pub(crate) struct PackUse {
    pub(crate) hash: ObjectHash,
    pub(crate) class: PackClass,
    /// The length of the object.
    pub(crate) bytes: u64,
    /// What its frames take that is needed, and that is not; a frame counts by the share of its raw bytes.
    pub(crate) live_bytes: u64,
    pub(crate) dead_bytes: u64,
    pub(crate) live_chunks: u64,
}

/// What is needed of each pack that the index lists and that is not condemned, in order of their names.
#[derive(Debug, Clone)]
pub(super) struct PackUses {
    packs: Arc<ListedPacks>,
    counts: Vec<Counts>,
    passed_over: HashSet<ObjectHash>,
}

/// The numbers of a [`PackUse`]. No pack that can be read holds more than they count to.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    live_bytes: u32,
    dead_bytes: u32,
    live_chunks: u32,
}

impl PackUses {
    /// What is to become of the packs.
    pub(super) fn plan(&self, options: &PruneOptions) -> Plan {
        plan(self.len(), |pack| self.get(pack), options)
    }

    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Says nothing of these packs where nothing of them is needed.
    pub(super) fn pass_over_unless_needed(&mut self, packs: HashSet<ObjectHash>) {
        self.passed_over = packs;
    }

    /// The pack of a number; none where it is passed over.
    pub(super) fn get(&self, pack: usize) -> Option<PackUse> {
        let (pack, counts) = (self.packs.get(pack)?, self.counts.get(pack)?);
        if counts.live_chunks == 0 && self.passed_over.contains(&pack.hash) {
            return None;
        }
        Some(PackUse {
            hash: pack.hash,
            class: pack.class,
            bytes: pack.bytes,
            live_bytes: u64::from(counts.live_bytes),
            dead_bytes: u64::from(counts.dead_bytes),
            live_chunks: u64::from(counts.live_chunks),
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = PackUse> + '_ {
        (0..self.len()).filter_map(|pack| self.get(pack))
    }
}

impl<'a> Marks<'a> {
    pub(super) fn new(index: &'a Index) -> Marks<'a> {
        let standings = |table: &Arc<Table>| -> Vec<Standing> {
            let standing = |number| match table.pack(number) {
                Some(pack) if !index.condemned().contains_key(&pack.hash) => Standing::Holds(pack.class),
                _ => Standing::Gone,
            };
            (0..table.pack_count()).map(standing).collect()
        };
        let standings: Vec<Vec<Standing>> = index.tables().iter().map(standings).collect();
        let holds =
            |table: &Vec<Standing>| PackClass::ALL.map(|class| table.contains(&Standing::Holds(class)));
        Marks {
            index,
            concordance: index.intact_concordance(),
            holds: standings.iter().map(holds).collect(),
            standings,
            needed: RecordSet::new(index),
            entered: RecordSet::new(index),
            copied: Mutex::default(),
        }
    }

    pub(super) fn is_marked(&self, table: usize, ordinal: usize) -> bool {
        self.needed.contains((table, ordinal))
    }

    /// How many records are needed.
    #[cfg(feature = "internals")]
    pub(super) fn count(&self) -> u64 {
        self.needed.count()
    }

    /// Of records that may hold chunks, with the numbers of these, those that do, in packs of a class that are not gone. No
    /// step depends on the last one, so that they wait for memory together.
    fn holding(
        &self,
        records: impl Iterator<Item = (u32, Place)>,
        class: PackClass,
        chunks: &[ChunkRef],
    ) -> impl Iterator<Item = (u32, Place)> {
        records.filter(move |(chunk, (number, ordinal))| {
            let (table, chunk) = (&self.index.tables()[*number], &chunks[*chunk as usize]);
            let is_it = |record: &ChunkRecord| record.bytes == chunk.bytes && record.id == chunk.id;
            let frame = table.record(*ordinal).filter(is_it).and_then(|record| table.frame(record.frame));
            let standing = frame.and_then(|frame| self.standings[*number].get(frame.pack as usize));
            standing == Some(&Standing::Holds(class))
        })
    }

    /// Every place of a chunk in packs that are not condemned, and the pack's number in the table.
    fn places(&self, chunk: &ChunkId) -> impl Iterator<Item = (Place, ChunkRecord, u32)> + '_ {
        let chunk = *chunk;
        self.index.tables().iter().enumerate().flat_map(move |(number, table)| {
            table.ordinals(&chunk).filter_map(move |ordinal| {
                let record = table.record(ordinal)?;
                let pack = table.frame(record.frame)?.pack;
                let standing = *self.standings[number].get(pack as usize)?;
                (standing != Standing::Gone).then_some(((number, ordinal), record, pack))
            })
        })
    }

    /// Chooses one copy of every chunk that has several: the one in the pack of which most is needed, and of such packs the
    /// one that was committed last, so that a pack that was rewritten wins over those that it was made of. Gives the copies
    /// that are given up: the pack given up, the chunk, and the copy that stays.
    pub(super) fn choose_copies(
        &self,
        packs: &Arc<ListedPacks>,
    ) -> Vec<(ObjectHash, ChunkId, Option<Location>)> {
        let mut copied = std::mem::take(&mut *lock(&self.copied));
        if copied.is_empty() {
            return Vec::new();
        }
        // In whatever order threads came upon them.
        copied.sort_unstable();
        copied.dedup();
        let uses = self.uses(packs.clone());
        let mut last = vec![0; packs.len()];
        for (number, table) in self.index.tables().iter().enumerate() {
            packs.of_table(table).for_each(|(_, pack)| last[pack] = number);
        }
        let rank = |pack: &ObjectHash| {
            let number = packs.find(pack);
            let needed = number.and_then(|number| uses.get(number)).map_or(0, |pack| needed_share(&pack));
            (needed, number.map_or(0, |number| last[number]), *pack)
        };
        let mut given_up = Vec::new();
        for chunk in copied {
            let places: Vec<(Place, ChunkRecord, ObjectHash)> = self
                .places(&chunk)
                .filter(|(place, ..)| self.needed.contains(*place))
                .filter_map(|(place, record, pack)| {
                    Some((place, record, self.index.tables()[place.0].pack(pack)?.hash))
                })
                .collect();
            let Some(best) = places.iter().map(|(.., pack)| *pack).max_by_key(rank) else { continue };
            // A pack that two segments list keeps both records.
            for (place, ..) in places.iter().filter(|(.., pack)| *pack != best) {
                self.needed.remove(*place);
            }
            let survivor = places.iter().find(|(.., pack)| *pack == best);
            let survivor =
                survivor.and_then(|(place, record, _)| self.index.tables()[place.0].locate(record));
            let others = places.iter().filter(|(.., pack)| *pack != best);
            given_up.extend(others.map(|(.., pack)| (*pack, chunk, survivor.clone())));
        }
        given_up
    }

    /// What is needed of each pack.
    pub(super) fn uses(&self, packs: Arc<ListedPacks>) -> PackUses {
        let mut counts = vec![Counts::default(); packs.len()];
        // The bytes of a pack that several segments list are counted once.
        let mut counted = vec![u32::MAX; packs.len()];
        for (number, table) in self.index.tables().iter().enumerate() {
            let frames = self.frame_uses(number, table);
            let mut numbers = vec![None; table.pack_count() as usize];
            packs.of_table(table).for_each(|(place, pack)| numbers[place as usize] = Some(pack));
            for (place, (raw, chunks)) in frames.into_iter().enumerate() {
                let Some(frame) = table.frame(place as u32) else { continue };
                let Some(pack) = numbers.get(frame.pack as usize).copied().flatten() else { continue };
                let counts = &mut counts[pack];
                counts.live_chunks = counts.live_chunks.saturating_add(chunks);
                if counted[pack] == u32::MAX {
                    counted[pack] = number as u32;
                }
                if counted[pack] == number as u32 {
                    let stored = u64::from(frame.shape.stored_bytes);
                    let total = u64::from(frame.shape.raw_bytes);
                    let share = (stored * u64::from(raw).min(total)).checked_div(total);
                    let live = share.unwrap_or(stored * u64::from(chunks > 0));
                    counts.live_bytes = counts.live_bytes.saturating_add(live as u32);
                    counts.dead_bytes = counts.dead_bytes.saturating_add((stored - live) as u32);
                }
            }
        }
        PackUses { packs, counts, passed_over: HashSet::new() }
    }

    /// For each frame of a table: its needed raw bytes and chunks.
    fn frame_uses(&self, number: usize, table: &Table) -> Vec<(u32, u32)> {
        let mut frames = vec![(0u32, 0u32); table.frames()];
        for ordinal in 0..table.chunks() {
            if self.is_marked(number, ordinal)
                && let Some(record) = table.record(ordinal)
                && let Some(frame) = frames.get_mut(record.frame as usize)
            {
                frame.0 = frame.0.saturating_add(record.bytes);
                frame.1 = frame.1.saturating_add(1);
            }
        }
        frames
    }
}

/// What one thread marks with.
pub(super) struct Marker<'m> {
    marks: &'m Marks<'m>,
    lookups: Lookups,
    /// The numbers of the chunks that are to be looked for next.
    wanted: Vec<u32>,
    /// Records that hold chunks which are wanted, those of a chunk one after the other.
    holding: Vec<(u32, Place)>,
    found: Vec<Found>,
}

/// Where a chunk was found.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    first: Option<Place>,
    places: u32,
    /// Somebody else found it first, and marks its other places.
    is_known: bool,
}

impl<'m> Marker<'m> {
    pub(super) fn new(marks: &'m Marks<'m>) -> Marker<'m> {
        let lookups = Lookups::default();
        Marker { marks, lookups, wanted: Vec::new(), holding: Vec::new(), found: Vec::new() }
    }

    /// Marks every copy of some chunks. Where each lies first is in `found` then: every thread comes upon the places of a
    /// chunk in the same order.
    fn mark(&mut self, class: PackClass, chunks: &[ChunkRef]) -> Result<()> {
        self.found.clear();
        self.found.resize(chunks.len(), Found::default());
        self.wanted.clear();
        self.wanted.extend(0..chunks.len() as u32);
        match self.marks.concordance {
            Some(concordance) => self.mark_by(concordance, class, chunks),
            None => self.mark_in(|_| true, class, chunks),
        }
        for (chunk, found) in chunks.iter().zip(&self.found) {
            if found.first.is_none() {
                return Err(missing_chunk(self.marks.index, &chunk.id));
            }
            if found.places > 1 {
                lock(&self.marks.copied).push(chunk.id);
            }
        }
        Ok(())
    }

    /// Marks the places that a concordance knows, and those in the tables that it does not speak for. What it cannot say, or
    /// does not find, is looked for in its tables too.
    fn mark_by(&mut self, concordance: &Concordance, class: PackClass, chunks: &[ChunkRef]) {
        let id = |chunk: u32| &chunks[chunk as usize].id;
        let (records, unknown) = self.lookups.find_together(concordance, id, &self.wanted);
        let mut unknown = unknown.to_vec();
        self.holding.clear();
        self.holding.extend(self.marks.holding(records.iter().copied(), class, chunks));
        self.insert();
        self.mark_in(|number| !concordance.covers(number), class, chunks);
        unknown.retain(|chunk| self.found[*chunk as usize].first.is_some());
        unknown.extend(self.wanted.iter().filter(|chunk| self.found[**chunk as usize].first.is_none()));
        self.wanted = unknown;
        self.mark_in(|number| concordance.covers(number), class, chunks);
    }

    /// Marks the places of what is wanted in some tables.
    fn mark_in(&mut self, is_asked: impl Fn(usize) -> bool, class: PackClass, chunks: &[ChunkRef]) {
        let id = |chunk: u32| &chunks[chunk as usize].id;
        let tables = self.marks.index.tables().iter().enumerate();
        for (number, table) in tables.filter(|(number, _)| is_asked(*number)) {
            if self.wanted.is_empty() {
                return;
            }
            if self.marks.holds[number][class as usize] {
                let listed = self.lookups.find(table, id, &self.wanted).iter();
                let records = listed.flat_map(|(chunk, ordinals)| {
                    ordinals.clone().map(move |ordinal| (*chunk, (number, ordinal)))
                });
                self.holding.clear();
                self.holding.extend(self.marks.holding(records, class, chunks));
                self.insert();
            }
        }
    }

    /// Marks the records that hold what is wanted. Chunks that others found first are not wanted any more.
    fn insert(&mut self) {
        for (chunk, place) in &self.holding {
            let found = &mut self.found[*chunk as usize];
            if found.is_known {
                continue;
            }
            let is_new = self.marks.needed.insert(*place);
            if found.first.is_none() {
                found.first = Some(*place);
                found.is_known = !is_new;
            }
            found.places += 1;
        }
        self.wanted.retain(|chunk| !self.found[*chunk as usize].is_known);
    }
}

impl KeepChunks for Marker<'_> {
    fn keep(&mut self, class: PackClass, chunks: &[ChunkRef]) -> Result<()> {
        chunks.chunks(BATCH_CHUNKS).try_for_each(|some| self.mark(class, some))
    }

    fn enter(&mut self, runs: &[ChunkRef], new: &mut Vec<ChunkRef>) -> Result<()> {
        for some in runs.chunks(BATCH_CHUNKS) {
            self.mark(PackClass::Tree, some)?;
            let is_new = |found: &Found| found.first.is_some_and(|place| self.marks.entered.insert(place));
            new.extend(some.iter().zip(&self.found).filter(|(_, found)| is_new(found)).map(|(run, _)| *run));
        }
        Ok(())
    }
}

/// How much of a pack is needed, in millionths.
fn needed_share(pack: &PackUse) -> u64 {
    pack.live_bytes.saturating_mul(1_000_000) / (pack.live_bytes + pack.dead_bytes).max(1)
}

/// Refuses to go on with tables that are not what was written.
pub(super) fn check_tables(index: &Index) -> Result<()> {
    if index.is_intact() {
        return Ok(());
    }
    Err(Error::corrupt("the index is damaged: nothing may be deleted by it")
        .with_remedy("delete the cache directory and run 'dr check'"))
}
