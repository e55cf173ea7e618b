//! Folds the log's entries into the state they stand for. Pure: no I/O, no clock; the same entries always give the same
//! state. The rules that a new entry must obey are here too.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::error::Result;
use crate::format::checkpoint::SnapshotState;
use crate::format::log::{Commit, Condemn, Event, HashList, LogEntry, Reindex, Tag};
use crate::id::{ObjectHash, SnapshotId};
use crate::index::Condemned;

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

/// Who wrote an entry, and the number of the attempt.
type Attempt = ([u8; 16], [u8; 16]);

/// An entry that stands twice in the log counts once where the two are no further apart than this. A repeated put can
/// only reach a slot that was free when its writer made it.
pub(super) const ATTEMPTS_KEPT: u64 = 4096;
/// Collections this many slots back are remembered.
const COLLECTIONS_KEPT: u64 = 65_536;
/// So many of the newest commits without a snapshot are remembered.
const PENDING_MAX: usize = 1024;

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
    /// An output of a compaction is condemned, or counted before: what its inputs list would be lost.
    OutputNotNew(Vec<ObjectHash>),
    /// What may be deleted was worked out on a state that is no longer the newest.
    PlanOutdated,
    /// A snapshot that is to be collected is not forgotten.
    NotForgotten(Vec<SnapshotId>),
    /// A segment that is to be deleted is live, though not all of its packs are condemned with it.
    SegmentLive(Vec<ObjectHash>),
    /// The log is damaged, or written by a newer program: it can be read but not appended to.
    ReadOnly(&'static str),
}

/// The state that a log stands for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fold {
    /// The number of slots folded: the next entry goes here.
    pub(crate) next: u64,
    /// One more than the newest slot that may change which chunks must stay, or where they lie: a plan of what to delete
    /// that was made at an earlier value is worthless.
    pub(crate) changed: u64,
    /// The snapshots that are not collected.
    pub(super) snapshots: HashMap<SnapshotId, SnapshotState>,
    pub(super) by_slot: BTreeSet<(u64, SnapshotId)>,
    /// For each snapshot that was collected of late: the slot that did it, and the one that had forgotten it.
    pub(crate) collected: Vec<(u64, u64)>,
    /// The packs of the newest commits without a snapshot: those of runs that go on, or were cut short.
    pub(crate) pending: BTreeMap<u64, HashList>,
    /// How long forgotten snapshots must stay: the slots that changed it, and to how many seconds. None at first.
    pub(super) holds: Vec<(u64, u64)>,
    pub(super) segments: Vec<SegmentPlace>,
    /// The hashes of `segments`.
    pub(super) live: HashSet<ObjectHash>,
    /// Segments that were replaced and are not condemned yet.
    pub(super) superseded: HashSet<ObjectHash>,
    pub(super) condemned: Arc<Condemned>,
    /// The newest slot with which chunks were lost that snapshots need.
    pub(crate) lossy: Option<u64>,
    pub(super) attempts: HashMap<Attempt, u64>,
    pub(super) attempts_by_slot: BTreeMap<u64, Attempt>,
    /// The hash of `config` and of the ring that slot 0 names, and of the ring in force.
    pub(crate) genesis: Option<(ObjectHash, ObjectHash)>,
    pub(crate) ring: Option<(u64, ObjectHash)>,
    /// The checkpoints that were written: through which slot, and the object.
    pub(crate) checkpoints: Vec<(u64, ObjectHash)>,
    pub(super) lists: Vec<ObjectHash>,
    /// Entries that a newer program wrote and that must be understood to write or collect.
    pub(super) newer: bool,
    /// Commits are validated here too, as their writers could not do it on the state that they follow: see `siblings`.
    pub(super) validates_commits: bool,
    /// Commits that broke a rule and are void: slot and nonce, and the snapshot.
    pub(crate) broken: Vec<(u64, [u8; 16], Option<SnapshotId>)>,
}

