//! The log of the model: small numbers for names, and the engine's own fold of the entries.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use dr_core::internals::protocol::{Event, Refusal, State, leaves_plan};
use dr_core::{ObjectHash, SnapshotId};

use super::Rules;

/// A set of packs, segments or snapshots, each by its number. A segment, and the snapshot that is committed with it, bear
/// the number of the pack that the segment was written for.
pub(super) type Set = u32;

pub(super) const fn one(number: u8) -> Set {
    1 << number
}

pub(super) fn numbers(set: Set) -> impl Iterator<Item = u8> {
    (0..32).filter(move |number| set & one(*number) != 0)
}

/// An entry's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Entry {
    Genesis,
    Commit {
        snapshot: Option<u8>,
        segment: Set,
        own: Set,
        dedup: Set,
        reused: Set,
    },
    Forget(u8),
    Unforget(u8),
    Protect(u8),
    /// With the value of `changed` that the plan was made at, and the segments that list nothing but condemned packs.
    Condemn {
        changed: u8,
        packs: Set,
        segments: Set,
        dead: Set,
        snapshots: Set,
    },
    Reindex {
        inputs: Set,
        output: u8,
    },
    /// Bytes that never were an entry.
    Bad,
}

/// Who wrote an entry, and in which attempt.
pub(super) type Attempt = (u8, u8);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub(super) attempt: Attempt,
    pub(super) entry: Entry,
}

/// The true log, and what it stands for. Only the slots make a difference: the rest follows from them.
#[derive(Debug, Clone)]
pub(super) struct Log {
    pub(super) slots: Arc<Vec<Slot>>,
    fold: Arc<State>,
    pub(super) view: Arc<View>,
}

impl PartialEq for Log {
    fn eq(&self, other: &Log) -> bool {
        self.slots == other.slots
    }
}

impl Eq for Log {}

impl Hash for Log {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.slots.hash(hasher);
    }
}

/// A fold, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) changed: u8,
    pub(super) uncollected: Set,
    pub(super) forgotten: Set,
    pub(super) newest_live: Option<u8>,
    /// The live segments, earliest first.
    pub(super) segments: Vec<u8>,
    pub(super) superseded: Set,
    pub(super) condemned_packs: Set,
    pub(super) condemned_segments: Set,
}

impl View {
    pub(super) fn live(&self) -> Set {
        self.segments.iter().fold(0, |set, segment| set | one(*segment))
    }
}

const SEGMENTS_FROM: u8 = 100;

fn pack(number: u8) -> ObjectHash {
    ObjectHash::from_bytes([number; 32])
}

fn segment(number: u8) -> ObjectHash {
    ObjectHash::from_bytes([number + SEGMENTS_FROM; 32])
}

fn snapshot(number: u8) -> SnapshotId {
    SnapshotId::from_bytes([number; 32])
}

fn packs(set: Set) -> Vec<ObjectHash> {
    numbers(set).map(pack).collect()
}

fn segments(set: Set) -> Vec<ObjectHash> {
    numbers(set).map(segment).collect()
}

fn snapshots(set: Set) -> Vec<SnapshotId> {
    numbers(set).map(snapshot).collect()
}

fn attempt_bytes((writer, nonce): Attempt) -> ([u8; 16], [u8; 16]) {
    ([writer; 16], [nonce; 16])
}

impl Log {
    pub(super) fn new(entries: &[Entry]) -> Log {
        let mut log = Log { slots: Arc::default(), fold: Arc::default(), view: Arc::default() };
        for (slot, entry) in entries.iter().enumerate() {
            log.push(Slot { attempt: (u8::MAX, slot as u8), entry: *entry }, &Rules::ALL);
        }
        log
    }

    pub(super) fn next(&self) -> u8 {
        self.slots.len() as u8
    }

    pub(super) fn has_attempt(&self, attempt: Attempt) -> bool {
        self.fold.has_attempt(attempt_bytes(attempt))
    }

    /// A slot that was written bad and that nothing stands behind yet.
    pub(super) fn is_head_bad(&self) -> bool {
        self.slots.last().is_some_and(|slot| slot.entry == Entry::Bad)
    }

    /// The log as someone reads it who passes over damaged slots.
    pub(super) fn without(&self, damaged: u32, rules: &Rules) -> Log {
        let mut log = Log::new(&[]);
        for (number, slot) in self.slots.iter().enumerate() {
            let entry = if damaged & (1 << number) == 0 { slot.entry } else { Entry::Bad };
            log.push(Slot { attempt: slot.attempt, entry }, rules);
        }
        log
    }

    pub(super) fn push(&mut self, slot: Slot, rules: &Rules) {
        let fold = Arc::make_mut(&mut self.fold);
        match event(slot.entry, fold, rules) {
            Some(event) => fold.apply(attempt_bytes(slot.attempt), &event).unwrap(),
            None => fold.skip(),
        }
        self.view = Arc::new(view(fold));
        Arc::make_mut(&mut self.slots).push(slot);
    }

