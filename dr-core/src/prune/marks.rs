//! Which chunks must stay: one bit for each record of the index, whatever the size of the repository.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::envelope::PackClass;
use crate::format::segment::ChunkRecord;
use crate::format::tree::decode_known_entries;
use crate::id::{ChunkId, ObjectHash};
use crate::index::{Index, Table};
use crate::observer::Context;
use crate::repository::{ChunkReader, missing_chunk};
use crate::snapshot::Snapshot;
use crate::tree::{ChunkRef, EntryKind, NotingReader, ReadChunk, SparseMap, Stream, stream_chunks};

/// The records of an index that are needed.
pub(super) struct Marks<'a> {
    reader: &'a ChunkReader<'a>,
    /// For each table, which of its packs are condemned.
    condemned: Vec<Vec<bool>>,
    bits: Vec<Vec<u64>>,
    /// Needed chunks that lie in more than one pack.
    pub(super) copied: Vec<ChunkId>,
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

impl<'a> Marks<'a> {
    pub(super) fn new(reader: &'a ChunkReader<'a>) -> Marks<'a> {
        let index = &reader.index;
        let is_condemned = |table: &Arc<Table>| -> Vec<bool> {
            table.packs().iter().map(|pack| index.condemned().contains_key(&pack.hash)).collect()
        };
        Marks {
            reader,
            condemned: index.tables().iter().map(is_condemned).collect(),
            bits: index.tables().iter().map(|table| vec![0; table.chunks().div_ceil(64)]).collect(),
            copied: Vec::new(),
        }
    }

    fn index(&self) -> &'a Index {
        &self.reader.index
    }

    fn tables(&self) -> &'a [Arc<Table>] {
        self.reader.index.tables()
    }

    pub(super) fn is_marked(&self, table: usize, ordinal: usize) -> bool {
        self.bits[table][ordinal / 64] >> (ordinal % 64) & 1 == 1
    }

    fn set(&mut self, table: usize, ordinal: usize, needed: bool) {
        let mask = 1 << (ordinal % 64);
        let word = &mut self.bits[table][ordinal / 64];
        if needed { *word |= mask } else { *word &= !mask }
    }

    /// Every place of a chunk: the table, the number of the record, the pack's number in the table.
    fn places(&self, chunk: &ChunkId) -> impl Iterator<Item = (usize, usize, ChunkRecord, u32)> + '_ {
        let chunk = *chunk;
        self.tables().iter().enumerate().flat_map(move |(number, table)| {
            table.ordinals(&chunk).filter_map(move |ordinal| {
                let record = table.record(ordinal)?;
                let pack = table.frame(record.frame)?.pack;
                let gone = *self.condemned[number].get(pack as usize)?;
                (!gone).then_some((number, ordinal, record, pack))
            })
        })
    }

    /// Marks every copy of a chunk. Says whether it was not marked before.
    fn mark(&mut self, class: PackClass, chunk: &ChunkRef) -> Result<bool> {
        let mut places = 0;
        for (number, table) in self.tables().iter().enumerate() {
            for ordinal in table.ordinals(&chunk.id) {
                let Some(record) = table.record(ordinal).filter(|record| record.bytes == chunk.bytes) else {
                    continue;
                };
                let Some(pack) = table.frame(record.frame).map(|frame| frame.pack as usize) else { continue };
                let is_right = table.packs().get(pack).is_some_and(|pack| pack.class == class);
                if !is_right || self.condemned[number][pack] {
                    continue;
                }
                if places == 0 && self.is_marked(number, ordinal) {
                    return Ok(false);
                }
                places += 1;
                self.set(number, ordinal, true);
            }
        }
        match places {
            0 => return Err(missing_chunk(self.index(), &chunk.id)),
            1 => {}
            _ => self.copied.push(chunk.id),
        }
        Ok(true)
    }

    /// Marks everything that a snapshot needs.
    pub(super) fn mark_snapshot(&mut self, snapshot: &Snapshot, ctx: Context<'_>) -> Result<()> {
        self.mark_stream(PackClass::Tree, &snapshot.problem_list)?;
        let mut stack = vec![snapshot.root.clone()];
        while let Some(stream) = stack.pop() {
            ctx.cancel.check()?;
            for chunk in self.mark_stream(PackClass::Tree, &stream)? {
                for entry in decode_known_entries(&self.reader.read_tree(&chunk)?)? {
                    match entry.kind {
                        EntryKind::Directory(stream) => stack.push(stream),
                        EntryKind::File(content) => {
                            self.mark_stream(PackClass::Data, &content.stream)?;
                            if let Some(SparseMap::Stream(extents)) = &content.sparse {
                                self.mark_stream(PackClass::Tree, extents)?;
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Marks the chunks of a stream and of the lists above it. Gives those of the tree class that were not marked before.
    pub(super) fn mark_stream(&mut self, class: PackClass, stream: &Stream) -> Result<Vec<ChunkRef>> {
        let mut new = Vec::new();
        let lists = NotingReader::new(self.reader);
        let mut chunks = stream_chunks(stream, &lists);
        loop {
            let chunk = chunks.next().transpose()?;
            for list in lists.take() {
                self.mark(PackClass::Tree, &list)?;
            }
            let Some(chunk) = chunk else { break };
            if self.mark(class, &chunk)? && class == PackClass::Tree {
                new.push(chunk);
            }
        }
        Ok(new)
    }

    /// Chooses one copy of every chunk that has several: the one in the pack of which most is needed, and of such packs the
    /// one that was committed last, so that a pack that was rewritten wins over those that it was made of. Gives the copies
    /// that are given up, as the pack given up and the chunk.
    pub(super) fn choose_copies(&mut self) -> Vec<(ObjectHash, ChunkId)> {
        if self.copied.is_empty() {
            return Vec::new();
        }
        let mut ranks: HashMap<ObjectHash, (u64, usize)> =
            self.uses().into_iter().map(|pack| (pack.hash, (needed_share(&pack), 0))).collect();
        for (number, table) in self.tables().iter().enumerate() {
            for pack in table.packs() {
                if let Some((_, last)) = ranks.get_mut(&pack.hash) {
                    *last = number;
                }
            }
        }
        let mut given_up = Vec::new();
        for chunk in std::mem::take(&mut self.copied) {
            let tables = self.tables();
            let places: Vec<(usize, usize, ObjectHash)> = self
                .places(&chunk)
                .filter(|(table, ordinal, ..)| self.is_marked(*table, *ordinal))
                .map(|(table, ordinal, _, pack)| (table, ordinal, tables[table].packs()[pack as usize].hash))
                .collect();
            let rank = |(_, _, pack): &(usize, usize, ObjectHash)| {
                (ranks.get(pack).copied().unwrap_or_default(), *pack)
            };
            let Some(best) = places.iter().copied().max_by_key(rank) else { continue };
            // A pack that two segments list keeps both records.
            for place in places.iter().filter(|place| place.2 != best.2) {
                self.set(place.0, place.1, false);
                given_up.push((place.2, chunk));
            }
        }
        given_up
    }

    /// The needed copy of a chunk.
    pub(super) fn survivor(&self, chunk: &ChunkId) -> Option<crate::index::Location> {
        self.places(chunk)
            .find(|(table, ordinal, ..)| self.is_marked(*table, *ordinal))
            .and_then(|(table, _, record, _)| self.tables()[table].locate(&record))
    }

    /// What is needed of each pack that is not condemned, in order of their names.
    pub(super) fn uses(&self) -> Vec<PackUse> {
        let mut packs: HashMap<ObjectHash, PackUse> = HashMap::new();
        // The bytes of a pack that several segments list are counted once.
        let mut counted: HashMap<ObjectHash, usize> = HashMap::new();
        for (number, table) in self.tables().iter().enumerate() {
            // For each frame: its needed raw bytes and chunks.
            let mut frames = vec![(0u64, 0u64); table.frames()];
            for ordinal in 0..table.chunks() {
                if self.is_marked(number, ordinal)
                    && let Some(record) = table.record(ordinal)
                    && let Some(frame) = frames.get_mut(record.frame as usize)
                {
                    frame.0 += u64::from(record.bytes);
                    frame.1 += 1;
                }
            }
            for (place, (raw, chunks)) in frames.into_iter().enumerate() {
                let Some(frame) = table.frame(place as u32) else { continue };
                let Some(pack) = table.packs().get(frame.pack as usize) else { continue };
                let is_elsewhere = *counted.entry(pack.hash).or_insert(number) != number;
                if self.condemned[number][frame.pack as usize] {
                    continue;
                }
                let stored = u64::from(frame.shape.stored_bytes);
                let total = u64::from(frame.shape.raw_bytes);
                let share = (stored * raw.min(total)).checked_div(total);
                let live = share.unwrap_or(stored * u64::from(chunks > 0));
                let pack = packs.entry(pack.hash).or_insert_with(|| PackUse {
                    hash: pack.hash,
                    class: pack.class,
                    bytes: pack.bytes,
                    live_bytes: 0,
                    dead_bytes: 0,
                    live_chunks: 0,
                });
                pack.live_chunks += chunks;
                if !is_elsewhere {
                    pack.live_bytes += live;
                    pack.dead_bytes += stored - live;
                }
            }
            // A pack without frames is listed too.
            for (pack, gone) in table.packs().iter().zip(&self.condemned[number]) {
                if !gone {
                    packs.entry(pack.hash).or_insert_with(|| PackUse {
                        hash: pack.hash,
                        class: pack.class,
                        bytes: pack.bytes,
                        live_bytes: 0,
                        dead_bytes: 0,
                        live_chunks: 0,
                    });
                }
            }
        }
        let mut uses: Vec<PackUse> = packs.into_values().collect();
        uses.sort_unstable_by_key(|pack| pack.hash);
        uses
    }
}

/// How much of a pack is needed, in millionths.
fn needed_share(pack: &PackUse) -> u64 {
    pack.live_bytes.saturating_mul(1_000_000) / (pack.live_bytes + pack.dead_bytes).max(1)
}

/// Marks what all snapshots need, and says how many records that are.
#[cfg(feature = "internals")]
pub(crate) fn mark_all(repository: &crate::repository::Inner, ctx: Context<'_>) -> Result<u64> {
    let (log, index) = repository.current_whole()?;
    let reader = ChunkReader::new(repository, &log, index.clone());
    let mut marks = Marks::new(&reader);
    let mut bodies = Some(ChunkReader::new(repository, &log, index));
    for state in log.fold.uncollected_snapshots() {
        marks.mark_snapshot(&repository.read_snapshot(&log, state, &mut bodies)?, ctx)?;
    }
    Ok(marks.bits.iter().flatten().map(|word| u64::from(word.count_ones())).sum())
}

/// Refuses to go on with tables that are not what was written.
pub(super) fn check_tables(index: &Index) -> Result<()> {
    if index.is_whole() && index.is_loaded() && index.tables().iter().all(|table| table.is_intact()) {
        return Ok(());
    }
    Err(Error::corrupt("the index is damaged: nothing may be deleted by it")
        .with_remedy("delete the cache directory and run 'dr check'"))
}
