//! The state of the commit log and the rules for its entries, opened to the model of the protocol. Every call goes to
//! the code that the engine itself runs, so that the model cannot drift from it; there are no rules here.

use std::collections::HashSet;

use crate::error::Result;
use crate::format::log::{
    Commit, Condemn, Event as Logged, Genesis, HashList, LogEntry, Reindex, SnapshotPlace, SnapshotRecord,
    Snapshots,
};
use crate::id::{ObjectHash, SnapshotId};
use crate::log::{Fold, Refusal as Refused};

/// An entry's event, as far as the model needs it; all lists are inline.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is described in PROTOCOL.md")]
pub enum Event {
    Genesis,
    Commit {
        snapshot: Option<SnapshotId>,
        segments: Vec<ObjectHash>,
        own_packs: Vec<ObjectHash>,
        dedup_packs: Vec<ObjectHash>,
        reused: Vec<SnapshotId>,
    },
    Forget(Vec<SnapshotId>),
    Unforget(Vec<SnapshotId>),
    Protect(Vec<SnapshotId>),
    Condemn {
        packs: Vec<ObjectHash>,
        segments: Vec<ObjectHash>,
        snapshots: Vec<SnapshotId>,
    },
    Reindex {
        inputs: Vec<ObjectHash>,
        outputs: Vec<ObjectHash>,
    },
    /// Of a kind that says nothing about snapshots, segments or packs.
    Other,
}

/// Why an entry is refused, without what it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are the engine's own")]
pub enum Refusal {
    OwnCondemned,
    DedupCondemned,
    ReusedCollected,
    InputNotLive,
    OutputNotNew,
    PlanOutdated,
    NotForgotten,
    SegmentLive,
    ReadOnly,
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        match refused {
            Refused::OwnCondemned(_) => Refusal::OwnCondemned,
            Refused::DedupCondemned(_) => Refusal::DedupCondemned,
            Refused::ReusedCollected(_) => Refusal::ReusedCollected,
            Refused::InputNotLive(_) => Refusal::InputNotLive,
            Refused::OutputNotNew(_) => Refusal::OutputNotNew,
            Refused::PlanOutdated => Refusal::PlanOutdated,
            Refused::NotForgotten(_) => Refusal::NotForgotten,
            Refused::SegmentLive(_) => Refusal::SegmentLive,
            Refused::ReadOnly(_) => Refusal::ReadOnly,
        }
    }
}

/// What a log stands for: the engine's fold.
#[derive(Debug, Clone, Default)]
pub struct State(Fold);

impl State {
    /// Applies the entry of the next slot; the attempt is its writer and its nonce.
    pub fn apply(&mut self, attempt: ([u8; 16], [u8; 16]), event: &Event) -> Result<()> {
        let entry = LogEntry {
            slot: self.0.next,
            previous: ObjectHash::from_bytes([0; 32]),
            previous_ms: 0,
            writer: attempt.0,
            nonce: attempt.1,
            event: logged(event),
            heads: Vec::new(),
            read_only: false,
        };
        self.0.apply(&entry, &mut |_| Ok(Vec::new()))
    }

    /// Passes over a slot that says nothing, because it cannot be read.
    pub fn skip(&mut self) {
        self.0.next += 1;
    }

    /// The number of slots folded.
    pub fn next(&self) -> u64 {
        self.0.next
    }

    /// What a plan of deletion is made at.
    pub fn changed(&self) -> u64 {
        self.0.changed
    }

    /// Whether a writer's attempt got into the log.
    pub fn has_attempt(&self, attempt: ([u8; 16], [u8; 16])) -> bool {
        self.0.has_attempt(attempt.0, attempt.1)
    }

    /// V1, V2 and V3; own packs and segments are given together.
    pub fn check_commit(
        &self,
        own: &[ObjectHash],
        dedup: &[ObjectHash],
        reused: &[SnapshotId],
    ) -> std::result::Result<(), Refusal> {
        self.0.check_commit(own, dedup, reused).map_err(Refusal::from)
    }