impl Fold {
    /// Applies the entry of the next slot.
    pub(crate) fn apply(&mut self, entry: &LogEntry, lists: &mut ReadList<'_>) -> Result<()> {
        // Read before anything changes, so that a list that cannot be read now can be read later.
        let names = match &entry.event {
            Event::Condemn(condemn) => resolve([&condemn.packs, &condemn.segments], lists)?,
            Event::Reindex(reindex) => resolve([&reindex.own_packs], lists)?,
            Event::Commit(commit) if self.validates_commits => resolve([&commit.own_packs], lists)?,
            _ => Vec::new(),
        };
        let dedup = match &entry.event {
            Event::Commit(commit) if self.validates_commits => resolve([&commit.dedup_packs], lists)?,
            _ => Vec::new(),
        };
        if let Some(before) = entry.slot.checked_sub(1) {
            let first = (before, SnapshotId::from_bytes([0; 32]));
            for (_, id) in self.by_slot.range(first..).take_while(|(slot, _)| *slot == before) {
                if let Some(state) = self.snapshots.get_mut(id) {
                    state.next_ms = Some(entry.previous_ms);
                }
            }
        }
        self.next = entry.slot.saturating_add(1);
        self.newer |= entry.read_only;
        if !self.note_attempt((entry.writer, entry.nonce), entry.slot) {
            // A put that the network repeated: the first one counted.
            return Ok(());
        }
        if matches!(
            &entry.event,
            Event::Commit(_) | Event::Condemn(_) | Event::Reindex(_) | Event::Unforget(_)
        ) {
            // Several entries of one slot are several changes.
            self.changed = self.next.max(self.changed + 1);
        }
        match &entry.event {
            Event::Genesis(genesis) if entry.slot == 0 => {
                self.genesis = Some((genesis.config, genesis.ring));
                self.ring = Some((0, genesis.ring));
            }
            Event::Genesis(_) | Event::Unknown { .. } => {}
            Event::Commit(commit) => self.apply_commit(entry, commit, (&names, &dedup)),
            Event::Forget(event) => self.each(&event.snapshots, |state| {
                if !state.protected {
                    state.forgotten.get_or_insert(entry.slot);
                }
            }),
            Event::Unforget(event) => self.each(&event.snapshots, |state| state.forgotten = None),
            Event::Protect(event) => self.each(&event.snapshots, |state| {
                state.protected = state.forgotten.is_none();
            }),
            Event::Unprotect(event) => self.each(&event.snapshots, |state| state.protected = false),
            Event::Tag(Tag { snapshots, tags }) => {
                self.each(snapshots, |state| state.tags = Some(tags.clone()));
            }
            Event::Hold(hold) => self.apply_hold(entry.slot, hold.seconds),
            Event::Condemn(condemn) => self.apply_condemn(entry, condemn, names),
            Event::Reindex(reindex) => self.apply_reindex(reindex, &names),
            Event::Checkpoint(checkpoint) => {
                if checkpoint.through < entry.slot {
                    self.checkpoints.push((checkpoint.through, checkpoint.object));
                }
            }
            Event::Keys(keys) => {
                if self.ring.is_none_or(|(generation, _)| keys.generation > generation) {
                    self.ring = Some((keys.generation, keys.ring));
                }
            }
        }
        Ok(())
    }

    /// Notes who wrote a slot; false where the same attempt stands in an earlier slot already.
    fn note_attempt(&mut self, attempt: Attempt, slot: u64) -> bool {
        // First, so that slots which say nothing do not make a difference to how far back a repetition is known.
        while let Some((oldest, attempt)) = self.attempts_by_slot.first_key_value() {
            if oldest.saturating_add(ATTEMPTS_KEPT) >= slot {
                break;
            }
            self.attempts.remove(attempt);
            self.attempts_by_slot.pop_first();
        }
        if *self.attempts.entry(attempt).or_insert(slot) != slot {
            return false;
        }
        self.attempts_by_slot.insert(slot, attempt);
        true
    }

    fn each(&mut self, snapshots: &[SnapshotId], change: impl Fn(&mut SnapshotState)) {
        for id in snapshots {
            if let Some(state) = self.snapshots.get_mut(id) {
                change(state);
            }
        }
    }

    /// Takes a commit in, with its own packs and those it found chunks in, where commits are validated here.
    fn apply_commit(
        &mut self,
        entry: &LogEntry,
        commit: &Commit,
        (own, dedup): (&[ObjectHash], &[ObjectHash]),
    ) {
        let own = [own, &commit.segments].concat();
        if self.validates_commits && self.check_commit(&own, dedup, &commit.reused).is_err() {
            let snapshot = commit.snapshot.as_ref().map(|record| record.id);
            self.broken.push((entry.slot, entry.nonce, snapshot));
            return;
        }
        self.note_lists([&commit.own_packs, &commit.dedup_packs]);
        for hash in &commit.segments {
            self.add_segment(SegmentPlace::Object(*hash));
        }
        for bytes in &commit.inline_segments {
            let hash = ObjectHash::of_parts([bytes.as_slice()]);
            self.add_segment(SegmentPlace::Inline(hash, bytes.as_slice().into()));
        }
        let Some(record) = &commit.snapshot else {
            self.pending.insert(entry.slot, commit.own_packs.clone());
            if self.pending.len() > PENDING_MAX {
                self.pending.pop_first();
            }
            return;
        };
        if self.snapshots.contains_key(&record.id) {
            return;
        }
        let state = SnapshotState {
            record: record.clone(),
            slot: entry.slot,
            store_ms: entry.previous_ms,
            next_ms: None,
            forgotten: None,
            protected: false,
            tags: None,
        };
        self.by_slot.insert((entry.slot, record.id));
        self.snapshots.insert(record.id, state);
    }

