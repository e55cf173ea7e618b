//! Folds the log's entries into the state they stand for. Pure: no I/O, no clock; the same entries always give the same
//! state. The rules that a new entry must obey are here too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::error::Result;
use crate::format::log::{Commit, Condemn, Event, HashList, LogEntry, Reindex, SnapshotRecord};
use crate::id::{ObjectHash, SnapshotId};

/// Gives the hashes in a list object.
pub(crate) type ReadList<'a> = dyn FnMut(&ObjectHash) -> Result<Vec<ObjectHash>> + 'a;

/// Where a live index segment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SegmentPlace {
    /// An object of its own.
    Object(ObjectHash),
    /// The sealed bytes, inside a commit.
    Inline(ObjectHash, Arc<[u8]>),
}

impl SegmentPlace {
    pub(crate) fn hash(&self) -> &ObjectHash {
        match self {
            SegmentPlace::Object(hash) | SegmentPlace::Inline(hash, _) => hash,
        }
    }
}

/// A snapshot that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotState {
    pub(crate) record: SnapshotRecord,
    /// The slot that committed it.
    pub(crate) slot: u64,
    /// The store's time of the slot before, in milliseconds since 1970: what retention goes by.
    pub(crate) store_ms: i64,
    /// The slot that forgot it last, if it is forgotten.
    pub(crate) forgotten: Option<u64>,
    /// Its packs may be gone: it cannot come back.
    pub(crate) collected: bool,
}

/// Why an entry must not be appended to, or has no effect on, a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// V1: one of the commit's own packs or segments is condemned.
    OwnCondemned(Vec<ObjectHash>),
    /// V2: a pack that the commit found chunks in is condemned.
    DedupCondemned(Vec<ObjectHash>),
    /// V3: a snapshot whose subtrees were reused is collected or unknown.
    ReusedCollected(Vec<SnapshotId>),
    /// An input of a compaction is not live.
    InputNotLive(Vec<ObjectHash>),
    /// The log is damaged, or written by a newer program: it can be read but not appended to.
    ReadOnly(&'static str),
}

/// The state that a log stands for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fold {
    /// The number of slots folded: the next entry goes here.
    pub(crate) next: u64,
    snapshots: HashMap<SnapshotId, SnapshotState>,
    by_slot: BTreeMap<u64, SnapshotId>,
    segments: Vec<SegmentPlace>,
    seen_segments: HashSet<ObjectHash>,
    condemned: Arc<HashSet<ObjectHash>>,
    seen_attempts: HashMap<([u8; 16], [u8; 16]), u64>,
    /// The hash of `config` and of the ring that slot 0 names, and of the ring in force.
    pub(crate) genesis: Option<(ObjectHash, ObjectHash)>,
    pub(crate) ring: Option<(u64, ObjectHash)>,
    pub(crate) checkpoints: Vec<ObjectHash>,
    lists: Vec<ObjectHash>,
    /// Entries that a newer program wrote and that must be understood to write or collect.
    newer: bool,
}

impl Fold {
    /// Applies the entry of the next slot.
    pub(crate) fn apply(&mut self, entry: &LogEntry, lists: &mut ReadList<'_>) -> Result<()> {
        let attempt = (entry.writer, entry.nonce);
        let condemned = match &entry.event {
            // Read before anything changes, so that a list that cannot be read now can be read later.
            Event::Condemn(condemn) => condemned_names(condemn, lists)?,
            _ => Vec::new(),
        };
        self.next = entry.slot.saturating_add(1);
        self.newer |= entry.read_only;
        if *self.seen_attempts.entry(attempt).or_insert(entry.slot) != entry.slot {
            // A put that the network repeated: the first one counted.
            return Ok(());
        }
        match &entry.event {
            Event::Genesis(genesis) if entry.slot == 0 => {
                self.genesis = Some((genesis.config, genesis.ring));
                self.ring = Some((0, genesis.ring));
            }
            Event::Genesis(_) | Event::Unknown { .. } => {}
            Event::Commit(commit) => self.apply_commit(entry, commit),
            Event::Forget(forget) => {
                for snapshot in &forget.snapshots {
                    if let Some(state) = self.snapshots.get_mut(snapshot) {
                        state.forgotten.get_or_insert(entry.slot);
                    }
                }
            }
            Event::Unforget(unforget) => {
                for snapshot in &unforget.snapshots {
                    if let Some(state) = self.snapshots.get_mut(snapshot).filter(|state| !state.collected) {
                        state.forgotten = None;
                    }
                }
            }
            Event::Condemn(condemn) => self.apply_condemn(condemn, condemned),
            Event::Reindex(reindex) => self.apply_reindex(reindex),
            Event::Checkpoint(checkpoint) => self.checkpoints.push(checkpoint.object),
            Event::Keys(keys) => {
                if self.ring.is_none_or(|(generation, _)| keys.generation > generation) {
                    self.ring = Some((keys.generation, keys.ring));
                }
            }
        }
        Ok(())
    }

    fn apply_commit(&mut self, entry: &LogEntry, commit: &Commit) {
        self.note_lists([&commit.own_packs, &commit.dedup_packs]);
        for hash in &commit.segments {
            self.add_segment(SegmentPlace::Object(*hash));
        }
        for bytes in &commit.inline_segments {
            let hash = ObjectHash::of_parts([bytes.as_slice()]);
            self.add_segment(SegmentPlace::Inline(hash, bytes.as_slice().into()));
        }
        let Some(record) = &commit.snapshot else { return };
        if self.snapshots.contains_key(&record.id) {
            return;
        }
        let state = SnapshotState {
            record: record.clone(),
            slot: entry.slot,
            store_ms: entry.previous_ms,
            forgotten: None,
            collected: false,
        };
        self.by_slot.insert(entry.slot, record.id);
        self.snapshots.insert(record.id, state);
    }