    /// The rule of a Condemn.
    pub fn check_condemn(
        &self,
        changed: u64,
        snapshots: &[SnapshotId],
        segments: &[ObjectHash],
        dead: &HashSet<ObjectHash>,
    ) -> std::result::Result<(), Refusal> {
        self.0.check_condemn(changed, snapshots, segments, dead).map_err(Refusal::from)
    }

    /// The rule of a Reindex.
    pub fn check_reindex(
        &self,
        inputs: &[ObjectHash],
        outputs: &[ObjectHash],
    ) -> std::result::Result<(), Refusal> {
        self.0.check_reindex(&reindex(inputs, outputs), &[]).map_err(Refusal::from)
    }

    /// The snapshots that are not collected, earliest first, and whether each is forgotten.
    pub fn uncollected(&self) -> impl Iterator<Item = (SnapshotId, bool)> {
        self.0.uncollected_snapshots().map(|state| (state.record.id, state.forgotten.is_some()))
    }

    /// The live segments, earliest first.
    pub fn segments(&self) -> impl Iterator<Item = ObjectHash> {
        self.0.segments().iter().map(|place| *place.hash())
    }

    /// Segments that were replaced and are not condemned.
    pub fn superseded(&self) -> impl Iterator<Item = ObjectHash> {
        self.0.superseded().copied()
    }

    /// Packs and segments that may be deleted.
    pub fn condemned(&self) -> impl Iterator<Item = ObjectHash> {
        self.0.condemned().keys().copied()
    }
}

/// Whether an entry leaves a plan as good as it was, by which these packs and segments are deleted.
pub fn leaves_plan(event: &Event, packs: &[ObjectHash], segments: &[ObjectHash]) -> bool {
    let named = match event {
        Event::Commit { own_packs, dedup_packs, .. } => [&own_packs[..], dedup_packs].concat(),
        _ => Vec::new(),
    };
    let set = |hashes: &[ObjectHash]| hashes.iter().copied().collect::<HashSet<ObjectHash>>();
    Fold::leaves_plan(&logged(event), &named, &set(packs), &set(segments))
}

fn reindex(inputs: &[ObjectHash], outputs: &[ObjectHash]) -> Reindex {
    Reindex { inputs: inputs.to_vec(), outputs: outputs.to_vec(), own_packs: HashList::default() }
}

fn logged(event: &Event) -> Logged {
    let snapshots = |ids: &[SnapshotId]| Snapshots { snapshots: ids.to_vec() };
    match event {
        Event::Genesis => {
            let zeros = ObjectHash::from_bytes([0; 32]);
            Logged::Genesis(Genesis { config: zeros, ring: zeros })
        }
        Event::Commit { snapshot, segments, own_packs, dedup_packs, reused } => Logged::Commit(Commit {
            snapshot: snapshot.map(|id| SnapshotRecord {
                id,
                partial: false,
                body: SnapshotPlace::Inline(Vec::new()),
            }),
            segments: segments.clone(),
            inline_segments: Vec::new(),
            own_packs: HashList::Inline(own_packs.clone()),
            dedup_packs: HashList::Inline(dedup_packs.clone()),
            reused: reused.clone(),
        }),
        Event::Forget(ids) => Logged::Forget(snapshots(ids)),
        Event::Unforget(ids) => Logged::Unforget(snapshots(ids)),
        Event::Protect(ids) => Logged::Protect(snapshots(ids)),
        Event::Condemn { packs, segments, snapshots } => Logged::Condemn(Condemn {
            lossy: false,
            packs: HashList::Inline(packs.clone()),
            segments: HashList::Inline(segments.clone()),
            snapshots: snapshots.clone(),
        }),
        Event::Reindex { inputs, outputs } => Logged::Reindex(reindex(inputs, outputs)),
        Event::Other => Logged::Unknown { kind: 0 },
    }
}