    fn add_segment(&mut self, place: SegmentPlace) {
        if self.is_new(place.hash()) {
            self.live.insert(*place.hash());
            self.segments.push(place);
        }
    }

    /// Whether a segment never counted so far. What was replaced or condemned does not count again.
    fn is_new(&self, segment: &ObjectHash) -> bool {
        !self.live.contains(segment)
            && !self.superseded.contains(segment)
            && !self.condemned.contains_key(segment)
    }

    fn apply_condemn(&mut self, entry: &LogEntry, condemn: &Condemn, names: Vec<ObjectHash>) {
        self.note_lists([&condemn.packs, &condemn.segments]);
        if condemn.lossy {
            self.lossy = Some(entry.slot);
        }
        let all = Arc::make_mut(&mut self.condemned);
        for name in names {
            all.entry(name).or_insert(entry.slot);
        }
        let condemned = self.condemned.clone();
        self.segments.retain(|segment| !condemned.contains_key(segment.hash()));
        self.live.retain(|segment| !condemned.contains_key(segment));
        self.superseded.retain(|segment| !condemned.contains_key(segment));
        for snapshot in &condemn.snapshots {
            // Whoever collects what is not forgotten broke the rules, and is not followed.
            let Some(forgotten) = self.snapshots.get(snapshot).and_then(|state| state.forgotten) else {
                continue;
            };
            if let Some(state) = self.snapshots.remove(snapshot) {
                self.by_slot.remove(&(state.slot, state.record.id));
                self.collected.push((entry.slot, forgotten));
            }
        }
        let oldest = entry.slot.saturating_sub(COLLECTIONS_KEPT);
        self.collected.retain(|(slot, _)| *slot >= oldest);
    }

    /// A compaction counts only where it is valid; else it changes nothing.
    fn apply_reindex(&mut self, reindex: &Reindex, own: &[ObjectHash]) {
        self.note_lists([&reindex.own_packs]);
        if self.check_reindex(reindex, own).is_err() {
            return;
        }
        let inputs: HashSet<&ObjectHash> = reindex.inputs.iter().collect();
        let first = self.segments.iter().position(|segment| inputs.contains(segment.hash()));
        let place = first.unwrap_or(self.segments.len());
        let mut outputs = Vec::new();
        for hash in &reindex.outputs {
            // One after the other: what is named twice counts once.
            if self.is_new(hash) {
                self.live.insert(*hash);
                outputs.push(SegmentPlace::Object(*hash));
            }
        }
        // The outputs stand where their first input stood, so that the earliest commit is still tried first.
        self.segments.splice(place..place, outputs);
        for segment in self.segments.extract_if(.., |segment| inputs.contains(segment.hash())) {
            self.live.remove(segment.hash());
            if let SegmentPlace::Object(hash) = segment {
                self.superseded.insert(hash);
            }
        }
    }

