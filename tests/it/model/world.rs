//! The state of the model: the log, the store, and what every process is about to do.

use dr_core::internals::protocol::Refusal;

use super::log::{Entry, Log, Set, Slot, View, numbers, one};
use super::{Config, Seeds, TRIES, WRITERS};

/// Chunks, each a bit.
pub(super) type Chunks = u8;

/// Packs: two seeds, two of each writer, one of each collector. Segments: the same, and one compacted of each collector.
const NAMES: usize = 12;
/// The snapshots that are there from the start, each with a pack.
pub(super) const SEEDS: usize = 2;

/// What a collector is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// Condemn what no snapshot needs, then delete it.
    Prune,
    /// The same, but only what the index lists: what no entry names may still be written by somebody.
    PruneListed,
    /// As the first, and forget the oldest snapshot first.
    Expire,
    /// Collect what is forgotten, on whatever state of the log.
    Collect,
    /// Condemn what no snapshot needs that is not collected, then delete it.
    Delete,
    /// Copy what is needed out of a pack that is only partly needed.
    Repack,
    /// Replace all segments by one.
    Compact,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Idle,
    /// The collector's own Forget comes next.
    Forgetting,
    PutPack,
    PutSegment,
    /// Reads to the end, validates and sends.
    Ready,
    /// Its entry is under way.
    Sent,
    Refused(Refusal),
    Deleting,
    Done,
    /// Its log is damaged.
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) phase: Phase,
    /// Which attempt of a writer this is, or which of a collector's operations.
    pub(super) round: u8,
    /// How much of the log it read, where damage is modelled.
    pub(super) synced: u8,
    /// What it is to append.
    pub(super) entry: Option<Entry>,
    /// The chunks of the pack that it is to write first.
    pub(super) chunks: Chunks,
    /// The snapshot that it is to forget first.
    pub(super) forget: Option<u8>,
}

impl Process {
    fn new(phase: Phase) -> Process {
        Process { phase, round: 0, synced: 0, entry: None, chunks: 0, forget: None }
    }

    /// Goes to a phase in which no plan is left.
    pub(super) fn rest(&mut self, phase: Phase) {
        *self = Process { round: self.round, synced: self.synced, ..Process::new(phase) };
    }
}

/// Reads all chunks of one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reader {
    Idle,
    Reading { snapshot: u8, synced: u8, known: Set, left: Chunks },
    Done,
    Failed,
}

/// How often each thing may still happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    pub(super) forgets: u8,
    pub(super) unforgets: u8,
    pub(super) protects: u8,
    pub(super) crashes: u8,
    /// Answers of the store that do not come.
    pub(super) unclear: u8,
    /// Slots that are written bad.
    pub(super) bad: u8,
    /// Slots that are damaged later.
    pub(super) damages: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) log: Log,
    /// Entries under way to the slot that comes next.
    pub(super) puts: Vec<Slot>,
    pub(super) packs: Set,
    pub(super) segments: Set,
    pub(super) pack_chunks: [Chunks; NAMES],
    pub(super) segment_packs: [u16; NAMES],
    /// The writers, then the collectors.
    pub(super) processes: [Process; 5],
    pub(super) reader: Reader,
    pub(super) budget: Budget,
    pub(super) damaged: u32,
    /// Snapshots whose writers were told that they are safe.
    pub(super) acked: Set,
    /// Snapshots of these that are gone, though nobody forgot them.
    pub(super) lost: Set,
}