    /// A plan of deletion that the log went on under, made on the newest state: the engine's judgement of every entry since.
    pub(super) fn advanced(&self, plan: Entry, rules: &Rules) -> Option<Entry> {
        let Entry::Condemn { changed, packs: gone, segments: replaced, dead, snapshots: 0 } = plan else {
            return None;
        };
        let leaves = |slot: &Slot| match plain_event(slot.entry) {
            Some(Event::Commit { .. }) if !rules.rest => true,
            Some(event) => leaves_plan(&event, &packs(gone), &segments(replaced)),
            None => false,
        };
        self.slots[usize::from(changed)..].iter().all(leaves).then(|| Entry::Condemn {
            changed: self.view.changed,
            packs: gone,
            segments: replaced,
            dead,
            snapshots: 0,
        })
    }

    /// The engine's judgement of an entry. A rule that is taken away is asked about nothing.
    pub(super) fn check(&self, entry: Entry, rules: &Rules) -> Result<(), Refusal> {
        match entry {
            Entry::Commit { segment, own, dedup, reused, .. } => {
                let mut mine = packs(own);
                mine.extend(segments(segment));
                self.fold.check_commit(
                    if rules.own { &mine } else { &[] },
                    &if rules.dedup { packs(dedup) } else { Vec::new() },
                    &if rules.reused { snapshots(reused) } else { Vec::new() },
                )
            }
            Entry::Condemn { changed, segments: replaced, dead, snapshots: collected, .. } => {
                let dead: HashSet<ObjectHash> = segments(dead).into_iter().collect();
                let changed = if rules.plan { u64::from(changed) } else { self.fold.changed() };
                let collected = if rules.forgotten { snapshots(collected) } else { Vec::new() };
                self.fold.check_condemn(changed, &collected, &segments(replaced), &dead)
            }
            Entry::Reindex { inputs, output } => {
                match self.fold.check_reindex(&segments(inputs), &[segment(output)]) {
                    Err(Refusal::InputNotLive) if !rules.input => Ok(()),
                    Err(Refusal::OwnCondemned) if !rules.output => Ok(()),
                    checked => checked,
                }
            }
            _ => Ok(()),
        }
    }
}

/// What an entry says to the engine; nothing, where it is not one.
fn plain_event(entry: Entry) -> Option<Event> {
    Some(match entry {
        Entry::Genesis => Event::Genesis,
        Entry::Commit { snapshot: number, segment: set, own, dedup, reused } => Event::Commit {
            snapshot: number.map(snapshot),
            segments: segments(set),
            own_packs: packs(own),
            dedup_packs: packs(dedup),
            reused: snapshots(reused),
        },
        Entry::Forget(number) => Event::Forget(vec![snapshot(number)]),
        Entry::Unforget(number) => Event::Unforget(vec![snapshot(number)]),
        Entry::Protect(number) => Event::Protect(vec![snapshot(number)]),
        Entry::Condemn { packs: set, segments: replaced, snapshots: collected, .. } => Event::Condemn {
            packs: packs(set),
            segments: segments(replaced),
            snapshots: snapshots(collected),
        },
        Entry::Reindex { inputs, output } => {
            Event::Reindex { inputs: segments(inputs), outputs: vec![segment(output)] }
        }
        Entry::Bad => return None,
    })
}

/// The same. The fold makes an invalid Reindex void by itself, so where its rule is taken away the entry is changed into what
/// it would do without it.
fn event(entry: Entry, fold: &State, rules: &Rules) -> Option<Event> {
    let mut event = plain_event(entry)?;
    if let Event::Reindex { inputs, outputs } = &mut event {
        match fold.check_reindex(inputs, outputs) {
            Err(Refusal::InputNotLive) if !rules.input => {
                let live: Vec<ObjectHash> = fold.segments().collect();
                inputs.retain(|input| live.contains(input));
            }
            Err(Refusal::OwnCondemned) if !rules.output => outputs.clear(),
            _ => {}
        }
    }
    Some(event)
}

fn view(fold: &State) -> View {
    let mut view = View { changed: fold.changed() as u8, ..View::default() };
    for (id, is_forgotten) in fold.uncollected() {
        let number = id.as_bytes()[0];
        view.uncollected |= one(number);
        if is_forgotten {
            view.forgotten |= one(number);
        } else {
            view.newest_live = Some(number);
        }
    }
    let segment_number = |hash: ObjectHash| hash.as_bytes()[0] - SEGMENTS_FROM;
    view.segments = fold.segments().map(segment_number).collect();
    view.superseded = fold.superseded().fold(0, |set, hash| set | one(segment_number(hash)));
    for hash in fold.condemned() {
        match hash.as_bytes()[0] {
            number if number < SEGMENTS_FROM => view.condemned_packs |= one(number),
            number => view.condemned_segments |= one(number - SEGMENTS_FROM),
        }
    }
    view
}