    fn note_lists<'a>(&mut self, lists: impl IntoIterator<Item = &'a HashList>) {
        for list in lists {
            if let HashList::List(object) = list {
                self.lists.push(*object);
            }
        }
    }

    /// Whether a commit broke a rule.
    pub(crate) fn is_broken(&self, slot: u64, nonce: &[u8; 16]) -> bool {
        self.broken.iter().any(|(broken, attempt, _)| (broken, attempt) == (&slot, nonce))
    }

    /// Whether any slot could be read.
    pub(crate) fn has_entries(&self) -> bool {
        !self.attempts.is_empty()
    }

    /// Whether a writer's attempt got into the log.
    pub(crate) fn has_attempt(&self, writer: [u8; 16], nonce: [u8; 16]) -> bool {
        self.attempts.contains_key(&(writer, nonce))
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
            hashes.iter().filter(|hash| self.condemned.contains_key(*hash)).copied().collect()
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

    /// Whether a compaction is valid as the next entry: every input is live, and, as with a commit, none of its own packs
    /// and segments is condemned. A collector takes an output that no entry names yet for an orphan; were it condemned and
    /// the inputs replaced by it, nothing would list their packs any more. The list is given resolved.
    pub(crate) fn check_reindex(
        &self,
        reindex: &Reindex,
        own: &[ObjectHash],
    ) -> std::result::Result<(), Refusal> {
        let is_missing = |hash: &&ObjectHash| !self.live.contains(*hash);
        let missing: Vec<ObjectHash> = reindex.inputs.iter().filter(is_missing).copied().collect();
        if !missing.is_empty() {
            return Err(Refusal::InputNotLive(missing));
        }
        self.check_commit(own, &[], &[])?;
        self.check_commit(&reindex.outputs, &[], &[])?;
        // What counts already, or was replaced, cannot take anything's place.
        let is_used = |hash: &&ObjectHash| !self.is_new(hash);
        let used: Vec<ObjectHash> = reindex.outputs.iter().filter(is_used).copied().collect();
        if used.is_empty() { Ok(()) } else { Err(Refusal::OutputNotNew(used)) }
    }

    /// Whether what was worked out at the state `changed` may be deleted by the next entry: nothing that could need it
    /// came since, and no snapshot is collected that is not forgotten. Segments that are to be deleted must be replaced
    /// already, be `dead` (list nothing but condemned packs), or never have counted.
    pub(crate) fn check_condemn(
        &self,
        changed: u64,
        snapshots: &[SnapshotId],
        segments: &[ObjectHash],
        dead: &HashSet<ObjectHash>,
    ) -> std::result::Result<(), Refusal> {
        if self.changed != changed {
            return Err(Refusal::PlanOutdated);
        }
        let is_forgotten =
            |id: &SnapshotId| self.snapshots.get(id).is_none_or(|state| state.forgotten.is_some());
        let refused: Vec<SnapshotId> = snapshots.iter().filter(|id| !is_forgotten(id)).copied().collect();
        if !refused.is_empty() {
            return Err(Refusal::NotForgotten(refused));
        }
        let is_live = |hash: &&ObjectHash| self.live.contains(*hash) && !dead.contains(*hash);
        let refused: Vec<ObjectHash> = segments.iter().filter(is_live).copied().collect();
        if refused.is_empty() { Ok(()) } else { Err(Refusal::SegmentLive(refused)) }
    }

    /// Whether an entry leaves a plan as good as it was, by which these packs and segments are deleted: a commit that rests on
    /// none of them, or what changes nothing of what must stay and where it lies. A commit's packs are given resolved.
    pub(crate) fn leaves_plan(
        event: &Event,
        named: &[ObjectHash],
        packs: &HashSet<ObjectHash>,
        segments: &HashSet<ObjectHash>,
    ) -> bool {
        match event {
            // What it takes over from snapshots that are not collected stays.
            Event::Commit(commit) => {
                !named.iter().any(|pack| packs.contains(pack))
                    && !commit.segments.iter().any(|segment| segments.contains(segment))
            }
            Event::Forget(_)
            | Event::Protect(_)
            | Event::Unprotect(_)
            | Event::Tag(_)
            | Event::Hold(_)
            | Event::Keys(_)
            | Event::Checkpoint(_) => true,
            _ => false,
        }
    }

    /// Whether a snapshot's packs may be gone: it was collected, or never was.
    pub(crate) fn is_collected(&self, id: &SnapshotId) -> bool {
        !self.snapshots.contains_key(id)
    }

    /// A snapshot that is not collected.
    pub(crate) fn snapshot(&self, id: &SnapshotId) -> Option<&SnapshotState> {
        self.snapshots.get(id)
    }

    /// The snapshots that are neither forgotten nor collected, in the order they were committed.
    pub(crate) fn live_snapshots(&self) -> impl Iterator<Item = &SnapshotState> {
        self.uncollected_snapshots().filter(|state| state.forgotten.is_none())
    }

    /// The snapshots whose chunks must stay: all that are not collected, forgotten ones too.
    pub(crate) fn uncollected_snapshots(&self) -> impl Iterator<Item = &SnapshotState> {
        self.by_slot.iter().filter_map(|(_, id)| self.snapshots.get(id))
    }

    /// The live index segments, earliest commit first.
    pub(crate) fn segments(&self) -> &[SegmentPlace] {
        &self.segments
    }

    /// Whether a segment is live.
    pub(crate) fn is_live(&self, segment: &ObjectHash) -> bool {
        self.live.contains(segment)
    }

    /// Segments that were replaced, and may be condemned.
    pub(crate) fn superseded(&self) -> impl Iterator<Item = &ObjectHash> {
        self.superseded.iter()
    }

    /// Packs and segments that may be deleted.
    pub(crate) fn condemned(&self) -> &Arc<Condemned> {
        &self.condemned
    }

    /// The list objects that entries name.
    pub(crate) fn lists(&self) -> &[ObjectHash] {
        &self.lists
    }
}

/// The hashes that lists name, here or in objects of their own.
pub(super) fn resolve<'a>(
    named: impl IntoIterator<Item = &'a HashList>,
    lists: &mut ReadList<'_>,
) -> Result<Vec<ObjectHash>> {
    let mut names = Vec::new();
    for list in named {
        match list {
            HashList::Inline(hashes) => names.extend(hashes),
            HashList::List(object) => names.extend(lists(object)?),
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