    fn add_segment(&mut self, place: SegmentPlace) {
        if self.seen_segments.insert(*place.hash()) && !self.condemned.contains(place.hash()) {
            self.segments.push(place);
        }
    }

    fn apply_condemn(&mut self, condemn: &Condemn, names: Vec<ObjectHash>) {
        self.note_lists([&condemn.packs, &condemn.segments]);
        Arc::make_mut(&mut self.condemned).extend(names);
        let condemned = self.condemned.clone();
        self.segments.retain(|segment| !condemned.contains(segment.hash()));
        for snapshot in &condemn.snapshots {
            if let Some(state) = self.snapshots.get_mut(snapshot) {
                state.collected = true;
            }
        }
    }

    /// A compaction counts only where every input is live; else it changes nothing.
    fn apply_reindex(&mut self, reindex: &Reindex) {
        self.note_lists([&reindex.own_packs]);
        if self.check_reindex(reindex).is_err() {
            return;
        }
        let place = self
            .segments
            .iter()
            .position(|segment| reindex.inputs.contains(segment.hash()))
            .unwrap_or(self.segments.len());
        let outputs = reindex.outputs.iter().filter(|hash| self.seen_segments.insert(**hash));
        let outputs: Vec<_> = outputs.map(|hash| SegmentPlace::Object(*hash)).collect();
        // The outputs stand where their first input stood, so that the earliest commit is still tried first.
        self.segments.splice(place..place, outputs);
        self.segments.retain(|segment| !reindex.inputs.contains(segment.hash()));
    }

    fn note_lists<'a>(&mut self, lists: impl IntoIterator<Item = &'a HashList>) {
        for list in lists {
            if let HashList::List(object) = list {
                self.lists.push(*object);
            }
        }
    }

    /// Whether any slot could be read.
    pub(crate) fn has_entries(&self) -> bool {
        !self.seen_attempts.is_empty()
    }

    /// Whether a writer's attempt got into the log.
    pub(crate) fn has_attempt(&self, writer: [u8; 16], nonce: [u8; 16]) -> bool {
        self.seen_attempts.contains_key(&(writer, nonce))
    }

    /// Whether anything may be appended at all.
    pub(crate) fn check_writable(&self) -> std::result::Result<(), Refusal> {
        if self.newer {
            Err(Refusal::ReadOnly("a newer program has written to the repository"))
        } else {
            Ok(())
        }
    }

    /// V1, V2 and V3: whether a commit is valid as the next entry. The lists are given resolved.
    pub(crate) fn check_commit(
        &self,
        own: &[ObjectHash],
        dedup: &[ObjectHash],
        reused: &[SnapshotId],
    ) -> std::result::Result<(), Refusal> {
        let condemned = |hashes: &[ObjectHash]| -> Vec<ObjectHash> {
            hashes.iter().filter(|hash| self.condemned.contains(*hash)).copied().collect()
        };
        let refused = condemned(own);
        if !refused.is_empty() {
            return Err(Refusal::OwnCondemned(refused));
        }
        let refused = condemned(dedup);
        if !refused.is_empty() {
            return Err(Refusal::DedupCondemned(refused));
        }
        let refused: Vec<SnapshotId> = reused.iter().filter(|id| self.is_collected(id)).copied().collect();
        if refused.is_empty() { Ok(()) } else { Err(Refusal::ReusedCollected(refused)) }
    }

    /// Whether a compaction is valid as the next entry.
    pub(crate) fn check_reindex(&self, reindex: &Reindex) -> std::result::Result<(), Refusal> {
        let live: HashSet<&ObjectHash> = self.segments.iter().map(SegmentPlace::hash).collect();
        let missing: Vec<ObjectHash> =
            reindex.inputs.iter().filter(|hash| !live.contains(hash)).copied().collect();
        if missing.is_empty() { Ok(()) } else { Err(Refusal::InputNotLive(missing)) }
    }

    /// Whether a snapshot's packs may be gone: it was collected, or never was.
    pub(crate) fn is_collected(&self, id: &SnapshotId) -> bool {
        self.snapshots.get(id).is_none_or(|state| state.collected)
    }

    /// The snapshots that are neither forgotten nor collected, in the order they were committed.
    pub(crate) fn live_snapshots(&self) -> impl Iterator<Item = &SnapshotState> {
        self.uncollected_snapshots().filter(|state| state.forgotten.is_none())
    }

    /// The snapshots whose chunks must stay: all that are not collected, forgotten ones too.
    pub(crate) fn uncollected_snapshots(&self) -> impl Iterator<Item = &SnapshotState> {
        self.by_slot.values().filter_map(|id| self.snapshots.get(id)).filter(|state| !state.collected)
    }

    /// The live index segments, earliest commit first.
    pub(crate) fn segments(&self) -> &[SegmentPlace] {
        &self.segments
    }

    /// Packs and segments that may be deleted.
    pub(crate) fn condemned(&self) -> &Arc<HashSet<ObjectHash>> {
        &self.condemned
    }

    /// The list objects that entries name.
    pub(crate) fn lists(&self) -> &[ObjectHash] {
        &self.lists
    }
}

fn condemned_names(condemn: &Condemn, lists: &mut ReadList<'_>) -> Result<Vec<ObjectHash>> {
    let mut names = Vec::new();
    for list in [&condemn.packs, &condemn.segments] {
        match list {
            HashList::Inline(hashes) => names.extend(hashes),
            HashList::List(object) => names.extend(lists(object)?),
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