impl World {
    pub(super) fn new(config: &Config) -> World {
        let commit = |number: u8, dedup: Set| Entry::Commit {
            snapshot: Some(number),
            segment: one(number),
            own: one(number),
            dedup,
            reused: 0,
        };
        let Seeds { contents, packs } = config.seeds;
        let mut pack_chunks = [0; NAMES];
        pack_chunks[..SEEDS].copy_from_slice(&packs);
        let mut segment_packs = [0; NAMES];
        segment_packs[..SEEDS].copy_from_slice(&[0b01, 0b10]);
        let found = if contents[1] & !packs[1] == 0 { 0 } else { 0b01 };
        let is_there = |process: usize| match process.checked_sub(WRITERS) {
            None => process < config.writers.len(),
            Some(collector) => collector < config.collectors.len(),
        };
        let process = |number| Process::new(if is_there(number) { Phase::Idle } else { Phase::Done });
        World {
            log: Log::new(&[Entry::Genesis, commit(0, 0), commit(1, found)]),
            puts: Vec::new(),
            packs: 0b11,
            segments: 0b11,
            pack_chunks,
            segment_packs,
            processes: std::array::from_fn(process),
            reader: if config.reader { Reader::Idle } else { Reader::Done },
            budget: config.budget,
            damaged: 0,
            acked: 0b11,
            lost: 0,
        }
    }

    pub(super) fn view(&self) -> &View {
        &self.log.view
    }

    pub(super) fn packs_of(&self, segments: Set) -> Set {
        numbers(segments)
            .fold(0, |packs, segment| packs | Set::from(self.segment_packs[usize::from(segment)]))
    }

    /// The packs that a view finds chunks in.
    pub(super) fn usable(&self, view: &View) -> Set {
        self.packs_of(view.live()) & !view.condemned_packs
    }

    pub(super) fn chunks_of(&self, pack: u8) -> Chunks {
        self.pack_chunks[usize::from(pack)]
    }

    /// Those of some packs that hold a chunk.
    pub(super) fn holders(&self, packs: Set, chunk: Chunks) -> Set {
        numbers(packs).filter(|pack| self.chunks_of(*pack) & chunk != 0).fold(0, |set, pack| set | one(pack))
    }

    /// The pack in which a view finds a chunk: one of the earliest segment.
    pub(super) fn lookup(&self, view: &View, chunk: Chunks) -> Option<u8> {
        view.segments.iter().find_map(|segment| {
            let packs = self.packs_of(one(*segment)) & !view.condemned_packs;
            numbers(self.holders(packs, chunk)).next()
        })
    }

    /// Every chunk of every uncollected snapshot is found, and lies where it is found.
    pub(super) fn is_whole(&self, config: &Config) -> bool {
        let view = self.view();
        let there = self.packs_of(view.live() & self.segments) & !view.condemned_packs & self.packs;
        each_chunk(needed(config, view.uncollected)).all(|chunk| self.holders(there, chunk) != 0)
    }

    /// No pack is listed by two live segments.
    pub(super) fn is_listed_once(&self) -> bool {
        let packs = |segment: &u8| self.segment_packs[usize::from(*segment)].count_ones();
        let listed: u32 = self.view().segments.iter().map(packs).sum();
        listed == self.packs_of(self.view().live()).count_ones()
    }

    pub(super) fn is_any_refused(&self, refusal: Refusal) -> bool {
        self.processes.iter().any(|process| process.phase == Phase::Refused(refusal))
    }

    /// Somebody asked for a snapshot back that was collected.
    pub(super) fn came_too_late(&self) -> bool {
        let is_collected_at = |slot: usize, snapshot: u8| {
            self.log.slots[..slot].iter().any(
                |slot| matches!(slot.entry, Entry::Condemn { snapshots, .. } if snapshots & one(snapshot) != 0),
            )
        };
        self.log.slots.iter().enumerate().any(
            |(at, slot)| matches!(slot.entry, Entry::Unforget(snapshot) if is_collected_at(at, snapshot)),
        )
    }
}

/// The chunks of a snapshot: a backup's are those of its source, whatever its attempt.
pub(super) fn content(config: &Config, snapshot: u8) -> Chunks {
    match usize::from(snapshot).checked_sub(SEEDS) {
        None => config.seeds.contents[usize::from(snapshot)],
        Some(number) => config.writers[number / usize::from(TRIES)].content,
    }
}

pub(super) fn needed(config: &Config, snapshots: Set) -> Chunks {
    numbers(snapshots).fold(0, |chunks, snapshot| chunks | content(config, snapshot))
}

pub(super) fn each_chunk(chunks: Chunks) -> impl Iterator<Item = Chunks> {
    (0..8).map(|bit| 1 << bit).filter(move |chunk| chunks & chunk != 0)
}
